//! What the coordinator's keeper does in a pass: as `keeper/forming.rs`, `keeper/rebuilding.rs` and `keeper/leaders.rs`
//! have it, and as thinly as that can be.

use std::{collections::BTreeMap, time::Duration};

use muster_coordinator::{
    formation::{self, Goal, Phase, resumed},
    ledger::{ClusterRecord, OpState, OperationRecord},
    rebuild::{self, Stage},
};
use muster_proto::{HostName, InstanceState, Life, OperationId, wire};

use super::{
    coordinator::{Change, Dead, Drive, Proof},
    sabotage::Sabotage,
    world::{Down, World},
};

/// A failed proof is tried again after this.
const RETRY: Duration = Duration::from_millis(250);
/// An answer of an agent that is not there by then does not come.
const ANSWER: Duration = Duration::from_secs(5);

impl World {
    /// Takes a cluster as far as its hosts have come.
    pub fn drive(&mut self, nth: usize, record: &ClusterRecord) -> Result<(), Dead> {
        let rebuild = record.rebuild.as_ref().map(|rebuild| rebuild.operation);
        if record.formed_ms.is_some() && rebuild.is_none() {
            self.of(nth).drives.remove(&record.operation);
            self.tell_leaders(nth, record);
            self.permit(nth, record, false);
            return self.settle(nth, record);
        }
        let id = rebuild.unwrap_or(record.operation);
        let Some(operation) = self.of(nth).store.operations.get(&id).cloned() else { return Ok(()) };
        self.permit(nth, record, operation.state == OpState::Paused);
        self.form(nth, record, &operation)
    }

    fn form(&mut self, nth: usize, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), Dead> {
        let (now, id) = (self.now, operation.id);
        let heard = self.of(nth).hears(record, now);
        let mut phase = rebuild::phase(record, &heard);
        match &phase {
            Phase::Fence { .. } if self.sabotage(Sabotage::SkipBarrier) => phase = Phase::Fenced,
            Phase::Wipe { .. } if self.sabotage(Sabotage::StartUnwiped) => {
                phase = Phase::Configure { unsettled: Vec::new() };
            }
            Phase::Configure { .. } if self.sabotage(Sabotage::StartUnprepared) => {
                phase = Phase::Configure { unsettled: Vec::new() };
            }
            _ => {}
        }
        let done = record.blueprint.members.len().saturating_sub(phase.unsettled().len());
        let word = phase.word();
        let drive = self.of(nth).drives.entry(id).or_insert_with(|| Drive {
            phase: word,
            moved: now,
            done,
            proof: None,
            unproved: None,
        });
        if drive.phase != word || drive.done != done {
            (drive.phase, drive.done, drive.moved) = (word, done, now);
        }
        if phase != Phase::Prove {
            (drive.proof, drive.unproved) = (None, None);
        }
        if operation.state == OpState::Paused {
            return Ok(());
        }
        let change = |next: Option<ClusterRecord>, state, phase, message: &str| Change {
            before: record.clone(),
            next,
            operation: id,
            state,
            phase,
            message: message.to_owned(),
            begins: None,
            gives_way: None,
        };
        match phase {
            Phase::Configure { ref unsettled } if unsettled.is_empty() => {
                let next = ClusterRecord { goal: Goal::Running, ..record.clone() };
                let message = "all directories are written; starting all servers";
                self.commit(nth, change(Some(next), OpState::Running, "START", message))
            }
            Phase::Prove => {
                let masters = match record.restores() {
                    true => resumed::leaders(&heard),
                    false => resumed::planned(&record.blueprint),
                };
                if !self.proved(nth, id, record, masters) && !self.sabotage(Sabotage::LatchUnproved) {
                    return self.say_phase(nth, record, operation, &phase);
                }
                let formed_ms = u64::try_from(now.as_millis()).ok();
                let next = rebuild::done(&ClusterRecord { formed_ms, ..record.clone() });
                // Agents have forgotten whom they were told to lead an earlier life.
                self.of(nth).led.retain(|(cluster, _), _| *cluster != record.blueprint.cluster);
                self.commit(nth, change(Some(next), OpState::Done, "FORMED", "every master takes a write"))
            }
            Phase::Verify { .. } | Phase::Start { .. } if self.sabotage(Sabotage::LatchUnproved) => {
                let next = rebuild::done(&ClusterRecord { formed_ms: Some(1), ..record.clone() });
                self.commit(nth, change(Some(next), OpState::Done, "FORMED", "every master takes a write"))
            }
            Phase::Gone => self.commit(nth, change(None, OpState::Cancelled, "CANCEL", &phase.to_string())),
            Phase::Fenced => {
                let Some((crossed, ended)) = rebuild::cross(record) else { return Ok(()) };
                let (from, to) = (record.blueprint.incarnation, crossed.blueprint.incarnation);
                let message = format!("the point of no return: life {from} ends, life {to} follows");
                let lived = record.rebuild.as_ref().is_some_and(|rebuild| rebuild.lived);
                let lives = &mut self.of(nth).lives_after;
                *lives = Some((ended, lived));
                self.commit(nth, change(Some(crossed), OpState::Running, "WIPE", &message))
            }
            Phase::Returned => self.returned(nth, record, operation, &phase.to_string()),
            _ => self.say_phase(nth, record, operation, &phase),
        }
    }

    fn returned(
        &mut self,
        nth: usize,
        record: &ClusterRecord,
        operation: &OperationRecord,
        message: &str,
    ) -> Result<(), Dead> {
        let next = ClusterRecord { rebuild: None, ..record.clone() };
        self.commit(
            nth,
            Change {
                before: record.clone(),
                next: Some(next),
                operation: operation.id,
                state: OpState::Cancelled,
                phase: "RETURN",
                message: message.to_owned(),
                begins: None,
                gives_way: None,
            },
        )
    }

    fn say_phase(
        &mut self,
        nth: usize,
        record: &ClusterRecord,
        operation: &OperationRecord,
        phase: &Phase,
    ) -> Result<(), Dead> {
        let (now, patience) = (self.now, self.plan.patience);
        let Some(drive) = self.of(nth).drives.get(&operation.id) else { return Ok(()) };
        let needed = formation::needs_operator(phase, now - drive.moved, patience);
        let unproved = drive.unproved.as_ref().map(|(why, _)| format!("; {why}")).unwrap_or_default();
        if let (Phase::Return { .. }, Some(why)) = (phase, &needed)
            && now - drive.moved >= patience
        {
            let message = format!("called off; the servers were told to run as before, and {why}");
            return self.returned(nth, record, operation, &message);
        }
        let (state, message) = match (needed, operation.state) {
            (_, OpState::Cancelling) => (OpState::Cancelling, phase.to_string()),
            (Some(why), _) => {
                (OpState::NeedsOperator, format!("{why}{unproved}; {}", rebuild::cure(record, operation.id, phase)))
            }
            (None, _) => (OpState::Running, format!("{phase}{unproved}")),
        };
        if (state, message.as_str(), phase.word()) != (operation.state, &operation.message, operation.phase.as_str()) {
            self.of(nth).store.event(operation.id, state, phase.word(), &message);
            let who = self.coordinator_name(nth);
            self.tell(who, format!("{} [{}] {message}", phase.word(), state.word()));
        }
        Ok(())
    }

    fn tell_leaders(&mut self, nth: usize, record: &ClusterRecord) {
        let now = self.now;
        let coordinator = self.of(nth);
        coordinator.refresh(now);
        let Some(leaders) = coordinator.inventory.leaders(&record.blueprint) else { return };
        let cluster = record.blueprint.cluster.clone();
        for name in record.blueprint.hosts() {
            let coordinator = self.of(nth);
            let Some(stream) = coordinator.session(&name) else { continue };
            let told = (stream, leaders.clone());
            if coordinator.led.insert((cluster.clone(), name), told.clone()).as_ref() != Some(&told) {
                self.say_down(stream, Down::Leaders(cluster.clone(), leaders.clone()));
            }
        }
    }

    fn permit(&mut self, nth: usize, record: &ClusterRecord, paused: bool) {
        let open = record.stage();
        if record.remnants.is_empty() || paused || !matches!(open, None | Some(Stage::Wipe)) {
            return;
        }
        let now = self.now;
        let coordinator = self.of(nth);
        coordinator.refresh(now);
        let term = coordinator.term.0;
        let mut permits = Vec::new();
        for name in record.hosts() {
            let Some(host) = coordinator.inventory.get(&name) else { continue };
            let (Some(stream), Some(report)) = (coordinator.session(&name), &host.report) else { continue };
            if report.accepted != host.told || host.estranged.is_some() {
                continue;
            }
            for status in &report.instances {
                let Some(ask) = status.asks.as_ref().filter(|_| status.cluster == record.blueprint.cluster) else {
                    continue;
                };
                let meant = |remnant: &&rebuild::Remnant| {
                    (&remnant.host, remnant.port, remnant.former.node_id, remnant.former.life)
                        == (&status.host, status.port, ask.node_id, ask.life)
                };
                let Some(remnant) = record.remnants.iter().find(meant) else { continue };
                if coordinator.permitted.insert(ask.nonce) {
                    permits.push((
                        stream,
                        remnant.name(),
                        wire::Permit {
                            term,
                            operation: remnant.former.operation.to_string(),
                            cluster_id: record.blueprint.cluster_id.to_string(),
                            port: status.port.into(),
                            node_id: remnant.former.node_id.to_string(),
                            old_life: remnant.former.life.0,
                            new_life: new_life(record, remnant).0,
                            nonce: ask.nonce.to_string(),
                        },
                    ));
                }
            }
        }
        for (stream, what, permit) in permits {
            let who = self.coordinator_name(nth);
            self.tell(who, format!("permit to set {what} aside"));
            self.say_down(stream, Down::Permit(permit));
        }
    }

    /// What a host that was not there has set aside since is forgotten.
    fn settle(&mut self, nth: usize, record: &ClusterRecord) -> Result<(), Dead> {
        if record.remnants.is_empty() || record.rebuild.is_some() {
            return Ok(());
        }
        let now = self.now;
        let heard = self.of(nth).hears(record, now);
        let places: BTreeMap<_, _> =
            heard.instances.values().map(|status| ((&status.host, status.port), status)).collect();
        let gone = |remnant: &&rebuild::Remnant| {
            let status = places.get(&(&remnant.host, remnant.port));
            status.is_some_and(|status| status.state == InstanceState::Absent && status.asks.is_none())
        };
        let (gone, left): (Vec<_>, Vec<_>) = record.remnants.iter().partition(gone);
        let Some(last) = gone.last() else { return Ok(()) };
        let Some(operation) = self.of(nth).store.operations.get(&last.former.operation).cloned() else { return Ok(()) };
        let names: Vec<_> = gone.iter().map(|remnant| remnant.name()).collect();
        let next = ClusterRecord { remnants: left.into_iter().cloned().collect(), ..record.clone() };
        let message = format!("set aside on a host that has come back: {}", names.join(", "));
        let (id, state) = (operation.id, operation.state);
        let change = Change {
            before: record.clone(),
            next: Some(next),
            operation: id,
            state,
            phase: "SETTLE",
            message,
            begins: None,
            gives_way: None,
        };
        self.commit(nth, change)
    }

    fn proved(&mut self, nth: usize, id: OperationId, record: &ClusterRecord, masters: Vec<resumed::Leader>) -> bool {
        let now = self.now;
        let Some(drive) = self.of(nth).drives.get_mut(&id) else { return false };
        if let Some(proof) = &drive.proof {
            let late = now - proof.since > ANSWER;
            match (&proof.failed, proof.waits.is_empty(), late) {
                (None, true, _) => return true,
                (Some(why), true, _) => {
                    drive.unproved = Some((why.clone(), now));
                    drive.proof = None;
                }
                (_, false, true) => {
                    let who = proof.waits.values().next().map(ToString::to_string).unwrap_or_default();
                    drive.unproved = Some((format!("{who}: no answer within 5 s"), now));
                    drive.proof = None;
                }
                (_, false, false) => return false,
            }
        }
        if drive.unproved.as_ref().is_some_and(|(_, at)| now - *at < RETRY) {
            return false;
        }
        let mut by_host = BTreeMap::<HostName, Vec<_>>::new();
        masters.into_iter().for_each(|it| by_host.entry(it.host).or_default().push((it.port, it.replicas)));
        let (mut proof, term) = (Proof { since: now, waits: BTreeMap::new(), failed: None }, self.of(nth).term);
        for (host, masters) in by_host {
            match self.of(nth).session(&host) {
                Some(stream) => {
                    let task = self.number();
                    proof.waits.insert(task, host);
                    self.say_down(stream, Down::Canary { task, term, masters });
                }
                None => proof.failed = Some(format!("{host}: is not connected")),
            }
        }
        let _ = record;
        if let Some(drive) = self.of(nth).drives.get_mut(&id) {
            drive.proof = Some(proof);
        }
        false
    }
}

/// As `keeper/rebuilding.rs` has it: the life that is assigned to the place of a remnant.
fn new_life(record: &ClusterRecord, remnant: &rebuild::Remnant) -> Life {
    let here = record.blueprint.members.iter().any(|it| (&it.host, it.port) == (&remnant.host, remnant.port));
    let left = record.remnants.iter().rfind(|it| (&it.host, it.port) == (&remnant.host, remnant.port));
    match left {
        Some(last) if !here => last.former.life,
        _ => Life(record.blueprint.incarnation.0),
    }
}
