//! The one loop of the coordinator: somebody rings, one pass is made over all operations.
//!
//! RPC handlers and agents change what is known and ring the bell; only this loop takes steps. Each operation is judged
//! by itself, so a broken one never holds up another. A step is a transaction; what must be asked for over the network
//! runs beside the loop and rings when it is done.

mod forming;
mod leaders;
mod rebuilding;
pub(crate) mod rolling;
mod rotation;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use muster_proto::{ClusterName, Generation, HostName, NodeId, OperationId, convert::micros, wire};
use sd_notify::NotifyState;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::rolling::Envoy;
use crate::{
    config::Config,
    door::Door,
    estranged::{self, Known, estrangement},
    formation::resumed::Leader,
    inventory::Inventory,
    ledger::{ClusterRecord, Ledger, LedgerError, OpState, OperationRecord, Write},
    reconcile::{Told, assignments},
    safeguard::Refusals,
};

/// Where an operation is, as its event says it.
#[derive(Debug, Clone)]
pub struct Said<'a> {
    /// Whose.
    pub operation: OperationId,
    /// How it is doing.
    pub state: OpState,
    /// In which phase.
    pub phase: &'a str,
    /// What it does or waits for.
    pub message: &'a str,
    /// Instances that are where the phase wants them, and of how many.
    pub count: (usize, usize),
}

/// The longest time without a pass: ages grow without anybody ringing.
const TICK: Duration = Duration::from_secs(1);
/// Between two events that tell of progress within a phase.
const PROGRESS: Duration = Duration::from_millis(100);
/// A failed proof is tried again after this.
const RETRY: Duration = Duration::from_millis(250);

/// What handlers, sessions and the loop share.
#[derive(Debug)]
pub struct Shared {
    /// The config.
    pub config: Config,
    /// The store.
    pub ledger: Ledger,
    inventory: Mutex<Inventory>,
    deciding: Mutex<()>,
    /// One preflight at a time: the second would take away the listeners of the first.
    pub surveying: tokio::sync::Mutex<()>,
    bell: Notify,
    /// Moves with every event.
    pub events: watch::Sender<u64>,
    /// Moves with every change of the inventory.
    pub changes: watch::Sender<u64>,
    /// Ends all streams.
    pub shutdown: CancellationToken,
    /// Who comes in, and whom they believe.
    pub door: Arc<Door>,
    /// What was refused lately.
    pub refusals: Mutex<Refusals>,
}

impl Shared {
    /// Knows the hosts that the store knows.
    pub fn new(config: Config, ledger: Ledger, shutdown: CancellationToken) -> Result<Arc<Self>, LedgerError> {
        let mut inventory = Inventory::new(config.heartbeat);
        let clusters = estranged::clusters(&ledger.clusters()?);
        for (hello, _) in ledger.hosts()? {
            let hello =
                muster_proto::Hello::try_from(hello).map_err(|error| LedgerError::Damaged(error.to_string()))?;
            let told = Generation(ledger.desired(&hello.host)?.map_or(0, |desired| desired.generation));
            let known = Known { term: ledger.term(), told, clusters: clusters.clone() };
            let (name, strange) = (hello.host.clone(), estrangement(&hello, &known));
            inventory.remember(hello, told);
            inventory.estrange(&name, strange);
        }
        let door = Shared::open_door(&config, &ledger)?;
        Ok(Arc::new(Self {
            door,
            refusals: Mutex::default(),
            config,
            ledger,
            inventory: Mutex::new(inventory),
            deciding: Mutex::new(()),
            surveying: tokio::sync::Mutex::new(()),
            bell: Notify::new(),
            events: watch::channel(0).0,
            changes: watch::channel(0).0,
            shutdown,
        }))
    }

    /// What is known. Never held across an await.
    pub fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever reads the store and then changes it because of what was read: a pass, an apply, a pause, a
    /// cancel. Two at once would each act on what the other has just changed: one request would become two, and a
    /// formation that was called off would be latched. Never held across an await, and taken before all other locks.
    pub fn decide(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has changed.
    pub fn ring(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.bell.notify_one();
    }

    /// Takes a step of a cluster: the change, what its hosts are to be told, and the event are on the disk as one; then
    /// the hosts hear of it. `next` is the cluster after it; none when nothing of it is left. The event's number is
    /// returned. For whoever [`decide`](Self::decide)s.
    pub fn commit(
        &self,
        before: &ClusterRecord,
        next: Option<ClusterRecord>,
        said: &Said,
        change: impl Fn(&Write) -> Result<(), LedgerError>,
    ) -> Result<u64, LedgerError> {
        crash::point(format_args!("coordinator.commit.before.{}", said.phase));
        // Read now, so that a step that another cluster of these hosts has just taken is never taken back.
        let all = self.ledger.clusters()?.into_iter();
        let cluster = &before.blueprint.cluster;
        let hosts =
            self.tellable(before.hosts().into_iter().chain(next.iter().flat_map(ClusterRecord::hosts)).collect());
        let clusters: Vec<_> = all.filter(|other| other.blueprint.cluster != *cluster).chain(next).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let counts = (count(said.count.0), count(said.count.1));
        let take = || {
            self.ledger.write(|write| {
                change(write)?;
                let told = self.tell(write, &hosts, &clusters)?;
                let seq = write.event(said.operation, said.state, said.phase, said.message, counts)?;
                Ok::<_, LedgerError>((told, seq))
            })
        };
        let (mut told, mut seq) = take()?;
        if crash::twice() {
            // What cannot be taken twice is refused by the store, and changes nothing.
            take().map_or_else(|error| tracing::info!(cause = ?error, "not twice"), |again| (told, seq) = again);
        }
        let id = said.operation;
        tracing::info!(operation = %id, %cluster, phase = said.phase, "{}", said.message);
        self.events.send_replace(seq);
        self.send(told);
        crash::point(format_args!("coordinator.commit.told.{}", said.phase));
        self.ring();
        Ok(seq)
    }

    /// The hosts of a cluster that can be told something. One that never called a store that was rebuilt, or that holds
    /// what is not known here, is told when that has been found out: what number its orders have is not known before.
    fn tellable(&self, hosts: BTreeSet<HostName>) -> Vec<HostName> {
        let inventory = self.inventory();
        let known = |name: &HostName| inventory.get(name).is_some_and(|host| host.estranged.is_none());
        hosts.into_iter().filter(known).collect()
    }

    /// A host that calls, and whose place in clusters is known, though it was never told: from the others, by a store
    /// that was rebuilt. For whoever [`decide`](Self::decide)s.
    pub fn take_up(&self, host: &HostName, clusters: &[ClusterRecord]) -> Result<(), LedgerError> {
        let named = clusters.iter().any(|record| record.hosts().contains(host));
        if named && self.ledger.desired(host)?.is_none() {
            self.ledger.write(|write| self.tell(write, std::slice::from_ref(host), clusters))?;
        }
        Ok(())
    }

    /// Sets what these hosts are to be told, inside a transaction; [`send`](Self::send) tells them when it is done.
    fn tell(
        &self,
        write: &Write,
        hosts: &[HostName],
        clusters: &[ClusterRecord],
    ) -> Result<Vec<(HostName, wire::Desired)>, LedgerError> {
        let told: Vec<_> = clusters.iter().map(Told::from).collect();
        let wishes = assignments(hosts, &told);
        wishes.iter().map(|(host, wish)| Ok((host.clone(), write.tell(host, wish)?))).collect()
    }

    /// Tells hosts what has been set. One that is not connected hears it when it is.
    fn send(&self, told: Vec<(HostName, wire::Desired)>) {
        let mut inventory = self.inventory();
        for (name, desired) in told {
            let Some(host) = inventory.get_mut(&name) else { continue };
            host.told = Generation(desired.generation);
            let Some(session) = &host.session else { continue };
            let desired = wire::Desired { term: self.ledger.term().0, ..desired };
            let message = wire::ToAgent { body: Some(wire::to_agent::Body::Desired(desired)) };
            if let Err(mpsc::error::TrySendError::Full(_)) = session.say.try_send(message) {
                // It does not read. It is told again when it connects again.
                tracing::warn!(host = %name, "does not take in what it is told; its stream is closed");
                host.session = None;
            }
        }
    }
}

/// What the loop remembers about an operation between two passes. Losing it costs nothing but a phase's exact time.
struct Drive {
    phase: &'static str,
    began: Instant,
    moved: Instant,
    done: usize,
    said_at: Instant,
    proof: Option<mpsc::Receiver<Result<(), String>>>,
    unproved: Option<(String, Instant)>,
    envoy: Envoy,
    /// How the operation was at the last pass.
    seen: OpState,
}

/// A step of an operation, complete but for its change of the store.
struct Step<'a> {
    /// The cluster as it is.
    record: &'a ClusterRecord,
    operation: &'a OperationRecord,
    /// The cluster as it will be; none when nothing of it is left.
    next: Option<ClusterRecord>,
    state: OpState,
    phase: &'static str,
    /// Instances that are where the phase wants them.
    done: usize,
    message: String,
}

/// The loop.
pub struct Keeper {
    shared: Arc<Shared>,
    drives: HashMap<OperationId, Drive>,
    /// Whom each stream has been told to lead each cluster.
    led: HashMap<(ClusterName, HostName), (Uuid, BTreeSet<NodeId>)>,
    /// Nonces that were answered with a permit, and when. Losing them costs nothing: an agent takes each once.
    permitted: HashMap<Uuid, Instant>,
}

impl Keeper {
    /// Over what is shared.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, drives: HashMap::new(), led: HashMap::new(), permitted: HashMap::new() }
    }

    /// Runs until shut down.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.pass() {
                tracing::error!(cause = ?error, "a pass has failed; nothing was changed by it");
            }
            // A loop that hangs does not say so, and is bitten by systemd's watchdog.
            let _ = sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(&self.summary())]);
            tokio::select! {
                () = self.shared.shutdown.cancelled() => return,
                () = self.shared.bell.notified() => {}
                () = sleep(self.patience()) => {}
            }
        }
    }

    /// How things are, in a line.
    fn summary(&self) -> String {
        let inventory = self.shared.inventory();
        let live = inventory.hosts().values().filter(|host| inventory.live(host)).count();
        let operations = match self.drives.len() {
            0 => String::new(),
            under_way => format!(", {under_way} operations under way"),
        };
        format!("term {}: {live} of {} hosts live{operations}", self.shared.ledger.term(), inventory.hosts().len())
    }

    fn patience(&self) -> Duration {
        let soon =
            |drive: &Drive| drive.unproved.is_some() || drive.envoy.is_due() || drive.said_at.elapsed() < PROGRESS;
        let retry = self.drives.values().any(soon);
        if retry { PROGRESS } else { TICK }
    }

    fn pass(&mut self) -> Result<(), LedgerError> {
        let shared = self.shared.clone();
        let _sole = shared.decide();
        let clusters = self.shared.ledger.clusters()?;
        let under_way: BTreeSet<_> = clusters.iter().flat_map(ClusterRecord::operations).collect();
        self.drives.retain(|id, _| under_way.contains(id));
        for record in &clusters {
            if let Err(error) = self.drive(record) {
                let cluster = &record.blueprint.cluster;
                tracing::error!(%cluster, cause = ?error, "a step has failed; it is tried again");
            }
        }
        Ok(())
    }

    fn drive(&mut self, record: &ClusterRecord) -> Result<(), LedgerError> {
        let rebuild = record.rebuild.as_ref().map(|rebuild| rebuild.operation);
        // Formed is formed: nothing is repaired back from here on.
        if record.formed_ms.is_some() && rebuild.is_none() {
            self.drives.remove(&record.operation);
            self.tell_leaders(record);
            self.permit(record, false);
            return self.settle(record).and_then(|()| self.rotate(record)).and_then(|()| self.roll(record));
        }
        let Some(operation) = self.shared.ledger.operation(rebuild.unwrap_or(record.operation))? else { return Ok(()) };
        self.permit(record, operation.state == OpState::Paused);
        self.form(record, &operation)
    }

    /// Takes a step. An operation that has ended by it is not driven any more.
    fn take(&mut self, step: Step, change: impl Fn(&Write) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let (blueprint, operation) = (&step.record.blueprint, step.operation.id);
        let rolled = step.record.roll.as_ref().filter(|roll| roll.operation == operation);
        let count = (step.done, rolled.map_or(blueprint.members.len(), |roll| roll.targets.len()));
        let said = Said { operation, state: step.state, phase: step.phase, message: &step.message, count };
        self.shared.commit(step.record, step.next, &said, change)?;
        if step.state.ended() {
            self.drives.remove(&operation);
        }
        Ok(())
    }

    /// Notes where an operation is, when that has changed, and not too often.
    fn say(
        &mut self,
        operation: &OperationRecord,
        phase: &'static str,
        now: (OpState, String),
        (done, total): (usize, usize),
    ) -> Result<(), LedgerError> {
        let Some(drive) = self.drives.get_mut(&operation.id) else { return Ok(()) };
        let goes_on = now.0 == operation.state && phase == operation.phase;
        if goes_on && (now.1 == operation.message || drive.said_at.elapsed() < PROGRESS) {
            return Ok(());
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let counts = (count(done), count(total));
        let seq = self.shared.ledger.write(|write| write.event(operation.id, now.0, phase, &now.1, counts))?;
        tracing::info!(operation = %operation.id, phase, done, total, "{}", now.1);
        drive.said_at = Instant::now();
        self.shared.events.send_replace(seq);
        Ok(())
    }
}

impl Drive {
    fn new(phase: &'static str, done: usize) -> Self {
        let now = Instant::now();
        let long_ago = now.checked_sub(PROGRESS).unwrap_or(now);
        Self {
            phase,
            began: now,
            moved: now,
            done,
            said_at: long_ago,
            proof: None,
            unproved: None,
            envoy: Envoy::default(),
            seen: OpState::Running,
        }
    }

    /// Takes note of a phase that was entered from outside (the world moved on, or back).
    fn enter(&mut self, shared: &Shared, id: OperationId, phase: &'static str, done: usize) -> Result<(), LedgerError> {
        if self.phase != phase {
            self.end_phase(shared, id)?;
            self.phase = phase;
            self.began = Instant::now();
            self.moved = Instant::now();
        }
        if done != self.done {
            self.moved = Instant::now();
            self.done = done;
        }
        Ok(())
    }

    fn end_phase(&self, shared: &Shared, id: OperationId) -> Result<(), LedgerError> {
        shared.ledger.write(|write| write.phase(id, self.phase, micros(self.began.elapsed())))
    }

    /// Whether the proof is there; asks for it when nobody has yet.
    fn proved(&mut self, shared: &Arc<Shared>, record: &ClusterRecord, masters: Vec<Leader>) -> bool {
        if let Some(proof) = &mut self.proof {
            match proof.try_recv() {
                Ok(Ok(())) => return true,
                Ok(Err(why)) => {
                    self.proof = None;
                    self.unproved = Some((why, Instant::now()));
                }
                Err(mpsc::error::TryRecvError::Empty) => return false,
                Err(mpsc::error::TryRecvError::Disconnected) => self.proof = None,
            }
        }
        if self.unproved.as_ref().is_some_and(|(_, at)| at.elapsed() < RETRY) {
            return false;
        }
        let (answer, proof) = mpsc::channel(1);
        let (shared, cluster) = (shared.clone(), record.blueprint.cluster.clone());
        tokio::spawn(async move {
            let proof = shared.canary(&cluster, masters).await;
            let _ = answer.send(proof).await;
            shared.ring();
        });
        self.proof = Some(proof);
        false
    }
}
