//! The command line, as typed. What it means is said in [`help`](super::help).

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use muster_proto::{ClusterName, HostName};

use super::{connect::Endpoint, help};

/// Form and look after Redis Clusters on bare servers.
#[derive(Debug, Clone, Parser)]
#[command(name = "muster", version, after_help = help::TOP, max_term_width = 100)]
pub struct Args {
    /// Where the coordinator listens: unix:/path, or http://127.0.0.1:port
    #[arg(long, global = true, env = "MUSTER_ENDPOINT", default_value = help::ENDPOINT, value_name = "URL")]
    pub endpoint: Endpoint,
    /// How data is written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
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
    Hosts,
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
    /// Call it off; only before the cluster is formed
    Cancel {
        /// As `muster ops` lists it
        id: String,
    },
}

impl Command {
    /// Whether it would change anything, so that it is worth saying when nothing was changed.
    pub fn changes_things(&self) -> bool {
        match self {
            Self::Bootstrap { .. } => true,
            Self::Op(OpCommand::Pause { .. } | OpCommand::Resume { .. } | OpCommand::Cancel { .. }) => true,
            Self::Op(OpCommand::Show { .. } | OpCommand::Watch { .. }) => false,
            Self::Hosts | Self::Plan { .. } | Self::Status { .. } => false,
            Self::Check { .. } | Self::Smoke { .. } | Self::Ops { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use expect_test::expect;

    fn parse(line: &str) -> Result<Args, String> {
        let first = |error: clap::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        Args::try_parse_from(line.split_whitespace()).map_err(first)
    }

    #[test]
    fn clap_finds_nothing_wrong_with_it() {
        Args::command().debug_assert();
    }

    #[test]
    fn commands_are_read() {
        let cluster = || "orders".parse::<ClusterName>().unwrap();
        let id = || "42".to_owned();
        let cases = [
            ("muster hosts", Command::Hosts),
            ("muster plan a.toml", Command::Plan { file: "a.toml".into(), why: false }),
            ("muster plan --why a.toml", Command::Plan { file: "a.toml".into(), why: true }),
            ("muster bootstrap a.toml --yes", Command::Bootstrap { file: "a.toml".into(), yes: true }),
            ("muster status", Command::Status { cluster: None, watch: false }),
            ("muster status orders --watch", Command::Status { cluster: Some(cluster()), watch: true }),
            ("muster check orders", Command::Check { cluster: cluster() }),
            ("muster smoke orders", Command::Smoke { cluster: cluster(), from: None }),
            ("muster smoke orders --from h1", Command::Smoke { cluster: cluster(), from: "h1".parse().ok() }),
            ("muster ops", Command::Ops { cluster: None }),
            ("muster ops orders", Command::Ops { cluster: Some(cluster()) }),
            ("muster op show 42", Command::Op(OpCommand::Show { id: id() })),
            ("muster op watch 42", Command::Op(OpCommand::Watch { id: id() })),
            ("muster op pause 42", Command::Op(OpCommand::Pause { id: id() })),
            ("muster op resume 42", Command::Op(OpCommand::Resume { id: id() })),
            ("muster op cancel 42", Command::Op(OpCommand::Cancel { id: id() })),
        ];
        for (line, expected) in cases {
            let args = parse(line).unwrap();
            assert_eq!(args.command, expected, "{line}");
            assert_eq!(args.output, Format::Text, "{line}");
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in ["muster --output json hosts", "muster hosts --output json", "muster hosts --output=json"] {
            assert_eq!(parse(line).unwrap().output, Format::Json, "{line}");
        }
        let args = parse("muster hosts --endpoint unix:/tmp/x.sock").unwrap();
        assert_eq!(args.endpoint.to_string(), "unix:/tmp/x.sock");
        assert_eq!(parse("muster hosts").unwrap().endpoint.to_string(), help::ENDPOINT);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cases = [
            "muster nonsense",
            "muster plan",
            "muster plan a b",
            "muster status Orders",
            "muster smoke orders --from",
            "muster op show",
            "muster hosts --output yaml",
            "muster hosts --endpoint https://a:1",
        ];
        let said: String = cases.iter().map(|line| format!("{line}\n  {}\n", parse(line).unwrap_err())).collect();
        expect![[r#"
            muster nonsense
              error: unrecognized subcommand 'nonsense'
            muster plan
              error: the following required arguments were not provided:
            muster plan a b
              error: unexpected argument 'b' found
            muster status Orders
              error: invalid value 'Orders' for '[CLUSTER]': "Orders" is not a cluster name: 1-63 of a-z, 0-9 and '-', starting with a letter or digit
            muster smoke orders --from
              error: a value is required for '--from <HOST>' but none was supplied
            muster op show
              error: the following required arguments were not provided:
            muster hosts --output yaml
              error: invalid value 'yaml' for '--output <FORMAT>'
            muster hosts --endpoint https://a:1
              error: invalid value 'https://a:1' for '--endpoint <URL>': https:// comes with TLS, which is not there yet; on the coordinator's host use unix:/run/muster/admin.sock
        "#]].assert_eq(&said);
    }

    #[test]
    fn every_command_has_a_paragraph_and_examples() {
        for command in Args::command().get_subcommands() {
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(long.len() > 100, "{} has no paragraph", command.get_name());
            assert!(after.contains("EXAMPLES"), "{} has no examples", command.get_name());
            for line in after.lines().filter_map(|line| line.trim().strip_prefix("muster ")) {
                let line = format!("muster {}", line.split(['#', '|', '>']).next().unwrap_or_default());
                assert!(parse(&line).is_ok(), "an example does not parse: {line}");
            }
        }
    }
}
