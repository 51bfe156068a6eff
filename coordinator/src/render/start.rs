//! `muster start`: what became of it.

use serde::Serialize;

/// For scripts.
#[derive(Debug, Clone, Serialize)]
pub struct StartJson {
    /// Whose.
    pub cluster: String,
    /// `server1:7000`.
    pub instance: String,
    /// It ran already.
    pub running: bool,
}

/// For people.
pub fn text(start: &StartJson) -> String {
    let StartJson { cluster, instance, running } = start;
    match running {
        true => format!("{instance} runs already; nothing was done\n"),
        false => format!("{instance} is tried now; how it fares: muster status {cluster}\n"),
    }
}
