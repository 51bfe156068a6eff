//! Follows an operation to its end, across restarts of the coordinator.
//!
//! Events have a sequence number that only grows, so a stream that broke is taken up after the last one seen, and none
//! is shown twice. Whether the operation is over is asked, never concluded from an event: an old event may tell of a
//! stop that somebody has long since resolved.

use muster_proto::wire::{GetOperationRequest, Operation, OperationEvent, OperationState, WatchOperationRequest};

use super::{
    Context, Stage,
    connect::{Admin, QUICK, call},
    console::Console,
    error::{CliError, Message},
    progress::Progress,
    retry::Retry,
};
use crate::render::operation::{is_rebuild, way_back};

/// What becomes of each event.
pub trait Watcher {
    /// Shows it.
    fn event(&mut self, console: &mut Console, event: &OperationEvent);
    /// The coordinator is gone; the operation is not.
    fn lost(&mut self, console: &mut Console);
    /// Whether nobody looks any more.
    fn is_over(&self, console: &Console) -> bool;
}

/// How a stream ended.
enum End {
    /// The coordinator, or the connection, is gone for now, or the operation has ended.
    Closed,
    /// An event says that it waits for a person.
    Waiting,
    /// Nobody looks any more.
    Unwatched,
}

/// Follows an operation that this command has begun, with its progress on stderr: from here on the command is not
/// needed any more.
pub async fn own(context: &mut Context, admin: &mut Admin, id: &str) -> Result<Operation, CliError> {
    context.stage = Stage::Underway(id.to_owned());
    context.console.note(&format!("operation {id} (Ctrl-C stops watching, not the work)"));
    let mut progress = Progress::new(&context.console);
    let operation = follow(context, admin, id, &mut progress).await?;
    drop(progress);
    context.stage = stage(&operation);
    Ok(operation)
}

/// Shows every event until the operation is done, was cancelled, or needs an operator; returns it as it is then.
pub async fn follow(
    context: &mut Context,
    admin: &mut Admin,
    id: &str,
    watcher: &mut impl Watcher,
) -> Result<Operation, CliError> {
    let (mut seen, mut retry) = (0, Retry::new(context.patience));
    let console = &mut context.console;
    loop {
        let end = stream(admin, console, id, watcher, &mut seen, &mut retry).await?;
        match get(admin, id).await {
            Ok(operation) if is_over(&operation) || matches!(end, End::Unwatched) => return Ok(operation),
            Ok(_) => {}
            Err(error) if !error.passes() => return Err(error),
            Err(_) if retry.is_fresh() => watcher.lost(console),
            Err(_) => {}
        }
        // A stop that is already resolved has later events: they are fetched at once.
        if !matches!(end, End::Waiting) {
            retry.again().await?;
        }
    }
}

/// The operation as it is.
pub async fn get(admin: &mut Admin, id: &str) -> Result<Operation, CliError> {
    let doing = format!("looking up operation {id}");
    let answer = call(&doing, QUICK, admin.get_operation(GetOperationRequest { id: id.to_owned() })).await?;
    answer.operation.ok_or(CliError::Hollow { doing, missing: "operation" })
}

/// What the end of an operation means for the command that followed it.
pub fn verdict(operation: &Operation) -> Result<(), CliError> {
    let (id, source) = (operation.id.clone(), Message(operation.message.clone()));
    match operation.state() {
        OperationState::NeedsOperator => {
            let cancel = format!("muster op cancel {id}");
            let way_back = if is_rebuild(operation) { way_back(operation) } else { Some(cancel) };
            Err(CliError::NeedsOperator { id, way_back, source })
        }
        OperationState::Cancelled => Err(CliError::Cancelled { id, source }),
        _ => Ok(()),
    }
}

/// Where an operation in that state leaves a command that ends now.
pub fn stage(operation: &Operation) -> Stage {
    if is_over(operation) { Stage::Looking } else { Stage::Underway(operation.id.clone()) }
}

fn is_over(operation: &Operation) -> bool {
    use OperationState::{Cancelled, Done, NeedsOperator};
    matches!(operation.state(), Done | Cancelled | NeedsOperator)
}

async fn stream(
    admin: &mut Admin,
    console: &mut Console,
    id: &str,
    watcher: &mut impl Watcher,
    seen: &mut u64,
    retry: &mut Retry,
) -> Result<End, CliError> {
    let request = WatchOperationRequest { id: id.to_owned(), after_seq: *seen };
    let doing = format!("watching operation {id}");
    let mut events = match call(&doing, QUICK, admin.watch_operation(request)).await {
        Ok(events) => events,
        Err(error) if error.passes() => return Ok(End::Closed),
        Err(error) => return Err(error),
    };
    loop {
        let event = match events.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(End::Closed),
            Err(status) => {
                let error = CliError::from_status(&doing, status);
                return if error.passes() { Ok(End::Closed) } else { Err(error) };
            }
        };
        if event.seq <= *seen {
            continue;
        }
        *seen = event.seq;
        retry.worked();
        watcher.event(console, &event);
        if watcher.is_over(console) {
            return Ok(End::Unwatched);
        }
        if event.state() == OperationState::NeedsOperator {
            return Ok(End::Waiting);
        }
    }
}
