//! The command line, as typed. What it means is said in [`help`](super::help).

mod rebuild;
mod roll;
mod trust;

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Parser, Subcommand, ValueEnum};
use muster_proto::{ClusterName, HostName, Port};

pub use self::rebuild::{Purge, Rebuild, Trash, TrashCommand};
pub use self::roll::{Consent, Restart, Start, Stop, Which};
pub use self::trust::{
    CaCommand, ContextCommand, Credentials, CredentialsCommand, HostCommand, Only, TokenCommand, Ttl, UserCommand,
};
use super::{contexts::ContextName, endpoint::Endpoint, help, target::Wish};

/// Options that every command takes stand behind its own in its help.
const LAST: usize = 900;

/// Form and look after Redis Clusters on bare servers.
#[derive(Debug, Clone, Parser)]
#[command(name = "muster", version, after_help = help::TOP, max_term_width = 100)]
pub struct Args {
    /// Where the coordinator listens: unix:/path, https://host:port, or http://127.0.0.1:port
    #[arg(long, global = true, display_order = LAST, env = "MUSTER_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<Endpoint>,
    /// The coordinator and the access that are kept under that name
    #[arg(long, global = true, display_order = LAST, env = "MUSTER_CONTEXT", value_name = "NAME")]
    pub context: Option<ContextName>,
    /// Where contexts are kept [default: muster/contexts.toml in $XDG_CONFIG_HOME or ~/.config]
    #[arg(long, global = true, display_order = LAST, env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How data is written to stdout
    #[arg(long, global = true, display_order = LAST, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How data is written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For scripts: one document a command, or one a line where it watches
    Json,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// List the hosts whose agents have connected
    #[command(long_about = help::HOSTS.about, after_help = help::HOSTS.examples)]
    Hosts {
        /// How each is set up for Redis: kernel, memory, disk, clock, with what is wrong marked
        #[arg(long)]
        facts: bool,
    },
    /// Show what a bootstrap would do; changes nothing
    #[command(long_about = help::PLAN.about, after_help = help::PLAN.examples, after_long_help = help::plan_long())]
    Plan {
        /// The spec, a TOML file; --help shows one
        file: PathBuf,
        /// Say of each instance why it is placed there
        #[arg(long)]
        why: bool,
    },
    /// Form a cluster: preflight, plan, your "yes", formation, proof
    #[command(long_about = help::BOOTSTRAP.about, after_help = help::BOOTSTRAP.examples)]
    Bootstrap {
        /// The spec, a TOML file; `muster plan --help` shows one
        file: PathBuf,
        /// Take the plan as it is, without asking
        #[arg(long)]
        yes: bool,
    },
    /// What agents say of their processes
    #[command(subcommand, long_about = help::AGENT.about, after_help = help::AGENT.examples)]
    Agent(AgentCommand),
    /// Show an instance's own log
    #[command(long_about = help::LOGS.about, after_help = help::LOGS.examples)]
    Logs {
        /// Whose
        cluster: ClusterName,
        /// Which, as HOST:PORT
        instance: Place,
        /// So many lines of what is there
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..))]
        lines: u32,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// What has happened on hosts, in their agents' own words
    #[command(long_about = help::EVENTS.about, after_help = help::EVENTS.examples)]
    Events {
        /// Only about this cluster's instances
        cluster: Option<ClusterName>,
        /// Only on this host
        #[arg(long, value_name = "HOST")]
        host: Option<HostName>,
        /// Only so many, the newest
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        last: u32,
    },
    /// Stop instances; masters hand over first
    #[command(long_about = help::STOP.about, after_help = help::STOP.examples)]
    Stop(Stop),
    /// Start what was stopped, or waits for its next try
    #[command(long_about = help::START.about, after_help = help::START.examples)]
    Start(Start),
    /// Restart instances, one copy of a shard at a time
    #[command(long_about = help::RESTART.about, after_help = help::RESTART.examples)]
    Restart(Restart),
    /// Stop a cluster, set its directories aside, form it anew and empty; or take that back
    #[command(long_about = help::REBUILD.about, after_help = help::REBUILD.examples,
              after_long_help = help::rebuild_long())]
    Rebuild(Rebuild),
    /// Show what was set aside, and until when it can be brought back; or delete it
    #[command(long_about = help::TRASH.about, after_help = help::TRASH.examples)]
    Trash(Trash),
    /// Say that a cluster may not be rebuilt
    #[command(long_about = help::PROTECT.about, after_help = help::PROTECT.examples)]
    Protect {
        /// Which
        cluster: ClusterName,
    },
    /// Say that a cluster may be rebuilt again
    #[command(long_about = help::UNPROTECT.about, after_help = help::UNPROTECT.examples)]
    Unprotect {
        /// Which
        cluster: ClusterName,
    },
    /// Show a cluster: issues, then by shard, then by host
    #[command(long_about = help::STATUS.about, after_help = help::STATUS.examples)]
    Status {
        /// Which; without it all are listed, and a single one is shown
        cluster: Option<ClusterName>,
        /// Go on showing it as it changes
        #[arg(long, short)]
        watch: bool,
    },
    /// Judge a running cluster against its blueprint
    #[command(long_about = help::CHECK.about, after_help = help::CHECK.examples)]
    Check {
        /// Which
        cluster: ClusterName,
    },
    /// Be a client: write and read through every master
    #[command(long_about = help::SMOKE.about, after_help = help::SMOKE.examples)]
    Smoke {
        /// Which
        cluster: ClusterName,
        /// Be the client on that host, through its agent, instead of here
        #[arg(long, value_name = "HOST")]
        from: Option<HostName>,
        /// Whom to believe, PEM, where the spec has certificates of your own
        #[arg(long, value_name = "FILE", conflicts_with = "from")]
        ca: Option<PathBuf>,
    },
    /// List operations, newest first
    #[command(long_about = help::OPS.about, after_help = help::OPS.examples)]
    Ops {
        /// Only those of this cluster
        cluster: Option<ClusterName>,
    },
    /// Look at one operation, or direct it
    #[command(subcommand, long_about = help::OP.about, after_help = help::OP.examples)]
    Op(OpCommand),
    /// Show what clients of a cluster log in with, or change it
    #[command(long_about = help::CREDENTIALS.about, after_help = help::CREDENTIALS.examples)]
    Credentials(Credentials),
    /// Let hosts in: join tokens
    #[command(subcommand, long_about = help::TOKEN.about, after_help = help::TOKEN.examples)]
    Token(TokenCommand),
    /// Decide about a host: approve, quarantine, revoke
    #[command(subcommand, long_about = help::HOST.about, after_help = help::HOST.examples)]
    Host(HostCommand),
    /// Let people and automation in
    #[command(subcommand, long_about = help::USER.about, after_help = help::USER.examples)]
    User(UserCommand),
    /// Coordinators and who you are to them, by name
    #[command(subcommand, long_about = help::CONTEXT.about, after_help = help::CONTEXT.examples)]
    Context(ContextCommand),
    /// Show who you are to the coordinator
    #[command(long_about = help::WHOAMI.about, after_help = help::WHOAMI.examples)]
    Whoami,
    /// Be the second person for something that destroys
    #[command(long_about = help::SECOND.about, after_help = help::SECOND.examples)]
    Second {
        /// As the first person was told
        id: String,
    },
    /// The fleet's certificate authorities
    #[command(subcommand, long_about = help::CA.about, after_help = help::CA.examples)]
    Ca(CaCommand),
    /// Show what was done, by whom, and prove that nothing was taken out
    #[command(long_about = help::AUDIT.about, after_help = help::AUDIT.examples)]
    Audit {
        /// Only so many, the newest
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        last: u32,
        /// Check the chain of all entries, instead of showing some
        #[arg(long, conflicts_with = "last")]
        verify: bool,
    },
}

/// An instance, as people call it: `server1:7000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its host.
    pub host: HostName,
    /// Its client port.
    pub port: Port,
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.split_once(':').ok_or("an instance is HOST:PORT, such as server1:7000")?;
        let number = port.parse::<u32>().map_err(|error| format!("{port}: {error}"))?;
        let host = host.parse().map_err(|error| format!("{host}: {error}"))?;
        Ok(Self { host, port: Port::try_from(number).map_err(|error| error.to_string())? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What to ask agents.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AgentCommand {
    /// Whose the process at every instance's port is, and what that is known by
    Ps {
        /// Only those on this host
        host: Option<HostName>,
    },
}

/// What to do with one operation.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum OpCommand {
    /// Everything about it
    Show {
        /// As `muster ops` lists it
        id: String,
    },
    /// Its events, from the first until it ends; interrupting this does not interrupt it
    Watch {
        /// As `muster ops` lists it
        id: String,
    },
    /// Take no further step; what was started goes on running
    Pause {
        /// As `muster ops` lists it
        id: String,
    },
    /// Go on
    Resume {
        /// As `muster ops` lists it
        id: String,
    },
    /// Call it off: a bootstrap only before the cluster is formed, a rebuild only before a directory is set aside; a
    /// restart ends where it is
    Cancel {
        /// As `muster ops` lists it
        id: String,
    },
}

impl Command {
    /// Whether it would change anything, so that it is worth saying when nothing was changed.
    pub fn changes_things(&self) -> bool {
        match self {
            Self::Bootstrap { .. } | Self::Start(_) => true,
            Self::Rebuild(rebuild) => !rebuild.dry_run,
            Self::Trash(trash) => trash.changes_things(),
            Self::Protect { .. } | Self::Unprotect { .. } => true,
            Self::Stop(stop) => !stop.which.dry_run,
            Self::Restart(restart) => !restart.which.dry_run,
            Self::Op(OpCommand::Pause { .. } | OpCommand::Resume { .. } | OpCommand::Cancel { .. }) => true,
            Self::Op(OpCommand::Show { .. } | OpCommand::Watch { .. }) => false,
            Self::Hosts { .. }
            | Self::Agent(_)
            | Self::Events { .. }
            | Self::Logs { .. }
            | Self::Plan { .. }
            | Self::Status { .. } => false,
            Self::Check { .. } | Self::Smoke { .. } | Self::Ops { .. } => false,
            Self::Credentials(credentials) => credentials.changes_things(),
            Self::Token(command) => !matches!(command, TokenCommand::List),
            Self::User(command) => !matches!(command, UserCommand::List),
            Self::Context(command) => !matches!(command, ContextCommand::List),
            Self::Ca(command) => !matches!(command, CaCommand::List),
            Self::Host(_) | Self::Second { .. } => true,
            Self::Whoami | Self::Audit { .. } => false,
        }
    }
}

impl Args {
    /// Which coordinator is wished for.
    pub fn wish(&self) -> Wish {
        Wish { endpoint: self.endpoint.clone(), context: self.context.clone(), config: self.config.clone() }
    }
}

#[cfg(test)]
mod tests;
