//! A verdict that cannot condemn is none.

use super::*;

const MASTER: Spot = Spot { cluster: 0, nth: 0 };
const REPLICA: Spot = Spot { cluster: 0, nth: 1 };
const ELSEWHERE: Spot = Spot { cluster: 0, nth: 2 };

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn names() -> Names {
    let instances = vec![["a:7000", "b:7000", "c:7000"].map(str::to_owned).to_vec()];
    Names { hosts: ["a", "b", "c"].map(str::to_owned).to_vec(), instances }
}

fn ack(at: f64) -> Ack {
    Ack { by: MASTER, shard: 0, writer: 1, number: 7, at: s(at), waited: false }
}

/// What is said of one lost write: why it is excused, or that it is condemned.
fn judged(story: &[(f64, Event)], lost: Ack) -> &'static str {
    let story: Vec<_> = story.iter().map(|(at, event)| (s(*at), event.clone())).collect();
    let judged = judge(&story, &[lost], &[lost], &names());
    match (judged.explained.len(), judged.by_itself, judged.condemned.len()) {
        (1, 0, 0) => "explained",
        (1, 1, 0) => "by itself",
        (0, 0, 1) => "condemned",
        other => panic!("{other:?}"),
    }
}

fn failover() -> Vec<(f64, Event)> {
    vec![(10.0, Event::Killed(MASTER)), (13.0, Event::Serves(REPLICA, 0))]
}

#[test]
fn what_was_acknowledged_just_before_its_master_died_is_explained_and_what_was_long_before_is_not() {
    assert_eq!(judged(&failover(), ack(9.8)), "explained");
    assert_eq!(judged(&failover(), ack(10.2)), "explained", "the answer was on its way");
    assert_eq!(judged(&failover(), ack(8.0)), "condemned");
    assert_eq!(judged(&failover(), ack(12.0)), "condemned", "nobody was there to acknowledge it");
}

#[test]
fn what_a_replica_had_is_never_explained() {
    assert_eq!(judged(&failover(), Ack { waited: true, ..ack(9.8) }), "condemned");
}

#[test]
fn a_master_that_came_back_itself_has_lost_nothing() {
    assert_eq!(judged(&[(10.0, Event::Killed(MASTER))], ack(9.9)), "condemned");
    let itself = [(10.0, Event::Killed(MASTER)), (10.5, Event::Serves(MASTER, 0))];
    assert_eq!(judged(&itself, ack(9.9)), "condemned");
    let other_shard = [(10.0, Event::Killed(MASTER)), (13.0, Event::Serves(REPLICA, 1))];
    assert_eq!(judged(&other_shard, ack(9.9)), "condemned");
    let much_later = [(10.0, Event::Killed(MASTER)), (50.0, Event::Serves(REPLICA, 0))];
    assert_eq!(judged(&much_later, ack(9.9)), "condemned");
}

#[test]
fn a_fault_elsewhere_explains_nothing() {
    for spot in [REPLICA, ELSEWHERE] {
        assert_eq!(judged(&[(10.0, Event::Killed(spot))], ack(9.9)), "condemned");
    }
}

#[test]
fn a_frozen_master_may_lose_what_it_takes_before_it_sleeps_and_as_it_wakes() {
    let story = [(10.0, Event::Frozen(MASTER)), (13.0, Event::Serves(REPLICA, 0)), (15.0, Event::Thawed(MASTER))];
    for (at, verdict) in [(9.5, "explained"), (15.5, "explained"), (8.5, "condemned"), (12.0, "condemned")] {
        assert_eq!(judged(&story, ack(at)), verdict, "{at}");
    }
    assert_eq!(judged(&story, ack(18.0)), "condemned", "it has long heard of its successor");
    let asleep = [(10.0, Event::Frozen(MASTER)), (11.0, Event::Thawed(MASTER))];
    assert_eq!(judged(&asleep, ack(9.9)), "condemned", "nobody took over");
}

#[test]
fn a_failover_of_redis_own_is_told_apart() {
    let story = [(13.0, Event::Serves(REPLICA, 0))];
    assert_eq!(judged(&story, ack(12.0)), "by itself");
    assert_eq!(judged(&story, ack(2.0)), "condemned");
    assert_eq!(judged(&story, ack(16.0)), "condemned");
}

fn wrong(story: &[(f64, Event)]) -> Vec<String> {
    let story: Vec<_> = story.iter().map(|(at, event)| (s(*at), event.clone())).collect();
    judge(&story, &[], &[], &names()).condemned
}

#[test]
fn a_process_that_nobody_killed_does_not_end() {
    let first = (1.0, Event::Process(MASTER, 11));
    assert!(wrong(std::slice::from_ref(&first)).is_empty());
    let killed = (2.0, Event::Killed(MASTER));
    let second = (3.0, Event::Process(MASTER, 12));
    assert!(wrong(&[first.clone(), killed.clone(), second.clone()]).is_empty());
    assert_eq!(
        wrong(&[first.clone(), second.clone()]),
        ["a:7000 is pid 12 at 3.000 s and was pid 11, which nobody had killed"]
    );
    let third = (4.0, Event::Process(MASTER, 13));
    assert_eq!(wrong(&[first.clone(), killed, second, third]).len(), 1, "one kill ends one process");
    let other = (2.0, Event::Killed(REPLICA));
    assert_eq!(wrong(&[first, other, (3.0, Event::Process(MASTER, 12))]).len(), 1);
}

#[test]
fn a_shard_that_had_keys_is_never_empty() {
    let well = |at, keys: [u64; 3]| (at, Event::Well(0, keys.to_vec()));
    assert!(wrong(&[well(1.0, [0, 0, 0]), well(2.0, [5, 5, 5]), well(3.0, [4, 9, 9])]).is_empty());
    assert_eq!(
        wrong(&[well(2.0, [5, 6, 7]), well(3.0, [8, 0, 9])]),
        ["shard 1 of cluster 0 is empty at 3.000 s, and had 6 keys"]
    );
}
