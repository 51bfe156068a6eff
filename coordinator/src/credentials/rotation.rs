//! A rotation as a table: where it is, what happens, where it goes.
//!
//! Forward only, one stage at a time. A stage is left when every host has made true what it was told in it, so at any
//! moment the instances of a cluster are in at most two neighbouring stages, and each two neighbours get along.
//!
//! ```text
//! passwords:     ADD ──► SWITCH ──► OVERLAP ─finish─► RETIRE ──► done
//! certificates:  ADD ──► OVERLAP ─finish─► SWITCH ──► RETIRE ──► done
//! ```
//!
//! Clients move at OVERLAP. With passwords that is after the switch: the new one is shown once it is accepted
//! everywhere. With certificates it must be before: from the switch on, servers show certificates of the new
//! authority, and a client that does not believe it yet would turn away. So what is finished there is the clients'
//! move, and then the servers do theirs.

use std::fmt;

use muster_proto::OperationId;
use serde::{Deserialize, Serialize};

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All passwords that Muster has drawn: clients' and its own.
    Passwords,
    /// The authority, and with it every certificate.
    Certificates,
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The new is accepted beside the old, and nobody uses it.
    Add,
    /// The new is used; the old is still accepted.
    Switch,
    /// Clients move.
    Overlap,
    /// The new alone is accepted.
    Retire,
    /// Called off: the old alone is accepted again.
    Withdraw,
}

/// One that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The operation that does it.
    pub operation: OperationId,
    /// What is exchanged.
    pub kind: Kind,
    /// Where it is.
    pub stage: Stage,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Every host has made true what it was told.
    Converged,
    /// The operator says that clients have moved.
    Finish,
    /// The operator calls it off.
    Cancel,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on there.
    To(Stage),
    /// Nothing: it waits for something else, or that was said before.
    Stay,
    /// It is over.
    Done,
    /// It is over, and all is as it was.
    Undone,
    /// Not yet: hosts have not followed.
    TooEarly,
    /// Not any more: the new is in use.
    TooLate,
}

impl Kind {
    /// The operation's.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passwords => "rotate-passwords",
            Self::Certificates => "rotate-certificates",
        }
    }

    /// What is exchanged, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::Passwords => "passwords",
            Self::Certificates => "authority",
        }
    }
}

impl Stage {
    /// All.
    pub const ALL: [Self; 5] = [Self::Add, Self::Switch, Self::Overlap, Self::Retire, Self::Withdraw];

    /// As it stands in events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Switch => "SWITCH",
            Self::Overlap => "OVERLAP",
            Self::Retire => "RETIRE",
            Self::Withdraw => "CANCEL",
        }
    }
}

/// The table.
pub fn next(kind: Kind, stage: Stage, event: Event) -> Next {
    use Event::{Cancel, Converged, Finish};
    use Kind::{Certificates, Passwords};
    match (kind, stage, event) {
        (Passwords, Stage::Add, Converged) => Next::To(Stage::Switch),
        (Passwords, Stage::Switch, Converged) => Next::To(Stage::Overlap),
        (Passwords, Stage::Overlap, Finish) => Next::To(Stage::Retire),
        (Passwords, Stage::Switch, Finish) => Next::TooEarly,
        (Passwords, Stage::Overlap, Cancel) => Next::TooLate,

        (Certificates, Stage::Add, Converged) => Next::To(Stage::Overlap),
        (Certificates, Stage::Overlap, Finish) => Next::To(Stage::Switch),
        (Certificates, Stage::Switch, Converged) => Next::To(Stage::Retire),
        (Certificates, Stage::Switch, Finish) => Next::Stay,
        (Certificates, Stage::Overlap, Cancel) => Next::To(Stage::Withdraw),

        (_, Stage::Overlap, Converged) => Next::Stay,
        (_, Stage::Add, Finish) => Next::TooEarly,
        (_, Stage::Add, Cancel) => Next::To(Stage::Withdraw),
        (_, Stage::Switch, Cancel) => Next::TooLate,
        (_, Stage::Retire, Converged) => Next::Done,
        (_, Stage::Retire, Finish) => Next::Stay,
        (_, Stage::Retire, Cancel) => Next::TooLate,
        (_, Stage::Withdraw, Converged) => Next::Undone,
        (_, Stage::Withdraw, Finish) => Next::TooLate,
        (_, Stage::Withdraw, Cancel) => Next::Stay,
    }
}

impl fmt::Display for Rotation {
    /// What it does, as the operator reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.kind, self.stage) {
            (Kind::Passwords, Stage::Add) => "every instance accepts the new passwords beside the old ones",
            (Kind::Passwords, Stage::Switch) => "agents and replicas use the new passwords",
            (Kind::Passwords, Stage::Overlap) => "old and new passwords are accepted",
            (Kind::Passwords, Stage::Retire) => "the old passwords are accepted no longer",
            (Kind::Passwords, Stage::Withdraw) => "the new passwords are taken back",
            (Kind::Certificates, Stage::Add) => "every instance believes the new authority beside the old one",
            (Kind::Certificates, Stage::Switch) => "every instance exchanges its certificate",
            (Kind::Certificates, Stage::Overlap) => "every instance believes both authorities",
            (Kind::Certificates, Stage::Retire) => "the old authority is believed no longer",
            (Kind::Certificates, Stage::Withdraw) => "the new authority is taken back",
        })
    }
}
