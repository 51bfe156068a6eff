//! Nights of a simulated fleet: what is simulated and what is judged stands in `tests/src/sim.rs`. As many more as wished:
//! `make simulate SEEDS=`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a night in which something goes wrong tells its story")]

use std::{collections::BTreeMap, ops::Range};

use muster_tests::sim::{self, Outcome, Sabotage};

/// Of every `make test`.
const NIGHTS: Range<u64> = 1..201;

#[test]
fn in_two_hundred_nights_nothing_happens_that_must_not_and_every_morning_it_is_well() {
    let outcomes = sim::nights(NIGHTS, None);
    let complaints: Vec<_> = outcomes.iter().filter_map(Outcome::complaint).collect();
    assert!(complaints.is_empty(), "{}{} of the nights are bad", complaints.concat(), complaints.len());
    // Nights in which nothing is done prove nothing.
    let mut counts = BTreeMap::<&str, usize>::new();
    outcomes.iter().flat_map(|it| &it.counts).for_each(|(what, times)| *counts.entry(what).or_default() += times);
    for (what, least) in [
        ("bootstraps", 200),
        ("cancels", 50),
        ("rebuilds", 100),
        ("rebuilds without a host", 20),
        ("undos", 50),
        ("supersede", 20),
        ("formed", 300),
        ("crossed", 200),
        ("set aside", 1000),
        ("put back", 200),
        ("deleted", 50),
        ("permits refused", 20),
        ("strays", 50),
        ("by hand", 20),
        ("cures", 50),
    ] {
        let times = counts.get(what).copied().unwrap_or(0);
        assert!(times >= least, "{what}: {times} times, and {least} are meant at least: {counts:?}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [3, 17, 42] {
        let (one, two) = (sim::run(seed), sim::run(seed));
        assert!(one.story.lines().count() > 100, "{}", one.story);
        assert_eq!((one.story, one.lasted), (two.story, two.lasted), "seed {seed}");
    }
    assert_ne!(sim::run(1).story, sim::run(2).story);
}

/// A judge that finds nothing may be blind: each of these rules, broken on purpose, is found out within two hundred
/// nights. Where to look first is only to be quick.
#[test]
fn every_rule_that_is_broken_on_purpose_is_found_out() {
    for sabotage in Sabotage::ALL {
        let near = sabotage.shows_near();
        let found = |seeds: Range<u64>| sim::nights(seeds, Some(sabotage)).iter().any(|it| it.sentence.is_some());
        assert!(found(near..near + 2) || found(NIGHTS), "{sabotage:?} is not found out");
    }
}
