//! `muster-coordinator`: arguments, config as written, config as believed, run.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use muster_coordinator::{
    config::{self, Config},
    recovery::command::{Refusal, Wanted},
};
use muster_proto::HostName;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The coordinator: decides who is master and who is replica, forms clusters, and keeps the store.
///
/// Agents dial it on `listen`; operators and automation reach it on `admin_socket`. Stopping it changes nothing for
/// data or clients; operations go on where they were when it comes back.
#[derive(Parser)]
#[command(
    name = "muster-coordinator",
    version,
    after_help = "EXAMPLES:
  muster-coordinator --config /etc/muster/coordinator.toml
  muster-coordinator --config coordinator.toml check-config
  muster-coordinator recover --from-agents --hosts server1,server2

EXIT CODES: 0 stopped as asked, 2 failed, 64 bad usage or config"
)]
struct Args {
    /// The coordinator's config file, TOML.
    #[arg(long, value_name = "FILE", default_value = "/etc/muster/coordinator.toml")]
    config: PathBuf,
    /// Log lines as JSON instead of text.
    #[arg(long)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Read the config, say what is wrong with it or what it means, and do nothing else.
    CheckConfig,
    /// Rebuild a store that was lost from what the agents hold, with the coordinator stopped.
    ///
    /// Every agent keeps what it was told: its clusters whole, with everybody's place in them. This listens in the
    /// coordinator's place, asks each agent that calls for it, shows what a store made of that would be and what cannot
    /// be known any more, asks, and writes it, all or nothing. No redis-server notices. Hosts are then told what they
    /// have, under the number that they know. A store that has clusters is refused: a backup of it is better than this.
    ///
    /// Run it as the user that the coordinator runs as; where the store's key is a systemd credential, so that it has
    /// that (systemd-run --pty -p User=muster -p LoadCredential=...).
    ///
    /// Over https the authority was lost with the store. A new one is made, and a join token for each of --hosts, to be
    /// typed there while this waits.
    #[command(after_help = RECOVER_HELP)]
    Recover {
        /// From the agents' ledgers and stamps; the only way there is
        #[arg(long, required = true)]
        from_agents: bool,
        /// Every host of the fleet. These alone are heard, and when all have told it goes on at once; without it the
        /// whole of --wait is waited for, because nobody names the hosts of another cluster. Wanted with https
        #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
        hosts: Vec<HostName>,
        /// How long agents are waited for, in seconds; 60 unless said, 1800 with https
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
        wait: Option<u64>,
        /// Do not ask, for scripts
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// Show what would be written, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// `text`, or `json`: one document on stdout, text on stderr; with https a line with the tokens before it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

/// What is written to stdout.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

const RECOVER_HELP: &str = "EXAMPLES:
  systemctl stop muster-coordinator
  sudo -u muster muster-coordinator recover --from-agents --dry-run
  sudo -u muster muster-coordinator recover --from-agents --hosts server1,server2
  sudo -u muster muster-coordinator recover --from-agents --hosts server1,server2 --yes --output json

JSON: {\"written\", \"term\", \"clusters\": [{\"name\", \"cluster_id\", \"incarnation\", \"state\":
       \"formed|forming|cancelling\", \"masters\", \"instances\", \"by\": [HOST, ...]}],
       \"hosts\": [{\"name\", \"told\":
       \"the same|anew|nothing yet|nothing|when it calls\", \"generation\", \"directories\", \"running\"}],
       \"findings\": [{\"severity\", \"code\", \"host\", \"subject\", \"message\", \"cure\"}],
       \"not_recovered\": [...], \"next\": [...]}

EXIT CODES: 0 written (or shown), and everything that was found is in it, 1 refused, or something had to be left out,
            2 failed, 64 bad usage or config, 130 interrupted";

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { 64 } else { 0 });
    });
    let config = match Config::read(&args.config) {
        Ok(config) => config,
        Err(error) => {
            config::complain(&error);
            return ExitCode::from(64);
        }
    };
    if let Some(Command::CheckConfig) = args.command {
        println!("{} is a good coordinator config: {config}", args.config.display());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = leave_no_core() {
        eprintln!("warning: a crash may leave a core file with secrets in it: {error}");
    }
    if let Some(Command::Recover { hosts, wait, yes, dry_run, output, from_agents: _ }) = args.command {
        init_log(args.log_json, "warn");
        let (hosts, wait) = (hosts.into_iter().collect(), wait.map(Duration::from_secs));
        return recover(config, Wanted { hosts, wait, yes, dry_run, json: output == Output::Json });
    }
    init_log(args.log_json, &config.log);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            config::complain(error.as_ref());
            ExitCode::from(2)
        }
    }
}

/// No core dumps, and nobody of our own user looks into our memory (core(5), prctl(2)).
fn leave_no_core() -> nix::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)
}

fn init_log(json: bool, filter: &str) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    // journald has a clock of its own.
    match (json, std::env::var_os("JOURNAL_STREAM").is_some()) {
        (true, _) => builder.json().init(),
        (false, true) => builder.without_time().init(),
        (false, false) => builder.init(),
    }
}

fn recover(config: Config, wanted: Wanted) -> ExitCode {
    let outcome = || -> anyhow::Result<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = muster_coordinator::recovery::command::recover(config, wanted) => outcome,
                interrupt = tokio::signal::ctrl_c() => {
                    interrupt?;
                    eprintln!("\ninterrupted; no cluster was written");
                    Ok(130)
                }
            }
        });
        // Somebody may still be asked.
        runtime.shutdown_background();
        outcome
    };
    match outcome() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            config::complain(error.as_ref());
            let refusal = error.downcast_ref::<Refusal>();
            if let Some(hint) = refusal.and_then(Refusal::hint) {
                eprintln!("  hint: {hint}");
            }
            if refusal.is_some() {
                eprintln!("nothing was written");
            }
            ExitCode::from(refusal.map_or(2, Refusal::exit_code))
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    // Two threads: while one waits for the disk, the other hears the agents.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            token.cancel();
        });
        muster_coordinator::run(config, shutdown).await
    })
}
