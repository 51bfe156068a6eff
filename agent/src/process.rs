//! Processes: started with their own lock, found again by evidence, watched and signalled only through pidfds.
//!
//! A server holds the lock of its port across exec, and so does every child that it forks: the lock is free exactly
//! when the whole tree is gone (flock(2): the lock belongs to the open file description, which fork shares). So a
//! second server in a directory cannot be started, whatever this agent remembers. What it does remember is written
//! down in two steps, before the fork (intent: the nonce) and after it (identity: pid, boot, start ticks), and
//! believed only where the kernel says the same.
//!
//! Locks and records lie in directories that are ours alone. The directory that a server is started in is the servers'
//! user's, and is touched only through the descriptor that it was opened with once.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt as _, fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::setsid,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};
use uuid::Uuid;

use crate::{config::RunAs, durable, layout::InstanceDir};

/// Carries the nonce of a spawn. `set-proc-title no` keeps the server from overwriting its environment.
pub const NONCE: &str = "MUSTER_SPAWN";

/// What is known of a port's process, on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    nonce: Uuid,
    boot_id: String,
    /// Missing between intent and identity.
    identity: Option<Identity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// Since boot, in clock ticks (field 22 of /proc/PID/stat): a pid that is used again has another.
    start_ticks: u64,
}

/// A server of ours.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// Present when this very agent forked it, and must reap it.
    child: Option<Child>,
    /// When it was told to stop.
    pub stopping: Option<Instant>,
}

/// What was found at a port's lock.
#[derive(Debug)]
pub enum Found {
    /// The lock is free: nothing runs there.
    Nothing,
    /// A server of ours.
    Ours(Process),
    /// The lock is held, and not provably by one of ours.
    Unknown(String),
}

/// Why a server was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Before the fork.
    #[error("cannot write down the intent to start {0}")]
    Intent(PathBuf, #[source] io::Error),
    /// The lock or the output file.
    #[error("cannot open {0}")]
    Open(PathBuf, #[source] io::Error),
    /// The child gave up before it became a server.
    #[error("cannot start {0}")]
    Exec(PathBuf, #[source] io::Error),
    /// Somebody is there.
    #[error("the lock {0} is held: something still runs in the directory")]
    Locked(PathBuf),
}

impl Process {
    /// Starts the server that serves from that directory. Blocks for the time of a fork and two small synced files.
    pub fn spawn(dir: &InstanceDir, server: &Path, run_as: Option<&RunAs>) -> Result<Self, SpawnError> {
        // Nothing of a server that runs is touched. That it still is so is proved by the child, which takes the lock.
        if !matches!(lock_holder(&dir.lock()), Ok(Holder::Nobody)) {
            return Err(SpawnError::Locked(dir.lock()));
        }
        let before = fs::read(dir.record());
        let mut record = Record { nonce: Uuid::new_v4(), boot_id: boot_id(), identity: None };
        record.write(&dir.record()).map_err(|error| SpawnError::Intent(dir.record(), error))?;
        let lock = open_lock(&dir.lock()).map_err(|error| SpawnError::Open(dir.lock(), error))?;
        let home = dir.open().map_err(|error| SpawnError::Open(dir.path(), error))?;
        let output = dir.new_output(&home).map_err(|error| SpawnError::Open(dir.output(), error))?;
        let errors = output.try_clone().map_err(|error| SpawnError::Open(dir.output(), error))?;
        let mut command = Command::new(server);
        command.arg(dir.path().join("redis.conf"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env(NONCE, record.nonce.to_string());
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        if let Some(user) = run_as {
            command.uid(user.uid).gid(user.gid);
        }
        in_child(&mut command, lock.as_raw_fd(), home.as_fd().as_raw_fd());
        let child = command.spawn().map_err(|error| match Errno::try_from(error) {
            Ok(Errno::EWOULDBLOCK) => {
                // Whoever is there is recognised by what was written down about it.
                if let Err(error) = before.and_then(|bytes| durable::write(&dir.record(), &bytes, 0o600)) {
                    tracing::warn!(port = %dir.port(), %error, "cannot restore what was written down");
                }
                SpawnError::Locked(dir.lock())
            }
            Ok(errno) => SpawnError::Exec(server.to_owned(), errno.into()),
            Err(error) => SpawnError::Exec(server.to_owned(), error),
        })?;
        let pid =
            i32::try_from(child.id()).map_err(|error| SpawnError::Exec(server.to_owned(), io::Error::other(error)))?;
        // Not reaped yet, so the pid is still its own.
        let pidfd = open_pidfd(pid).map_err(|error| SpawnError::Exec(server.to_owned(), error))?;
        record.identity = start_ticks(pid).map(|start_ticks| Identity { pid, start_ticks });
        if let Err(error) = record.write(&dir.record()) {
            tracing::warn!(port = %dir.port(), %error, "cannot write down the identity; the nonce will have to do");
        }
        Ok(Self { pid, pidfd, child: Some(child), stopping: None })
    }

    /// Looks whether a server of ours runs at that port.
    pub fn find(dir: &InstanceDir) -> Found {
        match lock_holder(&dir.lock()) {
            Ok(Holder::Nobody) => Found::Nothing,
            Ok(Holder::Pid(pid)) => match recognise(dir, pid) {
                Ok(pidfd) => Found::Ours(Self { pid, pidfd, child: None, stopping: None }),
                Err(why) => Found::Unknown(format!("{} is held by pid {pid}, which {why}", dir.lock().display())),
            },
            Ok(Holder::Hidden) => Found::Unknown(format!(
                "{} is held by a process that is not to be seen from here",
                dir.lock().display()
            )),
            Err(error) => Found::Unknown(format!("{}: {error}", dir.lock().display())),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends when the process has ended; to be awaited apart from the process itself.
    #[allow(unsafe_code)]
    pub fn exit(&self) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        // SAFETY: an OwnedFd is open until it is dropped, and always the same descriptor.
        let pidfd = unsafe { AsyncFd::register_with_interest(self.pidfd.try_clone()?, Interest::READABLE)? };
        Ok(async move {
            // A pidfd becomes readable when its process ends (pidfd_open(2), Linux 5.3), reaped or not.
            let _ = pidfd.readable().await;
        })
    }

    /// Collects the exit status of our own child; to be called after [`exit`](Self::exit) has ended.
    pub fn reap(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Asks it to stop: the server saves if it is set to, and leaves.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::TERM)?)
    }

    /// Ends it.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::KILL)?)
    }
}

impl Record {
    fn write(&self, path: &Path) -> io::Result<()> {
        durable::write(path, &serde_json::to_vec(self).map_err(io::Error::other)?, 0o600)
    }

    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// Whether a unix socket's other end is a process's. To be asked before a password is said: what is called redis.sock
/// in a directory of the servers' user may be a link to another socket, or somebody else's own. The kernel answers with
/// who called listen(2) there (SO_PEERCRED, unix(7)); a server does that itself, and its children never do.
pub fn peer_is(stream: &impl AsFd, pid: i32) -> io::Result<bool> {
    Ok(getsockopt(stream, PeerCredentials)?.pid() == pid)
}

/// In the child, between fork and exec: a session of its own, the directory to live in, and the lock taken and kept
/// across exec. Directory and lock file are opened by the parent, while it still may; the lock itself is the child's,
/// and shows the child's pid in /proc/locks.
#[allow(unsafe_code)]
fn in_child(command: &mut Command, lock: i32, home: i32) {
    let steps = move || {
        setsid()?;
        // SAFETY: both descriptors were opened by the parent before the fork and are closed by nobody before exec.
        let (lock, home) = unsafe { (BorrowedFd::borrow_raw(lock), BorrowedFd::borrow_raw(home)) };
        rustix::process::fchdir(home)?;
        rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: the closure makes four system calls and allocates nothing, which is all that may be done between fork
    // and exec (signal-safety(7)).
    unsafe { command.pre_exec(steps) };
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("not a pid"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

enum Holder {
    Nobody,
    Pid(i32),
    /// Held, but its first owner is gone or in another pid namespace: a child of the server still lives.
    Hidden,
}

fn lock_holder(path: &Path) -> io::Result<Holder> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Holder::Nobody),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => {}
        Err(error) => return Err(error.into()),
    }
    let inode = file.metadata()?.ino();
    let locks = procfs::locks().map_err(io::Error::other)?;
    let held = locks.into_iter().find(|lock| lock.inode == inode && matches!(lock.lock_type, procfs::LockType::FLock));
    Ok(match held.and_then(|lock| lock.pid).filter(|pid| *pid > 0) {
        Some(pid) => Holder::Pid(pid),
        None => Holder::Hidden,
    })
}

/// Believes that a lock holder is the server we started here only if the kernel agrees on every count. The pidfd comes
/// first: whatever is read after it is about that very process.
fn recognise(dir: &InstanceDir, pid: i32) -> Result<OwnedFd, String> {
    let record = Record::read(&dir.record()).ok_or_else(|| {
        format!("nothing is written down about (hint: was it lost? `kill {pid}`, and the agent starts its own again)")
    })?;
    let pidfd = open_pidfd(pid).map_err(|_| "is gone; a child of it still lives".to_owned())?;
    if record.boot_id != boot_id() {
        return Err("was started in another boot".into());
    }
    let process = procfs::process::Process::new(pid).map_err(|error| format!("cannot be looked at: {error}"))?;
    let stat = process.stat().map_err(|error| format!("cannot be looked at: {error}"))?;
    if stat.state == 'Z' {
        return Err("has ended; a child of it still lives".into());
    }
    if record.identity.is_some_and(|known| known != Identity { pid, start_ticks: stat.starttime }) {
        return Err(format!("({}) is not the one that was started", stat.comm));
    }
    let environment = process.environ().map_err(|error| format!("does not show its environment: {error}"))?;
    let nonce = environment.get(std::ffi::OsStr::new(NONCE)).map(|nonce| nonce.to_string_lossy().into_owned());
    // Redis before 6.2 writes its title over its environment; there, pid and start ticks have to do.
    let overwritten = nonce.is_none() && record.identity.is_some();
    if nonce != Some(record.nonce.to_string()) && !overwritten {
        return Err(format!("({}) does not carry the nonce that was written down", stat.comm));
    }
    let cwd = fs::metadata(format!("/proc/{pid}/cwd")).ok().map(|meta| (meta.dev(), meta.ino()));
    if cwd.is_none() || cwd != dir.inode() {
        return Err(format!("({}) works in another directory", stat.comm));
    }
    Ok(pidfd)
}

fn start_ticks(pid: i32) -> Option<u64> {
    Some(procfs::process::Process::new(pid).ok()?.stat().ok()?.starttime)
}

/// Of this boot of the kernel; empty where /proc does not say.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
