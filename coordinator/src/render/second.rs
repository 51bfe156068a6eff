//! `muster second`: what somebody else may do now.

use muster_proto::wire::SecondResponse;
use serde::Serialize;

/// What was agreed with, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct SecondJson {
    id: String,
    what: String,
    first: String,
}

impl SecondJson {
    /// Of the answer.
    pub fn new(id: &str, answer: &SecondResponse) -> Self {
        Self { id: id.to_owned(), what: answer.what.clone(), first: answer.first.clone() }
    }
}

/// A line.
pub fn text(second: &SecondJson) -> String {
    let SecondJson { what, first, .. } = second;
    format!("{first} may do this now, once, within 15 minutes: {what}\n")
}
