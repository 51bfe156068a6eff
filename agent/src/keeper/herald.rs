//! What systemd is told (sd_notify(3)), and never waited for: the socket is a queue of the manager's, which is full
//! when the manager hangs, and an agent that hangs with it would be bitten by the watchdog for that.

use std::{
    collections::BTreeSet,
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

/// A loop that goes round says so once in this, whatever number of rounds it makes; systemd wakes up for each.
const PACE: Duration = Duration::from_secs(1);

/// The way to systemd; nothing where there is none.
pub(super) struct Herald {
    socket: Option<UnixDatagram>,
    /// What was not taken: it is said with the next.
    owed: BTreeSet<String>,
    status: String,
    said: Option<Instant>,
}

impl Herald {
    /// To the manager that the environment names.
    pub(super) fn new() -> Self {
        let to = env::var("NOTIFY_SOCKET").ok();
        Self::to(to.and_then(|path| connect(&path).ok()))
    }

    fn to(socket: Option<UnixDatagram>) -> Self {
        Self { socket, owed: BTreeSet::new(), status: String::new(), said: None }
    }

    /// That the loop has gone round, and how things are: at once where that is new, and otherwise now and then.
    pub(super) fn beat(&mut self, status: &str) {
        let due = self.said.is_none_or(|at| at.elapsed() >= PACE);
        if due || status != self.status {
            self.status = status.to_owned();
            self.say(&[NotifyState::Watchdog, NotifyState::Status(status)]);
        }
    }

    /// That, at once.
    pub(super) fn say(&mut self, states: &[NotifyState]) {
        let Some(socket) = &self.socket else { return };
        self.said = Some(Instant::now());
        self.owed.retain(|line| !is_status(line));
        self.owed.extend(states.iter().map(ToString::to_string));
        let message: String = self.owed.iter().map(|line| format!("{line}\n")).collect();
        if !matches!(socket.send(message.as_bytes()), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            // It was taken, or nobody will ever take it.
            self.owed.clear();
        }
    }
}

/// There is one status, the newest.
fn is_status(line: &str) -> bool {
    line.starts_with("STATUS=")
}

/// A path, or a name in the abstract namespace: `@name`.
fn connect(path: &str) -> io::Result<UnixDatagram> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut all = Vec::new();
        while let Ok(length) = manager.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    fn pair() -> (Herald, UnixDatagram) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        (Herald::to(Some(connect(path.to_str().unwrap()).unwrap())), manager)
    }

    #[test]
    fn rounds_are_told_of_once_a_second_and_news_at_once() {
        let (mut herald, manager) = pair();
        (0..100).for_each(|_| herald.beat("3 of 3 run"));
        assert_eq!(heard(&manager), ["STATUS=3 of 3 run\nWATCHDOG=1\n"]);
        herald.beat("2 of 3 run");
        herald.beat("3 of 3 run");
        assert_eq!(heard(&manager).len(), 2);
        herald.said = Some(Instant::now() - PACE);
        herald.beat("3 of 3 run");
        assert_eq!(heard(&manager).len(), 1);
    }

    #[test]
    fn a_manager_that_hangs_holds_nobody_up_and_hears_everything_that_matters_when_it_is_back() {
        let (mut herald, manager) = pair();
        (0..10_000).for_each(|nth| herald.beat(&format!("round {nth}")));
        herald.say(&[NotifyState::Ready]);
        assert!(!heard(&manager).concat().contains("READY=1"), "its queue was full");
        herald.beat("all is well");
        assert_eq!(heard(&manager), ["READY=1\nSTATUS=all is well\nWATCHDOG=1\n"]);
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let mut herald = Herald::to(None);
        herald.beat("3 of 3 run");
        assert!(herald.owed.is_empty());
    }
}
