//! `nodes.conf`: who is in the cluster, as it was written before the start.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::fd::AsFd,
};

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Redis' name for it.
    pub id: String,
    /// `ip:port@bus`, with whatever follows a comma.
    pub address: String,
    /// Replicas: whose.
    pub master: Option<String>,
    /// Its configEpoch.
    pub epoch: String,
    /// `0-5460`, ...
    pub slots: Vec<String>,
}

/// All of them, and which is this one.
#[derive(Debug)]
pub struct Nodes {
    /// Its own id.
    pub me: String,
    /// In the file's order.
    pub all: Vec<Node>,
    /// The line of variables.
    pub vars: String,
    /// Locked as long as it runs.
    _file: File,
}

const FILE: &str = "nodes.conf";

impl Node {
    /// Its address and client port.
    pub fn place(&self) -> &str {
        self.address.split('@').next().unwrap_or_default()
    }

    /// Where its bus is.
    pub fn bus(&self) -> Option<(String, u16)> {
        let (place, bus) = self.address.split(',').next()?.split_once('@')?;
        Some((place.rsplit_once(':')?.0.to_owned(), bus.parse().ok()?))
    }

    /// Its slots as numbers.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> {
        self.slots.iter().filter_map(|range| match range.split_once('-') {
            Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
            None => range.parse().ok().map(|slot| (slot, slot)),
        })
    }
}

impl Nodes {
    /// Reads the file, or makes one of a node that is alone; and locks it, as the server does.
    pub fn open(address: &str) -> Result<Self, String> {
        let wrong = |error: io::Error| format!("{FILE}: {error}");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(FILE).map_err(wrong)?;
        let lock = rustix::fs::flock(file.as_fd(), rustix::fs::FlockOperation::NonBlockingLockExclusive);
        lock.map_err(|_| "the cluster configuration file nodes.conf is already used by a different node".to_owned())?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(wrong)?;
        if text.is_empty() {
            text =
                format!("{} {address} myself,master - 0 0 0 connected\nvars currentEpoch 0 lastVoteEpoch 0\n", draw());
            fs::write(FILE, &text).map_err(wrong)?;
        }
        let (mut me, mut all, mut vars) = (None, Vec::new(), String::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["vars", ..] => vars = line.to_owned(),
                [id, address, flags, master, _, _, epoch, _, slots @ ..] => {
                    if flags.contains("myself") {
                        me = Some((*id).to_owned());
                    }
                    all.push(Node {
                        id: (*id).to_owned(),
                        address: (*address).to_owned(),
                        master: flags.contains("slave").then(|| (*master).to_owned()),
                        epoch: (*epoch).to_owned(),
                        slots: slots.iter().map(|range| (*range).to_owned()).collect(),
                    });
                }
                _ => return Err(format!("{FILE}: Unrecoverable error: corrupted cluster config file: {line}")),
            }
        }
        let me = me.ok_or_else(|| format!("{FILE}: no line says myself"))?;
        Ok(Self { me, all, vars, _file: file })
    }

    /// This one.
    pub fn myself(&self) -> Option<&Node> {
        self.get(&self.me)
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Node> {
        self.all.iter().find(|node| node.id == id)
    }

    /// As CLUSTER NODES says it. `flag` is what is said of a peer besides its role; none when it is connected.
    pub fn text(&self, flag: impl Fn(&str) -> Option<&'static str>) -> String {
        let mut text = String::new();
        for node in &self.all {
            let trouble = (node.id != self.me).then(|| flag(&node.id)).flatten();
            let myself = if node.id == self.me { "myself," } else { "" };
            let role = if node.master.is_some() { "slave" } else { "master" };
            let master = node.master.as_deref().unwrap_or("-");
            let link = if trouble.is_some() { "disconnected" } else { "connected" };
            let Node { id, address, epoch, .. } = node;
            let _ = write!(text, "{id} {address} {myself}{role}{} {master} 0 0 {epoch} {link}", trouble.unwrap_or(""));
            for range in &node.slots {
                let _ = write!(text, " {range}");
            }
            text.push('\n');
        }
        text
    }
}

/// A name that nobody has.
fn draw() -> String {
    let mut bytes = [0; 20];
    let drawn = File::open("/dev/urandom").and_then(|mut dice| dice.read_exact(&mut bytes));
    drop(drawn);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
