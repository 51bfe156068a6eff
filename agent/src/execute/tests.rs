//! Every step on a real directory: what it brings about, and that again it does no harm.

use std::fs;

use expect_test::{Expect, expect};

use super::*;
use crate::{
    conf::ConfFile,
    layout::{Directory, Layout},
    samples::{alone, files, layout, leaving, stamp},
};

fn tools() -> Tools {
    Tools { server: "/bin/sh".into(), run_as: None }
}

fn place(layout: &Layout) -> InstanceDir {
    layout.instance(stamp().port)
}

fn prepare() -> Step {
    Step::Prepare { stamp: stamp(), files: files("conf", "nodes") }
}

fn start() -> Step {
    Step::Start { files: vec![ConfFile::read_only("redis.conf", "exec sleep 1000")], applied: None, run: 0 }
}

fn refused(step: &Step, dir: &InstanceDir, tools: &Tools, expected: Expect) {
    let words = perform(step, dir, tools).unwrap_err().words();
    expected.assert_eq(&words.replace(&dir.path().parent().unwrap().display().to_string(), "BASE"));
}

#[test]
fn a_directory_is_prepared_latched_and_set_aside() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = place(&layout);
    assert!(matches!(perform(&prepare(), &dir, &tools()), Ok(Done::Changed)));
    assert_eq!(dir.look(), Directory::Stamped(stamp()));
    refused(&prepare(), &dir, &tools(), expect!["cannot write BASE/7000: Directory not empty (os error 39)"]);
    assert_eq!(dir.nodes_conf().unwrap(), "nodes", "and is as it was");
    let Ok(Done::Aside(aside)) = perform(&Step::SetAside { stamp: stamp() }, &dir, &tools()) else { panic!() };
    assert!(aside.join("nodes.conf").exists());
    assert_eq!(dir.look(), Directory::Free);
    perform(&prepare(), &dir, &tools()).unwrap();
    for _ in 0..2 {
        perform(&Step::Latch { stamp: stamp() }, &dir, &tools()).unwrap();
    }
    assert!(matches!(dir.look(), Directory::Stamped(stamp) if stamp.formed));
}

#[test]
fn a_server_is_started_once_and_its_directory_is_not_moved_under_it() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = place(&layout);
    perform(&prepare(), &dir, &tools()).unwrap();
    let Ok(Done::Started(mut process)) = perform(&start(), &dir, &tools()) else { panic!() };
    refused(
        &start(),
        &dir,
        &tools(),
        expect!["the lock BASE/.locks/7000.lock is held: something still runs in the directory"],
    );
    let busy = perform(&Step::SetAside { stamp: stamp() }, &dir, &tools()).unwrap_err().to_string();
    let who = format!("pid {}", process.pid());
    assert!(busy.contains("is not moved, because something runs there: ") && busy.contains(&who), "{busy}");
    process.kill().unwrap();
    while process.reap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("redis.conf")).unwrap(), "exec sleep 1000");
    perform(&Step::SetAside { stamp: stamp() }, &dir, &tools()).unwrap();
}

#[test]
fn a_former_life_is_set_aside_with_a_permit_alone_and_comes_back() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = place(&layout);
    let (leave, back) = (Step::Wipe { leaving: leaving() }, Step::Restore { stamp: stamp() });
    perform(&prepare(), &dir, &tools()).unwrap();
    refused(&leave, &dir, &tools(), expect!["there is no permit to set BASE/7000 aside"]);
    assert_eq!(dir.look(), Directory::Stamped(stamp()));
    let Ok(Done::Started(mut process)) = perform(&start(), &dir, &tools()) else { panic!() };
    let busy = wipe(crate::samples::wipe(&leaving()), &dir).unwrap_err();
    assert!(matches!(busy, StepError::Busy(..)), "{busy}");
    process.kill().unwrap();
    while process.reap().is_none() {
        std::thread::yield_now();
    }
    let Ok(Done::Aside(aside)) = wipe(crate::samples::wipe(&leaving()), &dir) else { panic!() };
    assert!(aside.join("nodes.conf").exists() && dir.look() == Directory::Free);
    let again = wipe(crate::samples::wipe(&leaving()), &dir).unwrap_err();
    assert!(again.words().starts_with("it is not set aside: "), "{}", again.words());
    for _ in 0..2 {
        assert!(matches!(perform(&back, &dir, &tools()), Ok(Done::Restored)));
    }
    assert_eq!(dir.nodes_conf().unwrap(), "nodes");
    wipe(crate::samples::wipe(&leaving()), &dir).unwrap();
    std::fs::remove_dir_all(aside).unwrap();
    refused(&back, &dir, &tools(), expect!["cannot put BASE/7000 back: No such file or directory (os error 2)"]);
}

#[tokio::test]
async fn a_wipe_is_carried_out_by_its_right_and_by_nothing_else() {
    let (_base, layout) = layout();
    let dir = place(&layout);
    let step = || Step::Wipe { leaving: leaving() };
    {
        let _alone = alone();
        perform(&prepare(), &dir, &tools()).unwrap();
    }
    let without = carry_out(step(), None, dir.clone(), tools()).await.unwrap_err();
    assert!(matches!(without, StepError::NoPermit(_)), "{without}");
    let right = crate::samples::wipe(&leaving());
    assert!(matches!(carry_out(step(), Some(right), dir, tools()).await, Ok(Done::Aside(_))));
}

#[test]
fn what_fails_says_what_and_why() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = place(&layout);
    refused(
        &start(),
        &dir,
        &tools(),
        expect!["cannot write BASE/7000/redis.conf: No such file or directory (os error 2)"],
    );
    refused(
        &Step::Latch { stamp: stamp() },
        &dir,
        &tools(),
        expect!["cannot write BASE/7000: No such file or directory (os error 2)"],
    );
    refused(
        &Step::SetAside { stamp: stamp() },
        &dir,
        &tools(),
        expect!["cannot write BASE/7000: No such file or directory (os error 2)"],
    );
    perform(&prepare(), &dir, &tools()).unwrap();
    let missing = Tools { server: "/nonexistent/redis-server".into(), run_as: None };
    refused(
        &start(),
        &dir,
        &missing,
        expect!["cannot start /nonexistent/redis-server: No such file or directory (os error 2)"],
    );
}

#[test]
fn the_last_words_are_those_before_the_log_was_open_or_else_the_logs() {
    let (_base, layout) = layout();
    let dir = place(&layout);
    assert_eq!(last_words(&dir), "");
    dir.establish(&stamp(), &files("", "")).unwrap();
    let lines = |range: std::ops::Range<u32>| range.map(|n| format!("line {n} \n\n")).collect::<String>();
    fs::write(dir.log(), lines(0..1000)).unwrap();
    assert_eq!(last_words(&dir), "line 996 / line 997 / line 998 / line 999");
    fs::write(dir.output(), b"*** FATAL CONFIG FILE ERROR ***\n\xff\n").unwrap();
    assert_eq!(last_words(&dir), "*** FATAL CONFIG FILE ERROR *** / \u{fffd}");
    fs::write(dir.output(), "\x1b]0;owned\x07\x1b[2J\u{9b}2J all is well\n").unwrap();
    assert_eq!(last_words(&dir), "\u{fffd}]0;owned\u{fffd}\u{fffd}[2J\u{fffd}2J all is well");
}

/// Peers go meanwhile, and it has much to say of that.
#[test]
fn why_a_server_does_not_stop_is_found_among_all_that_it_says_since() {
    let (_base, layout) = layout();
    let dir = place(&layout);
    dir.establish(&stamp(), &files("", "")).unwrap();
    let since = "Connection with replica client id #7 lost.\n".repeat(20);
    let refused = |why: &str| format!("User requested shutdown...\n{why}\n");
    fs::write(dir.log(), &since).unwrap();
    assert_eq!(refusal(&dir), last_words(&dir), "it has not said why");
    let first = refused("Writing initial AOF, can't exit.");
    fs::write(dir.log(), format!("{first}{since}")).unwrap();
    assert_eq!(refusal(&dir), "User requested shutdown... / Writing initial AOF, can't exit.");
    let second =
        refused("Write error saving DB on disk: No space left on device\nError trying to save the DB, can't exit.");
    fs::write(dir.log(), format!("{first}{second}{since}")).unwrap();
    let words = "Write error saving DB on disk: No space left on device / Error trying to save the DB, can't exit.";
    assert_eq!(refusal(&dir), words, "the last one counts");
}
