//! `muster`: the operator's side of the Admin service, and nothing else: no store, no redis-server (but for `smoke`,
//! which is a client like any other), no decision that the coordinator does not make.
//!
//! A command gets a [`Context`], asks, and hands what it was told to [`render`](crate::render). Data goes to stdout,
//! everything else to stderr. Errors are rendered once, here, together with what they mean for the work: nothing was
//! changed, or it goes on without this command. Exit codes stand in [`help::EXIT_CODES`].
//!
//! Reading order: [`args`], [`endpoint`], [`contexts`], [`target`], [`connect`], [`error`], [`console`], [`bootstrap`],
//! [`apply`], [`follow`], [`rebuild`], the other commands.

pub mod args;
pub mod connect;
pub mod console;
pub mod contexts;
pub mod endpoint;
pub mod error;
pub mod help;
pub mod target;
pub mod tls;

mod agent;
mod apply;
mod audit;
mod bootstrap;
mod ca;
mod check;
mod confirm;
mod context;
mod credentials;
mod events;
mod follow;
mod host;
mod hosts;
mod logs;
mod ops;
mod plan;
mod progress;
mod protect;
mod rebuild;
mod retry;
mod roll;
mod second;
mod smoke;
mod start;
mod status;
mod token;
mod trash;
mod user;
mod whoami;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use serde::Serialize;

use self::{
    args::{Args, Command, Format, OpCommand},
    connect::{Admin, Link, Trust},
    console::Console,
    error::{CliError, INTERRUPTED, USAGE, WE_FAILED},
    target::{Target, Wish},
};
use crate::render;

/// What a command ends with when nothing went wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done; 0.
    Done,
    /// It found something that somebody must act on; 1.
    Finding,
}

impl Verdict {
    fn of(fine: bool) -> Self {
        if fine { Self::Done } else { Self::Finding }
    }
}

/// What an error or an interruption would mean for the work, at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The command only looks; there is nothing to say.
    Looking,
    /// It would change something and has not yet.
    Unchanged,
    /// It has asked for a change and has no answer yet.
    Asked,
    /// That operation is under way, and needs this command no longer.
    Underway(String),
}

/// What every command has.
pub struct Context {
    /// Which coordinator was asked for.
    pub wish: Wish,
    /// Which one it is, once that was needed.
    pub target: Option<Target>,
    /// How data is written.
    pub format: Format,
    /// Where it is written to.
    pub console: Console,
    /// How far the work has come.
    pub stage: Stage,
    /// How long a coordinator that went away is waited for.
    pub patience: Duration,
}

impl Context {
    /// Clusters and operations.
    async fn connect(&mut self) -> Result<Admin, CliError> {
        self.dial().await.map(|link| link.admin())
    }

    /// Who may what.
    async fn trust(&mut self) -> Result<Trust, CliError> {
        self.dial().await.map(|link| link.trust())
    }

    async fn dial(&mut self) -> Result<Link, CliError> {
        let target = match &self.target {
            Some(target) => target.clone(),
            None => {
                let target = self.wish.resolve()?;
                if let Some(name) = &target.passed_over {
                    let note = format!("context {name} is not used: the endpoint {} was given", target.endpoint);
                    self.console.note(&note);
                }
                self.target.insert(target).clone()
            }
        };
        let link = connect::connect(&target.endpoint, target.login.as_ref()).await?;
        context::follow_authorities(self, &target, &link).await;
        Ok(link)
    }

    /// Sends something that changes things: from here on it may have been done, unless it is refused.
    async fn change<T>(
        &mut self,
        doing: &str,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CliError> {
        self.change_within(connect::QUICK, doing, answer).await
    }

    /// The same, for what takes its time.
    async fn change_within<T>(
        &mut self,
        limit: Duration,
        doing: &str,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CliError> {
        self.stage = Stage::Asked;
        let answer = connect::call(doing, limit, answer).await;
        self.stage = match &answer {
            Err(CliError::Refused { .. }) => Stage::Unchanged,
            Err(_) => Stage::Asked,
            Ok(_) => Stage::Looking,
        };
        answer
    }

    /// Sends a request that begins an operation, and has an id: the same again until it is answered. A refusal is an
    /// answer: nothing was begun.
    async fn begin<T, A>(&mut self, send: impl FnMut() -> A) -> Result<T, CliError>
    where
        A: Future<Output = Result<T, CliError>>,
    {
        self.stage = Stage::Asked;
        let answer = retry::deliver(self.patience, send).await;
        if let Err(CliError::Refused { .. }) = &answer {
            self.stage = Stage::Unchanged;
        }
        answer
    }

    /// Writes the one document of a command: the text, or the JSON.
    fn show<J: Serialize>(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> J) {
        match self.format {
            Format::Text => self.console.data(&text()),
            Format::Json => self.console.data(&render::document(&json())),
        }
    }
}

/// The whole program.
pub fn run() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are what was asked for; the rest is bad usage. Nobody to print to is no reason to fail.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    panic::set_hook(Box::new(|info| Console::standard().report_bug(&info.to_string())));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => return Console::standard().report(&CliError::Runtime(source), &Stage::Looking),
        };
        let interrupt = async {
            // Without the handler the kernel's default stays: the process ends, which is what was asked for.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let code = runtime.block_on(drive(args, Console::standard(), retry::PATIENCE, interrupt));
        // A question that nobody has answered sits in a blocking read of stdin: not waited for.
        runtime.shutdown_background();
        code
    }));
    ExitCode::from(outcome.unwrap_or(WE_FAILED))
}

/// Runs one command until it ends or is interrupted, and says what that means. Returns the exit code.
pub async fn drive(args: Args, console: Console, patience: Duration, interrupt: impl Future<Output = ()>) -> u8 {
    let stage = if args.command.changes_things() { Stage::Unchanged } else { Stage::Looking };
    let (wish, format) = (args.wish(), args.output);
    let mut context = Context { wish, target: None, format, console, stage, patience };
    let outcome = tokio::select! {
        biased;
        () = interrupt => None,
        outcome = dispatch(&mut context, args.command) => Some(outcome),
    };
    let Context { mut console, stage, .. } = context;
    let code = match outcome {
        Some(Ok(Verdict::Done)) => 0,
        Some(Ok(Verdict::Finding)) => 1,
        Some(Err(error)) => console.report(&error, &stage),
        None => {
            console.interrupted(&stage);
            INTERRUPTED
        }
    };
    console.finish(code)
}

async fn dispatch(context: &mut Context, command: Command) -> Result<Verdict, CliError> {
    match command {
        Command::Hosts { facts } => hosts::run(context, facts).await,
        Command::Agent(command) => agent::run(context, command).await,
        Command::Plan { file, why } => plan::run(context, &file, why).await,
        Command::Bootstrap { file, yes } => bootstrap::run(context, &file, yes).await,
        Command::Logs { cluster, instance, lines, follow } => {
            logs::run(context, &cluster, &instance, lines, follow).await
        }
        Command::Events { cluster, host, last } => events::run(context, cluster.as_ref(), host.as_ref(), last).await,
        Command::Stop(wanted) => roll::stop(context, wanted).await,
        Command::Start(wanted) => roll::start(context, wanted).await,
        Command::Restart(wanted) => roll::restart(context, wanted).await,
        Command::Rebuild(wanted) => rebuild::run(context, wanted).await,
        Command::Trash(wanted) => trash::run(context, wanted).await,
        Command::Protect { cluster } => protect::run(context, &cluster, true).await,
        Command::Unprotect { cluster } => protect::run(context, &cluster, false).await,
        Command::Status { cluster: Some(cluster), watch: true } => status::watch(context, &cluster).await,
        Command::Status { cluster: Some(cluster), watch: false } => status::show(context, &cluster).await,
        Command::Status { cluster: None, watch } => status::any(context, watch).await,
        Command::Check { cluster } => check::run(context, &cluster).await,
        Command::Smoke { cluster, from, ca } => smoke::run(context, &cluster, from.as_ref(), ca.as_deref()).await,
        Command::Ops { cluster } => ops::list(context, cluster.as_ref()).await,
        Command::Op(OpCommand::Show { id }) => ops::show(context, &id).await,
        Command::Op(OpCommand::Watch { id }) => ops::watch(context, &id).await,
        Command::Op(OpCommand::Pause { id }) => ops::pause(context, &id).await,
        Command::Op(OpCommand::Resume { id }) => ops::resume(context, &id).await,
        Command::Op(OpCommand::Cancel { id }) => ops::cancel(context, &id).await,
        Command::Credentials(command) => credentials::run(context, command).await,
        Command::Token(command) => token::run(context, command).await,
        Command::Host(command) => host::run(context, command).await,
        Command::User(command) => user::run(context, command).await,
        Command::Context(command) => context::run(context, command).await,
        Command::Whoami => whoami::run(context).await,
        Command::Second { id } => second::run(context, &id).await,
        Command::Ca(command) => ca::run(context, command).await,
        Command::Audit { verify: true, .. } => audit::verify(context).await,
        Command::Audit { last, verify: false } => audit::list(context, last).await,
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
