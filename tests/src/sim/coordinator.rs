//! The coordinator's loop around the real decisions: what its keeper and link do, on a modelled store and streams.
//!
//! What hosts are told is [`assignments`](muster_coordinator::reconcile::assignments)', how far a cluster is and what
//! comes next is [`rebuild::phase`]'s, what is known of hosts is [`Inventory`]'s, whose clock is set to the world's.

mod talk;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use muster_coordinator::{
    estranged::estrangement,
    formation::{self, Goal, Heard, Phase, resumed, steps},
    inventory::{Inventory, Session},
    ledger::{ClusterRecord, OpState, OperationRecord},
    rebuild::{self, Stage},
    trust::Bars,
};
use muster_proto::{
    ClusterName, Generation, Hello, HostName, InstanceState, Life, NodeId, OperationId, Report, Term, wire,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    sabotage::Sabotage,
    store::Store,
    world::{Down, Event, Up, World},
};

/// The longest time without a pass.
const TICK: Duration = Duration::from_secs(1);
/// A failed proof is tried again after this.
const RETRY: Duration = Duration::from_millis(250);
/// Silence of a host that means something.
const OVERDUE: Duration = Duration::from_secs(3);
/// An answer of an agent that is not there by then does not come.
const ANSWER: Duration = Duration::from_secs(5);

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
    inventory: Inventory,
    /// Nobody listens: what is said goes over the world's streams.
    say: mpsc::Sender<wire::ToAgent>,
    heard: BTreeMap<HostName, Duration>,
    sessions: BTreeMap<HostName, u64>,
    drives: BTreeMap<OperationId, Drive>,
    led: BTreeMap<(ClusterName, HostName), (u64, BTreeSet<NodeId>)>,
    permitted: BTreeSet<Uuid>,
    /// Kept with the next commit.
    lives_after: Option<(rebuild::LifeRecord, bool)>,
    due: (Duration, u64),
}

/// What the loop remembers about an operation.
struct Drive {
    phase: &'static str,
    moved: Duration,
    done: usize,
    proof: Option<Proof>,
    unproved: Option<(String, Duration)>,
}

/// Canaries that have been sent, and what came of them.
struct Proof {
    since: Duration,
    waits: BTreeMap<u64, HostName>,
    failed: Option<String>,
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
    fn refresh(&mut self, now: Duration) {
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

    fn of(&mut self, nth: usize) -> &mut Coordinator {
        self.coordinators[nth].as_mut().expect("it runs")
    }

    // --- what the keeper does ----------------------------------------------------------------------------------------

    fn drive(&mut self, nth: usize, record: &ClusterRecord) -> Result<(), Dead> {
        let rebuild = record.rebuild.as_ref().map(|rebuild| rebuild.operation);
        if record.formed_ms.is_some() && rebuild.is_none() {
            self.of(nth).drives.remove(&record.operation);
            self.tell_leaders(nth, record);
            self.permit(nth, record, false);
            return self.settle(nth, record);
        }
        let id = rebuild.unwrap_or(record.operation);
        let Some(operation) = self.of(nth).store.operations.get(&id).cloned() else { return Ok(()) };
        self.permit(nth, record, operation.state == OpState::Paused);
        self.form(nth, record, &operation)
    }

    fn form(&mut self, nth: usize, record: &ClusterRecord, operation: &OperationRecord) -> Result<(), Dead> {
        let (now, id) = (self.now, operation.id);
        let heard = self.of(nth).hears(record, now);
        let mut phase = rebuild::phase(record, &heard);
        if self.sabotage(Sabotage::SkipBarrier) && matches!(phase, Phase::Fence { .. }) {
            phase = Phase::Fenced;
        }
        let done = record.blueprint.members.len().saturating_sub(phase.unsettled().len());
        let word = phase.word();
        let drive = self.of(nth).drives.entry(id).or_insert_with(|| Drive {
            phase: word,
            moved: now,
            done,
            proof: None,
            unproved: None,
        });
        if drive.phase != word || drive.done != done {
            (drive.phase, drive.done, drive.moved) = (word, done, now);
        }
        if phase != Phase::Prove {
            (drive.proof, drive.unproved) = (None, None);
        }
        if operation.state == OpState::Paused {
            return Ok(());
        }
        let change = |next: Option<ClusterRecord>, state, phase, message: &str| Change {
            before: record.clone(),
            next,
            operation: id,
            state,
            phase,
            message: message.to_owned(),
            begins: None,
            gives_way: None,
        };
        match phase {
            Phase::Configure { ref unsettled } if unsettled.is_empty() => {
                let next = ClusterRecord { goal: Goal::Running, ..record.clone() };
                let message = "all directories are written; starting all servers";
                self.commit(nth, change(Some(next), OpState::Running, "START", message))
            }
            Phase::Prove => {
                let masters = match record.restores() {
                    true => resumed::leaders(&heard),
                    false => resumed::planned(&record.blueprint),
                };
                if !self.proved(nth, id, record, masters) && !self.sabotage(Sabotage::LatchUnproved) {
                    return self.say_phase(nth, record, operation, &phase);
                }
                let formed_ms = u64::try_from(now.as_millis()).ok();
                let next = rebuild::done(&ClusterRecord { formed_ms, ..record.clone() });
                // Agents have forgotten whom they were told to lead an earlier life.
                self.of(nth).led.retain(|(cluster, _), _| *cluster != record.blueprint.cluster);
                self.commit(nth, change(Some(next), OpState::Done, "FORMED", "every master takes a write"))
            }
            Phase::Verify { .. } | Phase::Start { .. } if self.sabotage(Sabotage::LatchUnproved) => {
                let next = rebuild::done(&ClusterRecord { formed_ms: Some(1), ..record.clone() });
                self.commit(nth, change(Some(next), OpState::Done, "FORMED", "every master takes a write"))
            }
            Phase::Gone => self.commit(nth, change(None, OpState::Cancelled, "CANCEL", &phase.to_string())),
            Phase::Fenced => {
                let Some((crossed, ended)) = rebuild::cross(record) else { return Ok(()) };
                let (from, to) = (record.blueprint.incarnation, crossed.blueprint.incarnation);
                let message = format!("the point of no return: life {from} ends, life {to} follows");
                let lived = record.rebuild.as_ref().is_some_and(|rebuild| rebuild.lived);
                let lives = &mut self.of(nth).lives_after;
                *lives = Some((ended, lived));
                self.commit(nth, change(Some(crossed), OpState::Running, "WIPE", &message))
            }
            Phase::Returned => self.returned(nth, record, operation, &phase.to_string()),
            _ => self.say_phase(nth, record, operation, &phase),
        }
    }

    fn returned(
        &mut self,
        nth: usize,
        record: &ClusterRecord,
        operation: &OperationRecord,
        message: &str,
    ) -> Result<(), Dead> {
        let next = ClusterRecord { rebuild: None, ..record.clone() };
        self.commit(
            nth,
            Change {
                before: record.clone(),
                next: Some(next),
                operation: operation.id,
                state: OpState::Cancelled,
                phase: "RETURN",
                message: message.to_owned(),
                begins: None,
                gives_way: None,
            },
        )
    }

    fn say_phase(
        &mut self,
        nth: usize,
        record: &ClusterRecord,
        operation: &OperationRecord,
        phase: &Phase,
    ) -> Result<(), Dead> {
        let (now, patience) = (self.now, self.plan.patience);
        let Some(drive) = self.of(nth).drives.get(&operation.id) else { return Ok(()) };
        let needed = formation::needs_operator(phase, now - drive.moved, patience);
        let unproved = drive.unproved.as_ref().map(|(why, _)| format!("; {why}")).unwrap_or_default();
        if let (Phase::Return { .. }, Some(why)) = (phase, &needed)
            && now - drive.moved >= patience
        {
            let message = format!("called off; the servers were told to run as before, and {why}");
            return self.returned(nth, record, operation, &message);
        }
        let (state, message) = match (needed, operation.state) {
            (_, OpState::Cancelling) => (OpState::Cancelling, phase.to_string()),
            (Some(why), _) => {
                (OpState::NeedsOperator, format!("{why}{unproved}; {}", rebuild::cure(record, operation.id, phase)))
            }
            (None, _) => (OpState::Running, format!("{phase}{unproved}")),
        };
        if (state, message.as_str(), phase.word()) != (operation.state, &operation.message, operation.phase.as_str()) {
            self.of(nth).store.event(operation.id, state, phase.word(), &message);
            let who = self.coordinator_name(nth);
            self.tell(who, format!("{} [{}] {message}", phase.word(), state.word()));
        }
        Ok(())
    }
}
