//! `muster-coordinator recover --from-agents`: takes the coordinator's place, hears the agents, shows what a store
//! rebuilt from them would be, and writes it when somebody says yes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what an operator sees")]

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use muster_proto::{
    HostName, OperationId, Secret,
    convert::millis,
    token::JoinToken,
    wire::{agent_link_server::AgentLinkServer, enrolment_server::EnrolmentServer},
};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Rebuilt,
    listen::{Heard, Listener},
    rebuild, store, text,
};
use crate::{
    caller::Caller,
    config::Config,
    door::accept,
    enrolment::Enrolment,
    gate::Gate,
    keeper::Shared,
    ledger::{LedgerError, unix_ms},
    render,
    seal::random,
    server,
    trust::TokenRecord,
};

/// Agents dial again after 15 s at most, and some have a long way.
const WAIT: Duration = Duration::from_secs(60);
/// Somebody has to go to every host with its token.
const WAIT_FOR_PEOPLE: Duration = Duration::from_secs(1800);

/// What was typed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// These alone; everybody where it is empty.
    pub hosts: BTreeSet<HostName>,
    /// How long agents are waited for.
    pub wait: Option<Duration>,
    /// Nobody is asked.
    pub yes: bool,
    /// Nothing is written.
    pub dry_run: bool,
    /// One JSON document instead of text.
    pub json: bool,
}

/// Why nothing was written, where that is not our failure.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The daemon is there.
    #[error("a muster-coordinator runs with the store in {0}, and this takes its place")]
    Running(String),
    /// It is not lost.
    #[error("the store in {0} has clusters ({1}); it is not rebuilt, and nothing is merged into it")]
    NotEmpty(String, String),
    /// Nobody has anything.
    #[error("no agent that was heard holds a cluster, so there is nothing to rebuild")]
    Nothing,
    /// Somebody said no.
    #[error("not accepted")]
    Declined,
    /// It would be written as somebody whom the daemon is not.
    #[error("{0} belongs to uid {1}, and this runs as uid {2}: the coordinator could not read what it would write")]
    OtherOwner(String, u32, u32),
    /// Nobody can be asked.
    #[error("there is no terminal to say yes on")]
    Unasked,
    /// Whom to make tokens for is not known.
    #[error("over https every host is enrolled with the new authority, and none was named")]
    NoNames,
}

impl Refusal {
    /// What to type.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Running(_) => Some("systemctl stop muster-coordinator; no redis-server notices"),
            Self::NotEmpty(..) => Some(
                "if it is wrong all the same, stop the coordinator, move store.db away, and type this again; README, \
                 When something is lost",
            ),
            Self::Nothing => Some("do the agents dial this address? on a host: journalctl -u muster-agent"),
            Self::Declined => None,
            Self::OtherOwner(..) => Some("sudo -u muster muster-coordinator recover --from-agents ..."),
            Self::Unasked => Some("--yes says it beforehand; --dry-run wants none"),
            Self::NoNames => Some("--hosts server1,server2,... with every host of the fleet"),
        }
    }

    /// As every Muster program has it.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Unasked | Self::NoNames) { 64 } else { 1 }
    }
}

/// Does it. The code says whether everything that was found was taken up.
pub async fn recover(config: Config, wanted: Wanted) -> anyhow::Result<u8> {
    let place = config.state_dir.display().to_string();
    let me = nix::unistd::geteuid().as_raw();
    if let Some(owner) = fs::metadata(&config.state_dir).ok().map(|meta| meta.uid()).filter(|owner| *owner != me) {
        return Err(Refusal::OtherOwner(place, owner, me).into());
    }
    let _lock = server::lock(&config)?.map_err(|_| Refusal::Running(place.clone()))?;
    let ledger = server::open(&config)?;
    let clusters: Vec<_> = ledger.clusters()?.iter().map(|one| one.blueprint.cluster.to_string()).collect();
    if !clusters.is_empty() {
        return Err(Refusal::NotEmpty(place, clusters.join(", ")).into());
    }
    if config.tls && wanted.hosts.is_empty() {
        return Err(Refusal::NoNames.into());
    }
    let shutdown = CancellationToken::new();
    let shared = Shared::new(config.clone(), ledger, shutdown.clone()).context("cannot read the store")?;
    let tokens = if config.tls { tokens(&shared, &wanted)? } else { Vec::new() };
    show_tokens(&tokens, wanted.json);
    let (say, heard) = watch::channel(Heard::default());
    let served = serve(&shared, &wanted, say).await?;
    let heard = tokio::select! {
        heard = wait(&wanted, &config, heard) => heard,
        served = served => {
            served.context("a listener has failed")?.context("a listener has failed")?;
            anyhow::bail!("the listener has ended")
        }
    };
    let rebuilt = rebuild(&heard.evidence, shared.ledger.term(), unix_ms(), || OperationId(Uuid::now_v7()));
    let written = conclude(&shared, &config, &wanted, &heard, &rebuilt).await;
    // A token that nobody has used is of no use any more.
    let forgotten =
        tokens.iter().try_for_each(|token| shared.ledger.write(|write| write.forget_token(&token.id)).map(drop));
    shutdown.cancel();
    forgotten.context("cannot take the join tokens back")?;
    written?;
    Ok(u8::from(!complete(&rebuilt)))
}

/// Everything that was found was taken up.
fn complete(rebuilt: &Rebuilt) -> bool {
    rebuilt.findings.iter().all(|finding| finding.severity != crate::finding::Severity::Fatal)
}

/// Shows, asks, writes.
async fn conclude(
    shared: &Shared,
    config: &Config,
    wanted: &Wanted,
    heard: &Heard,
    rebuilt: &Rebuilt,
) -> anyhow::Result<()> {
    let shown = text::plan(rebuilt, config.tls);
    if wanted.json {
        eprint!("{shown}");
    } else {
        print!("{shown}");
    }
    for (host, why) in &heard.silent {
        eprintln!("{host} has called, and does not say what it holds: {why}");
    }
    let finish = |written: bool| {
        if wanted.json {
            print!("{}", render::document(&text::json(rebuilt, config.tls, written)));
        }
        let _ = io::stdout().flush();
    };
    if rebuilt.clusters.is_empty() {
        finish(false);
        return Err(Refusal::Nothing.into());
    }
    if wanted.dry_run {
        finish(false);
        eprintln!("nothing was written (--dry-run)");
        return Ok(());
    }
    if !wanted.yes {
        agreed().await?;
    }
    let caller = Caller::Owner { uid: nix::unistd::geteuid().as_raw() };
    store::write(&shared.ledger, &heard.evidence, rebuilt, &caller).context("cannot write the store")?;
    finish(true);
    if !wanted.json {
        println!("The store in {} is written. Next:", config.state_dir.display());
        text::next(rebuilt).iter().for_each(|line| println!("  {line}"));
        println!("and a backup of store.db and its key, apart from each other.");
    }
    Ok(())
}

/// Beside the runtime, so that Ctrl-C is still heard.
async fn agreed() -> Result<(), Refusal> {
    if !io::stdin().is_terminal() {
        return Err(Refusal::Unasked);
    }
    eprint!("Shall the store be written so? (type 'yes' to accept): ");
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let accepted = matches!(read.await, Ok(Ok(line)) if line.trim() == "yes");
    if accepted { Ok(()) } else { Err(Refusal::Declined) }
}

/// Who may come in, and what is asked of them.
async fn serve(
    shared: &Arc<Shared>,
    wanted: &Wanted,
    heard: watch::Sender<Heard>,
) -> anyhow::Result<tokio::task::JoinHandle<Result<(), tonic::transport::Error>>> {
    let config = &shared.config;
    let tcp = TcpListener::bind(config.listen).await.map_err(|error| server::cannot_listen(config.listen, error))?;
    let listener = Listener { shared: shared.clone(), only: wanted.hosts.clone(), heard };
    let enrolment = EnrolmentServer::new(Enrolment::new(shared.clone()));
    let router = server::builder()
        .layer(Gate::new(shared.clone()))
        .add_service(enrolment.max_decoding_message_size(server::STRANGE_MAX))
        .add_service(AgentLinkServer::new(listener).max_decoding_message_size(server::MESSAGE_MAX));
    let incoming = accept::tcp(&shared.door, tcp, !config.tls, shared.shutdown.clone());
    let until = shared.shutdown.clone().cancelled_owned();
    Ok(tokio::spawn(router.serve_with_incoming_shutdown(incoming, until)))
}

/// Hears agents, and says who is there and who is not. Where hosts were named, it ends when all of them and all that
/// their ledgers name have told; otherwise only with the time: a cluster that shares no host with the others is named
/// by nobody.
async fn wait(wanted: &Wanted, config: &Config, mut heard: watch::Receiver<Heard>) -> Heard {
    let patience = wanted.wait.unwrap_or(if config.tls { WAIT_FOR_PEOPLE } else { WAIT });
    let deadline = Instant::now() + patience;
    eprintln!(
        "listening on {} in the coordinator's place, for {} s{}",
        config.listen,
        patience.as_secs(),
        if wanted.hosts.is_empty() { "" } else { " at most" }
    );
    let mut said = String::new();
    loop {
        let now = heard.borrow_and_update().clone();
        let missing = missing(wanted, &now);
        let line = progress(&now, &missing);
        if line != said {
            eprintln!("{line}");
            said = line;
        }
        if missing.is_empty() && !wanted.hosts.is_empty() {
            return now;
        }
        tokio::select! {
            _ = heard.changed() => {}
            () = tokio::time::sleep_until(deadline) => return heard.borrow().clone(),
        }
    }
}

/// Those that were named, by whoever called this or by a ledger, and have not told.
fn missing(wanted: &Wanted, heard: &Heard) -> BTreeSet<HostName> {
    let clusters = heard.evidence.values().flat_map(|one| one.told.clusters());
    let named = clusters.flat_map(|cluster| &cluster.members).map(|member| &member.host);
    let named = named.filter(|host| wanted.hosts.is_empty() || wanted.hosts.contains(*host));
    named.chain(&wanted.hosts).filter(|host| !heard.evidence.contains_key(*host)).cloned().collect()
}

fn progress(heard: &Heard, missing: &BTreeSet<HostName>) -> String {
    let there = match super::list(heard.evidence.keys()) {
        none if none.is_empty() => "nobody yet".to_owned(),
        names => names,
    };
    match super::list(missing) {
        none if none.is_empty() => format!("heard: {there}"),
        names => format!("heard: {there}; still missing: {names}"),
    }
}

/// A token for each host that the new authority does not know yet; for that host alone.
fn tokens(shared: &Shared, wanted: &Wanted) -> anyhow::Result<Vec<Token>> {
    let known: BTreeSet<_> = shared.ledger.hosts_trust()?.into_iter().map(|record| record.host).collect();
    let authority = shared.door.authorities().first().context("this coordinator has no authority")?.sha256();
    let holds = wanted.wait.unwrap_or(WAIT_FOR_PEOPLE);
    let caller = Caller::Owner { uid: nix::unistd::geteuid().as_raw() };
    let mut made = Vec::new();
    for host in wanted.hosts.difference(&known) {
        let id = Uuid::new_v4().simple().to_string()[..12].to_owned();
        let token = JoinToken::new(&id, random()?, authority);
        let record = TokenRecord {
            id: id.clone(),
            secret: token.secret().clone(),
            host: Some(host.clone()),
            uses: 1,
            expires_ms: unix_ms() + millis(holds),
            rejoin: false,
            approve: true,
        };
        shared.ledger.write(|write| {
            write.token(&record)?;
            write.audit(
                &caller,
                "muster-coordinator recover",
                "Trust/CreateToken",
                &format!("token {id} for {host}"),
            )?;
            Ok::<_, LedgerError>(())
        })?;
        made.push(Token { id, host: host.to_string(), text: token.text() });
    }
    Ok(made)
}

struct Token {
    id: String,
    host: String,
    text: Secret,
}

fn show_tokens(tokens: &[Token], json: bool) {
    if tokens.is_empty() {
        return;
    }
    if json {
        let all: Vec<_> = tokens.iter().map(|token| (token.host.clone(), token.text.clone())).collect();
        print!("{}", render::line(&text::TokensJson::new(&all)));
    } else {
        println!("A new authority signs for this fleet. On each host, as root, while this waits:");
        for Token { host, text, .. } in tokens {
            let command = "muster-agent --config /etc/muster/agent.toml enrol --again";
            println!("{host}:\n  {command} <<< '{}'", text.expose());
        }
    }
    let _ = io::stdout().flush();
}
