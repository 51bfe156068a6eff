//! The simulation: a coordinator and agents in one process, under virtual time, in a night that is drawn from a seed.
//!
//! The decisions are the real ones: `reconcile::plan`, `ledger::Orders` and `permits::Permits` of the agent;
//! `reconcile::assignments`, `rebuild::phase` and all that it leads to, and the `Inventory`, of the coordinator; what
//! crosses between them goes through the wire's own types. Everything else is a model: disks with directories, locks and
//! trash ([`host`], [`act`], [`trash`]), processes that are Redis nodes as far as that matters ([`redis`], [`bus`]), streams that
//! are cut, late and repeated ([`world`]), the loops of both daemons ([`agent`], [`look`]; [`coordinator`], [`keeping`]), and a store whose
//! transactions are whole ([`store`]).
//!
//! In the night there are [`faults`], and an [`operator`] who begins, calls off, rebuilds and takes back. In the
//! [`morning`] there are none, and he does what `NEEDS OPERATOR` tells him: then it must get formed. The [`judge`] looks
//! on after everything that happens, at disks and processes alone. That he can condemn is shown by [`sabotage`].
//!
//! A second coordinator, on a copy of the store, has a lower term than the first. One of the same term, which is a copy
//! that was made before the last start, is told apart by nobody: whom a host hears last it obeys, as long as generations
//! rise. It may go on with what was approved before the copy was made, though that was called off since. Nights with
//! such are asked for by name (`simulate --rivals`), and some of them are bad.
//!
//! The same seed gives the same story, to the letter.

mod act;
mod agent;
mod bus;
mod coordinator;
mod dice;
mod faults;
mod host;
mod judge;
mod keeping;
mod look;
mod morning;
mod operator;
mod plan;
mod redis;
mod sabotage;
mod store;
mod story;
mod trash;
mod world;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

pub use sabotage::Sabotage;

use self::{
    dice::Dice,
    plan::Plan,
    store::Store,
    world::{Event, Side, Up, World},
};

/// What came of a night.
#[derive(Debug)]
pub struct Outcome {
    /// What was drawn from.
    pub seed: u64,
    /// Everything that has happened, a line each.
    pub story: String,
    /// What must not be, and is; none where all is well.
    pub sentence: Option<String>,
    /// How often what has happened.
    pub counts: BTreeMap<&'static str, usize>,
    /// Virtual time that has passed.
    pub lasted: Duration,
}

impl Outcome {
    /// All of it where something is wrong.
    pub fn complaint(&self) -> Option<String> {
        let sentence = self.sentence.as_ref()?;
        Some(format!("{}seed {}: {sentence}\n(again: make simulate SEEDS=1 SEED={0})\n", self.story, self.seed))
    }
}

/// Runs a night and the morning after it.
pub fn run(seed: u64) -> Outcome {
    sabotaged(seed, None)
}

/// As many as there are, side by side, in the order of their seeds. Of those in which all is well no story is kept.
pub fn nights(seeds: Range<u64>, sabotage: Option<Sabotage>) -> Vec<Outcome> {
    let (next, done) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let mut outcome = sabotaged(seed, sabotage);
            if outcome.sentence.is_none() {
                outcome.story.clear();
            }
            done.lock().expect("nobody panics with it").push(outcome);
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(0, |threads| threads.get() - 1);
        (0..others).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut outcomes = done.into_inner().expect("nobody panics with it");
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

/// The same with a rule that is not kept.
pub fn sabotaged(seed: u64, sabotage: Option<Sabotage>) -> Outcome {
    night(seed, sabotage, false)
}

/// The same with a second coordinator that may be of the same term as the first.
pub fn rivalled(seed: u64) -> Outcome {
    night(seed, None, true)
}

fn night(seed: u64, sabotage: Option<Sabotage>, rivals: bool) -> Outcome {
    let mut dice = Dice::new(seed);
    let plan = Plan { sabotage, rivals, ..Plan::draw(&mut dice) };
    let hosts = plan.hosts(&mut dice);
    let mut world = World::new(plan, dice, hosts);
    world.begin();
    while world.judge.sentence.is_none() && !world.is_over {
        let Some(event) = world.next() else { break };
        world.happens(event);
        world.judge_always();
    }
    Outcome {
        seed,
        story: world.story.text(),
        sentence: world.judge.sentence.take(),
        counts: std::mem::take(&mut world.judge.counts),
        lasted: world.now,
    }
}

impl World {
    fn begin(&mut self) {
        let plan = self.plan.clone();
        let (fleet, timeout) = (plan.fleet.clone(), plan.node_timeout.as_millis());
        let settings: Vec<_> = plan.settings.iter().map(|it| format!("{} {}", it.key, it.value)).collect();
        let what = format!("hosts {fleet:?}, node timeout {timeout} ms; {}", settings.join(", "));
        self.tell("plan", what);
        self.coordinator_starts(0, Store::default());
        for host in 0..self.hosts.len() {
            self.agent_starts(host);
        }
        self.at(Duration::from_millis(50), Event::Round);
        self.at(Duration::from_millis(700), Event::Operator);
        self.at(plan.night, Event::Heals);
        self.next_fault();
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Round => self.round(),
            Event::Pass { host, life, appointment } => {
                let meant = self.hosts[host].agent.as_ref();
                if meant.is_some_and(|agent| agent.life == life && agent.due.1 == appointment) {
                    self.passes(host);
                }
            }
            Event::Dial { host, life } => self.dials(host, life),
            Event::Down { stream, said } => {
                if self.arrives(stream, || Event::Down { stream, said: said.clone() }) {
                    let (host, life) = (self.streams[&stream].host, self.streams[&stream].life);
                    if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.life == life) {
                        self.agent_hears(host, stream, said);
                    }
                }
            }
            Event::Up { stream, said } => {
                if self.arrives(stream, || Event::Up { stream, said: said.clone() }) {
                    let open = &self.streams[&stream];
                    let (nth, life, name) =
                        (open.coordinator, open.coordinator_life, self.hosts[open.host].name.clone());
                    let runs = self.coordinators.get(nth).and_then(Option::as_ref).is_some_and(|it| it.life == life);
                    if runs {
                        self.coordinator_hears(nth, stream, &name, said);
                    }
                }
            }
            Event::Parted { stream, side: Side::Agent } => {
                let (host, life) = (self.streams[&stream].host, self.streams[&stream].life);
                if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.life == life) {
                    self.parted(host, stream);
                }
            }
            Event::Parted { stream, side: Side::Coordinator } => {
                self.departed(self.streams[&stream].coordinator, stream)
            }
            Event::Ring { coordinator, life, appointment } => self.rings(coordinator, life, appointment),
            Event::Ended { pid, how } => self.ended(pid, how),
            Event::Exited { host, life, pid, port, how } => {
                if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.life == life) {
                    self.exited(host, pid, port, how);
                }
            }
            Event::AgentStarts { host } => self.agent_starts(host),
            Event::Boots { host } => self.boots(host),
            Event::CoordinatorStarts => {
                if self.main().is_none() {
                    let store = std::mem::take(&mut self.store);
                    // Who makes backups makes them when nothing runs.
                    self.copies.push(store.clone());
                    self.coordinator_starts(0, store);
                }
            }
            Event::StrayEnds => self.stray_ends(),
            Event::Sweeps { host } => self.sweeps(host),
            Event::Thaws { pid } => self.thaws(pid),
            Event::Mends(mend) => self.mends(mend),
            Event::Fault(fault) => {
                if !self.healed {
                    self.inflict(fault);
                    self.next_fault();
                }
            }
            Event::Operator => {
                if !self.healed {
                    self.operates();
                    self.next_act();
                }
            }
            Event::Heals => {
                self.heals();
                self.after(Duration::from_secs(1), Event::Looks);
            }
            Event::Looks => self.looks(),
        }
    }

    /// An agent dials: the coordinator, or a stray one that somebody has led it to.
    fn dials(&mut self, host: usize, life: u32) {
        let meant = |agent: &&mut host::Agent| agent.life == life && agent.stream.is_none();
        if self.hosts[host].agent.as_mut().filter(meant).is_none() {
            return;
        }
        let stray = self.coordinators.get(1).is_some_and(Option::is_some) && self.dice.chance(40);
        let nth = usize::from(stray);
        let there = self.coordinators.get(nth).is_some_and(Option::is_some) && !self.cut_lines.contains(&host);
        if !there || !self.hosts[host].up {
            let Some(agent) = &mut self.hosts[host].agent else { return };
            agent.dials += 1;
            let most = 250 << agent.dials.min(5);
            let pause = self.dice.ms(100, most);
            return self.after(pause, Event::Dial { host, life });
        }
        let stream = self.open_stream(host, nth);
        let hello = self.hello(host);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        (agent.stream, agent.welcomed, agent.sent) = (Some(stream), false, None);
        self.say_up(stream, Up::Hello(Box::new(hello)));
    }
}
