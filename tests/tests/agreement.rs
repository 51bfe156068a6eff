//! The two halves are cross-checked: whatever the coordinator can order, the agents can perform.
//!
//! Every small fleet is placed, drawn, assigned and sent through the wire's own encoding. The agents' plans are then
//! taken step by step in a model of their hosts until nothing is left to do, and what comes of it must be what
//! formation calls settled, or a reason that a person can act upon. There are no servers here, no clocks and no
//! chance: the model does to a directory and to a process what the step says, and refuses a step that does not fit
//! what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeMap, time::Duration};

use muster_agent::{
    layout::{Directory, Stamp},
    reconcile::{self, Answer, ProcessSeen, Rules, Seen, Step, Verdict, stamp_of},
    restart::{Load, Past, Stake, Word},
};
use muster_coordinator::{
    blueprint::{Blueprint, Identity},
    formation::{self, Goal, Heard, Phase},
    placement::{self, Site},
    reconcile::{Told, assignments},
    rolling::Duties,
};
use muster_proto::{
    Account, Auth, ClusterAssignment, ClusterId, HostAssignment, HostName, Incarnation, InstanceAssignment,
    InstanceState, InstanceStatus, Limits, Member, NodeId, NodeView, Port, PortSet, Spec, SpecHost, Tls,
    spec::SpecParts,
};

const PATIENCE: Duration = Duration::from_secs(3);
/// Far more than any way through takes.
const ROUNDS: usize = 40;

// --- every small fleet
// ------------------------------------------------------------------------------------------------

fn port(number: usize) -> Port {
    Port::try_from(u32::try_from(number).unwrap()).unwrap()
}

/// A fleet of hosts with so many ports each; none if it cannot be placed.
fn blueprint(ports: &[usize], replicas: u32, shared: bool) -> Option<Blueprint> {
    let (mut hosts, mut sites) = (Vec::new(), BTreeMap::new());
    for (nth, count) in (1_u8..).zip(ports) {
        let name: HostName = format!("server{nth}").parse().unwrap();
        let site = Site { name: name.clone(), address: [10, 0, 0, nth].into(), rack: None, zone: None };
        sites.insert(name.clone(), site);
        hosts.push(SpecHost { name, ports: PortSet::new((7000..7000 + count).map(port)).unwrap() });
    }
    let name: muster_proto::ClusterName = "orders".parse().unwrap();
    let parts = SpecParts {
        name,
        replicas,
        masters: None,
        hosts,
        settings: Vec::new(),
        allow_shared_host: shared,
        auth: Auth::None,
        tls: Tls::Off,
        limits: Limits::default(),
    };
    let spec = Spec::new(parts).ok()?;
    let placement = placement::place(&spec, &sites).ok()?;
    let mut drawn = 0;
    let draw = || {
        drawn += 1;
        NodeId([drawn; 20])
    };
    let identity = Identity {
        cluster: spec.parts().name.clone(),
        cluster_id: ClusterId("0197a000-0000-7000-8000-000000000000".parse().unwrap()),
        incarnation: Incarnation(1),
    };
    Some(Blueprint::draw(identity, &placement, &spec, draw))
}

fn fleets() -> Vec<Blueprint> {
    let counts =
        [&[3][..], &[6], &[3, 3], &[2, 2, 2], &[1, 2, 3], &[4, 1, 1], &[3, 3, 3], &[1, 1, 1, 1], &[2, 2, 2, 2, 1]];
    let asked = |ports: &&[usize]| {
        (0..=2).flat_map(|n| [(n, false), (n, true)]).map(move |a| (a, ports.to_vec())).collect::<Vec<_>>()
    };
    let all: Vec<_> = counts.iter().flat_map(asked).collect();
    let placed: Vec<_> = all.iter().filter_map(|((n, shared), ports)| blueprint(ports, *n, *shared)).collect();
    assert!(placed.len() > 20, "only {} fleets can be placed", placed.len());
    placed
}

// --- a model of the hosts
// ---------------------------------------------------------------------------------------------

/// One port of a host.
#[derive(Debug, Clone)]
struct Instance {
    directory: Directory,
    process: Option<Server>,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    /// Rounds that it has lived.
    age: usize,
    /// Since it was asked to stop.
    stopping: Option<Duration>,
}

#[derive(Debug, Clone)]
struct World {
    blueprint: Blueprint,
    instances: BTreeMap<NodeId, Instance>,
    /// Servers end when they are asked to; otherwise only when they are killed.
    obedient: bool,
    now: Duration,
}

impl World {
    /// Nothing has been done yet.
    fn empty(blueprint: &Blueprint) -> Self {
        let free = Instance { directory: Directory::Free, process: None };
        let instances = blueprint.members.iter().map(|member| (member.node_id, free.clone())).collect();
        Self { blueprint: blueprint.clone(), instances, obedient: true, now: Duration::from_secs(100) }
    }

    fn orders(&self, goal: Goal, formed: bool) -> Vec<HostAssignment> {
        let none = Duties::new();
        let told = Told::plain(&self.blueprint, goal, formed, &none);
        let wishes = assignments(&self.blueprint.hosts(), &[told]);
        wishes.into_values().map(|wish| through_the_wire(&wish)).collect()
    }

    fn view(&self, member: &Member) -> NodeView {
        let replicas = self.blueprint.replicas_by_shard()[&member.shard];
        let master = member.role.master().is_none();
        NodeView {
            node_id: member.node_id,
            role: member.role.clone(),
            cluster_ok: true,
            known_nodes: u32::try_from(self.blueprint.members.len()).unwrap(),
            link_up: !master,
            online_replicas: if master { u32::try_from(replicas).unwrap() } else { 0 },
            digest: self.blueprint.topology().digest(),
            nodes_text: None,
            troubles: Vec::new(),
            keys: 0,
            config_epoch: member.config_epoch,
        }
    }

    fn answer(&self, member: &Member) -> Answer {
        match self.instances[&member.node_id].process {
            None => Answer::Silent("it has ended".into()),
            Some(Server { age: 0, .. }) => Answer::Silent("it has just been started".into()),
            Some(Server { age: 1, .. }) => Answer::Loading,
            Some(_) => Answer::View(Box::new(self.view(member))),
        }
    }

    fn seen(&self, member: &Member, formed: bool) -> Seen {
        let instance = &self.instances[&member.node_id];
        let path = std::path::PathBuf::from(format!("/base/{}", member.port));
        Seen {
            directory: instance.directory.clone(),
            socket: path.join("redis.sock"),
            path,
            process: match instance.process {
                None => ProcessSeen::None,
                Some(server) => ProcessSeen::Ours { pid: 1, stopping: server.stopping, outdated: false },
            },
            answer: self.answer(member),
            past: Past::default(),
            stake: Stake { formed, leads: true, load: Load::Log, replaced: false, overruled: false, word: Word::Given },
            outside: None,
            failed: None,
            saving: false,
            silent: Duration::MAX,
            unwilling: None,
            applied: None,
            granted: None,
            trashed: Err("nothing is set aside here".into()),
        }
    }

    /// One pass of every agent, its steps taken. What each instance is said to be, and whether anything was done.
    fn pass(&mut self, orders: &[HostAssignment]) -> (BTreeMap<NodeId, Verdict>, bool) {
        let rules = Rules {
            server: Ok("redis 7.0.15".parse().unwrap()),
            stop_patience: PATIENCE,
            certificates: Default::default(),
        };
        let (mut said, mut acted) = (BTreeMap::new(), false);
        for order in orders {
            let here = |member: &&Member| member.host == order.host;
            let formed = order.clusters.iter().any(|cluster| cluster.formed);
            let members: Vec<_> = self.blueprint.members.iter().filter(here).cloned().collect();
            let seen = members.iter().map(|member| (member.port, self.seen(member, formed))).collect();
            let mut verdicts = reconcile::plan(order, &seen, &rules, self.now);
            for member in members {
                let verdict = verdicts.remove(&member.port).unwrap();
                if let Some(step) = &verdict.step {
                    self.take(member.node_id, step);
                    acted = true;
                }
                said.insert(member.node_id, verdict);
            }
            assert!(verdicts.is_empty(), "a port that no member has");
        }
        (said, acted)
    }

    /// Does what the step says; a step that does not fit what is there is a fault of the plan.
    fn take(&mut self, id: NodeId, step: &Step) {
        let instance = self.instances.get_mut(&id).unwrap();
        match (step, &mut instance.directory, &mut instance.process) {
            (Step::Prepare { stamp, files }, directory @ Directory::Free, None) => {
                let holds = |name, text: String| {
                    files.iter().any(|file| file.name == name && file.text.expose().contains(&text))
                };
                assert!(
                    holds("nodes.conf", format!("{id} ")) && holds("redis.conf", format!("\nport {}\n", stamp.port))
                );
                *directory = Directory::Stamped(stamp.clone());
            }
            (Step::Start { .. }, Directory::Stamped(stamp), process @ None) => {
                assert_eq!(stamp.node_id, id);
                *process = Some(Server { age: 0, stopping: None });
            }
            (Step::Stop, _, Some(server)) => server.stopping = Some(Duration::ZERO),
            (Step::Kill, _, process @ Some(_)) => *process = None,
            (Step::Latch { stamp }, Directory::Stamped(found), _) if found == stamp => found.formed = true,
            (Step::SetAside { stamp }, directory, None) if *directory == Directory::Stamped(stamp.clone()) => {
                *directory = Directory::Free;
            }
            (step, directory, process) => panic!("{step:?} does not fit {directory:?} with {process:?}"),
        }
    }

    /// A second goes by. Whether anything has changed by itself.
    fn tick(&mut self) -> bool {
        self.now += Duration::from_secs(1);
        let mut changed = false;
        for instance in self.instances.values_mut() {
            let Some(server) = &mut instance.process else { continue };
            changed |= server.age < 2 || server.stopping.is_some();
            server.age += 1;
            server.stopping = server.stopping.map(|since| since + Duration::from_secs(1));
            if server.stopping.is_some() && self.obedient {
                instance.process = None;
            }
        }
        changed
    }

    /// What the coordinator hears.
    fn heard(&self, said: &BTreeMap<NodeId, Verdict>) -> Heard {
        let status = |member: &Member| {
            let (verdict, answer) = (&said[&member.node_id], self.answer(member));
            InstanceStatus {
                host: member.host.clone(),
                address: member.address,
                port: member.port,
                cluster: self.blueprint.cluster.clone(),
                state: verdict.state,
                reason: verdict.reason.clone(),
                pid: None,
                view: if let Answer::View(view) = answer { Some(*view) } else { None },
                view_age: Duration::ZERO,
                starts: 0,
                life: muster_proto::Life(1),
                node_id: member.node_id,
                account: Account::default(),
                run: 0,
                asks: None,
            }
        };
        let instances = self.blueprint.members.iter().map(|member| (member.node_id, status(member))).collect();
        Heard { instances, silent: BTreeMap::new() }
    }

    /// Passes until there is nothing left to do, and what the coordinator makes of it then.
    fn settle(&mut self, goal: Goal, formed: bool) -> (Phase, BTreeMap<NodeId, Verdict>) {
        let orders = self.orders(goal, formed);
        for _ in 0..ROUNDS {
            let (said, acted) = self.pass(&orders);
            let changed = self.tick();
            if !acted && !changed {
                return (formation::phase(&self.blueprint, goal, formed, &self.heard(&said)), said);
            }
        }
        panic!("under {goal:?} it does not come to rest: {self:#?}");
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |instance: &Instance| match &instance.directory {
            Directory::Stamped(stamp) => Some(stamp.clone()),
            Directory::Free | Directory::Foreign(_) | Directory::Unreadable(_) => None,
        };
        self.instances.values().filter_map(stamp).collect()
    }

    fn servers(&self) -> usize {
        self.instances.values().filter(|instance| instance.process.is_some()).count()
    }
}

fn through_the_wire(wish: &HostAssignment) -> HostAssignment {
    let back = HostAssignment::decode(&wish.encode().0).unwrap();
    assert_eq!(&back, wish, "what an agent reads is what the coordinator wrote");
    back
}

/// Worlds in which orders may arrive, by name.
fn worlds(blueprint: &Blueprint) -> [(&'static str, World); 4] {
    let empty = World::empty(blueprint);
    let (mut prepared, mut running) = (empty.clone(), empty.clone());
    prepared.settle(Goal::Prepared, false);
    running.settle(Goal::Running, false);
    let mut formed = running.clone();
    formed.settle(Goal::Running, true);
    [("empty", empty), ("prepared", prepared), ("running", running), ("formed", formed)]
}

// --- what comes of it
// -------------------------------------------------------------------------------------------------

#[test]
fn every_order_that_does_not_follow_a_formation_comes_to_what_formation_calls_settled() {
    for blueprint in fleets() {
        for (name, world) in worlds(&blueprint).into_iter().take(3) {
            for (goal, settled) in [
                (Goal::Prepared, Phase::Configure { unsettled: Vec::new() }),
                (Goal::Running, Phase::Prove),
                (Goal::SetAside, Phase::Gone),
            ] {
                let mut world = world.clone();
                let (phase, said) = world.settle(goal, false);
                assert_eq!(phase, settled, "{goal:?} in a world that is {name}: {world:#?}");
                assert!(said.values().all(Verdict::converged), "the agents say so too: {said:#?}");
            }
        }
    }
}

#[test]
fn a_formed_cluster_is_latched_everywhere_and_runs() {
    for blueprint in fleets() {
        for (name, mut world) in worlds(&blueprint).into_iter().skip(1) {
            let (phase, said) = world.settle(Goal::Running, true);
            assert_eq!(phase, Phase::Formed, "{name}");
            assert!(said.values().all(Verdict::converged), "{name}: {said:#?}");
            assert_eq!(world.servers(), blueprint.members.len(), "{name}");
            assert!(world.stamps().iter().all(|stamp| stamp.formed), "{name}");
        }
    }
}

#[test]
fn what_cannot_go_on_names_what_a_person_has_to_do() {
    for blueprint in fleets() {
        let [(_, empty), _, _, (_, formed)] = worlds(&blueprint);
        // The directories of a formed cluster are gone.
        let mut world = empty;
        let (_, said) = world.settle(Goal::Running, true);
        let held = |verdict: &Verdict| {
            verdict.state == InstanceState::Blocked && verdict.reason.contains("put the directory back")
        };
        assert!(said.values().all(held), "{said:#?}");
        assert!(world.stamps().is_empty(), "and nothing was made in their place");
        // The coordinator's store is older than the formation, and the bootstrap is called off.
        let mut world = formed;
        let (phase, _) = world.settle(Goal::SetAside, false);
        assert_eq!(phase.unsettled().len(), blueprint.members.len());
        assert!(formation::needs_operator(&phase, Duration::ZERO, PATIENCE).is_some(), "{phase}");
        assert_eq!(world.servers(), blueprint.members.len(), "and nothing was stopped");
        assert_eq!(world.stamps().len(), blueprint.members.len(), "or moved");
    }
}

/// As the coordinator's own loop does it, from the first order to the last.
#[test]
fn a_bootstrap_goes_from_nothing_to_formed_and_can_be_called_off_at_every_step() {
    for blueprint in fleets() {
        let mut world = World::empty(&blueprint);
        let (mut goal, mut formed, mut barrier) = (Goal::Prepared, false, false);
        for round in 0.. {
            assert!(round < ROUNDS, "not formed: {world:#?}");
            for obedient in [true, false] {
                let mut called_off = World { obedient, ..world.clone() };
                if !formed {
                    assert_eq!(called_off.settle(Goal::SetAside, false).0, Phase::Gone, "in round {round}");
                    assert!(called_off.stamps().is_empty() && called_off.servers() == 0);
                }
            }
            let orders = world.orders(goal, formed);
            let (said, acted) = world.pass(&orders);
            assert!(barrier || world.servers() == 0, "nobody starts before everybody is prepared");
            let changed = world.tick();
            match formation::phase(&blueprint, goal, formed, &world.heard(&said)) {
                Phase::Configure { unsettled } if unsettled.is_empty() => {
                    assert_eq!(world.stamps().len(), blueprint.members.len());
                    (goal, barrier) = (Goal::Running, true);
                }
                Phase::Prove => formed = true,
                Phase::Formed if !acted && !changed => break,
                _ => {}
            }
        }
        assert!(world.stamps().iter().all(|stamp| stamp.formed));
    }
}

#[test]
fn every_stamp_that_an_assignment_asks_for_is_that_of_its_member() {
    for blueprint in fleets() {
        let world = World::empty(&blueprint);
        let orders = world.orders(Goal::Prepared, false);
        let instances: Vec<(&ClusterAssignment, &InstanceAssignment)> =
            orders.iter().flat_map(|order| order.by_port().into_values()).collect();
        assert_eq!(instances.len(), blueprint.members.len(), "everybody is assigned once");
        for (cluster, instance) in instances {
            let (stamp, member) = (stamp_of(cluster, instance), cluster.member(instance.node_id).unwrap());
            assert_eq!((stamp.node_id, stamp.port, stamp.formed), (member.node_id, member.port, false));
        }
    }
}
