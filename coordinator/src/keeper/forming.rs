//! The loop's part in forming a cluster: for the first time, and again in a rebuild.
//!
//! What the phase is stands in [`formation`](crate::formation) and [`rebuild`](crate::rebuild); here steps are taken.

use std::time::Instant;

use super::{Drive, Keeper, Step, rebuilding::note};
use crate::{
    formation::{self, Goal, Phase, resumed},
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, unix_ms},
    rebuild,
};

impl Keeper {
    /// Takes a cluster that is not formed as far as its hosts have come.
    pub(super) fn form(&mut self, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), LedgerError> {
        let bars = self.shared.bars()?;
        let heard = self.shared.inventory().heard_whole(record, &bars);
        let phase = rebuild::phase(record, &heard);
        let total = record.blueprint.members.len();
        let done = total.saturating_sub(phase.unsettled().len());
        let drive = self.drives.entry(operation.id).or_insert_with(|| Drive::new(phase.word(), done));
        drive.enter(&self.shared, operation.id, phase.word(), done)?;
        // That takes as long as a data set is big, and needs nobody.
        if heard.works() {
            drive.moved = Instant::now();
        }
        if phase != Phase::Prove {
            drive.proof = None;
            drive.unproved = None;
        }
        if operation.state == OpState::Paused {
            return Ok(());
        }
        match phase {
            Phase::Configure { ref unsettled } if unsettled.is_empty() => {
                // The barrier: nobody is started before everybody is prepared.
                self.advance(record, operation)
            }
            Phase::Prove => {
                let masters = match record.restores() {
                    true => resumed::leaders(&heard),
                    false => resumed::planned(&record.blueprint),
                };
                match drive.proved(&self.shared, record, masters) {
                    true => {
                        drive.end_phase(&self.shared, operation.id)?;
                        self.latch(record, operation)
                    }
                    false => self.say_phase(record, operation, &phase, (done, total)),
                }
            }
            Phase::Gone => self.forget(record, operation),
            Phase::Fenced => {
                drive.end_phase(&self.shared, operation.id)?;
                self.cross(record, operation)
            }
            Phase::Returned => {
                drive.end_phase(&self.shared, operation.id)?;
                self.returned(record, operation, Phase::Returned.to_string())
            }
            _ => self.say_phase(record, operation, &phase, (done, total)),
        }
    }

    /// Moves the cursor past the barrier: all servers are started.
    fn advance(&mut self, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), LedgerError> {
        let next = ClusterRecord { goal: Goal::Running, ..record.clone() };
        let message = "all directories are written; starting all servers".to_owned();
        let step =
            Step { record, operation, next: Some(next), state: OpState::Running, phase: "START", done: 0, message };
        self.take(step, |write| write.goal(&record.blueprint.cluster, Goal::Running))
    }

    /// Latches *formed*.
    fn latch(&mut self, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), LedgerError> {
        let next = rebuild::done(&ClusterRecord { formed_ms: Some(unix_ms()), ..record.clone() });
        let (masters, done) = (record.blueprint.masters(), record.blueprint.members.len());
        let left = match next.remnants.len() {
            0 => String::new(),
            left => format!("; {left} directories of an earlier life are quarantined on hosts that are not there"),
        };
        let message = format!("{masters} masters take writes, {done} nodes agree, every replica is in sync{left}");
        let (after, rebuilt) = (next.clone(), record.rebuild.is_some());
        // Agents have forgotten whom they were told to lead an earlier life.
        self.led.retain(|(cluster, _), _| *cluster != record.blueprint.cluster);
        let detail = format!(
            "operation {}: life {} of {} is formed: {message}",
            operation.id, record.blueprint.incarnation, record.blueprint.cluster
        );
        let step = Step { record, operation, next: Some(next), state: OpState::Done, phase: "FORMED", done, message };
        self.take(step, |write| {
            if rebuilt {
                note(write, &detail)?;
            }
            write.formed(&record.blueprint.cluster)?;
            write.rebuild(&after)
        })
    }

    /// Lets go of a cluster that was called off.
    fn forget(&mut self, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), LedgerError> {
        let (message, done) = (Phase::Gone.to_string(), record.blueprint.members.len());
        let step = Step { record, operation, next: None, state: OpState::Cancelled, phase: "CANCEL", done, message };
        self.take(step, |write| write.forget_cluster(&record.blueprint.cluster))
    }

    /// Notes where a formation is.
    fn say_phase(
        &mut self,
        record: &ClusterRecord,
        operation: &OperationRecord,
        phase: &Phase,
        count: (usize, usize),
    ) -> Result<(), LedgerError> {
        let Some(drive) = self.drives.get(&operation.id) else { return Ok(()) };
        let patience = self.shared.config.verify_patience;
        let needed = formation::needs_operator(phase, drive.moved.elapsed(), patience);
        let unproved = drive.unproved.as_ref().map(|(why, _)| format!("; {why}")).unwrap_or_default();
        // They were told to run again, and how it was before nobody knows: it may be no worse.
        if let (Phase::Return { .. }, Some(why)) = (phase, &needed)
            && drive.moved.elapsed() >= patience
        {
            let cluster = &record.blueprint.cluster;
            let message =
                format!("called off; the servers were told to run as before, and {why}: muster check {cluster}");
            return self.returned(record, operation, message);
        }
        let now = match (needed, operation.state) {
            (_, OpState::Cancelling) => (OpState::Cancelling, phase.to_string()),
            (Some(why), _) => {
                (OpState::NeedsOperator, format!("{why}{unproved}; {}", rebuild::cure(record, operation.id, phase)))
            }
            (None, _) => (OpState::Running, format!("{phase}{unproved}")),
        };
        self.say(operation, phase.word(), now, count)
    }
}
