//! `muster-agent`: arguments, config as written, config as believed, run.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use muster_agent::{
    config::Config,
    enrol::{EnrolError, Outcome, Ways},
    identity::Papers,
    layout::Layout,
    tune,
};
use muster_proto::token::JoinToken;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// The agent of one server: starts and supervises its redis-servers, and reports to the coordinator.
///
/// It listens on nothing; it dials. Stopping it leaves every redis-server running, and the agent that comes back finds
/// them again.
#[derive(Parser)]
#[command(
    name = "muster-agent",
    version,
    after_help = "EXAMPLES:
  muster-agent --config /etc/muster/agent.toml
  muster-agent --config agent.toml check-config

EXIT CODES: 0 stopped as asked, 2 failed, 64 bad usage or config"
)]
struct Args {
    /// The agent's config file, TOML.
    #[arg(long, value_name = "FILE", default_value = "/etc/muster/agent.toml")]
    config: PathBuf,
    /// Log lines as JSON instead of text.
    #[arg(long)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Become one of the fleet, with a join token on standard input.
    ///
    /// On the coordinator: muster token create --host NAME. The token is read from standard input, or asked for on a
    /// terminal; it is in no argument and no environment. The key is made here and stays here. Doing it again costs
    /// nothing; an agent that runs need not be started anew.
    #[command(after_help = "EXAMPLES:
  muster-agent --config /etc/muster/agent.toml enrol
  muster-agent --config /etc/muster/agent.toml enrol <token-file
  muster-agent --config /etc/muster/agent.toml enrol --new-key <rejoin-token-file

EXIT CODES: 0 enrolled, 1 refused, 2 failed, 64 bad usage or config")]
    Enrol {
        /// Also when there is a good certificate already
        #[arg(long)]
        again: bool,
        /// With a new key, as a token of `muster host rejoin-token` wants it; the old key stays until it is taken
        #[arg(long)]
        new_key: bool,
    },
    /// Show whose the process at every port is, and what that is known by.
    ///
    /// Needs neither a coordinator nor a running agent, and changes nothing. *ours* is supervised by the agent; *gone*
    /// means that the lock of the port is free; *foreign* (somebody else has the port or the directory) and *unknown*
    /// (the lock is held, and what is marked (!) speaks against its being ours) are left alone. As root: others cannot
    /// look into the servers.
    #[command(after_help = "EXAMPLES:
  muster-agent ps
  muster-agent --config /etc/muster/agent.toml ps --json | jq '.processes[] | select(.standing == \"ours\") | .pid'

JSON: {\"processes\": [{\"port\", \"standing\": \"ours|gone|foreign|unknown\", \"pid\", \"cluster\",
       \"node_id\", \"life\", \"directory\", \"reason\", \"evidence\": [...]}]}

EXIT CODES: 0 shown, 64 bad usage or config")]
    Ps {
        /// One JSON document, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Set the kernel as Redis asks for it, in one sysctl file that is ours alone.
    ///
    /// Overcommit, backlog, swappiness, and the ports of the config that lie in the kernel's ephemeral range. What
    /// somebody has raised stays. Transparent huge pages are no sysctl; muster hosts --facts says what to type there.
    #[command(after_help = "EXAMPLES:
  muster-agent tune --dry-run
  muster-agent tune --apply

EXIT CODES: 0 as it should be, 1 something should be changed (--dry-run), 2 failed, 64 bad usage or config")]
    Tune {
        /// Show what would be changed, and change nothing
        #[arg(long, required_unless_present = "apply")]
        dry_run: bool,
        /// Write the file and tell the kernel
        #[arg(long, conflicts_with = "dry_run")]
        apply: bool,
        /// The file
        #[arg(long, value_name = "FILE", default_value = tune::FILE)]
        file: PathBuf,
    },
    /// Read the config, say what is wrong with it or what it means, and do nothing else.
    CheckConfig,
}

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { 64 } else { 0 });
    });
    let config = match Config::read(&args.config) {
        Ok(config) => config,
        Err(error) => {
            muster_agent::config::complain(&error);
            return ExitCode::from(64);
        }
    };
    if let Err(error) = leave_no_core() {
        eprintln!("warning: a crash may leave a core file with secrets in it: {error}");
    }
    match args.command {
        Some(Command::CheckConfig) => {
            println!("{} is a good agent config: {config}", args.config.display());
            return ExitCode::SUCCESS;
        }
        Some(Command::Ps { json }) => {
            let processes = muster_agent::ps::look(&config);
            match serde_json::to_string_pretty(&processes) {
                Ok(document) if json => println!("{document}"),
                _ => print!("{processes}"),
            }
            return ExitCode::SUCCESS;
        }
        Some(Command::Tune { apply, file, .. }) => return tune(&config, apply, &file),
        Some(Command::Enrol { again, new_key }) => return enrol(&config, Ways { again, new_key }),
        None => {}
    }
    let filter = init_log(args.log_json, &config.log);
    match serve(config, &args.config, filter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            muster_agent::config::complain(error.as_ref());
            ExitCode::from(2)
        }
    }
}

/// No core dumps, of us or of what we start, and nobody of our own user looks into our memory (core(5), prctl(2)).
fn leave_no_core() -> nix::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)
}

/// `muster-agent tune`.
fn tune(config: &Config, apply: bool, file: &Path) -> ExitCode {
    let kernel = tune::Kernel::here();
    let changes = kernel.changes(&config.ports);
    changes.iter().for_each(|change| println!("{change}"));
    match (changes.is_empty(), apply) {
        (true, _) => println!("the kernel is set as Redis asks for it; nothing to do"),
        (false, false) => {
            println!("nothing was changed; to write {} and tell the kernel: muster-agent tune --apply", file.display());
            return ExitCode::from(1);
        }
        (false, true) => match kernel.apply(&changes, file) {
            Ok(()) => println!("{} is written, and the kernel was told", file.display()),
            Err(error) => {
                muster_agent::config::complain(&error);
                return ExitCode::from(2);
            }
        },
    }
    ExitCode::SUCCESS
}

/// `muster-agent enrol`.
fn enrol(config: &Config, ways: Ways) -> ExitCode {
    let name = &config.name;
    let token = match read_token() {
        Ok(token) => token,
        Err(error) => {
            muster_agent::config::complain(error.as_ref());
            eprintln!("  hint: on the coordinator: muster token create --host {name}");
            return ExitCode::from(64);
        }
    };
    let enrolled = || -> anyhow::Result<Outcome> {
        let layout = Layout::open(&config.base_dir, config.run_as.clone())
            .with_context(|| format!("cannot take {} into use (as root?)", config.base_dir.display()))?;
        let papers = Papers::in_dir(&layout.agent_dir());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(muster_agent::enrol::enrol(config, &papers, &token, ways))?)
    };
    match enrolled() {
        Ok(Outcome::Already) => println!(
            "{name} has a certificate already; nothing was done or asked, and the token is as good as before (--again \
             asks the coordinator anew; with a token of muster host rejoin-token: --new-key)"
        ),
        Ok(Outcome::Approved(_)) => println!("{name} is enrolled and approved; start muster-agent, if it does not run"),
        Ok(Outcome::Pending) => {
            println!("{name} is enrolled and waits for approval, on the coordinator: muster host approve {name}");
        }
        Err(error) => {
            muster_agent::config::complain(error.as_ref());
            let refused = error.downcast_ref::<EnrolError>();
            if let Some(hint) = refused.and_then(EnrolError::hint) {
                eprintln!("  hint: {hint}");
            }
            return ExitCode::from(if matches!(refused, Some(EnrolError::Refused { .. })) { 1 } else { 2 });
        }
    }
    ExitCode::SUCCESS
}

fn read_token() -> anyhow::Result<JoinToken> {
    let text = if std::io::stdin().is_terminal() {
        rpassword::prompt_password("join token: ")?
    } else {
        let mut line = String::new();
        std::io::stdin().take(1024).read_to_string(&mut line)?;
        line
    };
    Ok(text.parse()?)
}

/// What changes the filter while the agent runs.
type Filter = reload::Handle<EnvFilter, Registry>;

/// To standard error, without our own clock where journald has one.
fn init_log(json: bool, filter: &str) -> Filter {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(filter));
    let lines = fmt::layer().with_target(false).with_ansi(false).with_writer(std::io::stderr);
    let lines = match (json, std::env::var_os("JOURNAL_STREAM").is_some()) {
        (true, _) => lines.json().boxed(),
        (false, true) => lines.without_time().boxed(),
        (false, false) => lines.boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    handle
}

/// SIGHUP: the config is read again. One that is not believed changes nothing.
async fn reload_on_hangup(path: PathBuf, filter: Filter, mut hangups: Signal, reloads: mpsc::Sender<Config>) {
    while hangups.recv().await.is_some() {
        match Config::read(&path) {
            Ok(config) => {
                let _ = filter.reload(EnvFilter::new(&config.log));
                let _ = reloads.send(config).await;
            }
            Err(error) => tracing::error!("{}; the agent goes on as it is", muster_agent::dial::words(&error)),
        }
    }
}

fn serve(config: Config, path: &Path, filter: Filter) -> anyhow::Result<()> {
    // One thread: half the latency and less memory than two, and nothing here computes for long.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if crash::armed() {
        // The link must go on while the loop stands still at a point.
        runtime = tokio::runtime::Builder::new_multi_thread();
    }
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            token.cancel();
        });
        let (reloads, reloaded) = mpsc::channel(1);
        tokio::spawn(reload_on_hangup(path.to_owned(), filter, signal(SignalKind::hangup())?, reloads));
        muster_agent::run(config, shutdown, reloaded).await
    })
}
