//! Who else is at an instance's place: a listener on its ports, or a server in its directory that does not hold its
//! lock, such as one that somebody has started by hand.

use std::{cell::OnceCell, collections::HashMap, fs, io, net::SocketAddr, os::unix::fs::MetadataExt as _};

use procfs::process::{FDTarget, Process};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{layout::InstanceDir, tree::Identity as Inode};

/// All processes of this machine, looked at once, and only when somebody asks.
#[derive(Debug, Default)]
pub struct Crowd {
    by_cwd: OnceCell<HashMap<Inode, Vec<i32>>>,
    listeners: OnceCell<Vec<(SocketAddr, i32)>>,
}

impl Crowd {
    /// Who is at these addresses or in that directory, each in words; nobody, mostly.
    pub fn strangers(&self, dir: &InstanceDir, places: &[SocketAddr]) -> Vec<String> {
        let listening = places.iter().filter_map(|place| {
            let free = bind(*place).is_ok();
            let who = if free { None } else { self.listener(*place) };
            // We ourselves hold ports while a plan is made.
            let who = who.filter(|pid| u32::try_from(*pid) != Ok(std::process::id()));
            who.map(|pid| format!("{} listens on {place}", describe(pid)))
        });
        let living = self
            .living_in(dir)
            .into_iter()
            .map(|pid| format!("{} serves from {}, without Muster", describe(pid), dir.path().display()));
        listening.chain(living).collect()
    }

    /// Who listens there, or on that port of all addresses. Needs root to see other users' processes.
    pub fn listener(&self, place: SocketAddr) -> Option<i32> {
        let in_the_way =
            |at: &SocketAddr| at.port() == place.port() && (at.ip() == place.ip() || at.ip().is_unspecified());
        self.listeners.get_or_init(listeners).iter().find(|(at, _)| in_the_way(at)).map(|(_, pid)| *pid)
    }

    /// Servers that have the directory's nodes.conf open, as every cluster node has. A shell in there is none.
    fn living_in(&self, dir: &InstanceDir) -> Vec<i32> {
        let Some(home) = dir.inode() else { return Vec::new() };
        let there = self.by_cwd.get_or_init(by_cwd).get(&home).cloned().unwrap_or_default();
        there.into_iter().filter(|pid| has_open(*pid, "nodes.conf")).collect()
    }
}

fn by_cwd() -> HashMap<Inode, Vec<i32>> {
    let mut found: HashMap<Inode, Vec<i32>> = HashMap::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        if let Ok(meta) = fs::metadata(format!("/proc/{}/cwd", process.pid)) {
            found.entry((meta.dev(), meta.ino())).or_default().push(process.pid);
        }
    }
    found
}

/// Everybody who listens, and where. The descriptors of all processes are read for that, which is much: a node of a
/// large cluster has hundreds.
fn listeners() -> Vec<(SocketAddr, i32)> {
    let entries = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let listening = entries.filter(|entry| entry.state == procfs::net::TcpState::Listen);
    let places: HashMap<u64, SocketAddr> = listening.map(|entry| (entry.inode, entry.local_address)).collect();
    let of = |process: Process| {
        let fds = process.fd().into_iter().flatten().flatten();
        let sockets = fds.filter_map(|fd| if let FDTarget::Socket(inode) = fd.target { Some(inode) } else { None });
        sockets.filter_map(|inode| Some((*places.get(&inode)?, process.pid))).collect::<Vec<_>>()
    };
    procfs::process::all_processes().into_iter().flatten().flatten().flat_map(of).collect()
}

/// Since 7.2 nodes.conf is replaced by rename, and the one that a server has locked is called "nodes.conf (deleted)".
fn has_open(pid: i32, name: &str) -> bool {
    let Ok(fds) = Process::new(pid).and_then(|process| process.fd()) else { return false };
    fds.flatten().any(|fd| match fd.target {
        FDTarget::Path(path) => {
            let last = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            last.trim_end_matches(" (deleted)") == name
        }
        _ => false,
    })
}

/// Binds as the server will, with SO_REUSEADDR, so that connections in TIME_WAIT do not count.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// `pid 4711 (redis-server *:7000)`.
pub fn describe(pid: i32) -> String {
    let command = Process::new(pid).and_then(|process| process.cmdline()).ok().filter(|words| !words.is_empty());
    let command = command.map_or_else(|| "?".into(), |words| muster_proto::printable(words.join(" ").trim()));
    format!("pid {pid} ({command})")
}

#[cfg(test)]
mod tests;
