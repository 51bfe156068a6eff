//! `redis-server -`: judges a conf on its standard input, and ends at the line that no server knows.

use std::{
    fs,
    io::{self, Read as _},
    process::ExitCode,
};

use crate::conf;

/// Judges settings, or the users of an ACL file.
pub fn judge() -> ExitCode {
    let mut text = String::new();
    if io::stdin().read_to_string(&mut text).is_err() {
        return ExitCode::FAILURE;
    }
    if let Some((nth, line)) = conf::unknown(&text) {
        eprintln!("{}", conf::refusal(nth, &line));
        return ExitCode::FAILURE;
    }
    let file = text.lines().find_map(|line| line.strip_prefix("aclfile "));
    let Some(file) = file else { return ExitCode::FAILURE };
    let users = fs::read_to_string(file).unwrap_or_default();
    let refused = |(nth, line): (usize, &str)| {
        let rule = line.split(' ').find(|rule| rule.starts_with("+@muster-") || *rule == "+@nosuch")?;
        let why = "Unknown command or category name in ACL";
        Some(format!("{file}:{}: Error in applying operation '{rule}': {why}.", nth + 1))
    };
    let errors: Vec<String> = users.lines().enumerate().filter_map(refused).collect();
    println!(
        "1:M 01 Jan 2026 00:00:00.000 # Aborting Redis startup because of ACL errors: {} WARNING: ACL errors detected, \
         no change to the previously active ACL rules was performed",
        errors.join(" ")
    );
    ExitCode::FAILURE
}
