//! Processes: started with their own lock, found again by evidence, watched and signalled only through pidfds.
//!
//! A server holds the lock of its port across exec, and so does every child that it forks: the lock is free exactly
//! when the whole tree is gone (flock(2): the lock belongs to the open file description, which fork shares). So a
//! second server in a directory cannot be started, whatever this agent remembers. What it does remember is written
//! down in two steps, before the fork (intent: the nonce) and after it (identity: pid, boot, start ticks), and
//! is never believed against the kernel ([`evidence`](crate::evidence)).
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
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::setsid,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};
use uuid::Uuid;

use crate::{
    config::RunAs,
    durable,
    evidence::{Clue, Facts, Identity, Judgement, Lock, Record, Sighting, Standing, Written, judge},
    layout::{Directory, InstanceDir},
};

/// Carries the nonce of a spawn. `set-proc-title no` keeps the server from overwriting its environment.
pub const NONCE: &str = "MUSTER_SPAWN";

/// A server of ours.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// Present when this very agent forked it, and must reap it.
    child: Option<Child>,
    /// When it was told to stop.
    pub stopping: Option<Instant>,
    /// The run that it was started for; none where nothing is written down about that.
    pub run: Option<u64>,
}

/// What was found at a port's lock.
#[derive(Debug)]
pub enum Found {
    /// The lock is free: nothing runs there.
    Nothing,
    /// A server of ours.
    Ours(Process),
    /// The lock is free, and somebody else has the port or the directory.
    Foreign(String),
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
    /// Starts the server that serves from that directory, for that run. Blocks for the time of a fork and two small
    /// files.
    pub fn spawn(dir: &InstanceDir, server: &Path, run_as: Option<&RunAs>, run: u64) -> Result<Self, SpawnError> {
        // Nothing of a server that runs is touched. That it still is so is proved by the child, which takes the lock.
        let free = hold(dir).map_err(|error| SpawnError::Open(dir.lock(), error))?;
        drop(free.ok_or_else(|| SpawnError::Locked(dir.lock()))?);
        let before = fs::read(dir.record());
        let node_id = match dir.look() {
            Directory::Stamped(stamp) => Some(stamp.node_id),
            Directory::Free | Directory::Foreign(_) | Directory::Unreadable(_) => None,
        };
        let mut record = Record { nonce: Uuid::new_v4(), boot_id: boot_id(), identity: None, run: Some(run), node_id };
        // That a run has begun is known for good before it begins: some things hold for its first start alone.
        let intent =
            if written(dir).run() == Some(run) { record.write(&dir.record()) } else { record.engrave(&dir.record()) };
        intent.map_err(|error| SpawnError::Intent(dir.record(), error))?;
        crash::point("agent.start.intended");
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
                if let Err(error) = before.and_then(|bytes| durable::write_until_boot(&dir.record(), &bytes, 0o600)) {
                    tracing::warn!(port = %dir.port(), %error, "cannot restore what was written down");
                }
                SpawnError::Locked(dir.lock())
            }
            Ok(errno) => SpawnError::Exec(server.to_owned(), errno.into()),
            Err(error) => SpawnError::Exec(server.to_owned(), error),
        })?;
        let pid =
            i32::try_from(child.id()).map_err(|error| SpawnError::Exec(server.to_owned(), io::Error::other(error)))?;
        crash::point("agent.start.forked");
        // Not reaped yet, so the pid is still its own.
        let pidfd = open_pidfd(pid).map_err(|error| SpawnError::Exec(server.to_owned(), error))?;
        record.identity = start_ticks(pid).map(|start_ticks| Identity { pid, start_ticks });
        if let Err(error) = record.write(&dir.record()) {
            tracing::warn!(port = %dir.port(), %error, "cannot write down the identity; the nonce will have to do");
        }
        crash::point("agent.start.recorded");
        Ok(Self { pid, pidfd, child: Some(child), stopping: None, run: Some(run) })
    }

    /// Looks whose the process at that port is; where nothing runs, whether `strangers` are there. Changes nothing.
    pub fn find(dir: &InstanceDir, strangers: impl FnOnce() -> Vec<String>) -> (Found, Vec<Clue>) {
        let unknown = |why: String| Found::Unknown(format!("{} {why}", dir.lock().display()));
        let (lock, pidfd) = match lock_holder(&dir.lock()) {
            Ok(Holder::Nobody) => (Lock::Free, None),
            Ok(Holder::Hidden) => (Lock::Hidden, None),
            Ok(Holder::Pid(pid)) => match sight(pid) {
                Some((pidfd, seen)) => (Lock::Held(pid, Some(seen)), Some(pidfd)),
                None => (Lock::Held(pid, None), None),
            },
            Err(error) => return (unknown(format!("is not to be read: {error}")), Vec::new()),
        };
        let strangers = if lock == Lock::Free { strangers() } else { Vec::new() };
        let written = Record::read(&dir.record());
        let run = written.run();
        let Judgement { standing, clues } =
            judge(&Facts { boot_id: boot_id(), home: dir.inode(), written, lock, strangers });
        let found = match (standing, pidfd) {
            (Standing::Ours(pid), Some(pidfd)) => Found::Ours(Self { pid, pidfd, child: None, stopping: None, run }),
            (Standing::Gone, _) => Found::Nothing,
            (Standing::Foreign(who), _) => Found::Foreign(who),
            (Standing::Unknown(why), _) => unknown(why),
            (Standing::Ours(pid), None) => unknown(format!("is held by pid {pid}, which has just gone")),
        };
        (found, clues)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The state that the kernel says it is in, a letter of proc(5); none when it has just gone.
    pub fn state(&self) -> Option<char> {
        Some(procfs::process::Process::new(self.pid).ok()?.stat().ok()?.state)
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
    /// Not synced: it has to outlive the agent, and not the kernel. After a boot of the machine whatever is there,
    /// torn, old or nothing, is of another boot, and the lock is free. Syncs cost more than all the rest of a start.
    fn write(&self, path: &Path) -> io::Result<()> {
        durable::write_until_boot(path, &serde_json::to_vec(self).map_err(io::Error::other)?, 0o600)
    }

    /// On the disk when it returns.
    fn engrave(&self, path: &Path) -> io::Result<()> {
        durable::write(path, &serde_json::to_vec(self).map_err(io::Error::other)?, 0o600)
    }

    fn read(path: &Path) -> Written {
        match fs::read(path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(record)) => Written::Record(record),
            Ok(Err(_)) => Written::Torn,
            Err(_) => Written::Nothing,
        }
    }
}

/// What is written down about the last server at that port.
pub fn written(dir: &InstanceDir) -> Written {
    Record::read(&dir.record())
}

/// How many processes the kernel has killed for lack of memory since it booted (/proc/vmstat, Linux 4.13); of which
/// cgroup or whether of ours it does not say.
pub fn oom_kills() -> u64 {
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
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
        flock_soon(lock)?;
        fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: the closure makes system calls and allocates nothing, which is all that may be done between fork and exec
    // (signal-safety(7)).
    unsafe { command.pre_exec(steps) };
}

/// Tries at a lock that one of us may have for a moment: who looks at it is gone in microseconds, who renames a
/// directory in some ms, and no file says when.
const TRIES: u32 = 100;
/// Between two of them.
const TRY_AGAIN: Duration = Duration::from_millis(1);

fn flock_now(lock: BorrowedFd) -> rustix::io::Result<()> {
    rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
}

/// Takes a lock, or says that somebody has it for longer than a look takes (`WOULDBLOCK`).
fn flock_soon(lock: BorrowedFd) -> rustix::io::Result<()> {
    for _ in 1..TRIES {
        match flock_now(lock) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(TRY_AGAIN),
            taken => return taken,
        }
    }
    flock_now(lock)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("not a pid"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The lock of a port, held by us for a moment.
#[derive(Debug)]
pub struct Hold(File);

impl Drop for Hold {
    fn drop(&mut self) {
        // Not left to the close: a child of ours that is just being started has the descriptor too, until its exec.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Takes the lock of a port, if nobody has it: then nothing of its process tree is left, and nothing can begin.
pub fn hold(dir: &InstanceDir) -> io::Result<Option<Hold>> {
    let file = open_lock(&dir.lock())?;
    match flock_soon(file.as_fd()) {
        Ok(()) => Ok(Some(Hold(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
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
    let inode = file.metadata()?.ino();
    for nth in 1..TRIES {
        match flock_now(file.as_fd()) {
            Ok(()) => {
                drop(Hold(file));
                return Ok(Holder::Nobody);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        match flocked_by(inode)? {
            // Another thread of ours.
            Some(pid) if u32::try_from(pid) == Ok(std::process::id()) => std::thread::sleep(TRY_AGAIN),
            Some(pid) => return Ok(Holder::Pid(pid)),
            // Let go between the two looks.
            None if nth < 3 => {}
            None => return Ok(Holder::Hidden),
        }
    }
    Ok(flocked_by(inode)?.map_or(Holder::Hidden, Holder::Pid))
}

/// Who has taken the lock of that file, as far as the kernel says it.
fn flocked_by(inode: u64) -> io::Result<Option<i32>> {
    let locks = procfs::locks().map_err(io::Error::other)?;
    let held = locks.into_iter().find(|lock| lock.inode == inode && matches!(lock.lock_type, procfs::LockType::FLock));
    Ok(held.and_then(|lock| lock.pid).filter(|pid| *pid > 0))
}

/// What the kernel says of a process, and the pidfd that it was looked at through. That comes first: what is read after
/// it is about that very process.
fn sight(pid: i32) -> Option<(OwnedFd, Sighting)> {
    let pidfd = open_pidfd(pid).ok()?;
    let process = procfs::process::Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    let nonce = process.environ().map_err(|error| error.to_string()).map(|environment| {
        environment.get(std::ffi::OsStr::new(NONCE)).map(|nonce| nonce.to_string_lossy().into_owned())
    });
    let cwd = fs::metadata(format!("/proc/{pid}/cwd")).ok().map(|meta| (meta.dev(), meta.ino()));
    Some((pidfd, Sighting { comm: stat.comm, state: stat.state, start_ticks: stat.starttime, nonce, cwd }))
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
