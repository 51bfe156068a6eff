//! The coordinator's loop around the real decisions: what its keeper and link do, on a modelled store and streams.
//!
//! What hosts are told is [`assignments`](muster_coordinator::reconcile::assignments)', how far a cluster is and what
//! comes next is [`rebuild::phase`]'s, what is known of hosts is [`Inventory`]'s, whose clock is set to the world's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use muster_coordinator::{
    estranged::estrangement,
    formation::{Heard, steps},
    inventory::{Inventory, Session},
    ledger::{ClusterRecord, OpState, OperationRecord},
    rebuild,
    trust::Bars,
};
use muster_proto::{ClusterName, Generation, Hello, HostName, NodeId, OperationId, Report, Term, wire};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    store::Store,
    world::{Down, Event, Up, World},
};

/// The longest time without a pass.
const TICK: Duration = Duration::from_secs(1);
/// A failed proof is tried again after this.
const RETRY: Duration = Duration::from_millis(250);
/// Silence of a host that means something.
const OVERDUE: Duration = Duration::from_secs(3);

/// At which commit from now the coordinator dies, and whether before it or after.
#[derive(Debug, Clone, Copy)]
pub struct Doom {
    pub commits: usize,
    pub after: bool,
}

/// A coordinator process.
pub struct Coordinator {
    pub life: u32,
    pub store: Store,
    pub term: Term,
    pub doom: Option<Doom>,
    pub inventory: Inventory,
    /// Nobody listens: what is said goes over the world's streams.
    say: mpsc::Sender<wire::ToAgent>,
    heard: BTreeMap<HostName, Duration>,
    pub sessions: BTreeMap<HostName, u64>,
    pub drives: BTreeMap<OperationId, Drive>,
    pub led: BTreeMap<(ClusterName, HostName), (u64, BTreeSet<NodeId>)>,
    pub permitted: BTreeSet<Uuid>,
    /// Kept with the next commit.
    pub lives_after: Option<(rebuild::LifeRecord, bool)>,
    due: (Duration, u64),
}

/// What the loop remembers about an operation.
pub struct Drive {
    pub phase: &'static str,
    pub moved: Duration,
    pub done: usize,
    pub proof: Option<Proof>,
    pub unproved: Option<(String, Duration)>,
}

/// Canaries that have been sent, and what came of them.
pub struct Proof {
    pub since: Duration,
    pub waits: BTreeMap<u64, HostName>,
    pub failed: Option<String>,
}

/// A step of a cluster, complete.
pub struct Change {
    /// The cluster as it was.
    pub before: ClusterRecord,
    /// As it will be; none when nothing of it is left.
    pub next: Option<ClusterRecord>,
    pub operation: OperationId,
    pub state: OpState,
    pub phase: &'static str,
    pub message: String,
    /// An operation that begins with it, and one that gives way to that.
    pub begins: Option<OperationRecord>,
    pub gives_way: Option<OperationId>,
}

/// It has died in the middle of a step.
pub struct Dead;

impl Coordinator {
    fn new(life: u32, mut store: Store, now: Duration) -> Self {
        store.term = store.term.next();
        let mut inventory = Inventory::new(Duration::from_secs(3_600));
        let mut heard = BTreeMap::new();
        for (name, hello) in &store.hellos {
            let hello = Hello::try_from(hello.clone()).expect("it was taken in before");
            let strange = estrangement(&hello, &store.known(name, store.term));
            inventory.remember(hello, store.told(name));
            inventory.estrange(name, strange);
            heard.insert(name.clone(), now);
        }
        Self {
            life,
            term: store.term,
            store,
            doom: None,
            inventory,
            say: mpsc::channel(1).0,
            heard,
            sessions: BTreeMap::new(),
            drives: BTreeMap::new(),
            led: BTreeMap::new(),
            permitted: BTreeSet::new(),
            lives_after: None,
            due: (Duration::MAX, 0),
        }
    }

    /// Sets the clock of the inventory to the world's.
    pub fn refresh(&mut self, now: Duration) {
        let clock = Instant::now();
        for (name, at) in &self.heard {
            let silence = now.saturating_sub(*at);
            let Some(host) = self.inventory.get_mut(name) else { continue };
            let id = self.sessions.get(name).filter(|_| silence <= OVERDUE);
            host.session = id.map(|id| Session {
                id: Uuid::from_u128(u128::from(*id)),
                say: self.say.clone(),
                asked: HashMap::new(),
            });
            let age = Duration::from_secs(steps(silence)) + Duration::from_millis(200);
            host.heard = clock.checked_sub(age).unwrap_or(clock);
        }
    }

    /// What was last heard of a cluster and of what is left of it.
    pub fn hears(&mut self, record: &ClusterRecord, now: Duration) -> Heard {
        self.refresh(now);
        self.inventory.heard_whole(record, &Bars::new())
    }

    pub fn live(&mut self, host: &HostName, now: Duration) -> bool {
        self.refresh(now);
        self.inventory.get(host).is_some_and(|host| self.inventory.live(host))
    }

    /// Those of these hosts that nobody can tell anything.
    pub fn away(&mut self, hosts: &BTreeSet<HostName>, now: Duration) -> BTreeSet<HostName> {
        self.refresh(now);
        hosts.iter().filter(|host| self.inventory.away(host, &Bars::new()).is_some()).cloned().collect()
    }

    pub fn report(&self, host: &HostName) -> Option<&Report> {
        self.inventory.get(host)?.report.as_ref()
    }

    pub fn session(&self, host: &HostName) -> Option<u64> {
        self.sessions.get(host).copied()
    }
}

impl World {
    pub fn coordinator_name(&self, nth: usize) -> &'static str {
        if nth == 0 { "coordinator" } else { "the stray" }
    }

    /// Starts one on that store, in that place.
    pub fn coordinator_starts(&mut self, nth: usize, store: Store) {
        let life = u32::try_from(self.number()).expect("few");
        let coordinator = Coordinator::new(life, store, self.now);
        let term = coordinator.term;
        if self.coordinators.len() <= nth {
            self.coordinators.push(None);
        }
        self.coordinators[nth] = Some(coordinator);
        self.tell(self.coordinator_name(nth), format!("starts, with term {term}"));
        self.ring(nth, Duration::from_millis(1));
    }

    pub fn coordinator_dies(&mut self, nth: usize, how: &str) {
        let Some(dead) = self.coordinators.get_mut(nth).and_then(Option::take) else { return };
        self.tell(self.coordinator_name(nth), format!("is killed{how}"));
        self.cut_streams_of(|stream| stream.coordinator == nth);
        if nth == 0 {
            self.store = dead.store;
            let pause = self.dice.ms(100, 8_000);
            self.after(pause, Event::CoordinatorStarts);
        }
    }

    /// The bell: a pass is made soon.
    pub fn ring(&mut self, nth: usize, pause: Duration) {
        let (at, appointment) = (self.now + pause, self.number());
        let Some(coordinator) = self.coordinators.get_mut(nth).and_then(Option::as_mut) else { return };
        if at < coordinator.due.0 {
            coordinator.due = (at, appointment);
            let life = coordinator.life;
            self.at(at, Event::Ring { coordinator: nth, life, appointment });
        }
    }

    pub fn rings(&mut self, nth: usize, life: u32, appointment: u64) {
        let meant = |it: &&mut Coordinator| it.life == life && it.due.1 == appointment;
        let Some(coordinator) = self.coordinators.get_mut(nth).and_then(Option::as_mut).filter(meant) else { return };
        coordinator.due = (Duration::MAX, 0);
        let retry = coordinator.drives.values().any(|drive| drive.unproved.is_some());
        if self.judged_pass(nth).is_err() {
            return self.coordinator_dies(nth, " in the middle of a step");
        }
        self.ring(nth, if retry { RETRY } else { TICK });
    }

    fn judged_pass(&mut self, nth: usize) -> Result<(), Dead> {
        let names: Vec<ClusterName> = self.of(nth).store.clusters.keys().cloned().collect();
        for name in names {
            let Some(record) = self.of(nth).store.clusters.get(&name).cloned() else { continue };
            self.drive(nth, &record)?;
        }
        Ok(())
    }

    pub fn of(&mut self, nth: usize) -> &mut Coordinator {
        self.coordinators[nth].as_mut().expect("it runs")
    }

    /// The change, what hosts are to be told, and where the operation is: as one. Then the hosts hear of it.
    pub fn commit(&mut self, nth: usize, change: Change) -> Result<(), Dead> {
        let Change { before, next, operation, state, phase, message, begins, gives_way } = change;
        let who = self.coordinator_name(nth);
        let coordinator = self.of(nth);
        let doom = coordinator.doom.as_mut().and_then(|doom| match doom.commits {
            0 => Some(doom.after),
            _ => {
                doom.commits -= 1;
                None
            }
        });
        if doom == Some(false) {
            return Err(Dead);
        }
        let mut store = coordinator.store.clone();
        let cluster = &before.blueprint.cluster;
        match &next {
            Some(next) => drop(store.clusters.insert(cluster.clone(), next.clone())),
            None => drop(store.clusters.remove(cluster)),
        }
        if let Some((ended, formed)) = coordinator.lives_after.take() {
            let back = next.as_ref().map(|next| next.blueprint.incarnation);
            store.lives.retain(|(life, _)| Some(life.blueprint.incarnation) != back);
            store.lives.push((ended, formed));
        }
        let meant: BTreeSet<HostName> =
            before.hosts().into_iter().chain(next.iter().flat_map(ClusterRecord::hosts)).collect();
        let tellable = |name: &HostName| coordinator.inventory.get(name).is_some_and(|host| host.estranged.is_none());
        let hosts: Vec<HostName> = meant.into_iter().filter(tellable).collect();
        let told = store.tell_all(&hosts);
        store.operations.extend(begins.map(|begins| (begins.id, begins)));
        if let Some(open) = gives_way {
            store.event(open, OpState::Cancelled, "CANCEL", "has given way");
        }
        store.event(operation, state, phase, &message);
        coordinator.store = store;
        if state.ended() {
            coordinator.drives.remove(&operation);
        }
        self.judge_committed(nth, (operation, state), &before, next.as_ref());
        self.tell(who, format!("{phase} [{}] {message}", state.word()));
        if doom == Some(true) {
            return Err(Dead);
        }
        self.send(nth, told);
        self.ring(nth, Duration::from_millis(1));
        Ok(())
    }

    fn send(&mut self, nth: usize, told: Vec<(HostName, wire::Desired)>) {
        for (name, desired) in told {
            let coordinator = self.of(nth);
            let term = coordinator.term.0;
            let Some(host) = coordinator.inventory.get_mut(&name) else { continue };
            host.told = Generation(desired.generation);
            if let Some(stream) = coordinator.session(&name) {
                self.say_down(stream, Down::Desired(wire::Desired { term, ..desired }));
            }
        }
    }

    // --- what it hears -----------------------------------------------------------------------------------------------

    pub fn coordinator_hears(&mut self, nth: usize, stream: u64, name: &HostName, said: Up) {
        if let Up::Hello(hello) = said {
            return self.welcome(nth, stream, &hello);
        }
        let now = self.now;
        let coordinator = self.of(nth);
        // One that has connected again is heard on its newest stream alone.
        if coordinator.session(name) != Some(stream) {
            return;
        }
        coordinator.heard.insert(name.clone(), now);
        match said {
            Up::Report(report) => {
                let report = Report::try_from(*report).expect("an agent's own report");
                if let Some(host) = coordinator.inventory.get_mut(name) {
                    host.report = Some(report);
                }
                self.ring(nth, Duration::from_millis(1));
            }
            Up::Canary { task, outcome } => {
                for proof in coordinator.drives.values_mut().filter_map(|drive| drive.proof.as_mut()) {
                    if let Some(host) = proof.waits.remove(&task)
                        && let Err(why) = &outcome
                    {
                        proof.failed = Some(format!("{host}: {why}"));
                    }
                }
                self.ring(nth, Duration::from_millis(1));
            }
            Up::Heartbeat | Up::Hello(_) => {}
        }
    }

    fn welcome(&mut self, nth: usize, stream: u64, raw: &wire::Hello) {
        let now = self.now;
        let hello = Hello::try_from(raw.clone()).expect("an agent's own hello");
        let name = hello.host.clone();
        let coordinator = self.of(nth);
        let term = coordinator.term;
        let strange = estrangement(&hello, &coordinator.store.known(&name, term));
        coordinator.store.hellos.insert(name.clone(), raw.clone());
        let named = coordinator.store.clusters.values().any(|record| record.hosts().contains(&name));
        if strange.is_none() && hello.term <= term && named && !coordinator.store.desired.contains_key(&name) {
            coordinator.store.tell_all(std::slice::from_ref(&name));
        }
        let desired = coordinator.store.desired.get(&name).cloned();
        let told = coordinator.store.told(&name);
        let session =
            Session { id: Uuid::from_u128(u128::from(stream)), say: coordinator.say.clone(), asked: HashMap::new() };
        coordinator.inventory.arrive(hello, told, session);
        coordinator.inventory.estrange(&name, strange.clone());
        coordinator.heard.insert(name.clone(), now);
        let before = coordinator.sessions.insert(name.clone(), stream);
        if let Some(before) = before.filter(|before| *before != stream) {
            self.cut_stream(before);
        }
        if let Some(why) = strange {
            let who = self.coordinator_name(nth);
            self.tell(who, format!("{name} {why}"));
        }
        self.say_down(stream, Down::Welcome(term));
        if let Some(desired) = desired {
            self.say_down(stream, Down::Desired(wire::Desired { term: term.0, ..desired }));
        }
        self.ring(nth, Duration::from_millis(1));
    }

    /// A stream is over, in its eyes.
    pub fn departed(&mut self, nth: usize, stream: u64) {
        let Some(coordinator) = self.coordinators.get_mut(nth).and_then(Option::as_mut) else { return };
        coordinator.sessions.retain(|_, current| *current != stream);
        for proof in coordinator.drives.values_mut().filter_map(|drive| drive.proof.as_mut()) {
            if proof.waits.is_empty() {
                continue;
            }
            proof.failed.get_or_insert_with(|| "a stream has ended".into());
        }
        self.ring(nth, Duration::from_millis(1));
    }
}
