//! Every selection of small clusters, played against a model of Redis: what must hold at every step, and that it ends.

use expect_test::expect;
use muster_proto::{Account, ClusterId, HostName, Role, SlotRange};
use uuid::Uuid;

use super::*;
use crate::samples;

/// A cluster that plays along. A hand-over and a restart take a tick each.
#[derive(Clone)]
struct World {
    blueprint: Blueprint,
    duties: Duties,
    heard: Heard,
    roll: Roll,
    /// Who does not come back.
    broken: Option<NodeId>,
    turned: Vec<NodeId>,
    handed: Vec<(NodeId, NodeId)>,
    /// Hand-overs that are done, and not seen yet.
    unseen: Vec<(NodeId, NodeId)>,
}

fn id(nth: u8) -> NodeId {
    NodeId([nth; 20])
}

/// `shards` masters with `replicas` each; every copy of a shard on another host.
fn blueprint(shards: u8, replicas: u8) -> Blueprint {
    let member = |shard: u8, copy: u8| {
        let master = id(shard * 10);
        let slots = vec![SlotRange::of_shard(shard.into(), shards.into()).unwrap()];
        Member {
            node_id: id(shard * 10 + copy),
            host: format!("server{}", (shard + copy) % (replicas + 1) + 1).parse().unwrap(),
            address: [127, 0, 0, copy + 1].into(),
            port: u32::from(shard).checked_add(7000).unwrap().try_into().unwrap(),
            bus_port: 17000 + u16::from(shard),
            role: if copy == 0 { Role::Master { slots } } else { Role::Replica { master } },
            shard: shard.into(),
            shard_id: id(100 + shard),
            config_epoch: u64::from(shard) + 1,
        }
    };
    let members = (0..shards).flat_map(|shard| (0..=replicas).map(move |copy| (shard, copy)));
    Blueprint {
        cluster: "orders".parse().unwrap(),
        cluster_id: ClusterId(Uuid::nil()),
        incarnation: muster_proto::Incarnation(1),
        members: members.map(|(shard, copy)| member(shard, copy)).collect(),
        settings: Vec::new(),
        limits: muster_proto::Limits::default(),
        replicas: replicas.into(),
    }
}

impl World {
    fn new(kind: Kind, blueprint: Blueprint, selected: &[NodeId]) -> Self {
        let roll = Roll {
            operation: OperationId(Uuid::nil()),
            kind,
            targets: BTreeMap::new(),
            even_if_unserved: false,
            give_back: BTreeSet::new(),
            errand: None,
            hand_overs: Vec::new(),
        };
        let heard = samples::heard(&blueprint, |member| samples::running(&blueprint, member));
        let duties = Duties::new();
        let world = Self {
            blueprint,
            duties,
            heard,
            roll,
            broken: None,
            turned: Vec::new(),
            handed: Vec::new(),
            unseen: Vec::new(),
        };
        world.then(kind, selected)
    }

    /// The next operation in the same world.
    fn then(self, kind: Kind, selected: &[NodeId]) -> Self {
        let is_meant = |member: &Member| selected.contains(&member.node_id);
        let targets = targets(kind, is_meant, &self.blueprint, &self.duties, &self.heard);
        Self { roll: Roll { kind, targets, hand_overs: Vec::new(), ..self.roll }, ..self }
    }

    fn next(&self) -> Next {
        next(&self.roll, &self.blueprint, &self.duties, &self.heard)
    }

    fn outlook(&self) -> Outlook {
        outlook(&self.roll, &self.blueprint, &self.duties, &self.heard)
    }

    fn member(&self, id: NodeId) -> &Member {
        self.blueprint.members.iter().find(|member| member.node_id == id).unwrap()
    }

    fn status(&mut self, id: NodeId) -> &mut InstanceStatus {
        self.heard.instances.get_mut(&id).unwrap()
    }

    fn role(&self, id: NodeId) -> Option<Role> {
        let status = &self.heard.instances[&id];
        (status.state == InstanceState::Running).then(|| status.view.as_ref().unwrap().role.clone())
    }

    fn leads(&self, id: NodeId) -> bool {
        matches!(self.role(id), Some(Role::Master { .. }))
    }

    fn is_well(&self, id: NodeId) -> bool {
        let status = &self.heard.instances[&id];
        let view = status.view.as_ref();
        status.state == InstanceState::Running && view.is_some_and(|view| view.role.master().is_none() || view.link_up)
    }

    fn shard(&self, shard: u32) -> Vec<NodeId> {
        self.blueprint.members.iter().filter(|member| member.shard == shard).map(|member| member.node_id).collect()
    }

    /// A tick of the world: links come up, and what was told to be otherwise is so.
    fn tick(&mut self) {
        for member in self.blueprint.members.clone() {
            let node = member.node_id;
            let duty = self.duties.get(&node).copied().unwrap_or_default();
            let leader = self.shard(member.shard).into_iter().find(|id| self.leads(*id));
            let broken = self.broken == Some(node);
            let slots = self.blueprint.members.iter().find(|one| one.shard == member.shard).unwrap().role.clone();
            let view = samples::view(&self.blueprint, &member);
            let status = self.status(node);
            match (duty.stopped, status.state) {
                (true, InstanceState::Running) => {
                    *status =
                        InstanceStatus { state: InstanceState::Stopping, reason: "stopping".into(), ..status.clone() };
                }
                (true, _) => {
                    *status = InstanceStatus {
                        state: InstanceState::Stopped,
                        view: None,
                        pid: None,
                        reason: "".into(),
                        ..status.clone()
                    };
                }
                (false, InstanceState::Running) if status.run < duty.run => {
                    *status = InstanceStatus {
                        state: InstanceState::Stopping,
                        reason: "restarting".into(),
                        ..status.clone()
                    };
                }
                (false, InstanceState::Running) => {
                    if let Some(view) = status.view.as_mut() {
                        match (&view.role, leader) {
                            (Role::Replica { master }, Some(leader)) if *master != leader => {
                                (view.role, view.link_up) = (Role::Replica { master: leader }, false);
                            }
                            (Role::Replica { .. }, Some(_)) => view.link_up = true,
                            _ => {}
                        }
                    }
                }
                (false, _) if broken => {
                    let account = Account { condition: Some(Condition::Backoff), ..Account::default() };
                    *status = InstanceStatus {
                        state: InstanceState::Down,
                        pid: None,
                        account,
                        reason: "it ends".into(),
                        ..status.clone()
                    };
                }
                (false, _) => {
                    let role = leader.map_or(slots, |master| Role::Replica { master });
                    let view = Some(muster_proto::NodeView { role, link_up: false, ..view });
                    let (state, reason) = (InstanceState::Running, String::new());
                    *status = InstanceStatus { state, reason, run: duty.run, view, pid: Some(1), ..status.clone() };
                }
            }
        }
    }

    fn hand_over(&mut self, from: NodeId, to: NodeId) {
        assert!(self.leads(from) && self.is_well(to) && self.role(to).unwrap().master() == Some(from));
        self.handed.push((from, to));
        self.unseen.push((from, to));
        let [from, to] = [from, to].map(|id| self.member(id).name());
        self.roll.hand_overs.push(HandedOver { from, to, gap_micros: 1500, unmeasured: String::new() });
    }

    /// Obeys one decision, then a tick. What must hold of a decision is looked at before it is obeyed.
    fn step(&mut self) -> Next {
        let next = self.next();
        if self.roll.kind == Kind::Restart {
            self.is_careful(&next);
        }
        if self.roll.kind != Kind::Start && !self.roll.even_if_unserved {
            assert!(next.turn.iter().all(|id| !self.leads(*id)), "a master goes without handing over");
        }
        for node in &next.turn {
            let before = self.duties.get(node).copied().unwrap_or_default();
            self.duties.insert(*node, self.roll.duty(*node, before, next.all_stopped.contains(node)));
            self.turned.push(*node);
        }
        let seen = std::mem::take(&mut self.unseen);
        if let Some((from, to)) = next.hand_over {
            self.hand_over(from, to);
        }
        for (from, to) in seen {
            let slots = self.role(from).unwrap();
            self.status(from).view.as_mut().unwrap().role = Role::Replica { master: to };
            self.status(from).view.as_mut().unwrap().link_up = false;
            self.status(to).view.as_mut().unwrap().role = slots;
        }
        self.tick();
        next
    }

    /// Of a shard one copy at a time, and only while the others are well; the first goes alone.
    fn is_careful(&self, next: &Next) {
        let serving: Vec<_> = next.turn.iter().filter(|id| self.role(**id).is_some()).collect();
        for node in &serving {
            for other in self.shard(self.member(**node).shard).into_iter().filter(|other| other != *node) {
                assert!(self.is_well(other), "{node} goes while {other} is away");
                assert!(!next.turn.contains(&other), "two copies at once");
            }
        }
        assert!(!self.turned.is_empty() || serving.len() <= 1, "the first does not go alone");
        let others = self.roll.targets.keys().filter(|id| Some(**id) != next.hand_over.map(|(from, _)| from));
        let first = self.handed.is_empty() && next.hand_over.is_some();
        assert!(!first || others.into_iter().all(|id| self.is_well(*id)), "a master goes before replicas are back");
    }

    fn play(&mut self) {
        for _ in 0..200 {
            if self.step().is_done() {
                return;
            }
        }
        panic!("it does not end: {:?}", self.next());
    }
}

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
            world.roll.even_if_unserved = outlook.unserved;
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
    let setting = |key: &str, value: &str| muster_proto::Setting { key: key.into(), value: value.into() };
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
    let over = |gap_micros| HandedOver { from: "a".into(), to: "b".into(), gap_micros, unmeasured: String::new() };
    roll.hand_overs = vec![over(0)];
    assert_eq!(summary(&roll, 1), "1 of 2 instances restarted, 1 hand-over");
    roll.hand_overs = vec![over(143_001), over(7_000)];
    assert_eq!(summary(&roll, 2), "2 of 2 instances restarted, 2 hand-overs; writes waited 144 ms at most");
}
