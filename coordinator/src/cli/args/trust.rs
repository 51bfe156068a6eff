//! The part of the command line that is about who may do what.

use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use muster_proto::{AccessRole, ClusterName, HostName};

use crate::cli::contexts::ContextName;

/// How long something holds: a number and s, m, h or d.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// In seconds, at least 1.
    pub seconds: u64,
}

/// Not such a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use a number and one of s, m, h and d: 30m, 12h, 90d")]
pub struct TtlError;

impl FromStr for Ttl {
    type Err = TtlError;
    fn from_str(text: &str) -> Result<Self, TtlError> {
        let at = text.find(|c: char| !c.is_ascii_digit()).ok_or(TtlError)?;
        let (number, unit) = text.split_at(at);
        let unit: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(TtlError),
        };
        let seconds = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
        seconds.filter(|seconds| *seconds > 0).map(|seconds| Self { seconds }).ok_or(TtlError)
    }
}

/// What to do about join tokens.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Make one; it is shown once
    ///
    /// The token alone goes to stdout, so that it can be handed on without being seen; the command for the host goes
    /// to stderr.
    Create {
        /// The only host that may use it, which is approved by that; any host otherwise, which then waits for approval
        #[arg(long, value_name = "HOST")]
        host: Option<HostName>,
        /// How long it holds: 30m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "30m")]
        ttl: Ttl,
        /// How many hosts may use it
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
        /// Whoever uses it is approved, though no host is named
        #[arg(long)]
        approve: bool,
    },
    /// Those that can still be used, without their secrets
    List,
    /// Take one back
    Revoke {
        /// As `muster token list` shows it
        id: String,
    },
}

/// What to do about a host.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum HostCommand {
    /// Let a pending or quarantined host take part
    Approve {
        /// As `muster hosts` lists it
        host: HostName,
    },
    /// Cut a host off until it is approved again; its redis-servers go on
    Quarantine {
        /// As `muster hosts` lists it
        host: HostName,
        /// Why; shown to whoever looks at the host
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Refuse a host's key for good, and cut it off at once; its redis-servers go on
    Revoke {
        /// As `muster hosts` lists it
        host: HostName,
        /// Why; shown to whoever looks at the host
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Its name once more, instead of being asked to type it
        #[arg(long, value_name = "HOST")]
        confirm: Option<String>,
    },
    /// Forget a host that has no instances
    Remove {
        /// As `muster hosts` lists it
        host: HostName,
        /// Its name once more, instead of being asked to type it
        #[arg(long, value_name = "HOST")]
        confirm: Option<String>,
    },
    /// A token that lets a re-installed host come back under its name, with another key
    RejoinToken {
        /// As `muster hosts` lists it
        host: HostName,
        /// How long it holds: 30m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "30m")]
        ttl: Ttl,
    },
}

/// What to do about users.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Let somebody in; the access string is shown once
    ///
    /// The access string alone goes to stdout; what to do with it goes to stderr.
    Add {
        /// 1-63 of a-z, 0-9, '.', '_' and '-'
        name: String,
        /// viewer looks; operator forms clusters and reads passwords; destroyer does what cannot be taken back; admin
        /// decides who is who. Each may all that the ones before it may
        #[arg(long, value_name = "ROLE")]
        role: AccessRole,
        /// How long it holds: 12h, 90d
        #[arg(long, value_name = "TIME", default_value = "90d")]
        ttl: Ttl,
    },
    /// Who is let in, without secrets
    List,
    /// Take somebody's access away, and cut it off at once
    Remove {
        /// As `muster user list` shows it
        name: String,
    },
}

/// What to do about the fleet's authorities.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CaCommand {
    /// The authorities, and the hosts whose certificates each has signed
    List,
    /// Let a new authority sign from now on; the old one is still believed
    Rotate,
    /// Stop believing the authorities before the one that signs
    Retire {
        /// Lock out the hosts that still lean on them; each then needs a rejoin token
        #[arg(long)]
        force: bool,
    },
}

/// A cluster, or what to do about its credentials. A cluster may be called like one of the commands: `show` takes it.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(
    subcommand_precedence_over_arg = true,
    subcommand_negates_reqs = true,
    override_usage = "muster credentials [OPTIONS] <CLUSTER>\n       muster credentials <COMMAND>"
)]
pub struct Credentials {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<CredentialsCommand>,
    /// What to show without one.
    #[command(flatten)]
    pub shown: ShownOption,
}

/// What is to be shown, where a command may stand in its place.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ShownOption {
    /// Which
    #[arg(required = true)]
    pub cluster: Option<ClusterName>,
    /// One of the spec's own users, instead of the default one
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Write that one value to stdout and nothing else
    #[arg(long, value_enum, value_name = "WHAT")]
    pub only: Option<Only>,
}

/// One value of a cluster's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// The user to log in as
    User,
    /// Its password
    Password,
    /// Whom to believe, PEM
    Ca,
}

/// What to do about a cluster's credentials.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CredentialsCommand {
    /// Show what clients log in with
    Show {
        /// Which
        cluster: ClusterName,
        /// One of the spec's own users, instead of the default one
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// Write that one value to stdout and nothing else
        #[arg(long, value_enum, value_name = "WHAT")]
        only: Option<Only>,
    },
    /// Draw new secrets; old and new are accepted until it is finished
    Rotate {
        /// Which
        cluster: ClusterName,
        /// The authority and the certificates of its TLS, instead of its passwords
        #[arg(long)]
        certificates: bool,
    },
    /// Stop accepting the old secrets, once every client has moved
    Finish {
        /// Which
        cluster: ClusterName,
    },
}

impl Credentials {
    /// Whether more is wanted than a look.
    pub fn changes_things(&self) -> bool {
        matches!(self.command, Some(CredentialsCommand::Rotate { .. } | CredentialsCommand::Finish { .. }))
    }

    /// What is meant: a cluster alone is to be shown. None when both are there, which clap cannot refuse: it would take
    /// every option before the cluster for a part of a command.
    pub fn meant(self) -> Option<CredentialsCommand> {
        match (self.command, self.shown) {
            (Some(command), ShownOption { cluster: None, user: None, only: None }) => Some(command),
            (None, ShownOption { cluster: Some(cluster), user, only }) => {
                Some(CredentialsCommand::Show { cluster, user, only })
            }
            _ => None,
        }
    }
}

/// What to do about contexts.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ContextCommand {
    /// Keep a coordinator under a name; the access string is read from standard input
    Add {
        /// How to call it
        name: ContextName,
        /// Trade the access string for a client certificate, and keep that instead
        #[arg(long)]
        certificate: bool,
    },
    /// Let commands go there from now on
    Use {
        /// As `muster context list` shows it
        name: ContextName,
    },
    /// All that are kept, without secrets
    List,
    /// Forget one; the user's access at the coordinator stays
    Remove {
        /// As `muster context list` shows it
        name: ContextName,
    },
}
