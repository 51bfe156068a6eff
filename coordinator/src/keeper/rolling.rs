//! The loop's part in a stop, start or restart: whose turn it is, and the hand-overs.
//!
//! What is next stands in [`rolling`](crate::rolling); here duties are moved, agents are asked, and their answers are
//! kept. A cluster without such an operation costs nothing here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use muster_proto::{
    Member, NodeId,
    wire::{self, task::Kind, task_result::Outcome},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Drive, Keeper, Shared, Step};
use crate::{
    blueprint::Blueprint,
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, unix_ms},
    rolling::{self, Errand, HandedOver, Next, Roll},
};

/// Between two tries of a hand-over, at first; twice as long each time, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// So many tries in vain, and a person is needed.
const TRIES: u32 = 3;
/// An agent that gives no answer so often is not asked again: another replica may do.
const UNANSWERED: u32 = 3;

type Answer = Result<Outcome, String>;

/// The hand-over that an agent has been asked for, and how earlier ones went.
#[derive(Debug, Default)]
pub(super) struct Envoy {
    answer: Option<mpsc::Receiver<Answer>>,
    failed: Option<Failed>,
    /// It has given up, and said so.
    waits: bool,
}

#[derive(Debug)]
struct Failed {
    times: u32,
    why: String,
    at: Instant,
}

impl Envoy {
    fn failed(&mut self, why: String) -> u32 {
        let times = self.failed.as_ref().map_or(0, |failed| failed.times) + 1;
        self.failed = Some(Failed { times, why, at: Instant::now() });
        times
    }

    /// Each try in vain blocks writes for seconds: after some, a person says whether there is another.
    fn has_given_up(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.times >= TRIES)
    }

    fn rests(&self) -> bool {
        let pause = |failed: &Failed| RETRY_MAX.min(RETRY * (1 << failed.times.min(10)));
        self.has_given_up() || self.failed.as_ref().is_some_and(|failed| failed.at.elapsed() < pause(failed))
    }

    /// Whether it is soon time to look again.
    pub(super) fn is_due(&self) -> bool {
        self.failed.is_some() && !self.has_given_up()
    }

    /// Takes note of how the operation is; one that was waiting for a person, and runs again, was resumed by one.
    fn is(&mut self, state: OpState) {
        let resumed = self.waits && state == OpState::Running;
        self.waits = self.has_given_up() && state == OpState::NeedsOperator;
        if resumed {
            self.failed = None;
        }
    }
}

impl Keeper {
    /// Takes the next step of a cluster's stop, start or restart, if there is one.
    pub(super) fn roll(&mut self, record: &ClusterRecord) -> Result<(), LedgerError> {
        let Some(roll) = &record.roll else { return Ok(()) };
        let Some(operation) = self.shared.ledger.operation(roll.operation)? else { return Ok(()) };
        let bars = self.shared.bars()?;
        let heard = self.shared.inventory().heard(&record.blueprint, &bars);
        let next = rolling::next(roll, &record.blueprint, &record.duties, &heard, unix_ms());
        let is_new = !self.drives.contains_key(&operation.id);
        let drive = self.drives.entry(operation.id).or_insert_with(|| Drive::new(next.phase, next.done));
        // Whoever resumes has mended something: what waits for its next try is tried now.
        let resumed = drive.seen == OpState::NeedsOperator && operation.state == OpState::Running;
        if resumed || (is_new && roll.kind == rolling::Kind::Start) {
            urge(&self.shared, record, |member| roll.targets.contains_key(&member.node_id));
        }
        drive.seen = operation.state;
        drive.enter(&self.shared, operation.id, next.phase, next.done)?;
        drive.envoy.is(operation.state);
        let answer = drive.envoy.answer.as_mut().and_then(|answer| answer.try_recv().ok());
        if let (Some(answer), Some(errand)) = (answer, &roll.errand) {
            drive.envoy.answer = None;
            return self.answered(record, roll, &operation, &next, errand, answer);
        }
        if operation.state == OpState::Paused {
            return Ok(());
        }
        if next.is_done() {
            drive.end_phase(&self.shared, operation.id)?;
            return self.rolled(record, roll, &operation, &next);
        }
        if !next.turn.is_empty() {
            return self.order(record, roll, &operation, &next);
        }
        let rests = drive.envoy.rests();
        match (&roll.errand, next.hand_over) {
            // Begun in an earlier life of the coordinator, or not answered: the agent remembers.
            (Some(errand), _) if drive.envoy.answer.is_none() && !rests => {
                drive.envoy.answer = Some(send(&self.shared, &record.blueprint, errand));
            }
            (None, Some((from, to))) if !rests => {
                let errand = Errand { task: Uuid::now_v7().to_string(), from, to };
                let message =
                    format!("{} hands over to {}", name(&record.blueprint, from), name(&record.blueprint, to));
                let asked = Roll { errand: Some(errand), ..roll.clone() };
                return self.keep(record, &operation, &next, asked, message, None);
            }
            _ => {}
        }
        let failed = drive.envoy.failed.as_ref().map(|failed| (failed.times, failed.why.as_str()));
        let patience = self.shared.config.verify_patience;
        let needed = rolling::needs_operator(roll, &next.waiting, failed, drive.moved.elapsed(), patience);
        let now = match needed {
            Some(why) => (OpState::NeedsOperator, why),
            None => (OpState::Running, line(roll, &record.blueprint, &next)),
        };
        self.say(&operation, next.phase, now, (next.done, roll.targets.len()))
    }

    /// Moves the duties of those whose turn has come.
    fn order(
        &mut self,
        record: &ClusterRecord,
        roll: &Roll,
        operation: &OperationRecord,
        next: &Next,
    ) -> Result<(), LedgerError> {
        let mut duties = record.duties.clone();
        for id in &next.turn {
            let before = duties.get(id).copied().unwrap_or_default();
            duties.insert(*id, roll.duty(*id, before, next.all_stopped.contains(id)));
        }
        let names: Vec<_> = next.turn.iter().map(|id| name(&record.blueprint, *id)).collect();
        let message = format!("{}: to be {}", names.join(", "), roll.kind.done());
        let after = ClusterRecord { duties: duties.clone(), ..record.clone() };
        let step = Step {
            record,
            operation,
            next: Some(after),
            state: OpState::Running,
            phase: next.phase,
            done: next.done,
            message,
        };
        let cluster = &record.blueprint.cluster;
        let moved = next.turn.iter().filter_map(|id| Some((*id, *duties.get(id)?)));
        self.take(step, |write| moved.clone().try_for_each(|(id, duty)| write.duty(cluster, id, duty)))
    }

    fn answered(
        &mut self,
        record: &ClusterRecord,
        roll: &Roll,
        operation: &OperationRecord,
        next: &Next,
        errand: &Errand,
        answer: Answer,
    ) -> Result<(), LedgerError> {
        let Some(drive) = self.drives.get_mut(&operation.id) else { return Ok(()) };
        let [from, to] = [errand.from, errand.to].map(|id| name(&record.blueprint, id));
        let over = Roll { errand: None, ..roll.clone() };
        let why = match answer {
            Ok(Outcome::HandOver(result)) => {
                drive.envoy.failed = None;
                let done = handed_over(&from, &to, &result);
                let message = format!("{to} has taken over from {from}: {}", gap(&done));
                let hand_overs = [roll.hand_overs.clone(), vec![done]].concat();
                return self.keep(record, operation, next, Roll { hand_overs, ..over }, message, Some(errand.from));
            }
            Ok(Outcome::Failed(why)) => {
                drive.envoy.failed(format!("{from} cannot hand over to {to}: {why}"));
                why
            }
            Ok(_) => {
                drive.envoy.failed(format!("{to} has answered something else"));
                "its agent has answered something else".into()
            }
            // It may have happened: asked again with the same id, the agent says.
            Err(why) if drive.envoy.failed(format!("{to} gives no answer: {why}")) < UNANSWERED => return Ok(()),
            Err(why) => why,
        };
        let message = format!("{to} has not taken over from {from}: {why}");
        self.keep(record, operation, next, over, message, None)
    }

    /// Keeps the roll as it is now, and who has handed over, if somebody has.
    fn keep(
        &mut self,
        record: &ClusterRecord,
        operation: &OperationRecord,
        next: &Next,
        roll: Roll,
        message: String,
        handed: Option<NodeId>,
    ) -> Result<(), LedgerError> {
        let mut after = ClusterRecord { roll: Some(roll.clone()), ..record.clone() };
        let duty = handed.map(|id| {
            let duty = after.duties.entry(id).or_default();
            duty.handed_ms = unix_ms();
            (id, *duty)
        });
        // A pause outlasts an answer.
        let (state, phase, done) = (operation.state, next.phase, next.done);
        let step = Step { record, operation, next: Some(after), state, phase, done, message };
        let cluster = &record.blueprint.cluster;
        self.take(step, |write| {
            duty.map_or(Ok(()), |(id, duty)| write.duty(cluster, id, duty))?;
            write.roll(cluster, &roll)
        })
    }

    fn rolled(
        &mut self,
        record: &ClusterRecord,
        roll: &Roll,
        operation: &OperationRecord,
        next: &Next,
    ) -> Result<(), LedgerError> {
        let after = ClusterRecord { roll: None, ..record.clone() };
        let message = rolling::summary(roll, next.done);
        let (state, phase, done) = (OpState::Done, next.phase, next.done);
        let step = Step { record, operation, next: Some(after), state, phase, done, message };
        self.take(step, |write| write.roll_ended(roll))
    }
}

/// Has agents try now what waits for its next try. One that does not hear it tries in its own time.
pub(crate) fn urge(shared: &Arc<Shared>, record: &ClusterRecord, is_meant: impl Fn(&Member) -> bool) {
    let is_stopped = |id: &NodeId| record.duties.get(id).is_some_and(|duty| duty.stopped);
    let waits = |member: &&Member| is_meant(member) && !is_stopped(&member.node_id);
    for member in record.blueprint.members.iter().filter(waits) {
        let (shared, host) = (shared.clone(), member.host.clone());
        let cluster = record.blueprint.cluster.to_string();
        let task = wire::Start { cluster, port: member.port.into(), even_if_empty: false };
        tokio::spawn(async move { shared.start(&host, task).await });
    }
}

/// Asks the agent of the replica, beside the loop.
fn send(shared: &Arc<Shared>, blueprint: &Blueprint, errand: &Errand) -> mpsc::Receiver<Answer> {
    let (answer, answered) = mpsc::channel(1);
    let (shared, task, cluster) = (shared.clone(), errand.task.clone(), blueprint.cluster.to_string());
    let to = blueprint.members.iter().find(|member| member.node_id == errand.to);
    let Some((host, port)) = to.map(|member| (member.host.clone(), member.port)) else { return answered };
    let from = errand.from.to_string();
    tokio::spawn(async move {
        let kind = |timeout_ms| Kind::HandOver(wire::HandOver { cluster, port: port.into(), from, timeout_ms });
        let _ = answer.send(shared.hand_over(&host, task, kind).await).await;
        shared.ring();
    });
    answered
}

fn handed_over(from: &str, to: &str, result: &wire::HandOverResult) -> HandedOver {
    let unmeasured = match result.already {
        true => "it had taken over before it was asked".to_owned(),
        false => result.unmeasured.clone(),
    };
    HandedOver { from: from.to_owned(), to: to.to_owned(), gap_micros: result.gap_micros, unmeasured, at_ms: unix_ms() }
}

fn gap(done: &HandedOver) -> String {
    match done.gap_micros {
        0 => format!("how long writes waited was not measured ({})", done.unmeasured),
        micros => format!("writes waited {} ms", micros.div_ceil(1000)),
    }
}

fn line(roll: &Roll, blueprint: &Blueprint, next: &Next) -> String {
    let doing = rolling::summary(roll, next.done);
    if let Some(errand) = &roll.errand {
        return format!("{doing}; {} hands over to {}", name(blueprint, errand.from), name(blueprint, errand.to));
    }
    match next.waiting.as_slice() {
        [] => doing,
        [first] => format!("{doing}; waiting for {}: {}", first.name, first.why),
        [first, rest @ ..] => {
            format!("{doing}; waiting for {}: {} (and {} more)", first.name, first.why, rest.len())
        }
    }
}

fn name(blueprint: &Blueprint, id: NodeId) -> String {
    let member = blueprint.members.iter().find(|member| member.node_id == id);
    member.map_or_else(|| id.to_string(), Member::name)
}
