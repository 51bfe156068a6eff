//! Lives that have ended, and lives that come back.

use super::super::tests::{Beside, NOW, PATIENCE, everywhere, former, leaving, rules, step, world};
use super::*;
use crate::{
    reconcile::Seen,
    samples::{id, stamp, view},
};
use expect_test::expect;
use muster_proto::{ClusterId, Incarnation, InstanceAssignment, Life};

#[test]
fn only_a_former_life_of_this_cluster_is_wiped_with_a_permit_where_nothing_runs_and_something_else_is_wanted() {
    everywhere(|world, verdict| {
        let may = world.directory.0 == "former"
            && world.process.1 == ProcessSeen::None
            && [Want::Prepared, Want::Running, Want::Retired].contains(&world.want);
        let wipes = may && world.beside == Beside::Permitted;
        let asks = may && world.beside != Beside::Permitted;
        (step(verdict) == "WIPE") == wipes
            && (verdict.asks.as_ref() == Some(&leaving())) == asks
            && verdict.asks.is_some() == asks
            && (!asks || (verdict.state == InstanceState::Stopped && !verdict.converged()))
    });
}

#[test]
fn a_former_life_never_goes_on_whatever_is_wanted() {
    everywhere(|world, verdict| {
        let ours = matches!(world.process.1, ProcessSeen::Ours { .. });
        let leaves = world.directory.0 == "former" && world.want != Want::SetAside && ours;
        let spared = world.want == Want::Stopped && world.process.0 == "does not stop" && world.answer.0 == "answers";
        let state = if spared { InstanceState::Blocked } else { InstanceState::Stopping };
        !leaves || (verdict.state == state && (!spared || verdict.step.is_none()))
    });
}

#[test]
fn a_directory_is_put_back_only_into_a_free_place_and_then_never_made() {
    everywhere(|world, verdict| {
        let may = world.directory.1 == Directory::Free
            && world.process.1 == ProcessSeen::None
            && [Want::Prepared, Want::Running].contains(&world.want);
        let restores = may && world.beside == Beside::Restore;
        (step(verdict) == "RESTORE") == restores && (!may || world.beside != Beside::Missing || verdict.step.is_none())
    });
    let missing = world(Want::Running, false, "free", "none");
    let missing = super::super::tests::World { beside: Beside::Missing, ..missing }.judge();
    assert_eq!(missing, Verdict::blocked("its directory of life 1 cannot be put back: it is not in the trash"));
}

/// What was restored carries its latch while the assignment has not been proved again.
#[test]
fn what_was_put_back_is_started_as_if_it_had_never_been_away() {
    for beside in [Beside::Restore, Beside::Missing] {
        let world = super::super::tests::World { beside, ..world(Want::Running, false, "latched", "none") };
        assert_eq!(step(&world.judge()), "START");
    }
}

#[test]
fn a_stamp_that_differs_from_the_formers_in_anything_is_not_touched() {
    type Change = fn(&mut Stamp);
    let changes: [(&str, Change); 5] = [
        ("cluster", |stamp| stamp.cluster_id = ClusterId(uuid::Uuid::max())),
        ("incarnation", |stamp| stamp.incarnation = Incarnation(6)),
        ("life", |stamp| stamp.life = Life(6)),
        ("node", |stamp| stamp.node_id = id(6)),
        ("port", |stamp| stamp.port = crate::samples::port(7001)),
    ];
    for want in [Want::Prepared, Want::Running, Want::Retired] {
        let world = world(want, false, "former", "none");
        let judge = |stamp| world.judge_seen(Seen { directory: Directory::Stamped(stamp), ..world.seen() }, &rules());
        let unformed = judge(Stamp { formed: false, ..leaving().stamp });
        assert!(unformed.asks.is_some(), "formed or not");
        for (what, change) in changes {
            let mut stamp = leaving().stamp;
            change(&mut stamp);
            let verdict = judge(stamp);
            assert_eq!((&verdict.step, &verdict.asks), (&None, &None), "{what}");
            // Whose cluster is not this one's is nothing of what was retired.
            let absent = want == Want::Retired && what == "cluster";
            let state = if absent { InstanceState::Absent } else { InstanceState::Blocked };
            assert_eq!(verdict.state, state, "{what} {want:?}: {verdict:?}");
        }
    }
}

#[test]
fn without_formers_nothing_leaves() {
    for want in [Want::Prepared, Want::Running, Want::Stopped, Want::Retired] {
        for process in ["none", "ours"] {
            let world = world(want, false, "former", process);
            let verdict = world.judge_changed(world.seen(), &rules(), |instance| instance.formers.clear());
            assert_eq!((&verdict.step, &verdict.asks), (&None, &None), "{want:?} {process}");
        }
    }
}

/// The assigned life is nobody's former, whoever says so; what is retired is named by one.
#[test]
fn the_assigned_life_stays() {
    let own = |instance: &mut InstanceAssignment| {
        let (incarnation, life, node_id) = (Incarnation(1), instance.life, instance.node_id);
        instance.formers = vec![muster_proto::Former { incarnation, life, node_id, ..former() }];
    };
    let running = world(Want::Running, false, "ours", "none");
    assert_eq!(step(&running.judge_changed(running.seen(), &rules(), own)), "START");
    let retired = world(Want::Retired, false, "ours", "none");
    let verdict = retired.judge_changed(retired.seen(), &rules(), own);
    assert_eq!(verdict.asks.map(|asks| asks.stamp), Some(stamp()));
}

#[test]
fn a_permit_for_something_else_is_of_no_use() {
    let world = world(Want::Running, false, "former", "none");
    let changes: [fn(&mut Leaving); 3] = [
        |leaving| leaving.new_life = Life(9),
        |leaving| leaving.operation = muster_proto::OperationId(uuid::Uuid::max()),
        |leaving| leaving.stamp.life = Life(9),
    ];
    for change in changes {
        let mut other = leaving();
        change(&mut other);
        let verdict = world.judge_seen(Seen { granted: Some(other), ..world.seen() }, &rules());
        assert_eq!((&verdict.step, &verdict.asks), (&None, &Some(leaving())));
    }
}

#[test]
fn a_wipe_that_failed_is_asked_for_again_in_its_time_and_says_why_all_along() {
    let world = world(Want::Running, false, "former", "none");
    let with = |granted, due| {
        let failed = Some(("its lock is held".to_owned(), due));
        world.judge_seen(Seen { granted, failed, ..world.seen() }, &rules())
    };
    let later = NOW + Duration::from_secs(2);
    let early = with(None, later);
    assert_eq!((&early.asks, early.wake), (&None, Some(later)));
    assert_eq!(early.reason, "waits for a permit to set life 7 aside; what failed here last: its lock is held");
    let (asks, acts) = (with(None, NOW), with(Some(leaving()), NOW));
    assert_eq!((step(&acts), &asks.asks), ("WIPE", &Some(leaving())));
    for verdict in [asks, acts] {
        assert_eq!((verdict.state, &verdict.reason), (early.state, &early.reason), "nothing new to write down");
    }
}

/// It has forgotten that it was asked, and stops when its log is there and it is asked again.
#[test]
fn a_server_that_writes_its_first_log_is_asked_again_soon_and_needs_nobody() {
    let judge = |words: &str, asked: Duration| {
        let world = world(Want::Stopped, true, "latched", "does not stop");
        let unwilling = Some(Unwilling { words: words.to_owned(), asked });
        let answer = Answer::View(Box::new(view()));
        world.judge_seen(Seen { answer, unwilling, ..world.seen() }, &rules())
    };
    let words = "Writing initial AOF, can't exit.";
    let waits = judge(words, Duration::from_millis(500));
    assert_eq!((waits.state, step(&waits)), (InstanceState::Stopping, "-"));
    assert_eq!((waits.condition, waits.wake), (Some(Condition::Saving), Some(NOW + Duration::from_millis(1500))));
    assert_eq!(waits.reason, "pid 4711 writes its first append-only file, and stops after that");
    assert_eq!(step(&judge(words, Duration::from_secs(2))), "STOP");
    assert!(!Unwilling::has_another_reason(words));
    assert!(Unwilling::has_another_reason("Error trying to save the DB, can't exit."));
    assert!(!Unwilling::has_another_reason("Background AOF rewrite finished successfully"));
}

/// Its last save has failed: what it holds is nowhere else.
#[test]
fn a_server_that_still_answers_is_not_killed_where_nothing_is_to_run() {
    let judge = |want, answer, silent, asked: Option<u64>| {
        let world = world(want, true, "latched", "does not stop");
        let words = "No space left on device / Error trying to save the DB, can't exit.".to_owned();
        let unwilling = asked.map(|asked| Unwilling { words, asked: Duration::from_secs(asked) });
        world.judge_seen(Seen { answer, silent, unwilling, ..world.seen() }, &rules())
    };
    let (view, short) = (|| Answer::View(Box::new(view())), PATIENCE - Duration::from_secs(1));
    let spared = judge(Want::Stopped, view(), Duration::ZERO, Some(1));
    assert_eq!((spared.state, step(&spared)), (InstanceState::Blocked, "-"));
    assert_eq!(spared.wake, Some(NOW + Duration::from_secs(59)));
    expect!["pid 4711 does not stop: No space left on device / Error trying to save the DB, can't exit.; free its disk, it is asked again every 60 s; or, if what it holds in memory may be lost: redis-cli -s /base/7000/redis.sock shutdown nosave"].assert_eq(&spared.reason);
    let again = judge(Want::Stopped, view(), Duration::ZERO, Some(60));
    assert_eq!((again.state, step(&again), again.reason), (InstanceState::Blocked, "STOP", spared.reason));
    // What does not answer any more is another matter, once that was so for the patience.
    for answer in [Answer::Silent("refused".into()), Answer::Hung("no answer".into())] {
        assert_eq!(step(&judge(Want::Stopped, answer.clone(), short, Some(1))), "-");
        assert_eq!(step(&judge(Want::Stopped, answer, PATIENCE, Some(1))), "KILL");
    }
    assert_eq!(step(&judge(Want::Stopped, Answer::Frozen('T'), Duration::ZERO, Some(1))), "KILL");
    // Called off, it is not killed for what it was asked before; asked for another run, it is as ever.
    assert_eq!(step(&judge(Want::Running, view(), Duration::ZERO, Some(1))), "-");
    assert_eq!(step(&judge(Want::Running, view(), Duration::ZERO, None)), "KILL");
}
