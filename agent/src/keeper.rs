//! The one loop of the agent: something happens, one pass is made, the report is published.
//!
//! There is at most one pass at a time, and it works on the latest wish. A pass is made at least once a second, so a
//! hung loop sends no heartbeats. Losing the coordinator stops nothing: the ledger is the wish.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use muster_proto::{ClusterName, Condition, Generation, HostAssignment, NodeId, Port, Report, VERSION, wire};
use sd_notify::NotifyState;
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use self::{binary::Binary, herald::Herald};
use crate::{
    certify::{Certificates, Certifier},
    config::Config,
    enscope::{self, Gauge},
    events::{self, Diary},
    identity::Papers,
    inventory::Inventory,
    layout::Layout,
    ledger::{self, Ledger, Refusal},
    link::{Link, News},
    permits::Permits,
    process,
    reconcile::{self, Answer, Rules, Verdict},
    report,
    restart::Word,
    scope::Manager,
    shortage::Shortage,
    tasks::Tasks,
    trash::Trash,
};

mod acts;
mod binary;
mod care;
mod herald;
mod leave;

/// The longest time without a pass.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A failed step is tried again after this.
const RETRY: Duration = Duration::from_secs(2);
/// Steps that follow from steps are taken at once, up to so many passes.
const PASSES: usize = 8;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The coordinator has a wish.
    Desired(wire::Desired),
    /// Who serves a formed cluster's slots now.
    Leaders(ClusterName, BTreeSet<NodeId>),
    /// A process has ended.
    Exited(Port, i32),
    /// A process has said something.
    Answered(Port, i32, Answer),
    /// Instances have other certificates than before.
    Certified,
    /// The coordinator does not let this host take part.
    Barred,
    /// A process is in its scope; or why it cannot be.
    Scoped(Port, i32, Result<Option<Gauge>, String>),
    /// An operator wants an instance tried now; whatever it has to load, if he says so by name.
    Start(Port, bool),
    /// The stream with that number is on.
    Connected(u64),
    /// It is over.
    Parted(u64),
    /// On that stream, the right to set a directory aside.
    Permit(u64, wire::Permit),
    /// That is gone from the trash, and why, one sentence each.
    Purged(Vec<String>),
}

/// The outcome of the last pass.
#[derive(Debug, Clone)]
pub struct Published {
    /// The whole state of the host.
    pub report: Arc<Report>,
    /// How many passes there were.
    pub passes: u64,
    /// The stream that what the report asks for may be said on.
    pub stream: Option<u64>,
}

/// The loop and all that it owns.
pub struct Keeper {
    config: Config,
    ledger: Ledger,
    inventory: Inventory,
    server: Binary,
    assignment: watch::Sender<Arc<HostAssignment>>,
    certificates: watch::Receiver<Arc<Certificates>>,
    certifier: Option<Certifier>,
    published: watch::Sender<Published>,
    events: mpsc::Receiver<Event>,
    bell: mpsc::Sender<Event>,
    link: Option<Link>,
    verdicts: BTreeMap<Port, Verdict>,
    received: Generation,
    refusal: Option<String>,
    /// What could not be kept for want of disk, and when that was tried. Nobody sends it again while the stream lasts.
    unkept: Option<(wire::Desired, Instant)>,
    shortage: Shortage,
    diary: Diary,
    permits: Permits,
    /// The last permit that was refused, and why.
    refused: String,
    trash: Arc<Trash>,
    /// A coordinator of ours has said what it wants since we began.
    heard: bool,
    /// When that was looked through last.
    swept: Option<Instant>,
    herald: Herald,
    /// Who has started us.
    manager: Manager,
    /// Held as long as we live: one agent to a base directory.
    _lock: File,
}

impl Keeper {
    /// Takes the base directory into use.
    pub fn open(config: Config) -> anyhow::Result<Self> {
        let base = config.base_dir.display().to_string();
        let layout = Layout::open(&config.base_dir, config.run_as.clone())
            .with_context(|| format!("cannot take {base} into use"))?;
        let lock = sole_agent(&layout.agent_dir().join("lock"))
            .with_context(|| format!("another muster-agent uses {base}; one base directory has one agent"))?;
        layout.clear_staging().with_context(|| format!("cannot clear {base}/.staging"))?;
        let identity = ledger::identity(&layout.agent_dir().join("identity")).context("cannot keep an identity")?;
        let ledger = Ledger::open(layout.ledger(), &config.name).context("cannot read the ledger")?;
        let hello = report::hello(&config, identity, &ledger);
        let server = Binary::unknown();
        let report = Report {
            term: ledger.term(),
            received: ledger.generation(),
            accepted: ledger.generation(),
            converged: Generation(0),
            refusal: None,
            instances: Vec::new(),
            ports: Vec::new(),
            server: server.found.clone(),
        };
        let (bell, events) = mpsc::channel(1024);
        let (assignment, assigned) = watch::channel(Arc::new(ledger.assignment().clone()));
        let (published, publication) = watch::channel(Published { report: Arc::new(report), passes: 0, stream: None });
        let (certified, certificates) = watch::channel(Arc::default());
        let certifier = Certifier {
            endpoint: config.coordinator.clone(),
            papers: Papers::in_dir(&layout.agent_dir()),
            host: config.name.clone(),
            dir: layout.agent_dir().join("tls"),
            assignment: assigned.clone(),
            certificates: certified,
            bell: bell.clone(),
        };
        let trash = Arc::new(Trash::new(layout.clone(), assigned.clone(), config.trash));
        let tasks = Tasks::new(config.clone(), layout.clone(), assigned.clone(), bell.clone(), trash.clone());
        let link = Link::new(
            config.coordinator.clone(),
            Papers::in_dir(&layout.agent_dir()),
            hello,
            News { published: publication, assignment: assigned },
            bell.clone(),
            tasks,
        );
        let (received, diary) = (ledger.generation(), Diary::open(&layout.agent_dir()));
        Ok(Self {
            inventory: Inventory::new(layout),
            config,
            ledger,
            server,
            assignment,
            certificates,
            certifier: Some(certifier),
            published,
            events,
            bell,
            link: Some(link),
            verdicts: BTreeMap::new(),
            received,
            refusal: None,
            unkept: None,
            shortage: Shortage::new(process::oom_kills()),
            diary,
            permits: Permits::default(),
            refused: String::new(),
            trash,
            heard: false,
            swept: None,
            herald: Herald::new(),
            manager: enscope::manager(),
            _lock: lock,
        })
    }

    /// Runs until told to stop. The servers go on.
    pub async fn run(mut self, shutdown: CancellationToken, mut reloads: mpsc::Receiver<Config>) {
        tracing::info!(version = VERSION, "{}", self.config);
        self.diary.note(&events::Event::of_agent(format!("muster-agent {VERSION} begins")));
        if let Some(link) = self.link.take() {
            tokio::spawn(link.run(shutdown.clone()));
        }
        if let Some(certifier) = self.certifier.take() {
            tokio::spawn(certifier.run(shutdown.clone()));
        }
        self.passes().await;
        let summary = report::summary(&self.config, &self.verdicts);
        self.herald.say(&[NotifyState::Ready, NotifyState::Status(&summary)]);
        let mut due = Instant::now() + self.patience();
        loop {
            let mut news = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(event) = self.events.recv() => self.take_in(event),
                Some(config) = reloads.recv() => {
                    self.reload(config);
                    true
                }
                () = sleep_until(due.into()) => true,
            };
            while let Ok(event) = self.events.try_recv() {
                news |= self.take_in(event);
            }
            if news {
                self.passes().await;
                // A loop that hangs does not say so, and is bitten by systemd's watchdog.
                self.herald.beat(&report::summary(&self.config, &self.verdicts));
                due = Instant::now() + self.patience();
            }
        }
        self.herald.say(&[NotifyState::Stopping]);
        tracing::info!("stopping; the redis-servers go on");
    }

    fn reload(&mut self, written: Config) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.herald.say(&[NotifyState::Reloading, now]);
        }
        let (config, fixed) = self.config.reloaded(written);
        tracing::info!("read the config again: {config}");
        if !fixed.is_empty() {
            tracing::warn!("{} changed, and will be so when muster-agent is started anew", fixed.join(", "));
        }
        self.trash.keep_to(config.trash);
        self.config = config;
        self.herald.say(&[NotifyState::Ready]);
    }

    fn patience(&self) -> Duration {
        let now = self.inventory.now();
        let wakes = self.verdicts.values().filter_map(|verdict| verdict.wake);
        wakes.map(|wake| wake.saturating_sub(now)).fold(HEARTBEAT, Duration::min)
    }

    /// Takes note of what has happened. Whether that is worth a pass: an instance that says what it said before is not.
    fn take_in(&mut self, event: Event) -> bool {
        match event {
            Event::Start(port, even_if_empty) => {
                let instance = self.inventory.instance(port);
                tracing::info!(%port, even_if_empty, "an operator wants it tried now");
                (instance.past.urged, instance.failed) = (true, None);
                instance.overruled |= even_if_empty;
                true
            }
            Event::Barred => {
                self.inventory.told(Word::Refused);
                true
            }
            Event::Desired(desired) => {
                self.inventory.told(Word::Given);
                self.offered(&desired);
                true
            }
            Event::Leaders(cluster, leaders) => {
                self.inventory.led_by(cluster, leaders);
                true
            }
            Event::Exited(port, pid) => {
                self.exited(port, pid);
                true
            }
            Event::Connected(stream) => {
                self.permits.connected(stream);
                true
            }
            Event::Parted(stream) => {
                self.permits.parted(stream);
                true
            }
            Event::Permit(stream, permit) => {
                crash::point("agent.permit.heard");
                self.permitted(stream, permit);
                true
            }
            Event::Purged(said) => {
                said.into_iter().for_each(|text| self.diary.note(&events::Event::of_agent(text)));
                false
            }
            Event::Certified => {
                self.inventory.reconsider();
                true
            }
            Event::Scoped(port, pid, said) => {
                let instance = self.inventory.instance(port);
                if instance.process.as_ref().is_none_or(|process| process.pid() != pid) {
                    return false;
                }
                match said {
                    Ok(gauge) => (instance.outside, instance.gauge) = (None, gauge),
                    Err(why) => instance.outside = Some(why),
                }
                true
            }
            Event::Answered(port, pid, answer) => {
                let instance = self.inventory.instance(port);
                if instance.process.as_ref().is_none_or(|process| process.pid() != pid) {
                    return false;
                }
                if let Answer::View(view) = &answer {
                    instance.view = Some((view.as_ref().clone(), Instant::now()));
                }
                let news = !instance.answer.same(&answer);
                instance.answer = answer;
                news
            }
        }
    }

    fn offered(&mut self, desired: &wire::Desired) {
        self.received = Generation(desired.generation);
        let before = self.ledger.generation();
        let outcome = self.ledger.offer(desired);
        self.heard |= outcome.is_ok();
        // What the disk has not taken waits until it does, or something newer is kept: nobody sends it again while the
        // stream lasts, and what comes late does not take its place.
        let waits = self.unkept.as_ref().filter(|(unkept, _)| unkept.generation > desired.generation);
        match &outcome {
            Err(Refusal::Disk { .. }) if waits.is_none() => self.unkept = Some((desired.clone(), Instant::now())),
            Ok(()) if waits.is_none() => self.unkept = None,
            Ok(()) | Err(_) => {}
        }
        let refusal = outcome.err().map(|refusal| refusal.to_string());
        let said = std::mem::replace(&mut self.refusal, refusal);
        match &self.refusal {
            Some(_) if self.refusal == said => {}
            Some(refusal) => {
                tracing::error!(generation = desired.generation, "refused: {refusal}");
                let text = format!("generation {} is refused: {refusal}", desired.generation);
                self.diary.note(&events::Event::of_agent(text));
            }
            None if self.ledger.generation() > before => {
                tracing::info!(generation = desired.generation, "accepted");
                self.assignment.send_replace(Arc::new(self.ledger.assignment().clone()));
                // What a settled instance says has changed; and what has failed was another wish's step.
                let ports: Vec<_> = self.ledger.assignment().by_port().into_keys().collect();
                for port in ports {
                    let instance = self.inventory.instance(port);
                    instance.failed = None;
                    instance.unwatch();
                }
                self.inventory.forget_looks();
                self.inventory.reconsider();
            }
            None => {}
        }
    }

    async fn passes(&mut self) {
        if let Some((desired, _)) = self.unkept.take_if(|(_, tried)| tried.elapsed() >= RETRY) {
            self.offered(&desired);
        }
        for _ in 0..PASSES {
            if !self.pass().await {
                return;
            }
        }
    }

    /// Inventory, reconcile, execute, report. Whether anything was done, so that another pass may find more.
    async fn pass(&mut self) -> bool {
        if self.server.refresh(&self.config).await {
            self.inventory.reconsider();
        }
        self.inventory.rotate_logs(self.config.redis_log);
        self.sweep();
        self.shortage.look(process::oom_kills());
        let assignment = self.assignment.borrow().clone();
        let mut seen = self.inventory.look(&assignment);
        self.grant(&mut seen);
        self.hear_out(&assignment, &mut seen);
        self.watch_servers(&assignment);
        let rules = Rules {
            server: self.server.found.as_ref().map(|server| server.version).map_err(Clone::clone),
            stop_patience: self.config.stop_patience,
            certificates: self.certificates.borrow().clone(),
        };
        let verdicts = reconcile::plan(&assignment, &seen, &rules, self.inventory.now());
        self.say(&verdicts);
        self.ask(&verdicts);
        let acted = self.execute(&verdicts).await;
        let accepted = self.ledger.generation();
        let before = self.published.borrow().report.converged;
        let report = Report {
            term: self.ledger.term(),
            received: self.received,
            accepted,
            converged: report::converged(accepted, before, &assignment, &verdicts),
            refusal: self.refusal.clone(),
            instances: report::instances(&self.config, &assignment, &self.inventory, &seen, &verdicts),
            ports: self.inventory.offered(&self.config.ports),
            server: self.server.found.clone(),
        };
        self.verdicts = verdicts;
        crash::point("agent.report.before");
        let stream = self.permits.stream();
        self.published.send_modify(|published| {
            published.report = Arc::new(report);
            published.passes += 1;
            published.stream = stream;
        });
        crash::point(if acted { "agent.report.acted" } else { "agent.report.said" });
        acted
    }

    /// Logs a reason when it changes, never every time.
    fn say(&mut self, verdicts: &BTreeMap<Port, Verdict>) {
        for (port, verdict) in verdicts {
            let said = &mut self.inventory.instance(*port).said;
            if (said.0, said.1.as_str()) != (verdict.state, verdict.reason.as_str()) {
                tracing::info!(%port, state = verdict.state.word(), "{}", verdict.reason);
                *said = (verdict.state, verdict.reason.clone(), Instant::now());
                let text = [verdict.state.word(), &verdict.reason].join(": ");
                let text = text.trim_end_matches(": ").to_owned();
                self.note("state", *port, text, verdict.condition);
            }
        }
    }

    /// Writes down something about an instance.
    fn note(&mut self, what: &str, port: Port, text: String, condition: Option<Condition>) {
        let assignment = self.assignment.borrow().clone();
        let cluster = assignment.by_port().get(&port).map(|(cluster, _)| cluster.cluster.clone());
        self.diary.note(&events::Event::of(what, port, cluster.as_ref(), text).called(condition));
    }
}

/// The lock is the process's own (fcntl(2)), and not flock's, which a child would share until its exec: an agent that
/// was killed in the middle of starting a server would keep its successor out.
fn sole_agent(path: &std::path::Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_outlives_the_agent_does_not_keep_the_next_one_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = sole_agent(&path).unwrap();
        // As between fork and exec: the child has the very descriptor that the lock was taken on.
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(lock.try_clone().unwrap())).spawn().unwrap();
        drop(lock);
        let next = sole_agent(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        next.unwrap();
    }
}
