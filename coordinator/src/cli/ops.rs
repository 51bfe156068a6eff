//! `muster ops` and `muster op`.

use muster_proto::{
    ClusterName,
    wire::{
        CancelOperationRequest, ListOperationsRequest, Operation, OperationEvent, PauseOperationRequest,
        ResumeOperationRequest,
    },
};

use super::{
    Context, Stage, Verdict,
    args::Format,
    connect::{QUICK, call},
    console::Console,
    error::CliError,
    follow::{self, Watcher},
};
use crate::render::{
    self,
    operation::{self, EventJson, OneJson, OperationsJson},
};

pub async fn list(context: &mut Context, cluster: Option<&ClusterName>) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let request = ListOperationsRequest { cluster: cluster.map(ClusterName::to_string).unwrap_or_default() };
    let operations = call("listing operations", QUICK, admin.list_operations(request)).await?.operations;
    context.show(|| operation::list(&operations), || OperationsJson::from(&*operations));
    Ok(Verdict::Done)
}

pub async fn show(context: &mut Context, id: &str) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let operation = follow::get(&mut admin, id).await?;
    one(context, &operation);
    Ok(Verdict::Done)
}

/// Every event is data here, not progress: one on each line.
pub async fn watch(context: &mut Context, id: &str) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    context.stage = follow::stage(&follow::get(&mut admin, id).await?);
    let mut lines = Lines { format: context.format };
    let operation = follow::follow(context, &mut admin, id, &mut lines).await?;
    context.stage = follow::stage(&operation);
    follow::verdict(&operation).map(|()| Verdict::Done)
}

struct Lines {
    format: Format,
}

impl Watcher for Lines {
    fn event(&mut self, console: &mut Console, event: &OperationEvent) {
        match self.format {
            Format::Text => console.data(&(operation::event(event) + "\n")),
            Format::Json => console.data(&render::line(&EventJson::from(event))),
        }
    }

    fn lost(&mut self, console: &mut Console) {
        console.note("the coordinator does not answer; waiting for it");
    }

    fn is_over(&self, console: &Console) -> bool {
        console.is_broken()
    }
}

macro_rules! direct {
    ($name:ident, $call:ident, $request:ident, $doing:literal) => {
        pub async fn $name(context: &mut Context, id: &str) -> Result<Verdict, CliError> {
            let mut admin = context.connect().await?;
            context.stage = Stage::Asked;
            let doing = format!(concat!($doing, " operation {}"), id);
            let answer = call(&doing, QUICK, admin.$call($request { id: id.to_owned() })).await;
            if let Err(CliError::Refused { .. }) = &answer {
                context.stage = Stage::Unchanged;
            }
            let operation = answer?.operation.ok_or(CliError::Hollow { doing, missing: "operation" })?;
            one(context, &operation);
            Ok(Verdict::Done)
        }
    };
}

direct!(pause, pause_operation, PauseOperationRequest, "pausing");
direct!(resume, resume_operation, ResumeOperationRequest, "resuming");
direct!(cancel, cancel_operation, CancelOperationRequest, "cancelling");

fn one(context: &mut Context, operation: &Operation) {
    context.show(|| operation::show(operation), || OneJson::from(operation));
}
