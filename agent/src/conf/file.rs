//! A file of an instance's directory, rendered whole.

use muster_proto::Secret;

/// What is written, and for whom. The text may hold passwords, so it is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfFile {
    /// Its name in the directory.
    pub name: &'static str,
    /// The whole of it.
    pub text: Secret,
    /// Its permissions.
    pub mode: u32,
    /// Whose it is.
    pub keeper: FileKeeper,
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKeeper {
    /// The agent writes it and the server only reads it: the agent's user, the server's group.
    Agent,
    /// The server writes it anew itself: the server's user and group.
    Server,
}

impl ConfFile {
    /// Written by the agent, read by the server: 0640.
    pub fn read_only(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: Secret::new(text), mode: 0o640, keeper: FileKeeper::Agent }
    }

    /// The first of a file that the server owns from then on: 0644.
    pub fn first(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: Secret::new(text), mode: 0o644, keeper: FileKeeper::Server }
    }
}
