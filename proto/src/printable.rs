//! Words of others, before people see them.

/// The same words, without what would move a terminal's cursor, ring its bell or rename its window: each control
/// character but the line break becomes U+FFFD. For what servers, agents and files say, which may be anybody's.
pub fn printable(words: &str) -> String {
    words.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_and_commands_to_terminals_go() {
        assert_eq!(printable("größer\nals 1"), "größer\nals 1");
        assert_eq!(printable("\u{1b}]0;x\u{7}\r\u{9b}2J"), "\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}2J");
    }
}
