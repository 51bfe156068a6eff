//! Processes as /proc shows them, and the init that a world needs.
//!
//! A redis-server outlives its agent and is then a child of the nearest subreaper. Where PID 1 does not reap (in many
//! containers), dead ones would stay zombies for ever and look alive to careless eyes. So the test's process is the
//! subreaper and buries them, as an init does, but never a child that somebody here waits for.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, Once},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        signal::{self, Signal},
        wait::waitpid,
    },
    unistd::Pid,
};

/// Children that have a `Child` of std somewhere in this process, which wants their exit status.
static OWNED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// What is adopted when its parent dies. Only these are buried: for a `redis-cli` that a test has just run, that test
/// waits itself.
const ORPHANS: [&str; 4] = ["redis-server", "valkey-server", "muster-agent", "fake-redis"];

fn owned() -> MutexGuard<'static, BTreeSet<i32>> {
    // A test that panicked while it held this has not left the set half-changed.
    OWNED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Makes this process the init of everything that it starts. Again and again is the same as once.
pub fn become_init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        prctl::set_child_subreaper(true).expect("Linux since 3.4 has subreapers");
        thread::spawn(|| {
            loop {
                bury_orphans();
                thread::sleep(Duration::from_millis(10));
            }
        });
    });
}

/// Starts a child that will be waited for here.
pub fn spawn_owned(command: &mut Command) -> Child {
    // Held over the spawn: a child that ends at once must not be buried before it is known.
    let mut owned = owned();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    owned.insert(child.id() as i32);
    child
}

/// Waits for the end of a child that [`spawn_owned`] started.
pub fn wait_owned(child: &mut Child) {
    child.wait().expect("an owned child can be waited for");
    owned().remove(&(child.id() as i32));
}

/// Runs a child to its end, with both streams read.
pub fn run_owned(command: &mut Command) -> Output {
    run_fed(command, "")
}

/// The same, with something on its standard input.
pub fn run_fed(command: &mut Command, input: &str) -> Output {
    let mut child = spawn_owned(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let pid = child.id() as i32;
    // One that wants nothing may have ended already.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("an owned child can be waited for");
    owned().remove(&pid);
    output
}

fn bury_orphans() {
    let owned = owned();
    let ours = std::process::id() as i32;
    for process in all().filter(|process| process.zombie && process.parent == ours) {
        if ORPHANS.contains(&&*process.name) && !owned.contains(&process.pid) {
            // It may have been buried by another way; either way it is gone.
            let _ = waitpid(Pid::from_raw(process.pid), None);
        }
    }
}

/// A process, as /proc/PID/stat shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// The first 15 bytes of its program's name.
    pub name: String,
    /// It has ended and waits to be buried.
    pub zombie: bool,
    /// Its parent.
    pub parent: i32,
}

/// Its children, zombies too.
pub fn children(parent: i32) -> Vec<Process> {
    all().filter(|process| process.parent == parent).collect()
}

/// All of this machine, as far as /proc shows them.
pub fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| look(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

/// One process; none when there is none.
pub fn look(pid: i32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `PID (NAME) STATE PPID ...`, where the name may hold anything, parentheses too.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut words = tail.split_ascii_whitespace();
    let zombie = matches!(words.next()?, "Z" | "X");
    Some(Process { pid, name: name.to_owned(), zombie, parent: words.next()?.parse().ok()? })
}

/// A living child of that one; any, where it has some.
pub fn child_of(pid: i32) -> Option<Process> {
    all().find(|process| process.parent == pid && !process.zombie)
}

/// Whether it is there and no zombie.
pub fn alive(pid: i32) -> bool {
    look(pid).is_some_and(|process| !process.zombie)
}

/// Living processes whose working directory is `root` or below, ascending. A directory that was removed still counts.
pub fn living_in(root: &Path) -> Vec<i32> {
    let within = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd: PathBuf| cwd.starts_with(root));
    let mut pids: Vec<i32> =
        all().filter(|process| !process.zombie).map(|process| process.pid).filter(within).collect();
    pids.sort_unstable();
    pids
}

/// The working directory of each of these that is alive, in their order.
pub fn directories(pids: &[i32]) -> Vec<PathBuf> {
    pids.iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok()).collect()
}

/// Sends a signal. That there is no such process any more is no error.
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "pid {pid} is not a process to send {signal} to");
    match signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => panic!("{signal} to pid {pid}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;

    #[test]
    fn a_name_with_parentheses_is_read_whole() {
        let process = parse(7, "7 (a) b (c) Z 42 7 7 0").unwrap();
        assert_eq!(process, Process { pid: 7, name: "a) b (c".into(), zombie: true, parent: 42 });
    }

    #[test]
    fn this_process_is_alive_and_a_made_up_one_is_not() {
        assert!(alive(std::process::id() as i32));
        assert!(!alive(i32::MAX));
    }

    #[test]
    fn an_orphaned_server_is_buried_here() {
        become_init();
        let home = tempfile::tempdir().unwrap();
        // One that listens nowhere ends at once.
        let orphan = "redis-server --port 0 --unixsocket socket --save '' >/dev/null 2>&1 & echo $!";
        let output = Command::new("sh").args(["-c", orphan]).current_dir(home.path()).output().unwrap();
        let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        // Until it has become redis-server it is still called sh, and not ours to bury.
        eventually(Duration::from_secs(10), "it runs as redis-server", || {
            let name = look(pid).map(|process| process.name);
            if name.as_deref() == Some("redis-server") { Ok(()) } else { Err(format!("{name:?}")) }
        });
        signal(pid, Signal::SIGKILL);
        eventually(Duration::from_secs(10), "it is no zombie", || {
            look(pid).map_or(Ok(()), |left| Err(format!("{left:?}")))
        });
    }

    #[test]
    fn who_lives_in_a_directory_is_found_and_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        assert!(living_in(home.path()).is_empty());
        let mut child = spawn_owned(Command::new("sleep").arg("60").current_dir(home.path()));
        assert_eq!(living_in(home.path()), [child.id() as i32]);
        signal(child.id() as i32, Signal::SIGKILL);
        wait_owned(&mut child);
        assert!(living_in(home.path()).is_empty());
    }
}
