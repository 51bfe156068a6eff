//! A model of a cluster: what it does when it is told something, and what must hold whenever it is.

use muster_proto::{Account, ClusterId, Role, SlotRange};
use uuid::Uuid;

use super::*;

/// A cluster that plays along. A hand-over and a restart take a tick each.
#[derive(Clone)]
pub struct World {
    pub blueprint: Blueprint,
    pub duties: Duties,
    pub heard: Heard,
    pub roll: Roll,
    /// Who does not come back.
    pub broken: Option<NodeId>,
    pub turned: Vec<NodeId>,
    pub handed: Vec<(NodeId, NodeId)>,
    /// Hand-overs that are done, and not seen yet.
    pub unseen: Vec<(NodeId, NodeId)>,
    pub now_ms: u64,
}

pub fn id(nth: u8) -> NodeId {
    NodeId([nth; 20])
}

/// `shards` masters with `replicas` each; every copy of a shard on another host.
pub fn blueprint(shards: u8, replicas: u8) -> Blueprint {
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
    pub fn new(kind: Kind, blueprint: Blueprint, selected: &[NodeId]) -> Self {
        let roll = Roll {
            operation: OperationId(Uuid::nil()),
            kind,
            targets: BTreeMap::new(),
            dark: BTreeSet::new(),
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
            now_ms: 1_800_000_000_000,
        };
        world.then(kind, selected)
    }

    /// The next operation in the same world.
    pub fn then(self, kind: Kind, selected: &[NodeId]) -> Self {
        let is_meant = |member: &Member| selected.contains(&member.node_id);
        let targets = targets(kind, is_meant, false, &self.blueprint, &self.duties, &self.heard);
        Self { roll: Roll { kind, targets, hand_overs: Vec::new(), ..self.roll }, ..self }
    }

    pub fn next(&self) -> Next {
        next(&self.roll, &self.blueprint, &self.duties, &self.heard, self.now_ms)
    }

    pub fn outlook(&self) -> Outlook {
        outlook(&self.roll, &self.blueprint, &self.duties, &self.heard)
    }

    pub fn member(&self, id: NodeId) -> &Member {
        self.blueprint.members.iter().find(|member| member.node_id == id).unwrap()
    }

    pub fn status(&mut self, id: NodeId) -> &mut InstanceStatus {
        self.heard.instances.get_mut(&id).unwrap()
    }

    pub fn role(&self, id: NodeId) -> Option<Role> {
        let status = &self.heard.instances[&id];
        (status.state == InstanceState::Running).then(|| status.view.as_ref().unwrap().role.clone())
    }

    pub fn leads(&self, id: NodeId) -> bool {
        matches!(self.role(id), Some(Role::Master { .. }))
    }

    pub fn is_well(&self, id: NodeId) -> bool {
        let status = &self.heard.instances[&id];
        let view = status.view.as_ref();
        status.state == InstanceState::Running && view.is_some_and(|view| view.role.master().is_none() || view.link_up)
    }

    pub fn shard(&self, shard: u32) -> Vec<NodeId> {
        self.blueprint.members.iter().filter(|member| member.shard == shard).map(|member| member.node_id).collect()
    }

    /// A tick of the world: links come up, and what was told to be otherwise is so.
    pub fn tick(&mut self) {
        self.now_ms += 1000;
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

    pub fn hand_over(&mut self, from: NodeId, to: NodeId) {
        assert!(self.leads(from) && self.is_well(to) && self.role(to).unwrap().master() == Some(from));
        self.handed.push((from, to));
        self.duties.entry(from).or_default().handed_ms = self.now_ms;
        self.unseen.push((from, to));
        let [from, to] = [from, to].map(|id| self.member(id).name());
        self.roll.hand_overs.push(HandedOver {
            from,
            to,
            gap_micros: 1500,
            unmeasured: String::new(),
            at_ms: self.now_ms,
        });
    }

    /// Obeys one decision, then a tick. What must hold of a decision is looked at before it is obeyed.
    pub fn step(&mut self) -> Next {
        let next = self.next();
        if self.roll.kind == Kind::Restart {
            self.is_careful(&next);
        }
        if self.roll.kind != Kind::Start {
            let dark = |id: &NodeId| self.roll.dark.contains(&self.member(*id).shard);
            let careful = |id: &NodeId| !self.leads(*id) || dark(id);
            assert!(next.turn.iter().all(careful), "a master goes without handing over");
        }
        // Whoever is told something is behind for a moment, and what he said before is not believed.
        self.heard.silent.clear();
        for id in &next.turn {
            let host = self.member(*id).host.clone();
            self.heard.silent.insert(host, "has generation 1, told was 2".into());
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
    pub fn is_careful(&self, next: &Next) {
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

    pub fn play(&mut self) {
        for _ in 0..200 {
            if self.step().is_done() {
                return;
            }
        }
        panic!("it does not end: {:?}", self.next());
    }
}
