//! What each death would mean, and what would change it: some to read, and all small fleets against a second count.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::{advice, losses};
use crate::placement::tests::{Case, cases, copies};

fn show(case: &Case) -> String {
    let (spec, sites) = case.world();
    let losses = losses(&case.place().unwrap());
    let mut text = String::new();
    for loss in &losses {
        let goes = if loss.survives { "goes on" } else { "stops" };
        let _ = writeln!(
            text,
            "{}: {} instances, {} of {} masters, {} slots, {} single: {goes}\n  {}",
            loss.host,
            loss.instances_lost,
            loss.masters_lost,
            loss.masters,
            loss.slots_lost,
            loss.shards_without_replica,
            loss.meaning
        );
    }
    let _ = writeln!(text, "{}", advice(&spec, &sites, &losses).unwrap_or("no advice".into()));
    text
}

fn check(case: &Case, expected: Expect) {
    expected.assert_eq(&show(case));
}

#[test]
fn the_two_servers_of_the_procedure_by_hand() {
    check(
        &Case::new(&[3, 3], 1),
        expect![[r#"
            server1: 3 instances, 2 of 3 masters, 0 slots, 3 single: stops
              losing server1 takes 2 of 3 masters: 1 of 3 is no majority and cannot elect, so the cluster stops until server1 is back; every slot still has a copy
            server2: 3 instances, 1 of 3 masters, 0 slots, 3 single: goes on
              losing server2 takes 1 of 3 masters: a replica takes over and the cluster goes on; 3 shards left with a single copy
            to survive the loss of any one host, add one host with at least 1 port, so that no host holds 2 of 3 masters
        "#]],
    );
}

#[test]
fn fleets_that_survive_need_no_advice() {
    check(
        &Case::new(&[2, 2, 2], 1),
        expect![[r#"
        server1: 2 instances, 1 of 3 masters, 0 slots, 2 single: goes on
          losing server1 takes 1 of 3 masters: a replica takes over and the cluster goes on; 2 shards left with a single copy
        server2: 2 instances, 1 of 3 masters, 0 slots, 2 single: goes on
          losing server2 takes 1 of 3 masters: a replica takes over and the cluster goes on; 2 shards left with a single copy
        server3: 2 instances, 1 of 3 masters, 0 slots, 2 single: goes on
          losing server3 takes 1 of 3 masters: a replica takes over and the cluster goes on; 2 shards left with a single copy
        no advice
    "#]],
    );
    check(
        &Case::new(&[3, 3, 3], 2),
        expect![[r#"
        server1: 3 instances, 1 of 3 masters, 0 slots, 0 single: goes on
          losing server1 takes 1 of 3 masters: a replica takes over and the cluster goes on
        server2: 3 instances, 1 of 3 masters, 0 slots, 0 single: goes on
          losing server2 takes 1 of 3 masters: a replica takes over and the cluster goes on
        server3: 3 instances, 1 of 3 masters, 0 slots, 0 single: goes on
          losing server3 takes 1 of 3 masters: a replica takes over and the cluster goes on
        no advice
    "#]],
    );
}

#[test]
fn advice_fits_what_is_wrong() {
    check(
        &Case::new(&[4, 4], 1),
        expect![[r#"
            server1: 4 instances, 2 of 4 masters, 0 slots, 4 single: stops
              losing server1 takes 2 of 4 masters: 2 of 4 is no majority and cannot elect, so the cluster stops until server1 is back; every slot still has a copy
            server2: 4 instances, 2 of 4 masters, 0 slots, 4 single: stops
              losing server2 takes 2 of 4 masters: 2 of 4 is no majority and cannot elect, so the cluster stops until server2 is back; every slot still has a copy
            to survive the loss of any one host, add one host with at least 2 ports, so that no host holds 3 of 5 masters
        "#]],
    );
    check(
        &Case::new(&[5, 2, 2], 1),
        expect![[r#"
            server1: 4 instances, 2 of 4 masters, 0 slots, 4 single: stops
              losing server1 takes 2 of 4 masters: 2 of 4 is no majority and cannot elect, so the cluster stops until server1 is back; every slot still has a copy
            server2: 2 instances, 1 of 4 masters, 0 slots, 2 single: goes on
              losing server2 takes 1 of 4 masters: a replica takes over and the cluster goes on; 2 shards left with a single copy
            server3: 2 instances, 1 of 4 masters, 0 slots, 2 single: goes on
              losing server3 takes 1 of 4 masters: a replica takes over and the cluster goes on; 2 shards left with a single copy
            to survive the loss of any one host, set `masters = 3`, so that no host holds 2 of 3 masters
        "#]],
    );
    check(
        &Case::new(&[1, 1, 1], 0),
        expect![[r#"
            server1: 1 instances, 1 of 3 masters, 5461 slots, 2 single: stops
              losing server1 takes 1 of 3 masters and every copy of slots 0-5460: the cluster stops, and their data is nowhere else
            server2: 1 instances, 1 of 3 masters, 5462 slots, 2 single: stops
              losing server2 takes 1 of 3 masters and every copy of slots 5461-10922: the cluster stops, and their data is nowhere else
            server3: 1 instances, 1 of 3 masters, 5461 slots, 2 single: stops
              losing server3 takes 1 of 3 masters and every copy of slots 10923-16383: the cluster stops, and their data is nowhere else
            to survive the loss of any one host, add one host with at least 3 ports and set `replicas = 1`, so that every shard has a copy on a second host and no host holds 2 of 3 masters
        "#]],
    );
    check(
        &Case::new(&[4, 4, 4], 0),
        expect![[r#"
            server1: 4 instances, 4 of 12 masters, 5460 slots, 8 single: stops
              losing server1 takes 4 of 12 masters and every copy of slots 0-1364,4096-5460,8192-9556,12288-13652: the cluster stops, and their data is nowhere else
            server2: 4 instances, 4 of 12 masters, 5464 slots, 8 single: stops
              losing server2 takes 4 of 12 masters and every copy of slots 1365-2730,5461-6826,9557-10922,13653-15018: the cluster stops, and their data is nowhere else
            server3: 4 instances, 4 of 12 masters, 5460 slots, 8 single: stops
              losing server3 takes 4 of 12 masters and every copy of slots 2731-4095,6827-8191,10923-12287,15019-16383: the cluster stops, and their data is nowhere else
            to survive the loss of any one host, set `replicas = 1`, so that every shard has a copy on a second host and no host holds 3 of 6 masters
        "#]],
    );
    check(
        &Case { allow_shared_host: true, ..Case::new(&[6], 1) },
        expect![[r#"
            server1: 6 instances, 3 of 3 masters, 16384 slots, 0 single: stops
              losing server1 takes 3 of 3 masters and every copy of slots 0-16383: the cluster stops, and their data is nowhere else
            to survive the loss of any one host, add 2 hosts with at least 3 ports each, so that every shard has a copy on a second host and no host holds 3 of 6 masters
        "#]],
    );
}

#[test]
fn losses_of_every_small_fleet_agree_with_a_count_of_the_copies_left() {
    for case in cases(4, 3) {
        let case = Case { allow_shared_host: true, ..case };
        let Ok(placement) = case.place() else { continue };
        let (copies, losses) = (copies(&placement), losses(&placement));
        for loss in &losses {
            let left: Vec<_> = copies.iter().filter(|copy| copy.host != loss.host).collect();
            let copies_left = |shard| left.iter().filter(|copy| usize::try_from(copy.shard) == Ok(shard)).count();
            let masters_left = left.iter().filter(|copy| copy.master).count();
            let gone = (0..loss.masters).filter(|&shard| copies_left(shard) == 0);
            let slots_lost: usize = gone.map(|shard| usize::from(placement.shards[shard].slots.len())).sum();
            assert_eq!(loss.slots_lost, slots_lost, "{case:?}");
            assert_eq!(loss.instances_lost, copies.len() - left.len(), "{case:?}");
            assert_eq!(loss.survives, slots_lost == 0 && masters_left > loss.masters - masters_left, "{case:?}");
            assert_eq!(loss.survives, loss.meaning.contains("goes on"), "{case:?}: {}", loss.meaning);
        }
        let (spec, sites) = case.world();
        let survives = losses.iter().all(|loss| loss.survives);
        assert_eq!(advice(&spec, &sites, &losses).is_none(), survives, "{case:?}");
    }
}
