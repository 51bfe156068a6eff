//! `muster-agent`: arguments, config as written, config as believed, run.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use muster_agent::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
    if let Some(Command::CheckConfig) = args.command {
        println!("{} is a good agent config: {config}", args.config.display());
        return ExitCode::SUCCESS;
    }
    init_log(args.log_json, &config.log);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            muster_agent::config::complain(error.as_ref());
            ExitCode::from(2)
        }
    }
}

fn init_log(json: bool, filter: &str) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    if json { builder.json().init() } else { builder.init() }
}

fn serve(config: Config) -> anyhow::Result<()> {
    // One thread: half the latency and less memory than two, and nothing here computes for long.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            token.cancel();
        });
        muster_agent::run(config, shutdown).await
    })
}
