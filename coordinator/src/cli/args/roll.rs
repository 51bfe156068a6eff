//! What `muster stop`, `start` and `restart` are told.

use clap::Args;
use muster_proto::{ClusterName, HostName};

use super::Place;

/// Which instances.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Which {
    /// Whose
    pub cluster: ClusterName,
    /// Only those of this host
    #[arg(long, value_name = "HOST", conflicts_with = "instance")]
    pub host: Option<HostName>,
    /// Only this one
    #[arg(long, value_name = "HOST:PORT")]
    pub instance: Option<Place>,
    /// Only say what would be done
    #[arg(long, conflicts_with_all = ["yes", "confirm"])]
    pub dry_run: bool,
}

/// How far one is asked.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Consent {
    /// Do it without asking, where slots stay served
    #[arg(long)]
    pub yes: bool,
    /// The cluster's name, instead of being asked to type it where slots are served by nobody
    #[arg(long, value_name = "CLUSTER")]
    pub confirm: Option<String>,
}

/// `muster stop`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Stop {
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Whether one is asked.
    #[command(flatten)]
    pub consent: Consent,
}

/// `muster restart`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Restart {
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Masters get their slots back in the end, with a second hand-over
    #[arg(long)]
    pub give_back: bool,
    /// Whether one is asked.
    #[command(flatten)]
    pub consent: Consent,
}

/// `muster start`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Start {
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Also where it could empty its replicas: what only they hold may be lost
    #[arg(long, requires = "instance", conflicts_with = "dry_run")]
    pub even_if_empty: bool,
    /// The instance's HOST:PORT once more, instead of being asked to type it
    #[arg(long, value_name = "HOST:PORT", requires = "even_if_empty")]
    pub confirm: Option<String>,
    /// Taken for `stop` and `restart`; nothing is asked here
    #[arg(long, hide = true)]
    pub yes: bool,
}
