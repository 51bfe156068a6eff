//! Lets a server judge the operator's settings without starting it.
//!
//! No table of ours can say what a server takes; it can. It is given a conf on its standard input (`redis-server -`)
//! that ends in a line no server knows, and stops there: by then it has taken every line before, or has named the one
//! that it does not take. It listens on nothing and writes nothing.
//!
//! Redis 8 keeps lines that it does not know for modules to claim, reads on, and lists them once modules are loaded:
//! still before it listens or looks at data. A module that the settings load is really loaded then. Redis 7 and Valkey
//! stop before; so of their lines with a dot in the key, which a module must claim, nothing is known but the form.

use muster_proto::{Setting, printable};

/// The line that must be refused. The hyphens make it an unknown directive, not a module's.
const SENTINEL: &str = "muster-end-of-conf yes";

/// What keeps the probe from reaching out, whatever the server reads before it stops.
const HEAD: &[&str] = &["port 0", "logfile \"\"", "pidfile \"\"", "daemonize no", "supervised no"];

/// What the operator may set but should not hear from while he is only asking. The last line with a key counts.
const TAIL: &[&str] = &["syslog-enabled no"];

/// The conf to feed to `redis-server -`, in an empty working directory.
pub fn settings_probe(settings: &[Setting]) -> String {
    let own = settings.iter().map(|setting| format!("{} {}", setting.key, setting.value));
    let fixed = |lines: &'static [&str]| lines.iter().map(|line| (*line).to_owned());
    fixed(HEAD).chain(own).chain(fixed(TAIL)).chain([SENTINEL.to_owned()]).map(|line| line + "\n").collect()
}

/// What the server said, standard output and error together: nothing if it took every setting, else its own words.
pub fn settings_verdict(output: &str) -> Result<(), String> {
    verdict(output).map_err(|words| printable(&words))
}

fn verdict(output: &str) -> Result<(), String> {
    let fatal = output.contains("FATAL CONFIG FILE ERROR");
    let mut unknown = Vec::new();
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        let Some(refused) = refused_line(line) else { continue };
        if fatal {
            let why = lines.next().unwrap_or("refused").trim();
            return if refused == SENTINEL { Ok(()) } else { Err(format!("'{refused}': {why}")) };
        }
        unknown.push(refused);
    }
    let before = unknown.len();
    unknown.retain(|line| *line != SENTINEL);
    if unknown.is_empty() && before > 0 {
        return Ok(());
    }
    if !unknown.is_empty() {
        unknown.sort_unstable();
        let list: Vec<_> = unknown.iter().map(|line| format!("'{line}'")).collect();
        return Err(format!("{}: Unresolved Configuration(s) Detected", list.join(", ")));
    }
    let said: Vec<_> = output.lines().map(words).filter(|line| !line.is_empty()).collect();
    match said.as_slice() {
        [.., one, last] => Err(format!("{one}; {last}")),
        [last] => Err((*last).to_owned()),
        [] => Err("the server said nothing".to_owned()),
    }
}

/// `>>> 'maxmemory lots'`, alone or behind a log line's head.
fn refused_line(line: &str) -> Option<&str> {
    line.split_once(">>> '")?.1.trim_end().strip_suffix('\'')
}

/// A log line without its head: `12:M 22 Nov 2026 21:59:03.971 # words`.
fn words(line: &str) -> &str {
    let line = line.trim();
    let is_head = |head: &str| head.starts_with(|c: char| c.is_ascii_digit()) && head.contains(':');
    [" # ", " * ", " - ", " . "]
        .iter()
        .filter_map(|mark| line.split_once(mark))
        .find(|(head, _)| is_head(head) && head.split(' ').count() == 5)
        .map_or(line, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: &str = "\
12172:C 22 Nov 2026 21:59:03.376 # Reading config from stdin

*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***
Reading the configuration file, at line 6
>>> '@'
Bad directive or wrong number of arguments
";

    const EIGHT: &str = "\
12228:C 22 Nov 2026 21:59:03.622 * Reading config from stdin
12228:M 22 Nov 2026 21:59:03.624 * Running mode=standalone, port=0.
12228:M 22 Nov 2026 21:59:03.624 # Unresolved Configuration(s) Detected:
@12228:M 22 Nov 2026 21:59:03.624 # Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting
";

    const MODULE: &str = "\
12:M 22 Nov 2026 21:59:03.624 # Module /x.so failed to load: /x.so: cannot open shared object file
12:M 22 Nov 2026 21:59:03.624 # Can't load module from /x.so: server aborting
";

    fn eight(lines: &[&str]) -> String {
        let listed: String =
            lines.iter().map(|line| format!("12228:M 22 Nov 2026 21:59:03.624 # >>> '{line}'\n")).collect();
        EIGHT.replace('@', &listed)
    }

    #[test]
    fn only_a_refusal_of_the_sentinel_alone_is_a_yes() {
        let no = |words: &str| Err(words.to_owned());
        let cases = [
            (SEVEN.replace('@', SENTINEL), Ok(())),
            (SEVEN.replace('@', "nosuch yes"), no("'nosuch yes': Bad directive or wrong number of arguments")),
            (
                SEVEN.replace('@', "save 'a >>> b'").replace("Bad", "Odd"),
                no("'save 'a >>> b'': Odd directive or wrong number of arguments"),
            ),
            (eight(&[SENTINEL]), Ok(())),
            (eight(&[SENTINEL, "nosuch yes"]), no("'nosuch yes': Unresolved Configuration(s) Detected")),
            (eight(&["b 1", SENTINEL, "a 1"]), no("'a 1', 'b 1': Unresolved Configuration(s) Detected")),
            (
                MODULE.to_owned(),
                no("Module /x.so failed to load: /x.so: cannot open shared object file; \
                    Can't load module from /x.so: server aborting"),
            ),
            ("Killed\n".to_owned(), no("Killed")),
            (String::new(), no("the server said nothing")),
        ];
        for (output, expected) in cases {
            assert_eq!(settings_verdict(&output), expected, "{output}");
        }
    }

    #[test]
    fn the_probe_asks_last_what_must_be_refused() {
        let setting = Setting { key: "save".into(), value: "900 1".into() };
        let expected = "port 0\nlogfile \"\"\npidfile \"\"\ndaemonize no\nsupervised no\n\
                        save 900 1\nsyslog-enabled no\nmuster-end-of-conf yes\n";
        assert_eq!(settings_probe(&[setting]), expected);
    }
}
