//! `muster logs`, for scripts: a document a line. For people it is the log as it is.

use serde::Serialize;

#[derive(Debug, Serialize)]
struct LineJson<'a> {
    line: &'a str,
}

/// Each line of a piece of a log.
pub fn lines(text: &str) -> String {
    text.lines().map(|line| super::line(&LineJson { line })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_document() {
        assert_eq!(lines("1:M * Ready\n\"x\"\n"), "{\"line\":\"1:M * Ready\"}\n{\"line\":\"\\\"x\\\"\"}\n");
    }
}
