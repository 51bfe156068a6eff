//! What `muster rebuild`, `trash`, `protect` and `unprotect` are told.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_proto::{ClusterId, ClusterName, HostName};

/// `muster rebuild`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Rebuild {
    /// Which
    pub cluster: ClusterName,
    /// Rebuild it to this spec, a TOML file, instead of to what it is
    #[arg(long, value_name = "SPEC", conflicts_with = "undo")]
    pub file: Option<PathBuf>,
    /// Do it without a host that is not there; once for each such host
    #[arg(long, value_name = "HOST", conflicts_with = "undo")]
    pub fence_missing: Vec<HostName>,
    /// Put back what the last rebuild has set aside, and set aside what is there now
    #[arg(long)]
    pub undo: bool,
    /// Also while clients write to it
    #[arg(long)]
    pub even_if_serving: bool,
    /// Only show the plan
    #[arg(long, conflicts_with = "confirm")]
    pub dry_run: bool,
    /// The cluster's name once more, instead of being asked to type it
    #[arg(long, value_name = "CLUSTER")]
    pub confirm: Option<String>,
}

/// `muster trash`: a cluster, or what to do. A cluster may be called like one of the commands: `list` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    subcommand_precedence_over_arg = true,
    override_usage = "muster trash [OPTIONS] [CLUSTER]\n       muster trash <COMMAND>"
)]
pub struct Trash {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<TrashCommand>,
    /// Only of this cluster
    pub cluster: Option<ClusterName>,
}

/// What to do about the trash.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TrashCommand {
    /// Show what is in it, and until when
    List {
        /// Only of this cluster
        cluster: Option<ClusterName>,
    },
    /// Delete directories from it, for good
    Purge(Purge),
}

/// `muster trash purge`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Purge {
    /// Whose, by the id that `muster trash` shows: names come again, ids do not
    #[arg(long, value_name = "ID")]
    pub cluster_id: ClusterId,
    /// Only those of this incarnation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub incarnation: Option<u64>,
    /// Only those on this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<HostName>,
    /// The cluster's name, instead of being asked to type it
    #[arg(long, value_name = "CLUSTER")]
    pub confirm: Option<String>,
}

impl Trash {
    /// What is meant: a cluster alone is to be listed. None when both are there, which clap cannot refuse.
    pub fn meant(self) -> Option<TrashCommand> {
        match (self.command, self.cluster) {
            (Some(command), None) => Some(command),
            (None, cluster) => Some(TrashCommand::List { cluster }),
            (Some(_), Some(_)) => None,
        }
    }

    /// Whether more is wanted than a look.
    pub fn changes_things(&self) -> bool {
        matches!(self.command, Some(TrashCommand::Purge(_)))
    }
}
