//! Operations: found, watched, paused, resumed, called off.

use std::sync::Arc;

use muster_proto::{
    OperationId,
    failure::{Failure, Reason},
    wire,
};
use tokio::sync::mpsc;
use tonic::Status;

use super::roll;
use crate::{
    credentials,
    formation::Goal,
    gate::Visit,
    keeper::{Said, Shared},
    ledger::{ClusterRecord, EventRecord, LedgerError, OpState, OperationRecord, Write},
    rolling::HandedOver,
    safeguard::store_failed,
};

/// One operation.
pub fn find(shared: &Shared, id: &str) -> Result<OperationRecord, Failure> {
    let unknown = || Failure::new(Reason::UnknownOperation, format!("there is no operation {id:?}")).hint("muster ops");
    let parsed: OperationId = id.parse().map_err(|_| unknown())?;
    shared.ledger.operation(parsed).map_err(store_failed)?.ok_or_else(unknown)
}

/// Sends events after a sequence number, and then as they come, until the operation ends.
pub async fn watch(
    shared: Arc<Shared>,
    id: OperationId,
    mut after: u64,
    say: mpsc::Sender<Result<wire::OperationEvent, Status>>,
) {
    let mut bell = shared.events.subscribe();
    loop {
        bell.borrow_and_update();
        let events = match shared.ledger.events(id, after) {
            Ok(events) => events,
            Err(error) => {
                let _ = say.send(Err(store_failed(error).into())).await;
                return;
            }
        };
        for event in events {
            after = event.seq;
            let last = event.state.ended();
            if say.send(Ok(wire_event(&event))).await.is_err() || last {
                return;
            }
        }
        // One that had ended before has no event after the last one that was seen.
        if shared
            .ledger
            .operation(id)
            .is_ok_and(|found| found.is_none_or(|record| record.state.ended() && record.last_seq <= after))
        {
            return;
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = say.closed() => return,
            changed = bell.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes into a change who has made it, so that neither is there without the other.
pub type Sign<'a> = &'a dyn Fn(&Write) -> Result<(), LedgerError>;

fn signature<'a>(
    visit: &'a Visit,
    action: &'a str,
    operation: &OperationRecord,
) -> impl Fn(&Write) -> Result<(), LedgerError> + use<'a> {
    let detail = format!("operation {}, cluster {}", operation.id, operation.cluster);
    move |write| write.audit(&visit.caller, &visit.from, action, &detail)
}

/// Stops taking steps.
pub fn pause(shared: &Shared, visit: &Visit, id: &str) -> Result<wire::Operation, Failure> {
    turn(
        shared,
        (visit, "Admin/PauseOperation"),
        id,
        OpState::Paused,
        "paused; what hosts were told they still do, and nothing more is begun",
    )
}

/// Goes on.
pub fn resume(shared: &Shared, visit: &Visit, id: &str) -> Result<wire::Operation, Failure> {
    turn(shared, (visit, "Admin/ResumeOperation"), id, OpState::Running, "resumed")
}

/// Calls a bootstrap off, unless it has formed, or a rotation, unless the new is in use; ends a stop, start or restart
/// where it is.
pub fn cancel(shared: &Shared, visit: &Visit, id: &str) -> Result<wire::Operation, Failure> {
    let _sole = shared.decide();
    let operation = find(shared, id)?;
    let sign: Sign = &signature(visit, "Admin/CancelOperation", &operation);
    let record = shared.ledger.cluster(&operation.cluster).map_err(store_failed)?;
    let rotates = |record: &&ClusterRecord| credentials::api::rotation_of(record, operation.id).is_some();
    if let Some(record) = record.as_ref().filter(rotates) {
        credentials::api::cancel(shared, sign, record)?;
        return find(shared, id).map(|record| wire_operation(&record));
    }
    let rolled = record.as_ref().and_then(|record| Some((record, record.roll.as_ref()?)));
    if let Some((record, roll)) = rolled.filter(|(_, roll)| roll.operation == operation.id) {
        roll::cancel(shared, sign, record, roll)?;
        return find(shared, id).map(|record| wire_operation(&record));
    }
    let rebuilt = record.as_ref().and_then(|record| Some((record, record.rebuild.as_ref()?)));
    if let Some((record, rebuild)) = rebuilt.filter(|(_, rebuild)| rebuild.operation == operation.id) {
        super::rebuild::cancel(shared, sign, record, rebuild)?;
        return find(shared, id).map(|record| wire_operation(&record));
    }
    let record = record.filter(|record| record.operation == operation.id);
    if let Some(record) = record.as_ref().filter(|record| record.formed_ms.is_some()) {
        let name = &record.blueprint.cluster;
        let message = format!("cluster {name} is formed and may hold data; calling its bootstrap off would destroy it");
        return Err(Failure::new(Reason::PastNoReturn, message).hint(format!("muster status {name}")));
    }
    let Some(record) = record.filter(|_| !operation.state.ended()) else { return Err(ended(&operation)) };
    if operation.state == OpState::Cancelling {
        return Ok(wire_operation(&operation));
    }
    let next = ClusterRecord { goal: Goal::SetAside, ..record.clone() };
    let (state, message, count) = (OpState::Cancelling, "called off by an operator", (0, 0));
    let said = Said { operation: operation.id, state, phase: "CANCEL", message, count };
    let change = |write: &Write| {
        sign(write)?;
        write.goal(&record.blueprint.cluster, Goal::SetAside)
    };
    shared.commit(&record, Some(next), &said, change).map_err(store_failed)?;
    find(shared, id).map(|record| wire_operation(&record))
}

fn ended(operation: &OperationRecord) -> Failure {
    let message = format!("operation {} has ended: {}", operation.id, operation.state.word());
    Failure::new(Reason::OperationEnded, message).hint(format!("muster op show {}", operation.id))
}

fn turn(
    shared: &Shared,
    (visit, action): (&Visit, &str),
    id: &str,
    to: OpState,
    message: &str,
) -> Result<wire::Operation, Failure> {
    let _sole = shared.decide();
    let operation = find(shared, id)?;
    if operation.state.ended() {
        return Err(ended(&operation));
    }
    if operation.state == OpState::Cancelling {
        let message = format!("operation {} is being called off", operation.id);
        return Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op watch {}", operation.id)));
    }
    if operation.state != to {
        let sign = signature(visit, action, &operation);
        let event = shared.ledger.write(|write| {
            sign(write)?;
            write.event(operation.id, to, &operation.phase, message, (0, 0))
        });
        shared.events.send_replace(event.map_err(store_failed)?);
        shared.ring();
    }
    find(shared, id).map(|record| wire_operation(&record))
}

fn wire_state(state: OpState) -> i32 {
    match state {
        OpState::Running => wire::OperationState::Running,
        OpState::Paused => wire::OperationState::Paused,
        OpState::NeedsOperator => wire::OperationState::NeedsOperator,
        OpState::Cancelling => wire::OperationState::Cancelling,
        OpState::Done => wire::OperationState::Done,
        OpState::Cancelled => wire::OperationState::Cancelled,
    }
    .into()
}

/// What it does or waits for, in a line, with what to type.
pub fn in_words(record: &OperationRecord) -> String {
    let state = match record.state {
        OpState::Running => String::new(),
        state => format!("[{}] ", state.word()),
    };
    format!("{state}{} (operation {})", record.message, record.id)
}

/// In the words of the API.
pub fn wire_operation(record: &OperationRecord) -> wire::Operation {
    wire::Operation {
        id: record.id.to_string(),
        kind: record.kind.clone(),
        cluster: record.cluster.to_string(),
        state: wire_state(record.state),
        phase: record.phase.clone(),
        message: record.message.clone(),
        plan_hash: record.plan_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        started_unix_ms: record.started_ms,
        ended_unix_ms: record.ended_ms.unwrap_or(0),
        phases: record
            .phases
            .iter()
            .map(|(phase, micros)| wire::PhaseTime { phase: phase.clone(), micros: *micros })
            .collect(),
        last_seq: record.last_seq,
        hand_overs: record.hand_overs.iter().map(handed_over).collect(),
    }
}

fn handed_over(done: &HandedOver) -> wire::HandedOver {
    wire::HandedOver {
        from: done.from.clone(),
        to: done.to.clone(),
        gap_micros: done.gap_micros,
        unmeasured: done.unmeasured.clone(),
    }
}

fn wire_event(event: &EventRecord) -> wire::OperationEvent {
    wire::OperationEvent {
        seq: event.seq,
        operation_id: event.operation.to_string(),
        unix_ms: event.unix_ms,
        phase: event.phase.clone(),
        state: wire_state(event.state),
        message: event.message.clone(),
        done: event.done,
        total: event.total,
    }
}
