//! `muster-coordinator`: arguments, config as written, config as believed, run.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use muster_coordinator::config::{self, Config};
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
}

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
