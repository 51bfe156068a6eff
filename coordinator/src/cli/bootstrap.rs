//! `muster bootstrap`: plan, ask, apply, follow, prove.

use std::path::Path;

use muster_proto::wire::Plan;

use super::{
    Context, Verdict,
    apply::{apply, finish, lay_out},
    args::Format,
    connect::Admin,
    error::CliError,
    follow,
    plan::{self, Answer},
};
use crate::render::{
    operation::formed,
    plan::{Detail, cluster, text},
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
            let doing = format!("forming cluster {}", cluster(&plan));
            let operation = apply(context, &admin, &plan, "", &doing).await?;
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
    lay_out(context, &text(plan, Detail::Brief));
    plan::fit(plan)?;
    let accepted = yes || context.console.ask(QUESTION).await.is_some_and(|answer| answer.trim() == "yes");
    if accepted { Ok(()) } else { Err(CliError::Declined) }
}

async fn watch(
    context: &mut Context,
    admin: &mut Admin,
    id: &str,
    plan: Option<&Plan>,
    open: bool,
) -> Result<Verdict, CliError> {
    let operation = follow::own(context, admin, id).await?;
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
