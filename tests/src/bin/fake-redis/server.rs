//! The server's state: keys, the file that they are kept in, peers and replicas.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    process,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    conf::Conf,
    nodes::{Node, Nodes},
    resp,
};

const AOF_DIR: &str = "appendonlydir";
const AOF: &str = "appendonlydir/appendonly.aof.1.incr.aof";
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

/// The sockets.
pub struct Listeners {
    /// For clients.
    pub tcp: TcpListener,
    /// For the agent.
    pub unix: Option<UnixListener>,
    /// For peers.
    pub bus: TcpListener,
}

/// A replica that is connected.
pub struct Replica {
    /// Where it is told.
    pub stream: TcpStream,
    /// As far as it has said that it is.
    pub acknowledged: u64,
}

/// What changes.
pub struct State {
    /// All keys.
    pub keys: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How many writes there were.
    pub offset: u64,
    /// Since the last snapshot, of which it makes none.
    pub changes: u64,
    /// By node id.
    pub replicas: BTreeMap<String, Replica>,
    /// Peers that answer.
    pub up: BTreeSet<String>,
    /// Since when others do not.
    pub down: BTreeMap<String, Instant>,
    /// The master's data set is here, and what it writes comes.
    pub synced: bool,
    /// `user default on nopass ~* &* +@all`, ...
    pub users: BTreeMap<String, String>,
    /// What CONFIG SET has changed.
    pub settings: BTreeMap<String, String>,
    /// Connected clients, the agent too.
    pub clients: u64,
    aof: Option<File>,
}

/// The server.
pub struct Server {
    /// What it was told.
    pub conf: Conf,
    /// Who is in its cluster.
    pub nodes: Nodes,
    /// Rings when a replica has acknowledged.
    pub acknowledged: Condvar,
    state: Mutex<State>,
}

impl Server {
    /// Loads what is in the directory.
    pub fn open(conf: Conf) -> Result<Self, String> {
        let nodes = Nodes::open(&format!("{}:{}@{}", conf.address, conf.port, conf.bus_port))?;
        let began = Instant::now();
        let down = nodes.all.iter().filter(|node| node.id != nodes.me).map(|node| (node.id.clone(), began)).collect();
        let mut users = BTreeMap::from([("default".to_owned(), "user default on nopass ~* &* +@all".to_owned())]);
        if let Some(path) = conf.lines.get("aclfile") {
            let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            users.extend(text.lines().filter_map(|line| Some((line.split(' ').nth(1)?.to_owned(), line.to_owned()))));
        }
        let mut state = State {
            keys: BTreeMap::new(),
            offset: 0,
            changes: 0,
            replicas: BTreeMap::new(),
            up: BTreeSet::new(),
            down,
            synced: false,
            users,
            settings: conf.lines.clone(),
            clients: 0,
            aof: None,
        };
        if conf.is_on("appendonly") {
            state.load().map_err(|error| format!("{AOF}: {error}"))?;
        }
        Ok(Self { conf, nodes, acknowledged: Condvar::new(), state: Mutex::new(state) })
    }

    /// Binds everything, or says what is taken.
    pub fn listen(&self) -> Result<Listeners, String> {
        let bind = |port: u16| {
            let place = format!("{}:{port}", self.conf.address);
            TcpListener::bind(&place)
                .map_err(|error| format!("Could not create server TCP listening socket {place}: {error}"))
        };
        let (tcp, bus) = (bind(self.conf.port)?, bind(self.conf.bus_port)?);
        let unix = self.conf.lines.get("unixsocket").map(|path| {
            let _ = fs::remove_file(path);
            UnixListener::bind(path).map_err(|error| format!("{path}: {error}"))
        });
        Ok(Listeners { tcp, unix: unix.transpose()?, bus })
    }

    /// What changes, held.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody has acknowledged something, or for that long.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        let waited = self.acknowledged.wait_timeout(state, longest);
        waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
    }

    /// Its master, if it is a replica.
    pub fn master(&self) -> Option<&Node> {
        self.nodes.myself()?.master.as_ref().and_then(|id| self.nodes.get(id))
    }

    /// Who serves a slot.
    pub fn owner(&self, slot: u16) -> Option<&Node> {
        self.nodes.all.iter().find(|node| node.ranges().any(|(first, last)| (first..=last).contains(&slot)))
    }

    /// Every slot is served by a master that answers.
    pub fn is_ok(&self, state: &State) -> bool {
        let masters = self.nodes.all.iter().filter(|node| !node.slots.is_empty());
        let mut slots = 0;
        for master in masters {
            if master.id != self.nodes.me && !state.up.contains(&master.id) {
                return false;
            }
            slots += master.ranges().map(|(first, last)| u32::from(last) - u32::from(first) + 1).sum::<u32>();
        }
        slots == 16_384
    }

    /// What is wrong with a peer, as a flag of CLUSTER NODES.
    pub fn flag(&self, state: &State, id: &str) -> Option<&'static str> {
        let since = state.down.get(id)?;
        let failed = since.elapsed() > Duration::from_millis(self.conf.node_timeout);
        Some(if failed { ",fail" } else { "" })
    }

    /// A line in its log.
    pub fn log(&self, words: &str) {
        let path = self.conf.lines.get("logfile").filter(|path| !path.is_empty());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let line = format!("{}:M {now} * {words}\n", process::id());
        if let Some(path) = path {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
    }

    /// Ends in good order: what was written is in the file already.
    pub fn leave(&self) {
        self.log("User requested shutdown...");
        let state = self.state();
        if let Some(path) = self.conf.lines.get("unixsocket") {
            let _ = fs::remove_file(path);
        }
        self.log("Redis is now ready to exit, bye bye...");
        drop(state);
    }
}

impl State {
    fn load(&mut self) -> std::io::Result<()> {
        fs::create_dir_all(AOF_DIR)?;
        if let Ok(file) = File::open(AOF) {
            let mut reader = BufReader::new(file);
            while let Some(words) = resp::read(&mut reader)? {
                self.apply(&words);
            }
        } else {
            fs::write(MANIFEST, "file appendonly.aof.1.incr.aof seq 1 type i\n")?;
        }
        self.aof = Some(OpenOptions::new().create(true).append(true).open(AOF)?);
        Ok(())
    }

    fn apply(&mut self, words: &[Vec<u8>]) -> u64 {
        let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        match (name.as_slice(), words) {
            (b"SET", [_, key, value, ..]) => {
                self.keys.insert(key.clone(), value.clone());
                1
            }
            (b"DEL", [_, keys @ ..]) => keys.iter().filter(|key| self.keys.remove(*key).is_some()).count() as u64,
            (b"FLUSHALL", _) => {
                self.keys.clear();
                1
            }
            _ => 0,
        }
    }

    /// A write: here, in the file and at the replicas.
    pub fn write(&mut self, words: &[Vec<u8>]) -> u64 {
        let done = self.apply(words);
        if done > 0 {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let bytes = resp::command(&words);
            if let Some(aof) = &mut self.aof {
                let _ = aof.write_all(&bytes);
            }
            (self.offset, self.changes) = (self.offset + 1, self.changes + 1);
            self.replicas.retain(|_, replica| replica.stream.write_all(&bytes).is_ok());
        }
        done
    }

    /// The whole data set as writes.
    pub fn all(&self) -> Vec<Vec<Vec<u8>>> {
        self.keys.iter().map(|(key, value)| vec![b"SET".to_vec(), key.clone(), value.clone()]).collect()
    }
}
