//! The world: what there is, when what happens next, and what reaches whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_proto::{ClusterName, HostName, NodeId, Port, Sha256, Term, wire};

use super::{
    coordinator::Coordinator,
    dice::Dice,
    faults::Fault,
    host::{Host, Life},
    judge::Judge,
    morning::Morning,
    operator::Operator,
    plan::Plan,
    redis::Server,
    store::Store,
    story::Story,
};

/// Between two rounds of the servers' cron.
pub const ROUND: Duration = Duration::from_millis(200);

/// What a coordinator says.
#[derive(Debug, Clone)]
pub enum Down {
    Welcome(Term),
    Desired(wire::Desired),
    Leaders(ClusterName, BTreeSet<NodeId>),
    Permit(wire::Permit),
    /// Write through these, and see how many replicas have it.
    Canary {
        task: u64,
        term: Term,
        masters: Vec<(Port, usize)>,
    },
}

/// What an agent says.
#[derive(Debug, Clone)]
pub enum Up {
    Hello(Box<wire::Hello>),
    Report(Box<wire::Report>),
    Heartbeat,
    Canary { task: u64, outcome: Result<(), String> },
}

/// One side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Agent,
    Coordinator,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// The servers' cron, and their agents' looks.
    Round,
    Pass {
        host: usize,
        life: u32,
        appointment: u64,
    },
    Dial {
        host: usize,
        life: u32,
    },
    Down {
        stream: u64,
        said: Down,
    },
    Up {
        stream: u64,
        said: Up,
    },
    Parted {
        stream: u64,
        side: Side,
    },
    /// The bell of a coordinator, or its tick.
    Ring {
        coordinator: usize,
        life: u32,
        appointment: u64,
    },
    /// A server's end.
    Ended {
        pid: i32,
        how: End,
    },
    Exited {
        host: usize,
        life: u32,
        pid: i32,
        port: Port,
        how: End,
    },
    AgentStarts {
        host: usize,
    },
    Boots {
        host: usize,
    },
    CoordinatorStarts,
    StrayEnds,
    Thaws {
        pid: i32,
    },
    Mends(Mend),
    /// The trash of a host is looked through.
    Sweeps {
        host: usize,
    },
    Fault(Fault),
    Operator,
    Heals,
    Looks,
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Asked,
    Killed,
    PortTaken,
}

/// What is as it was.
#[derive(Debug, Clone)]
pub enum Mend {
    Disk(usize),
    Line(usize),
    Hang(usize),
    Link(usize, usize),
}

/// A stream between an agent and a coordinator.
#[derive(Debug, Clone)]
pub struct Stream {
    pub host: usize,
    pub life: u32,
    pub coordinator: usize,
    pub coordinator_life: u32,
    /// Nothing goes in any more. What is on its way may arrive, until then, and so much later.
    pub cut: Option<(Duration, Duration)>,
    /// Nothing overtakes on a stream.
    down_at: Duration,
    up_at: Duration,
}

/// Everything.
pub struct World {
    pub now: Duration,
    pub plan: Plan,
    pub dice: Dice,
    pub story: Story,
    pub hosts: Vec<Host>,
    pub servers: BTreeMap<i32, Server>,
    /// The first is the one; a second one is on a copy of its store.
    pub coordinators: Vec<Option<Coordinator>>,
    /// Of the one, while it does not run.
    pub store: Store,
    /// Copies of it, which nobody should start.
    pub copies: Vec<Store>,
    pub streams: BTreeMap<u64, Stream>,
    /// Hosts that reach no coordinator.
    pub cut_lines: BTreeSet<usize>,
    /// Pairs of hosts that do not reach each other.
    pub cut_links: BTreeSet<(usize, usize)>,
    pub judge: Judge,
    pub operator: Operator,
    /// Something has been done to servers or to what connects them.
    pub stirred: bool,
    /// Of topologies, by cluster and life.
    pub digests: BTreeMap<Life, Sha256>,
    pub healed: bool,
    pub is_over: bool,
    pub morning: Morning,
    queue: BTreeMap<(Duration, u64), Event>,
    drawn: u64,
}

impl World {
    pub fn new(plan: Plan, dice: Dice, hosts: Vec<Host>) -> Self {
        Self {
            now: Duration::ZERO,
            plan,
            dice,
            story: Story::default(),
            hosts,
            servers: BTreeMap::new(),
            coordinators: Vec::new(),
            store: Store::default(),
            copies: Vec::new(),
            streams: BTreeMap::new(),
            cut_lines: BTreeSet::new(),
            cut_links: BTreeSet::new(),
            judge: Judge::default(),
            operator: Operator::default(),
            stirred: true,
            digests: BTreeMap::new(),
            healed: false,
            is_over: false,
            morning: Morning::default(),
            queue: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// A number that was not there before: a pid, an inode, a stream, an appointment.
    pub fn number(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub fn tell(&mut self, who: impl Into<String>, what: impl Into<String>) {
        self.story.tell(self.now, who, what);
    }

    pub fn at(&mut self, at: Duration, event: Event) {
        let number = self.number();
        self.queue.insert((at.max(self.now), number), event);
    }

    pub fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    /// The next thing that happens.
    pub fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }

    pub fn host_named(&self, name: &HostName) -> Option<usize> {
        self.hosts.iter().position(|host| host.name == *name)
    }

    pub fn name(&self, host: usize) -> String {
        self.hosts[host].name.to_string()
    }

    pub fn main(&self) -> Option<&Coordinator> {
        self.coordinators.first()?.as_ref()
    }

    /// Whether two hosts reach each other.
    pub fn connected(&self, one: usize, two: usize) -> bool {
        let link = (one.min(two), one.max(two));
        one == two || (self.hosts[one].up && self.hosts[two].up && !self.cut_links.contains(&link))
    }

    // --- streams -----------------------------------------------------------------------------------------------------

    pub fn open_stream(&mut self, host: usize, coordinator: usize) -> u64 {
        let id = self.number();
        let life = self.hosts[host].agent.as_ref().map_or(0, |agent| agent.life);
        let coordinator_life = self.coordinators[coordinator].as_ref().map_or(0, |it| it.life);
        let (down_at, up_at) = (self.now, self.now);
        let stream = Stream { host, life, coordinator, coordinator_life, cut: None, down_at, up_at };
        self.streams.insert(id, stream);
        id
    }

    fn latency(&mut self) -> Duration {
        if self.dice.chance(4) { self.dice.ms(20, 900) } else { self.dice.ms(1, 12) }
    }

    pub fn say_down(&mut self, stream: u64, said: Down) {
        let latency = self.latency();
        let twice = !self.healed && self.dice.chance(self.plan.repeats);
        let now = self.now;
        let Some(open) = self.streams.get_mut(&stream).filter(|open| open.cut.is_none()) else { return };
        let at = (now + latency).max(open.down_at + Duration::from_micros(1));
        open.down_at = at;
        if twice {
            let again = at + self.dice.ms(1, 3_000);
            self.at(again, Event::Down { stream, said: said.clone() });
        }
        self.at(at, Event::Down { stream, said });
    }

    pub fn say_up(&mut self, stream: u64, said: Up) {
        let latency = self.latency();
        let now = self.now;
        let Some(open) = self.streams.get_mut(&stream).filter(|open| open.cut.is_none()) else { return };
        let at = (now + latency).max(open.up_at + Duration::from_micros(1));
        open.up_at = at;
        self.at(at, Event::Up { stream, said });
    }

    /// Ends a stream somewhere in the middle: of what is on its way a part arrives, late perhaps. Each side notices in its
    /// own time.
    pub fn cut_stream(&mut self, stream: u64) {
        let until = self.now + self.dice.ms(0, 15);
        let late = if self.dice.chance(30) { self.dice.ms(100, 5_000) } else { Duration::ZERO };
        let (one, other) = (self.dice.ms(1, 2_500), self.dice.ms(1, 2_500));
        let Some(open) = self.streams.get_mut(&stream).filter(|open| open.cut.is_none()) else { return };
        open.cut = Some((until, late));
        self.after(one, Event::Parted { stream, side: Side::Agent });
        self.after(other, Event::Parted { stream, side: Side::Coordinator });
    }

    pub fn cut_streams_of(&mut self, is_meant: impl Fn(&Stream) -> bool) {
        let meant: Vec<u64> =
            self.streams.iter().filter(|(_, open)| open.cut.is_none() && is_meant(open)).map(|(id, _)| *id).collect();
        meant.into_iter().for_each(|id| self.cut_stream(id));
    }

    /// Whether something on a stream arrives now; what is late is put off once.
    pub fn arrives(&mut self, stream: u64, event: impl FnOnce() -> Event) -> bool {
        let Some(open) = self.streams.get(&stream) else { return false };
        match open.cut {
            None => true,
            Some((until, late)) if self.now <= until && late.is_zero() => true,
            Some((until, late)) if self.now <= until => {
                self.after(late, event());
                false
            }
            // Put off before, and now here.
            Some((until, late)) => !late.is_zero() && self.now <= until + late,
        }
    }
}
