//! `muster plan`, and the asking for a plan that `muster bootstrap` begins with.

use std::path::Path;

use muster_proto::{
    Auth,
    wire::{ExistingCluster, Plan, PlanRequest},
};

use super::{
    Context, Verdict,
    connect::{Admin, THOROUGH, call},
    error::CliError,
};
use crate::{
    render::{
        finding,
        plan::{AnswerJson, Detail, ExistingJson, PlanJson, cluster, is_open, text},
    },
    spec_file,
};

/// What a spec would lead to.
pub enum Answer {
    /// This.
    Plan(Box<Plan>),
    /// It already has.
    Existing(ExistingCluster),
}

/// A plan that was asked for.
pub struct Asked {
    /// Whom it was asked of.
    pub admin: Admin,
    /// What came of it.
    pub answer: Answer,
    /// The spec wants no passwords.
    pub open: bool,
}

pub async fn run(context: &mut Context, file: &Path, why: bool) -> Result<Verdict, CliError> {
    let Asked { answer, .. } = ask(context, file).await?;
    match &answer {
        Answer::Existing(existing) => {
            let json = || AnswerJson { plan: None, existing: Some(ExistingJson::from(existing)) };
            context.show(|| already(existing) + "\n", json);
            Ok(Verdict::Done)
        }
        Answer::Plan(plan) => {
            let detail = if why { Detail::Why } else { Detail::Brief };
            context.show(|| text(plan, detail), || AnswerJson { plan: Some(PlanJson::from(&**plan)), existing: None });
            fit(plan)?;
            context.console.note(&format!("nothing was changed; to form it: muster bootstrap {}", file.display()));
            Ok(Verdict::Done)
        }
    }
}

/// Reads the spec and asks for its plan.
pub async fn ask(context: &mut Context, file: &Path) -> Result<Asked, CliError> {
    let spec = spec_file::read(file)?;
    let mut admin = context.connect().await?;
    let doing = format!("planning cluster {}", spec.parts().name);
    let answer = call(&doing, THOROUGH, admin.plan(PlanRequest { spec: Some((&spec).into()) })).await?;
    let answer = match (answer.existing, answer.plan) {
        (Some(existing), _) => Answer::Existing(existing),
        (None, Some(plan)) => Answer::Plan(Box::new(plan)),
        (None, None) => return Err(CliError::Hollow { doing, missing: "plan" }),
    };
    let open = match &answer {
        Answer::Plan(plan) => is_open(plan),
        Answer::Existing(_) => spec.parts().auth == Auth::None,
    };
    Ok(Asked { admin, answer, open })
}

/// Refuses a plan with fatal findings.
pub fn fit(plan: &Plan) -> Result<(), CliError> {
    match finding::tally(&plan.findings) {
        (0, _) => Ok(()),
        (fatal, _) => Err(CliError::Unfit { cluster: cluster(plan).to_owned(), fatal }),
    }
}

/// What is there already, in a sentence.
pub fn already(existing: &ExistingCluster) -> String {
    let ExistingCluster { name, formed, operation_id } = existing;
    match formed {
        true => format!("cluster {name} is already formed from this spec; nothing was changed"),
        false => format!("cluster {name} is being formed from this spec by operation {operation_id}"),
    }
}
