//! The soak's short form: the same faults, the same clients and the same verdict as `make soak`, for seconds.

#![allow(clippy::panic, reason = "a soak that fails tells its story")]

use std::time::Duration;

use muster_tests::soak::{self, Plan};

#[test]
fn whatever_is_killed_or_frozen_every_instance_runs_once_and_nothing_is_lost_that_redis_does_not_explain() {
    let plan = Plan { seed: 4, duration: Duration::from_secs(20) };
    let outcome = soak::run(plan);
    if let Some(complaint) = outcome.complaint() {
        panic!("{complaint}seed {}: {}", plan.seed, outcome.summary());
    }
    let judged = &outcome.judged;
    assert!(outcome.faults >= 5 && judged.acknowledged > 1000 && judged.waited > 100, "{}", outcome.summary());
}
