//! `muster whoami`: who the caller is to the coordinator.

use muster_proto::{AccessRole, wire::WhoAmIResponse};
use serde::Serialize;

use super::moment;

/// The caller, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct WhoamiJson {
    caller: String,
    role: Option<AccessRole>,
    expires_unix_ms: Option<u64>,
    endpoint: String,
    context: Option<String>,
}

impl WhoamiJson {
    /// Of the answer, and the way that it took.
    pub fn new(answer: &WhoAmIResponse, endpoint: String, context: Option<String>) -> Self {
        Self {
            caller: answer.caller.clone(),
            role: AccessRole::from_wire(answer.role),
            expires_unix_ms: Some(answer.expires_unix_ms).filter(|expires| *expires > 0),
            endpoint,
            context,
        }
    }
}

/// A line each.
pub fn text(whoami: &WhoamiJson) -> String {
    let WhoamiJson { caller, role, expires_unix_ms, endpoint, context } = whoami;
    let role = role.map_or_else(|| "none".to_owned(), |role| role.to_string());
    let until = expires_unix_ms.map_or_else(|| "for ever".to_owned(), moment);
    let context = context.as_deref().unwrap_or("-");
    format!("caller    {caller}\nrole      {role}\nuntil     {until}\nendpoint  {endpoint}\ncontext   {context}\n")
}
