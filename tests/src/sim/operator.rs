//! The operator: begins, calls off, pauses, rebuilds, takes back; and in the morning does what he is told to.

use std::{collections::BTreeSet, time::Duration};

use muster_coordinator::{
    blueprint::{Blueprint, Identity},
    formation::Goal,
    ledger::{ClusterRecord, OpState, OperationRecord},
    placement,
    rebuild::{self, LifeRecord, Order},
    rolling::Duties,
};
use muster_proto::{BusOffset, ClusterId, HostName, Incarnation, OperationId, PortUse, Spec};

use super::{
    coordinator::{Change, Dead},
    plan::Plan,
    sabotage::Sabotage,
    world::{Event, World},
};

/// What he remembers.
#[derive(Debug, Default)]
pub struct Operator {
    /// The last cluster that he wanted, so that it can be bootstrapped again.
    pub bootstraps: usize,
    /// Commands that he has carried out in the morning, and for which words.
    pub carried_out: Vec<(String, String)>,
}

/// What he can do to the cluster as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Bootstrap,
    Cancel(OperationId),
    Pause(OperationId),
    Resume(OperationId),
    Rebuild {
        missing: Option<usize>,
    },
    Undo,
    /// Of the trash of a host, all that there is.
    Purge(usize),
}

impl World {
    pub fn next_act(&mut self) {
        let pause = self.dice.ms(self.plan.acts / 4, self.plan.acts * 2);
        if self.now + pause < self.plan.night {
            self.after(pause, Event::Operator);
        }
    }

    /// Does something, if he reaches the coordinator.
    pub fn operates(&mut self) {
        let acts = self.acts();
        // What destroys work is done less often than what does it.
        let wanted: Vec<Act> = acts
            .into_iter()
            .filter(|act| match act {
                Act::Cancel(_) => self.dice.chance(20),
                Act::Pause(_) => self.dice.chance(25),
                Act::Purge(_) => self.dice.chance(5),
                _ => true,
            })
            .collect();
        let without: Vec<Act> =
            wanted.iter().filter(|act| matches!(act, Act::Rebuild { missing: Some(_) })).cloned().collect();
        let wanted = if without.is_empty() || self.dice.chance(40) { wanted } else { without };
        if let Some(act) = self.dice.pick(&wanted) {
            self.does(&act);
        }
    }

    fn acts(&self) -> Vec<Act> {
        let Some(main) = self.main() else { return Vec::new() };
        let Some(record) = main.store.clusters.values().next() else { return vec![Act::Bootstrap] };
        let full: Vec<usize> = (0..self.hosts.len()).filter(|host| !self.hosts[*host].disk.trash.is_empty()).collect();
        let under_way = record.rebuild.as_ref().map_or(record.operation, |rebuild| rebuild.operation);
        let Some(operation) = main.store.operations.get(&under_way) else { return Vec::new() };
        let mut acts = Vec::new();
        let ended = operation.state.ended();
        if !ended && operation.state != OpState::Cancelling {
            acts.push(Act::Cancel(under_way));
            acts.push(if operation.state == OpState::Paused { Act::Resume(under_way) } else { Act::Pause(under_way) });
        }
        let free = match &record.rebuild {
            Some(_) => rebuild::gives_way(record, operation.state),
            None => record.formed_ms.is_some(),
        };
        if free {
            acts.push(Act::Rebuild { missing: None });
            let gone = (0..self.hosts.len()).filter(|host| self.is_given_up(*host));
            acts.extend(gone.map(|host| Act::Rebuild { missing: Some(host) }));
            acts.push(Act::Undo);
        }
        acts.extend(full.into_iter().map(Act::Purge));
        acts
    }

    /// A host that somebody would give up: it is not there, for all that anybody can see.
    fn is_given_up(&self, host: usize) -> bool {
        self.hosts.len() > 2 && (!self.hosts[host].up || self.hosts[host].hung)
    }

    /// Whether it was done.
    pub fn does(&mut self, act: &Act) -> bool {
        let done = match act {
            Act::Bootstrap => self.bootstraps(),
            Act::Cancel(id) => self.cancels(*id),
            Act::Pause(id) => self.turns(*id, OpState::Paused),
            Act::Resume(id) => self.turns(*id, OpState::Running),
            Act::Rebuild { missing } => self.rebuilds(*missing),
            Act::Undo => self.undoes(),
            Act::Purge(host) => self.purges(*host),
        };
        let what = match act {
            Act::Bootstrap => "bootstraps",
            Act::Cancel(_) => "cancels",
            Act::Pause(_) => "pauses",
            Act::Resume(_) => "resumes",
            Act::Rebuild { missing: None } => "rebuilds",
            Act::Rebuild { missing: Some(_) } => "rebuilds without a host",
            Act::Undo => "undos",
            Act::Purge(_) => "purges",
        };
        if done.is_some() {
            self.judge.count(what);
        }
        match done {
            Some(Ok(())) => true,
            Some(Err(Dead)) => {
                self.coordinator_dies(0, " while it took an order");
                true
            }
            None => false,
        }
    }

    fn live(&mut self, host: &HostName) -> bool {
        let now = self.now;
        self.coordinators[0].as_mut().is_some_and(|main| main.live(host, now))
    }

    fn away(&mut self, hosts: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        let now = self.now;
        self.coordinators[0].as_mut().map(|main| main.away(hosts, now)).unwrap_or_default()
    }

    fn draw(&mut self, spec: &Spec, identity: Identity, offset: BusOffset) -> Option<Blueprint> {
        let placement = placement::place(spec, &Plan::sites(&self.hosts)).ok()?;
        let dice = &mut self.dice;
        Some(Blueprint::draw_at(identity, &placement, spec, offset, || dice.node_id()))
    }

    fn begins(&mut self, kind: &str, record: &ClusterRecord, phase: &str) -> OperationRecord {
        let id = OperationId(self.dice.uuid());
        OperationRecord::begin(id, kind, &record.blueprint.cluster, phase, "approved".into())
    }

    fn bootstraps(&mut self) -> Option<Result<(), Dead>> {
        let spec = self.plan.spec(0..self.hosts.len())?;
        for host in &spec.parts().hosts {
            let free = |ports: &[(muster_proto::Port, PortUse)]| ports.iter().all(|(_, usage)| *usage == PortUse::Free);
            let fits =
                self.live(&host.name) && self.main()?.report(&host.name).is_some_and(|report| free(&report.ports));
            if !fits {
                return None;
            }
        }
        let identity = Identity {
            cluster: spec.parts().name.clone(),
            cluster_id: ClusterId(self.dice.uuid()),
            incarnation: Incarnation(1),
        };
        let blueprint = self.draw(&spec, identity, BusOffset::default())?;
        let mut record = ClusterRecord {
            spec,
            blueprint,
            goal: Goal::Prepared,
            formed_ms: None,
            operation: OperationId(uuid::Uuid::nil()),
            credentials: None,
            duties: Duties::new(),
            roll: None,
            rebuild: None,
            remnants: Vec::new(),
        };
        let operation = self.begins("bootstrap", &record, "CONFIGURE");
        record.operation = operation.id;
        self.operator.bootstraps += 1;
        self.tell("operator", format!("muster bootstrap (operation {})", operation.id));
        let gives_way = None;
        let change = Change {
            before: record.clone(),
            next: Some(record),
            operation: operation.id,
            state: OpState::Running,
            phase: "CONFIGURE",
            message: "approved".into(),
            begins: Some(operation),
            gives_way,
        };
        Some(self.commit(0, change))
    }

    fn turns(&mut self, id: OperationId, to: OpState) -> Option<Result<(), Dead>> {
        self.tell("operator", format!("muster op {} {id}", if to == OpState::Paused { "pause" } else { "resume" }));
        let main = self.coordinators[0].as_mut()?;
        let phase = main.store.operations.get(&id)?.phase.clone();
        main.store.event(id, to, &phase, "by an operator");
        self.ring(0, Duration::from_millis(1));
        Some(Ok(()))
    }

    fn cancels(&mut self, id: OperationId) -> Option<Result<(), Dead>> {
        let record = self.main()?.store.clusters.values().next()?.clone();
        let now = self.now;
        let heard = self.coordinators[0].as_mut()?.hears(&record, now);
        let (next, phase) = match &record.rebuild {
            Some(rebuild) if rebuild.operation == id => (rebuild::call_off(&record, &heard)?, "RETURN"),
            _ if record.operation == id && record.formed_ms.is_none() && record.rebuild.is_none() => {
                (ClusterRecord { goal: Goal::SetAside, ..record.clone() }, "CANCEL")
            }
            _ => return None,
        };
        self.tell("operator", format!("muster op cancel {id}"));
        let message = "called off by an operator".into();
        let change = Change {
            before: record,
            next: Some(next),
            operation: id,
            state: OpState::Cancelling,
            phase,
            message,
            begins: None,
            gives_way: None,
        };
        Some(self.commit(0, change))
    }

    // --- rebuilds ----------------------------------------------------------------------------------------------------

    fn rebuilds(&mut self, missing: Option<usize>) -> Option<Result<(), Dead>> {
        let record = self.main()?.store.clusters.values().next()?.clone();
        let fenced: BTreeSet<HostName> = missing.iter().map(|host| self.hosts[*host].name.clone()).collect();
        let spec = self.next_spec(&record, &fenced)?;
        // Everybody who has something of it, or will, is there.
        let all = record.blueprint.hosts().into_iter().chain(spec.parts().hosts.iter().map(|host| host.name.clone()));
        let all = all.chain(fenced.iter().cloned()).collect();
        let away = self.away(&all);
        if away != fenced {
            return None;
        }
        let lives = &self.main()?.store.lives;
        let ended = lives.iter().map(|(life, _)| life.blueprint.incarnation.0);
        let latest = ended.fold(record.blueprint.incarnation.0, u64::max);
        let forgets = self.sabotage(Sabotage::ForgetLives);
        let incarnation = Incarnation(if forgets { record.blueprint.incarnation.0 } else { latest } + 1);
        let placement = placement::place(&spec, &Plan::sites(&self.hosts)).ok()?;
        let seats: Vec<_> = placement
            .shards
            .iter()
            .flat_map(placement::PlacedShard::seats)
            .map(|seat| (seat.host.clone(), seat.port))
            .collect();
        let offset = self.offset(&record, &seats, &fenced)?;
        let identity = Identity {
            cluster: record.blueprint.cluster.clone(),
            cluster_id: record.blueprint.cluster_id,
            incarnation,
        };
        let blueprint = self.draw(&spec, identity, offset)?;
        let next = LifeRecord { spec, blueprint, credentials: None, duties: Duties::new() };
        self.approves(&record, next, false, fenced)
    }

    /// Refused, as `admin/rebuild.rs` has it, while a rebuild is under way.
    fn purges(&mut self, host: usize) -> Option<Result<(), Dead>> {
        let record = self.main()?.store.clusters.values().next()?;
        if record.rebuild.is_some() {
            return None;
        }
        let name = self.hosts[host].name.clone();
        if !self.live(&name) {
            return None;
        }
        self.tell("operator", format!("muster trash purge, on {name}"));
        self.deletes(host, |_| true);
        Some(Ok(()))
    }

    /// As `admin/rebuild/planned.rs` has it.
    fn offset(
        &self,
        record: &ClusterRecord,
        seats: &[(HostName, muster_proto::Port)],
        fenced: &BTreeSet<HostName>,
    ) -> Option<BusOffset> {
        let quarantined = record.remnants.iter().filter(|remnant| !record.blueprint.hosts().contains(&remnant.host));
        let theirs = quarantined.map(|remnant| remnant.bus_port.saturating_sub(remnant.port.get())).collect();
        let present = rebuild::offset_of(&record.blueprint);
        if self.sabotage(Sabotage::SameBusPorts) {
            return Some(present);
        }
        rebuild::offset(seats, present, !fenced.is_empty(), &theirs, &BTreeSet::new())
    }

    /// The same, or another one.
    fn next_spec(&mut self, record: &ClusterRecord, fenced: &BTreeSet<HostName>) -> Option<Spec> {
        let stays = |host: &HostName| !fenced.contains(host);
        let hosts: Vec<usize> = match self.dice.below(6) {
            // All that there are, or one less.
            0 => (0..self.hosts.len()).collect(),
            1 if self.hosts.len() > 2 => {
                let out = self.dice.below(self.hosts.len());
                (0..self.hosts.len()).filter(|host| *host != out).collect()
            }
            _ => record.spec.parts().hosts.iter().filter_map(|host| self.host_named(&host.name)).collect(),
        };
        let names: Vec<usize> = hosts.into_iter().filter(|host| stays(&self.hosts[*host].name)).collect();
        self.plan.spec(names.into_iter())
    }

    fn undoes(&mut self) -> Option<Result<(), Dead>> {
        let record = self.main()?.store.clusters.values().next()?.clone();
        let is_other = |life: &LifeRecord| life.blueprint.incarnation != record.blueprint.incarnation;
        let lives = &self.main()?.store.lives;
        let back = lives.iter().rev().find(|(life, formed)| *formed && is_other(life))?.0.clone();
        let hosts: BTreeSet<HostName> = record.blueprint.hosts().into_iter().chain(back.blueprint.hosts()).collect();
        if !self.away(&hosts).is_empty() {
            return None;
        }
        let life = (back.blueprint.cluster_id, back.blueprint.incarnation);
        let there = |member: &muster_proto::Member| {
            let disk = &self.hosts[self.host_named(&member.host).expect("a host")].disk;
            let left = record.remnants.iter().any(|remnant| {
                (&remnant.host, remnant.port, remnant.former.incarnation) == (&member.host, member.port, life.1)
            });
            let placed = disk.places.get(&member.port).is_some_and(|it| it.life() == life) && left;
            placed || disk.trash.iter().any(|it| it.stamp.node_id == member.node_id && it.life() == life)
        };
        if !back.blueprint.members.iter().all(there) {
            return None;
        }
        self.approves(&record, back, true, BTreeSet::new())
    }

    fn approves(
        &mut self,
        record: &ClusterRecord,
        next: LifeRecord,
        undo: bool,
        missing: BTreeSet<HostName>,
    ) -> Option<Result<(), Dead>> {
        let operation = self.begins(rebuild::kind(undo), record, "FENCE");
        let id = operation.id;
        let hosts: Vec<_> = missing.iter().map(ToString::to_string).collect();
        let how = match (undo, hosts.as_slice()) {
            (true, _) => " --undo".to_owned(),
            (false, []) => String::new(),
            (false, hosts) => format!(" --fence-missing {}", hosts.join(",")),
        };
        let offset = rebuild::offset_of(&next.blueprint).get();
        let what = format!("muster rebuild orders{how} (operation {id}, bus offset {offset})");
        self.tell("operator", what);
        let given_up: Vec<usize> = missing.iter().filter_map(|host| self.host_named(host)).collect();
        self.judge.missing.extend(given_up);
        let gives_way = record.rebuild.as_ref().map(|open| open.operation);
        if gives_way.is_some() {
            self.judge.count("supersede");
        }
        let after = rebuild::begin(record, Order { operation: id, undo, missing, next });
        let change = Change {
            before: record.clone(),
            next: Some(after),
            operation: id,
            state: OpState::Running,
            phase: "FENCE",
            message: "approved".into(),
            begins: Some(operation),
            gives_way,
        };
        Some(self.commit(0, change))
    }
}
