//! The crash matrix (`muster_tests::crash`): whoever dies at whichever point of whatever is under way, it ends as if
//! nobody had died.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests say what they did"
)]

use std::{env, time::Duration};

use muster_tests::crash::{Matrix, Server, Tally, matrix::scenarios};

/// What `make test` has for it. What does not fit waits for another day: the order is another one every day.
const SHARE: Duration = Duration::from_secs(150);

#[track_caller]
fn clean(tally: &Tally) {
    eprintln!("crash matrix: {tally}");
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    assert!(tally.tried > 0, "no case was tried");
    assert!(tally.unmet.len() * 4 < tally.tried.max(4), "nobody died in too many cases: {tally}");
}

#[test]
fn whoever_dies_at_whichever_point_it_ends_the_same_on_a_fake_server() {
    let all = scenarios("");
    clean(&Matrix { scenarios: all, server: Server::Fake, only: String::new(), budget: Some(SHARE) }.run());
}

/// `make crash-matrix SERVER=real SCENARIO=bootstrap CASES=agent.start`
#[test]
#[ignore = "all cases on real servers take long; make crash-matrix runs it"]
fn every_case_on_the_server_that_is_asked_for() {
    let asked = |name: &str| env::var(name).unwrap_or_default();
    let server = match asked("MUSTER_CRASH_SERVER").as_str() {
        "" | "real" => Server::Real,
        "fake" => Server::Fake,
        other => panic!("there is no server {other}; there are real and fake"),
    };
    let scenarios = scenarios(&asked("MUSTER_CRASH_SCENARIO"));
    clean(&Matrix { scenarios, server, only: asked("MUSTER_CRASH_CASES"), budget: None }.run());
}
