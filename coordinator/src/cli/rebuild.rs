//! `muster rebuild`: look, show every directory, have the name typed, apply, follow.
//!
//! What can be refused by the line alone is refused before the coordinator is asked for anything: another name behind
//! `--confirm`, nobody to type one, a spec of another cluster.

use muster_proto::wire::{Plan, PlanRebuildRequest, RebuildPlan};

use super::{
    Context, Verdict,
    apply::{apply, finish, lay_out},
    args::{Format, Rebuild},
    confirm::{confirmable, confirmed},
    connect::{Admin, THOROUGH, call},
    error::CliError,
    follow, plan,
};
use crate::{
    render::{
        operation::formed,
        rebuild::{meaning, text},
    },
    spec_file,
};

pub async fn run(context: &mut Context, wanted: Rebuild) -> Result<Verdict, CliError> {
    let cluster = wanted.cluster.as_str();
    let again = again(&wanted);
    if !wanted.dry_run {
        confirmable(context, cluster, wanted.confirm.as_deref(), &format!("{again} --dry-run"), &again)?;
    }
    let request = ask_for(&wanted)?;
    let doing = if wanted.undo { "undoing the rebuild of" } else { "rebuilding" };
    let mut admin = context.connect().await?;
    let looking = format!("looking ahead at {doing} {cluster}");
    let answer = call(&looking, THOROUGH, admin.plan_rebuild(request)).await?;
    let plan = answer.plan.ok_or(CliError::Hollow { doing: looking, missing: "plan" })?;
    if wanted.dry_run {
        match context.format {
            Format::Text => context.console.data(&text(&plan)),
            Format::Json => finish(context, None, Some(&plan)),
        }
        plan::fit(&plan)?;
        context.console.note(&format!("nothing was changed; to do it: {again}"));
        return Ok(Verdict::Done);
    }
    if let Err(error) = agree(context, &plan, cluster, wanted.confirm, &again).await {
        finish(context, None, Some(&plan));
        return Err(error);
    }
    let operation = apply(context, &admin, &plan, cluster, &format!("{doing} {cluster}")).await?;
    watch(context, &mut admin, &operation.id, &plan).await
}

/// What is asked, once the spec is read; one of another cluster is a mistake that must not wait for the coordinator.
fn ask_for(wanted: &Rebuild) -> Result<PlanRebuildRequest, CliError> {
    let spec = wanted.file.as_deref().map(spec_file::read).transpose()?;
    let other = spec.as_ref().map(|spec| &spec.parts().name).filter(|name| **name != wanted.cluster);
    if let Some(other) = other {
        return Err(CliError::Usage {
            what: format!("the spec is of cluster {other}, and this is about {}", wanted.cluster),
            hint: "a rebuild keeps the name; name the cluster that you mean, or its own spec".into(),
        });
    }
    Ok(PlanRebuildRequest {
        cluster: wanted.cluster.to_string(),
        spec: spec.as_ref().map(Into::into),
        fence_missing: wanted.fence_missing.iter().map(ToString::to_string).collect(),
        undo: wanted.undo,
        even_if_serving: wanted.even_if_serving,
    })
}

/// The line that was typed, without what makes it a look or a deed.
fn again(wanted: &Rebuild) -> String {
    let mut line = format!("muster rebuild {}", wanted.cluster);
    if let Some(file) = &wanted.file {
        line += &format!(" --file {}", file.display());
    }
    for host in &wanted.fence_missing {
        line += &format!(" --fence-missing {host}");
    }
    for (on, option) in [(wanted.undo, " --undo"), (wanted.even_if_serving, " --even-if-serving")] {
        line += if on { option } else { "" };
    }
    line
}

/// Shows the plan, refuses it when it cannot be applied, and has the name typed.
async fn agree(
    context: &mut Context,
    plan: &Plan,
    cluster: &str,
    confirm: Option<String>,
    again: &str,
) -> Result<(), CliError> {
    lay_out(context, &text(plan));
    plan::fit(plan)?;
    confirmed(context, cluster, confirm, &meaning(plan), again).await
}

/// What to do next.
fn then(cluster: &str, done: &RebuildPlan) -> String {
    let mut text = format!("look at it: muster status {cluster}; what was set aside: muster trash {cluster}");
    // What gave way may never have been a cluster, and then the way back leads elsewhere.
    if done.supersedes.is_empty() {
        let away = done.fenced.join(", ");
        let when = if away.is_empty() { away } else { format!(", when {away} is back") };
        let life = done.incarnation;
        text += &format!("; have incarnation {life} back{when}: muster rebuild {cluster} --undo");
    }
    text
}

async fn watch(context: &mut Context, admin: &mut Admin, id: &str, plan: &Plan) -> Result<Verdict, CliError> {
    let operation = follow::own(context, admin, id).await?;
    let verdict = follow::verdict(&operation);
    match (context.format, &verdict) {
        (Format::Json, _) => finish(context, Some(&operation), Some(plan)),
        (Format::Text, Ok(())) => {
            context.console.data(&formed(&operation, Some(plan.preflight_micros)));
            context.console.note(&then(&operation.cluster, &plan.rebuild.clone().unwrap_or_default()));
        }
        (Format::Text, Err(_)) => {}
    }
    verdict.map(|()| Verdict::Done)
}
