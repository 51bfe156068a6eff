//! A step of a rotation, complete: what the credentials become, and what the operation says. Changes nothing itself.

use std::time::Duration;

use muster_proto::ClusterName;

use super::{
    Credentials, Kind, Rotation, Stage,
    rotation::{Event, Next, next},
};
use crate::{
    formation::{Culprit, steps},
    ledger::OpState,
};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The credentials after it.
    pub credentials: Credentials,
    /// The operation's state.
    pub state: OpState,
    /// The operation's phase.
    pub phase: &'static str,
    /// What it does now.
    pub message: String,
}

/// What comes of an event: a step, or why there is none.
pub fn step(cluster: &ClusterName, credentials: &Credentials, event: Event) -> Result<Step, Next> {
    let rotation = credentials.rotation.ok_or(Next::Stay)?;
    let what = rotation.kind.what();
    let over = |state, phase, message: String| Step { credentials: credentials.settled(), state, phase, message };
    match next(rotation.kind, rotation.stage, event) {
        Next::To(stage) => {
            let credentials = credentials.at(rotation, stage);
            let rotation = Rotation { stage, ..rotation };
            let state = if stage == Stage::Withdraw { OpState::Cancelling } else { OpState::Running };
            Ok(Step { credentials, state, phase: stage.word(), message: line(cluster, rotation, &[]) })
        }
        Next::Done => Ok(over(OpState::Done, "DONE", format!("done: the new {what} alone will do from here on"))),
        Next::Undone => Ok(over(
            OpState::Cancelled,
            Stage::Withdraw.word(),
            format!("called off; all is as it was: the old {what}"),
        )),
        none @ (Next::Stay | Next::TooEarly | Next::TooLate) => Err(none),
    }
}

/// What it does or waits for.
pub fn line(cluster: &ClusterName, rotation: Rotation, behind: &[Culprit]) -> String {
    match (rotation.stage, behind) {
        (Stage::Overlap, _) => {
            let to = match rotation.kind {
                Kind::Passwords => format!("muster credentials {cluster} shows the new one"),
                Kind::Certificates => format!("muster credentials {cluster} shows what to believe"),
            };
            format!("{rotation}; clients move now ({to}), then: muster credentials finish {cluster}")
        }
        (_, []) => rotation.to_string(),
        (_, [first]) => format!("{rotation}; waiting for {}: {}", first.name, first.why),
        (_, [first, rest @ ..]) => {
            format!("{rotation}; waiting for {}: {} (and {} more)", first.name, first.why, rest.len())
        }
    }
}

/// Why a person is needed: somebody is stuck, or nothing has moved for too long. At [`Stage::Overlap`] nobody is waited
/// for but the operator, who knows.
pub fn needs_operator(rotation: Rotation, behind: &[Culprit], still: Duration, patience: Duration) -> Option<String> {
    let first = behind.first().filter(|_| rotation.stage != Stage::Overlap)?;
    let culprit = behind.iter().find(|culprit| culprit.stuck).unwrap_or(first);
    let why = if culprit.stuck {
        format!("{}: {}", culprit.name, culprit.why)
    } else if still >= patience {
        format!("nothing has moved for {} s; {}: {}", steps(still), culprit.name, culprit.why)
    } else {
        return None;
    };
    let undo = match next(rotation.kind, rotation.stage, Event::Cancel) {
        Next::To(_) => format!(", or call it off: muster op cancel {}", rotation.operation),
        _ => String::new(),
    };
    Some(format!("{rotation}; {why}; mend it and it goes on by itself{undo}"))
}
