//! The loop's part in a rebuild: the point of no return, permits, and what is left on hosts that were not there.

use std::collections::BTreeMap;

use muster_proto::{InstanceState, InstanceStatus, Life, wire};
use uuid::Uuid;

use super::{Keeper, Said, Step};
use crate::{
    caller::Caller,
    formation::Phase,
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, Write},
    rebuild::{self, Remnant, Stage},
};

impl Keeper {
    /// One life ends, and the next begins: nothing runs any more on any host, and from here on directories move.
    pub(super) fn cross(&mut self, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), LedgerError> {
        let Some((crossed, ended)) = rebuild::cross(record) else { return Ok(()) };
        let (from, to) = (record.blueprint.incarnation, crossed.blueprint.incarnation);
        let message = format!(
            "{}; the point of no return: life {from} of {} ends, life {to} {}",
            Phase::Fenced,
            record.blueprint.cluster,
            if crossed.restores() { "comes back" } else { "begins" }
        );
        let lived = record.rebuild.as_ref().is_some_and(|rebuild| rebuild.lived);
        let after = crossed.clone();
        let state = OpState::Running;
        let detail = format!("operation {}: {message}", operation.id);
        let step = Step { record, operation, next: Some(crossed), state, phase: "WIPE", done: 0, message };
        self.take(step, |write| {
            note(write, &detail)?;
            write.cross(&after, &ended, lived)
        })
    }

    /// A rebuild that was called off is over.
    pub(super) fn returned(
        &mut self,
        record: &ClusterRecord,
        operation: &OperationRecord,
        message: String,
    ) -> Result<(), LedgerError> {
        let next = ClusterRecord { rebuild: None, ..record.clone() };
        let (after, done) = (next.clone(), record.blueprint.members.len());
        let detail = format!("operation {} of cluster {}: {message}", operation.id, record.blueprint.cluster);
        let step =
            Step { record, operation, next: Some(next), state: OpState::Cancelled, phase: "RETURN", done, message };
        self.take(step, |write| {
            note(write, &detail)?;
            write.rebuild(&after)
        })
    }

    /// Gives the permits that agents ask for, each once. Nobody gets one while everything is being stopped, nor while
    /// somebody has paused the rebuild.
    pub(super) fn permit(&mut self, record: &ClusterRecord, paused: bool) {
        let open = record.rebuild.as_ref().map(|rebuild| rebuild.stage);
        if record.remnants.is_empty() || paused || !matches!(open, None | Some(Stage::Wipe)) {
            return;
        }
        let shared = self.shared.clone();
        let inventory = shared.inventory();
        for host in record.hosts().iter().filter_map(|name| inventory.get(name)) {
            let (Some(session), Some(report)) = (&host.session, &host.report) else { continue };
            // What is asked for under an older wish is asked for again, or not.
            if report.accepted != host.told || host.estranged.is_some() {
                continue;
            }
            for (status, nonce, remnant) in asked(record, &report.instances) {
                if self.permitted.contains_key(&nonce) {
                    continue;
                }
                let permit = permit(record, remnant, status, nonce, shared.ledger.term().0);
                let message = wire::ToAgent { body: Some(wire::to_agent::Body::Permit(permit)) };
                if session.say.try_send(message).is_ok() {
                    tracing::info!(cluster = %record.blueprint.cluster, "permit to set {} aside", remnant.name());
                    self.permitted.insert(nonce, std::time::Instant::now());
                    crash::point("coordinator.permit.sent");
                }
            }
        }
        // A nonce is worth nothing after a minute.
        self.permitted.retain(|_, given| given.elapsed() < std::time::Duration::from_secs(120));
    }

    /// What a host that was not there has set aside since is forgotten, so that it is told of the cluster no more.
    pub(super) fn settle(&mut self, record: &ClusterRecord) -> Result<(), LedgerError> {
        if record.remnants.is_empty() || record.rebuild.is_some() {
            return Ok(());
        }
        let bars = self.shared.bars()?;
        let heard = self.shared.inventory().heard_whole(record, &bars);
        let places: BTreeMap<_, _> =
            heard.instances.values().map(|status| ((&status.host, status.port), status)).collect();
        let gone = |remnant: &&Remnant| {
            let status = places.get(&(&remnant.host, remnant.port));
            status.is_some_and(|status| status.state == InstanceState::Absent && status.asks.is_none())
        };
        let (gone, left): (Vec<_>, Vec<_>) = record.remnants.iter().partition(gone);
        let Some(last) = gone.last() else { return Ok(()) };
        let Some(operation) = self.shared.ledger.operation(last.former.operation)? else { return Ok(()) };
        let names: Vec<_> = gone.iter().map(|remnant| remnant.name()).collect();
        let message = format!("set aside on a host that has come back: {}", names.join(", "));
        let next = ClusterRecord { remnants: left.into_iter().cloned().collect(), ..record.clone() };
        let after = next.clone();
        let total = record.blueprint.members.len();
        let said = Said {
            operation: operation.id,
            state: operation.state,
            phase: &operation.phase,
            message: &message,
            count: (total, total),
        };
        let detail = format!("operation {} of cluster {}: {message}", operation.id, record.blueprint.cluster);
        let kept = |write: &Write| {
            note(write, &detail)?;
            write.rebuild(&after)
        };
        self.shared.commit(record, Some(next), &said, kept).map(drop)
    }
}

/// What the coordinator has done of what somebody has approved, for the audit.
pub(super) fn note(write: &Write, detail: &str) -> Result<(), LedgerError> {
    write.audit(&Caller::Nobody, "the coordinator", "rebuild", detail)
}

/// What is asked for that may be had: exactly what is known to be left there.
fn asked<'a>(
    record: &'a ClusterRecord,
    instances: &'a [InstanceStatus],
) -> impl Iterator<Item = (&'a InstanceStatus, Uuid, &'a Remnant)> {
    instances.iter().filter_map(|status| {
        let ask = status.asks.as_ref().filter(|_| status.cluster == record.blueprint.cluster)?;
        let meant = |remnant: &&Remnant| {
            (&remnant.host, remnant.port, remnant.former.node_id, remnant.former.life)
                == (&status.host, status.port, ask.node_id, ask.life)
        };
        record.remnants.iter().find(meant).map(|remnant| (status, ask.nonce, remnant))
    })
}

fn permit(record: &ClusterRecord, remnant: &Remnant, status: &InstanceStatus, nonce: Uuid, term: u64) -> wire::Permit {
    let here = record.blueprint.members.iter().any(|it| (&it.host, it.port) == (&remnant.host, remnant.port));
    let left = record.remnants.iter().rfind(|it| (&it.host, it.port) == (&remnant.host, remnant.port));
    let new_life = match left {
        Some(last) if !here => last.former.life,
        _ => Life(record.blueprint.incarnation.0),
    };
    wire::Permit {
        term,
        operation: remnant.former.operation.to_string(),
        cluster_id: record.blueprint.cluster_id.to_string(),
        port: status.port.into(),
        node_id: remnant.former.node_id.to_string(),
        old_life: remnant.former.life.0,
        new_life: new_life.0,
        nonce: nonce.to_string(),
    }
}
