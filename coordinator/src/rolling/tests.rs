//! Every selection of small clusters, played against a model of Redis: what must hold at every step, and that it ends.

mod world;

use expect_test::expect;
use muster_proto::{HostName, Role};

use self::world::{World, blueprint, id};
use super::*;
use crate::samples;

fn selections(blueprint: &Blueprint) -> Vec<Vec<NodeId>> {
    let all: Vec<_> = blueprint.members.iter().map(|member| member.node_id).collect();
    let chosen = |bits: u32| (0..all.len()).filter(|nth| bits & (1 << nth) != 0).map(|nth| all[nth]).collect();
    (1..1_u32 << all.len()).map(chosen).collect()
}

#[test]
fn every_restart_of_small_clusters_ends_and_takes_one_copy_of_a_shard_at_a_time() {
    for (shards, replicas) in [(3, 1), (2, 2), (1, 3)] {
        for selected in selections(&blueprint(shards, replicas)) {
            let mut world = World::new(Kind::Restart, blueprint(shards, replicas), &selected);
            world.play();
            let turned: BTreeSet<_> = world.turned.iter().copied().collect();
            assert_eq!(turned, selected.iter().copied().collect(), "each once, and no other");
            assert_eq!(world.turned.len(), selected.len());
            let masters = selected.iter().filter(|id| world.member(**id).role.master().is_none()).count();
            assert_eq!(world.handed.len(), masters, "each master has handed over once");
            let first_master = world.turned.iter().position(|id| world.member(*id).role.master().is_none());
            let last_replica = world.turned.iter().rposition(|id| world.member(*id).role.master().is_some());
            assert!(first_master.zip(last_replica).is_none_or(|(master, replica)| replica < master));
            assert!(world.blueprint.members.iter().all(|member| world.is_well(member.node_id)));
        }
    }
}

#[test]
fn masters_get_their_slots_back_where_that_is_wanted() {
    for selected in selections(&blueprint(3, 1)) {
        let mut world = World::new(Kind::Restart, blueprint(3, 1), &selected);
        world.roll.give_back = world.outlook().masters;
        world.play();
        for member in &world.blueprint.members {
            assert_eq!(world.leads(member.node_id), member.role.master().is_none(), "as planned again");
        }
        assert_eq!(world.handed.len(), world.roll.give_back.len() * 2);
    }
}

#[test]
fn whoever_does_not_come_back_stops_what_was_not_begun() {
    for broken in blueprint(3, 1).members.iter().map(|member| member.node_id) {
        let all: Vec<_> = blueprint(3, 1).members.iter().map(|member| member.node_id).collect();
        let mut world = World { broken: Some(broken), ..World::new(Kind::Restart, blueprint(3, 1), &all) };
        let mut turned_then = None;
        for _ in 0..60 {
            let next = world.step();
            assert!(!next.is_done());
            if next.waiting.iter().any(|culprit| culprit.stuck) {
                let then = turned_then.get_or_insert((world.turned.len(), world.handed.len()));
                assert_eq!((world.turned.len(), world.handed.len()), *then, "it goes on over a culprit");
            }
        }
        assert!(turned_then.is_some(), "nobody was missed");
        let next = world.next();
        let why = needs_operator(&world.roll, &next.waiting, None, Duration::ZERO, Duration::from_secs(60)).unwrap();
        assert!(why.contains("it ends") && why.contains("muster op cancel"), "{why}");
        world.broken = None;
        world.play();
    }
}

#[test]
fn every_stop_keeps_slots_served_or_says_that_it_would_not() {
    for (shards, replicas) in [(3, 1), (2, 2)] {
        for selected in selections(&blueprint(shards, replicas)) {
            let mut world = World::new(Kind::Stop, blueprint(shards, replicas), &selected);
            let whole = |shard: u32| world.shard(shard).iter().all(|id| selected.contains(id));
            let dark: Vec<_> = (0..u32::from(shards)).filter(|shard| whole(*shard)).collect();
            let outlook = world.outlook();
            assert_eq!(outlook.unserved, !dark.is_empty(), "{selected:?}: {outlook:?}");
            assert!(!outlook.loses, "an append-only file is kept");
            world.roll.dark = outlook.dark;
            world.play();
            for member in &world.blueprint.members {
                let state = world.heard.instances[&member.node_id].state;
                assert_eq!(state == InstanceState::Stopped, selected.contains(&member.node_id));
            }
            for shard in (0..u32::from(shards)).filter(|shard| !dark.contains(shard)) {
                let leaders = world.shard(shard).into_iter().filter(|id| world.leads(*id)).count();
                assert_eq!(leaders, 1, "somebody serves");
            }
            assert!(world.outlook().idle, "a second stop has nothing to do");
            let mut start = world.then(Kind::Start, &selected);
            assert!(!start.outlook().idle);
            start.play();
            for shard in 0..u32::from(shards) {
                let fresh = start.shard(shard).iter().any(|id| start.duties.get(id).is_some_and(|it| it.all_stopped));
                assert_eq!(fresh, dark.contains(&shard), "only where nobody was left to be emptied");
            }
            assert!(start.then(Kind::Start, &selected).outlook().idle, "what runs is not started");
        }
    }
}

#[test]
fn a_master_on_a_host_that_is_not_heard_of_is_not_told_to_stop() {
    let selected: Vec<_> =
        blueprint(3, 1).members.iter().filter(|one| one.host.as_str() == "server1").map(|one| one.node_id).collect();
    let mut world = World::new(Kind::Stop, blueprint(3, 1), &selected);
    let silent: HostName = "server1".parse().unwrap();
    world.heard.silent.insert(silent.clone(), "its host server1 has not been heard of for 9 s".into());
    let next = world.next();
    assert_eq!((next.turn.as_slice(), next.hand_over), ([id(11)].as_slice(), None), "only what is a replica for sure");
    assert!(next.waiting.iter().all(|culprit| culprit.why.contains("not been heard of")));
    assert!(world.outlook().unserved, "nobody is heard to serve its shards");
    // Elsewhere somebody has been elected meanwhile.
    for (master, heir) in [(id(0), id(1)), (id(20), id(21))] {
        let slots = world.member(master).role.clone();
        world.status(heir).view.as_mut().unwrap().role = slots;
    }
    assert_eq!(world.next().turn, selected, "when it comes back it stays down");
}

/// As when its agent has just been started anew.
#[test]
fn one_that_runs_and_was_not_asked_yet_is_not_taken_for_down() {
    for kind in [Kind::Stop, Kind::Restart] {
        let mut world = World::new(kind, blueprint(3, 1), &[id(0)]);
        let (state, view) = (InstanceState::Starting, None);
        *world.status(id(0)) = InstanceStatus { state, view, ..world.status(id(0)).clone() };
        let next = world.next();
        assert_eq!((next.turn.len(), next.hand_over, next.is_done()), (0, None, false));
        assert_eq!(next.waiting[0].name, "server1:7000");
    }
}

#[test]
fn what_is_down_anyway_is_tried_first_and_a_shard_that_is_not_whole_is_waited_for() {
    let all: Vec<_> = blueprint(3, 1).members.iter().map(|member| member.node_id).collect();
    let mut world = World::new(Kind::Restart, blueprint(3, 1), &all);
    let (state, pid, view) = (InstanceState::Down, None, None);
    *world.status(id(11)) = InstanceStatus { state, pid, view, ..world.status(id(11)).clone() };
    assert_eq!(world.next().turn, [id(11)]);
    world.play();

    // Out of the selection, and out of sync: its shard is left alone until it is.
    let others: Vec<_> = all.iter().copied().filter(|node| *node != id(1)).collect();
    let mut world = World::new(Kind::Restart, blueprint(3, 1), &others);
    world.status(id(1)).view.as_mut().unwrap().link_up = false;
    let next = world.next();
    assert!(!next.turn.contains(&id(0)) && next.hand_over.is_none());
    world.play();
}

/// Its peers would not vote, and each try would block writes for 5 s.
#[test]
fn a_master_that_has_just_handed_over_waits_until_its_peers_vote_again() {
    let mut world = World::new(Kind::Restart, blueprint(3, 1), &[id(0)]);
    world.duties.entry(id(0)).or_default().handed_ms = world.now_ms;
    let next = world.next();
    assert!(next.hand_over.is_none() && next.waiting[0].why.contains("only 31 s after that"), "{next:?}");
    world.now_ms += 30_500;
    assert_eq!(world.next().hand_over, Some((id(0), id(1))));
    world.blueprint.settings = vec![setting("cluster-node-timeout", "2000")];
    world.now_ms -= 26_000;
    assert_eq!(world.next().hand_over, Some((id(0), id(1))));
}

/// A failover of Redis' own in between is no view that is too old.
#[test]
fn a_master_that_has_its_slots_back_hands_over_again() {
    let all: Vec<_> = blueprint(3, 1).members.iter().map(|member| member.node_id).collect();
    let mut world = World::new(Kind::Restart, blueprint(3, 1), &all);
    while world.handed.is_empty() {
        world.step();
    }
    let (from, to) = world.handed[0];
    world.step();
    let slots = world.role(to).unwrap();
    world.status(to).view.as_mut().unwrap().role = Role::Replica { master: from };
    world.status(from).view.as_mut().unwrap().role = slots;
    world.play();
}

#[test]
fn what_is_stopped_is_not_restarted_unless_it_is_named() {
    let mut world = World::new(Kind::Stop, blueprint(3, 1), &[id(1)]);
    world.play();
    let all: Vec<_> = blueprint(3, 1).members.iter().map(|member| member.node_id).collect();
    let world = world.then(Kind::Restart, &all);
    assert!(!world.roll.targets.contains_key(&id(1)) && world.roll.targets.len() == 5);
    let outlook = world.outlook();
    assert_eq!(outlook.dark, BTreeSet::from([0]), "nobody is left to take over: {outlook:?}");
    let named = targets(Kind::Restart, |one| one.node_id == id(1), true, &world.blueprint, &world.duties, &world.heard);
    assert_eq!(named.len(), 1);
}

/// One after the other is as bad as all at once.
#[test]
fn the_last_copy_of_a_cluster_that_keeps_nothing_is_said_to_be_lost() {
    let bare = || {
        let mut blueprint = blueprint(3, 1);
        blueprint.settings = vec![setting("appendonly", "no"), setting("save", "\"\"")];
        blueprint
    };
    let mut world = World::new(Kind::Stop, bare(), &[id(1)]);
    assert!(!world.outlook().loses);
    world.play();
    for kind in [Kind::Stop, Kind::Restart] {
        let then = world.clone().then(kind, &[id(0)]);
        assert!(then.outlook().loses && then.outlook().unserved, "{kind:?}");
    }
    // Of a shard that was stopped as a whole, with a host that is not heard of, nothing is started before it is.
    let mut world = World::new(Kind::Stop, bare(), &[id(0), id(1)]);
    world.roll.dark = world.outlook().dark;
    world.play();
    let mut start = world.then(Kind::Start, &[id(0), id(1)]);
    start.heard.silent.insert("server2".parse().unwrap(), "silent".into());
    let next = start.next();
    assert!(next.turn.is_empty() && next.waiting[0].why == "silent", "{next:?}");
    start.heard.silent.clear();
    start.play();
    assert!([id(0), id(1)].iter().all(|id| start.duties[id].all_stopped));
}

#[test]
fn one_hand_over_at_a_time_and_none_while_an_agent_is_asked() {
    let masters = [id(0), id(10), id(20)];
    let mut world = World::new(Kind::Stop, blueprint(3, 1), &masters);
    assert_eq!(world.next().hand_over, Some((id(0), id(1))));
    world.roll.errand = Some(Errand { task: "1".into(), from: id(0), to: id(1) });
    assert_eq!(world.next().hand_over, None);
    assert!(!world.next().is_done());
}

#[test]
fn a_person_is_needed_when_a_hand_over_fails_again_and_again_or_nothing_moves() {
    let world = World::new(Kind::Stop, blueprint(3, 1), &[id(0)]);
    let (still, patience) = (Duration::from_secs(30), Duration::from_secs(30));
    let needed = |waiting: &[Culprit], failed, still| needs_operator(&world.roll, waiting, failed, still, patience);
    assert_eq!(needed(&[], Some((2, "no")), Duration::ZERO), None);
    assert!(needed(&[], Some((3, "no")), Duration::ZERO).unwrap().starts_with("no;"));
    let slow = [Culprit { name: "server1:7000".into(), why: "loading".into(), stuck: false }];
    assert_eq!(needed(&slow, None, Duration::ZERO), None);
    assert!(needed(&slow, None, still).unwrap().contains("nothing has moved for 30 s; server1:7000: loading"));
    assert_eq!(needed(&[], None, still), None);
}

fn setting(key: &str, value: &str) -> muster_proto::Setting {
    muster_proto::Setting { key: key.into(), value: value.into() }
}

fn told(outlook: &Outlook) -> String {
    let lines = |name: &str, lines: &[String]| lines.iter().map(|line| format!("{name}: {line}\n")).collect::<String>();
    lines("step", &outlook.steps) + &lines("meaning", &outlook.consequences)
}

#[test]
fn an_outlook_says_what_is_done_and_what_that_means() {
    let all: Vec<_> = blueprint(3, 1).members.iter().map(|member| member.node_id).collect();
    let of = |kind, selected: &[NodeId]| told(&World::new(kind, blueprint(3, 1), selected).outlook());
    expect![[r#"
        step: server2:7000, server1:7001, server2:7002 are restarted, of each shard one at a time, the first alone
        step: server1:7000 hands over slots 0-5460 to server2:7000, and is restarted
        step: server2:7001 hands over slots 5461-10922 to server1:7001, and is restarted
        step: server1:7002 hands over slots 10923-16383 to server2:7002, and is restarted
    "#]]
    .assert_eq(&of(Kind::Restart, &all));
    expect![[r#"
        step: server1:7000 hands over slots 0-5460 to server2:7000
        step: server1:7000, server1:7001 are stopped
        meaning: slots 0-10922 are left without a second copy until they are started again
    "#]]
    .assert_eq(&of(Kind::Stop, &[id(0), id(11)]));
    expect![[r#"
        step: server1:7000, server2:7000, server2:7001, server1:7001, server1:7002, server2:7002 are stopped
        meaning: slots 0-16383 are served by nobody until they are started again
    "#]]
    .assert_eq(&of(Kind::Stop, &all));
    let mut bare = World::new(Kind::Stop, blueprint(3, 1), &all);
    bare.blueprint.settings = vec![setting("appendonly", "no"), setting("save", "\"\"")];
    assert!(bare.outlook().loses);
    assert!(told(&bare.outlook()).contains("keeps nothing on disk: what slots 0-16383 hold is lost"));
    let alone = World::new(Kind::Restart, blueprint(3, 0), &[id(0)]);
    expect![[r#"
        step: server1:7000 is restarted in place
        meaning: slots 0-5460 are served by nobody while that lasts
    "#]]
    .assert_eq(&told(&alone.outlook()));
}

#[test]
fn the_summary_counts_and_names_the_longest_gap() {
    let mut roll = World::new(Kind::Restart, blueprint(3, 1), &[id(0), id(1)]).roll;
    assert_eq!(summary(&roll, 1), "1 of 2 instances restarted");
    let over =
        |gap_micros| HandedOver { from: "a".into(), to: "b".into(), gap_micros, unmeasured: String::new(), at_ms: 0 };
    roll.hand_overs = vec![over(0)];
    assert_eq!(summary(&roll, 1), "1 of 2 instances restarted, 1 hand-over");
    roll.hand_overs = vec![over(143_001), over(7_000)];
    assert_eq!(summary(&roll, 2), "2 of 2 instances restarted, 2 hand-overs; writes waited 144 ms at most");
}
