//! What the commands that apply a plan have in common: it is laid out, approved by its hash, and the end is one
//! document.
//!
//! The request id is drawn once, before the first try: an apply whose answer was lost is sent again with it and cannot
//! begin a second operation.

use muster_proto::{
    failure::Failure,
    wire::{ApplyRequest, Operation, Plan},
};
use uuid::Uuid;

use super::{
    Context,
    args::Format,
    connect::{Admin, THOROUGH, call},
    error::CliError,
};
use crate::render::{
    operation::{AppliedJson, OperationJson},
    plan::PlanJson,
};

/// Shows what somebody is about to be asked about.
pub fn lay_out(context: &mut Context, shown: &str) {
    match context.format {
        Format::Text => context.console.data(&format!("{shown}\n")),
        // Stdout is for the one document at the end; whoever is asked must see what about.
        Format::Json => context.console.note(shown),
    }
}

/// Approves a plan; `confirm` is the name that was typed, where one is needed.
pub async fn apply(
    context: &mut Context,
    admin: &Admin,
    plan: &Plan,
    confirm: &str,
    doing: &str,
) -> Result<Operation, CliError> {
    let request = ApplyRequest {
        plan_hash: plan.hash.clone(),
        request_id: Uuid::new_v4().to_string(),
        confirm: confirm.to_owned(),
    };
    let send = || {
        let (mut admin, request) = (admin.clone(), request.clone());
        async move { call(doing, THOROUGH, admin.apply(request)).await }
    };
    let again = |failure: Failure| {
        let hint = failure.hint.clone().unwrap_or_else(|| "plan anew by running the same command again".to_owned());
        Failure { hint: Some(hint), ..failure }
    };
    let answer = context.begin(send).await.map_err(|error| match error {
        CliError::Refused { doing, source } => CliError::Refused { doing, source: again(source) },
        error => error,
    })?;
    answer.operation.ok_or(CliError::Hollow { doing: doing.to_owned(), missing: "operation" })
}

/// The one document, with what there is.
pub fn finish(context: &mut Context, operation: Option<&Operation>, plan: Option<&Plan>) {
    if context.format == Format::Json {
        let json = || AppliedJson { operation: operation.map(OperationJson::from), plan: plan.map(PlanJson::from) };
        context.show(String::new, json);
    }
}
