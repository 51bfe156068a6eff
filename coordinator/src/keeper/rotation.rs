//! The loop's part in a rotation: when every host has followed, the next stage.
//!
//! What a stage means stands in [`credentials`](crate::credentials); here it is looked whether it is reached, and said
//! what it waits for. A cluster that does not rotate costs nothing here.

use super::{Drive, Keeper, Step};
use crate::{
    credentials::{
        rotation::Event,
        step::{line, needs_operator, step},
    },
    ledger::{ClusterRecord, LedgerError, OpState},
};

impl Keeper {
    /// Takes the rotation of a formed cluster, if there is one, as far as its hosts have come.
    pub(super) fn rotate(&mut self, record: &ClusterRecord) -> Result<(), LedgerError> {
        let Some(credentials) = &record.credentials else { return Ok(()) };
        let Some(rotation) = credentials.rotation else { return Ok(()) };
        let Some(operation) = self.shared.ledger.operation(rotation.operation)? else { return Ok(()) };
        let bars = self.shared.bars()?;
        let behind = self.shared.inventory().behind(&record.blueprint, &bars);
        let waits = |host: &str| behind.iter().any(|culprit| culprit.name.split(':').next() == Some(host));
        let members = &record.blueprint.members;
        let done = members.iter().filter(|member| !waits(member.host.as_str())).count();
        let phase = rotation.stage.word();
        let drive = self.drives.entry(operation.id).or_insert_with(|| Drive::new(phase, done));
        drive.enter(&self.shared, operation.id, phase, done)?;
        let still = drive.moved.elapsed();
        if operation.state == OpState::Paused {
            return Ok(());
        }
        let cluster = &record.blueprint.cluster;
        if behind.is_empty()
            && let Ok(next) = step(cluster, credentials, Event::Converged)
        {
            if next.state.ended() {
                drive.end_phase(&self.shared, operation.id)?;
            }
            let credentials = next.credentials;
            let record_after = ClusterRecord { credentials: Some(credentials.clone()), ..record.clone() };
            let (state, phase, message) = (next.state, next.phase, next.message);
            let done = if state.ended() { members.len() } else { 0 };
            let step = Step { record, operation: &operation, next: Some(record_after), state, phase, done, message };
            return self.take(step, |write| write.credentials(cluster, &credentials));
        }
        let needed = needs_operator(rotation, &behind, still, self.shared.config.verify_patience);
        let now = match (needed, operation.state) {
            (_, OpState::Cancelling) => (OpState::Cancelling, line(cluster, rotation, &behind)),
            (Some(why), _) => (OpState::NeedsOperator, why),
            (None, _) => (OpState::Running, line(cluster, rotation, &behind)),
        };
        self.say(&operation, phase, now, (done, members.len()))
    }
}

#[cfg(test)]
mod tests;
