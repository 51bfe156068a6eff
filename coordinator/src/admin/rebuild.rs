//! Rebuilds and their undoing: called off.

use muster_proto::failure::{Failure, Reason};

use crate::{
    keeper::{Said, Shared},
    ledger::{ClusterRecord, OpState},
    rebuild::{self, Rebuild, Stage},
    safeguard::store_failed,
};

/// Calls one off that has not moved anything: the cluster is brought back. For whoever decides.
pub fn cancel(shared: &Shared, record: &ClusterRecord, rebuild: &Rebuild) -> Result<(), Failure> {
    let name = &record.blueprint.cluster;
    if rebuild.stage == Stage::Return {
        return Ok(());
    }
    let Some(after) = rebuild::call_off(record) else {
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
            write.duties(&kept)?;
            write.rebuild(&kept)
        })
        .map(drop)
        .map_err(store_failed)
}
