//! A physical server: its disk, which outlives everything, and its agent, which does not.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    time::Duration,
};

use muster_agent::{
    layout::Stamp,
    ledger::Orders,
    permits::Permits,
    reconcile::{Answer, ProcessSeen, Verdict},
    restart::{Past, Word},
};
use muster_proto::{
    ClusterId, ClusterName, Generation, HostAssignment, HostName, Incarnation, InstanceState, NodeId, NodeView, Port,
    PortSet, Report, Topology, view, wire,
};
use uuid::Uuid;

/// One life of one cluster.
pub type Life = (ClusterId, Incarnation);

/// A directory of an instance. It keeps its inode wherever it is renamed to.
#[derive(Debug, Clone)]
pub struct Directory {
    pub inode: u64,
    pub stamp: Stamp,
    pub conf: String,
    pub nodes: Nodes,
    /// There is an append-only file or a snapshot that is not empty.
    pub data: bool,
    /// A server has run in it.
    pub ran: bool,
    /// When it was set aside last.
    pub aside: Duration,
}

/// A nodes.conf, and who is what in it.
#[derive(Debug, Clone)]
pub struct Nodes {
    pub text: String,
    topology: OnceCell<Option<Topology>>,
}

impl Nodes {
    pub fn new(text: String) -> Self {
        Self { text, topology: OnceCell::new() }
    }

    /// Read as an agent does it.
    pub fn topology(&self) -> Option<&Topology> {
        self.topology.get_or_init(|| topology(&self.text)).as_ref()
    }
}

/// nodes.conf is CLUSTER NODES and a line of variables.
pub fn topology(text: &str) -> Option<Topology> {
    let nodes: String =
        text.lines().filter(|line| !line.starts_with("vars ")).map(|line| format!("{line}\n")).collect();
    view::parse(&nodes).ok().map(|view| view.topology)
}

impl Directory {
    pub fn life(&self) -> Life {
        (self.stamp.cluster_id, self.stamp.incarnation)
    }
}

/// What an agent has written down about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub boot: u32,
    pub run: u64,
    pub node: NodeId,
}

impl Record {
    /// Nothing was started yet for that run of that node.
    pub fn is_before(&self, node: NodeId, run: u64) -> bool {
        self.node != node || self.run < run
    }
}

/// What outlives a power cut.
#[derive(Debug)]
pub struct Disk {
    pub orders: Orders,
    pub places: BTreeMap<Port, Directory>,
    pub trash: Vec<Directory>,
    pub records: BTreeMap<Port, Record>,
    /// No space is left.
    pub full: bool,
}

/// At the how-many-th chance from now the agent dies, and on which side of the act.
#[derive(Debug, Clone, Copy)]
pub struct Doom {
    pub chances: usize,
    pub after: bool,
}

/// A physical server.
#[derive(Debug)]
pub struct Host {
    pub name: HostName,
    pub address: IpAddr,
    pub ports: PortSet,
    pub identity: Uuid,
    pub up: bool,
    /// Nothing on it goes on.
    pub hung: bool,
    pub boot: u32,
    pub disk: Disk,
    /// Children of servers that are gone, which hold the lock of their port, until then.
    pub children: Vec<(Port, Duration)>,
    pub agent: Option<Agent>,
    /// Agents that it has had.
    pub lives: u32,
    pub doom: Option<Doom>,
}

/// A process that the agent has in its hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub pid: i32,
    pub stopping: Option<Duration>,
    pub run: Option<u64>,
}

/// What the agent remembers about a port.
#[derive(Debug, Clone)]
pub struct Place {
    pub process: Option<Held>,
    pub other: Option<ProcessSeen>,
    pub met: Duration,
    pub answer: Answer,
    pub view: Option<(NodeView, Duration)>,
    pub past: Past,
    pub overruled: bool,
    /// There was a process since this agent began.
    pub lived: bool,
    pub failed: Option<(String, Duration)>,
    /// It was asked to stop in vain: when its patience was over, or it was asked again.
    pub unwilling: Option<Duration>,
    pub said: (InstanceState, String),
}

/// An agent process. Times are the world's.
#[derive(Debug)]
pub struct Agent {
    pub life: u32,
    pub born: Duration,
    /// What its host was told last.
    pub told: Rc<HostAssignment>,
    pub places: BTreeMap<Port, Place>,
    pub leaders: BTreeMap<ClusterName, (BTreeSet<NodeId>, Duration)>,
    pub word: Word,
    pub received: Generation,
    pub refusal: Option<String>,
    pub unkept: Option<(wire::Desired, Duration)>,
    pub verdicts: BTreeMap<Port, Verdict>,
    pub converged: Generation,
    pub report: Option<Report>,
    /// The stream that what the report asks for was asked on.
    pub asked_on: Option<u64>,
    pub passes: u64,
    /// The stream that it speaks on, and whether it was welcomed there.
    pub stream: Option<u64>,
    pub welcomed: bool,
    pub sent: Option<(Report, Duration)>,
    /// Dials in vain since the last welcome.
    pub dials: u32,
    pub permits: Permits,
    /// Rights that nobody has given; for sabotage alone.
    pub forged: BTreeSet<Port>,
    /// When its next pass is, and the number of that appointment.
    pub due: (Duration, u64),
}

impl Place {
    pub fn new(now: Duration) -> Self {
        Self {
            process: None,
            other: None,
            met: now,
            answer: Answer::Silent("not asked yet".into()),
            view: None,
            past: Past::default(),
            overruled: false,
            lived: false,
            failed: None,
            unwilling: None,
            said: (InstanceState::Unknown, String::new()),
        }
    }

    /// A server is found, or started.
    pub fn meet(&mut self, held: Held, now: Duration) {
        (self.process, self.other, self.met, self.lived) = (Some(held), None, now, true);
    }
}

impl Agent {
    pub fn new(life: u32, told: Rc<HostAssignment>, now: Duration) -> Self {
        Self {
            life,
            born: now,
            told,
            places: BTreeMap::new(),
            leaders: BTreeMap::new(),
            word: Word::Awaited,
            received: Generation(0),
            refusal: None,
            unkept: None,
            verdicts: BTreeMap::new(),
            converged: Generation(0),
            report: None,
            asked_on: None,
            passes: 0,
            stream: None,
            welcomed: false,
            sent: None,
            dials: 0,
            permits: Permits::default(),
            forged: BTreeSet::new(),
            due: (Duration::MAX, 0),
        }
    }

    /// Another life begins at a port: nothing that was seen of the one before is about it.
    pub fn reborn(&mut self, port: Port, cluster: &ClusterName, now: Duration) {
        self.leaders.remove(cluster);
        let said = self.place(port, now).said.clone();
        self.places.insert(port, Place { said, ..Place::new(now) });
    }

    pub fn place(&mut self, port: Port, now: Duration) -> &mut Place {
        self.places.entry(port).or_insert_with(|| Place::new(now))
    }
}

impl Host {
    pub fn new(name: HostName, address: IpAddr, ports: PortSet, identity: Uuid) -> Self {
        let orders = Orders::new(&name, None).expect("empty");
        let disk = Disk { orders, places: BTreeMap::new(), trash: Vec::new(), records: BTreeMap::new(), full: false };
        Self {
            name,
            address,
            ports,
            identity,
            up: true,
            hung: false,
            boot: 1,
            disk,
            children: Vec::new(),
            agent: None,
            lives: 0,
            doom: None,
        }
    }

    /// Whether the agent dies at this chance, and whether before it or after it.
    pub fn strikes(&mut self) -> Option<bool> {
        let doom = self.doom.as_mut()?;
        if doom.chances > 0 {
            doom.chances -= 1;
            return None;
        }
        self.doom.take().map(|doom| doom.after)
    }
}
