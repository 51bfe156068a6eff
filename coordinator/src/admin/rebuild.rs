//! Rebuilds and their undoing: planned, approved, called off.

pub mod begin;
mod planned;

use std::collections::BTreeSet;

use muster_proto::{
    ClusterId, HostName, Incarnation, OperationId, Port,
    failure::{Failure, Reason},
};

pub use begin::apply;
pub use planned::plan;

use super::{operations::Sign, roll};
use crate::{
    blueprint::Blueprint,
    credentials,
    keeper::{Said, Shared},
    ledger::{ClusterRecord, EndedLife, OpState},
    rebuild::{self, Rebuild, Stage},
    safeguard::store_failed,
};

/// The life that an undo puts back: the last that has ended, of those that were a cluster. `lives` has the last first.
pub fn target<'a>(record: &ClusterRecord, lives: &'a [EndedLife]) -> Option<&'a EndedLife> {
    let is_other = |ended: &&EndedLife| ended.life.blueprint.incarnation != record.blueprint.incarnation;
    lives.iter().filter(|ended| ended.formed).find(is_other)
}

/// A life that an undo would put back.
#[derive(Debug)]
pub struct Returnable {
    /// As it was.
    pub blueprint: Blueprint,
    /// Directories of it that may not have been set aside yet.
    pub in_place: BTreeSet<(HostName, Port)>,
}

/// The lives that an undo would put back now, one a cluster.
pub fn undoable(shared: &Shared) -> Result<Vec<Returnable>, Failure> {
    let mut found = Vec::new();
    for record in shared.ledger.clusters().map_err(store_failed)? {
        let lives = shared.ledger.lives(record.blueprint.cluster_id).map_err(store_failed)?;
        found.extend(target(&record, &lives).map(|ended| {
            let blueprint = ended.life.blueprint.clone();
            Returnable { in_place: planned::in_place(&record, blueprint.incarnation), blueprint }
        }));
    }
    Ok(found)
}

/// The rebuild or undo under way of a cluster that needs a life of it (or any): because it sets it aside or puts it
/// back, or because its own undo would.
pub fn under_way(shared: &Shared, id: ClusterId, life: Option<Incarnation>) -> Result<Option<OperationId>, Failure> {
    let clusters = shared.ledger.clusters().map_err(store_failed)?;
    let Some(record) = clusters.into_iter().find(|record| record.blueprint.cluster_id == id) else { return Ok(None) };
    let Some(rebuild) = &record.rebuild else { return Ok(None) };
    let lives = shared.ledger.lives(id).map_err(store_failed)?;
    let blueprints = [Some(&record.blueprint), rebuild.next.as_ref().map(|next| &next.blueprint)];
    let last = target(&record, &lives).map(|ended| &ended.life.blueprint);
    let mut needed: BTreeSet<_> = blueprints.into_iter().chain([last]).flatten().map(|it| it.incarnation).collect();
    needed.extend(record.remnants.iter().map(|remnant| remnant.former.incarnation));
    Ok(life.is_none_or(|life| needed.contains(&life)).then_some(rebuild.operation))
}

/// One that never was.
fn next_incarnation(record: &ClusterRecord, lives: &[EndedLife]) -> Incarnation {
    let ended = lives.iter().map(|ended| ended.life.blueprint.incarnation.0);
    Incarnation(ended.fold(record.blueprint.incarnation.0, u64::max) + 1)
}

/// One operation a cluster at a time; but a rebuild that cannot go on by itself gives way to another one, which it is
/// that is returned.
fn free(shared: &Shared, record: &ClusterRecord) -> Result<Option<OperationId>, Failure> {
    let name = &record.blueprint.cluster;
    if let Some(rebuild) = &record.rebuild {
        let id = rebuild.operation;
        let operation = shared.ledger.operation(id).map_err(store_failed)?;
        if operation.is_some_and(|operation| rebuild::gives_way(record, operation.state)) {
            return Ok(Some(id));
        }
        let kind = rebuild::kind(rebuild.undo);
        let message = format!("cluster {name} has a {kind} under way: operation {id}; nothing was changed");
        let hint = match rebuild.can_return || rebuild.stage == Stage::Return {
            true => format!("muster op watch {id}, or to have the cluster back as it was: muster op cancel {id}"),
            false => format!("muster op watch {id}, or where it is to give way: muster op pause {id}, then this again"),
        };
        return Err(Failure::new(Reason::OperationBusy, message).hint(hint));
    }
    if record.formed_ms.is_none() {
        let id = record.operation;
        let message = format!("cluster {name} is not formed: operation {id} has it; nothing was changed");
        return Err(Failure::new(Reason::OperationBusy, message)
            .hint(format!("muster op watch {id}, or to begin anew: muster op cancel {id}")));
    }
    if let Some(rotation) = record.credentials.as_ref().and_then(|credentials| credentials.rotation) {
        return Err(credentials::api::busy(name, rotation));
    }
    roll::busy(record)?;
    Ok(None)
}

/// Calls one off that has not moved anything: the cluster is brought back. For whoever decides.
pub fn cancel(shared: &Shared, sign: Sign, record: &ClusterRecord, rebuild: &Rebuild) -> Result<(), Failure> {
    let name = &record.blueprint.cluster;
    if rebuild.stage == Stage::Return {
        return Ok(());
    }
    let heard = shared.inventory().heard(&record.blueprint, &shared.bars().map_err(store_failed)?);
    let Some(after) = rebuild::call_off(record, &heard) else {
        let message = format!(
            "life {} of {name} is past the point of no return: directories of the one before are being set aside",
            record.blueprint.incarnation
        );
        let id = rebuild.operation;
        return Err(Failure::new(Reason::PastNoReturn, message).hint(format!(
            "to stand still: muster op pause {id}; to have what was set aside back, then or when it is formed: muster \
             rebuild {name} --undo"
        )));
    };
    let message = "called off by an operator; everything that ran before is started again";
    let count = (0, record.blueprint.members.len());
    let (state, phase) = (OpState::Cancelling, "RETURN");
    let said = Said { operation: rebuild.operation, state, phase, message, count };
    let kept = after.clone();
    shared
        .commit(record, Some(after), &said, |write| {
            sign(write)?;
            write.duties(&kept)?;
            write.rebuild(&kept)
        })
        .map(drop)
        .map_err(store_failed)
}
