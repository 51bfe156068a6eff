//! `muster bootstrap`: plan, ask, apply, follow, prove.
//!
//! The request id is drawn once, before the first try: an apply whose answer was lost is sent again with it and cannot
//! begin a second operation.

use std::path::Path;

use muster_proto::{
    failure::Failure,
    wire::{ApplyRequest, Operation, Plan},
};
use uuid::Uuid;

use super::{
    Context, Stage, Verdict,
    args::Format,
    connect::{Admin, THOROUGH, call},
    error::CliError,
    follow,
    plan::{self, Answer},
    progress::Progress,
    retry::deliver,
};
use crate::render::{
    operation::{BootstrapJson, OperationJson, formed},
    plan::{Detail, PlanJson, cluster, text},
};

const QUESTION: &str = "Can I set the above configuration? (type 'yes' to accept): ";

pub async fn run(context: &mut Context, file: &Path, yes: bool) -> Result<Verdict, CliError> {
    if !yes && !context.console.asks {
        return Err(CliError::Usage {
            what: "there is no terminal to ask for your `yes` on".into(),
            hint: format!("look at the plan first (muster plan {0}), then: muster bootstrap {0} --yes", file.display()),
        });
    }
    let plan::Asked { mut admin, answer, open } = plan::ask(context, file).await?;
    match answer {
        Answer::Plan(plan) => {
            if let Err(error) = agree(context, &plan, yes).await {
                finish(context, None, Some(&plan));
                return Err(error);
            }
            let operation = apply(context, &mut admin, &plan).await?;
            watch(context, &mut admin, &operation.id, Some(&plan), open).await
        }
        Answer::Existing(existing) if existing.formed => {
            match context.format {
                Format::Text => context.console.data(&(plan::already(&existing) + "\n")),
                Format::Json => finish(context, Some(&follow::get(&mut admin, &existing.operation_id).await?), None),
            }
            Ok(Verdict::Done)
        }
        Answer::Existing(existing) => {
            context.console.note(&(plan::already(&existing) + "; watching it"));
            watch(context, &mut admin, &existing.operation_id, None, open).await
        }
    }
}

/// Shows the plan, refuses it when it cannot be applied, and asks.
async fn agree(context: &mut Context, plan: &Plan, yes: bool) -> Result<(), CliError> {
    let shown = text(plan, Detail::Brief);
    match context.format {
        Format::Text => context.console.data(&(shown + "\n")),
        // Stdout is for the one document at the end; whoever is asked must see what about.
        Format::Json => context.console.note(&shown),
    }
    plan::fit(plan)?;
    let accepted = yes || context.console.ask(QUESTION).await.is_some_and(|answer| answer.trim() == "yes");
    if accepted { Ok(()) } else { Err(CliError::Declined) }
}

async fn apply(context: &mut Context, admin: &mut Admin, plan: &Plan) -> Result<Operation, CliError> {
    let request =
        ApplyRequest { plan_hash: plan.hash.clone(), request_id: Uuid::new_v4().to_string(), confirm: String::new() };
    let doing = format!("forming cluster {}", cluster(plan));
    context.stage = Stage::Asked;
    let send = || {
        let (mut admin, request, doing) = (admin.clone(), request.clone(), doing.clone());
        async move { call(&doing, THOROUGH, admin.apply(request)).await }
    };
    let answer = match deliver(context.patience, send).await {
        Err(CliError::Refused { doing, source }) => {
            // A refusal is an answer: no operation was begun.
            context.stage = Stage::Unchanged;
            let again = || "plan anew by running the same command again".to_owned();
            let source = Failure { hint: Some(source.hint.clone().unwrap_or_else(again)), ..source };
            return Err(CliError::Refused { doing, source });
        }
        answer => answer?,
    };
    answer.operation.ok_or(CliError::Hollow { doing, missing: "operation" })
}

async fn watch(
    context: &mut Context,
    admin: &mut Admin,
    id: &str,
    plan: Option<&Plan>,
    open: bool,
) -> Result<Verdict, CliError> {
    context.stage = Stage::Underway(id.to_owned());
    context.console.note(&format!("operation {id} (Ctrl-C stops watching, not the work)"));
    let mut progress = Progress::new(&context.console);
    let operation = follow::follow(context, admin, id, &mut progress).await?;
    drop(progress);
    context.stage = follow::stage(&operation);
    let verdict = follow::verdict(&operation);
    match (context.format, &verdict) {
        (Format::Json, _) => finish(context, Some(&operation), plan),
        (Format::Text, Ok(())) => {
            let text = formed(&operation, plan.map(|plan| plan.preflight_micros));
            context.console.data(&text);
            let cluster = &operation.cluster;
            context.console.note(&format!("look at it: muster status {cluster}; try it: muster smoke {cluster}"));
            if !open {
                context.console.note(&format!("Clients log in: muster credentials {cluster}"));
            }
        }
        (Format::Text, Err(_)) => {}
    }
    verdict.map(|()| Verdict::Done)
}

/// The one document, with what there is.
fn finish(context: &mut Context, operation: Option<&Operation>, plan: Option<&Plan>) {
    if context.format == Format::Json {
        let json = || BootstrapJson { operation: operation.map(OperationJson::from), plan: plan.map(PlanJson::from) };
        context.show(String::new, json);
    }
}
