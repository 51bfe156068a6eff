//! Puts servers into their scopes ([`scope`](crate::scope)): asks systemd through busctl(1), and believes /proc.
//!
//! One small task a server, which ends when that is done or the server is gone. It holds up nothing: what fails is said
//! and tried again. One is asked for at a time, so that the start of many servers does not become a start of many
//! busctl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use muster_proto::{Port, printable};
use tokio::{
    process::Command,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use crate::{
    keeper::Event,
    scope::{self, Manager, NEWER, PATIENCE, Wish},
};

/// For an answer that takes some milliseconds; systemd may be busy with a boot.
const ANSWER: Duration = Duration::from_secs(6);
/// systemd answers first and moves the process then, which it does at once unless something is in its way.
const MOVE: Duration = Duration::from_millis(20);
/// So often is looked whether it has.
const LOOKS: u32 = 25;

/// Counts the processes of a cgroup that the kernel has killed for lack of memory.
#[derive(Debug)]
pub struct Gauge {
    file: PathBuf,
    before: u64,
}

/// Who has started this process: sd_booted(3), and the unit that it is in.
pub fn manager() -> Manager {
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if Path::new("/run/systemd/system").is_dir() { Manager::of(&cgroup) } else { Manager::Other }
}

/// Until it is so.
pub async fn ensure(port: Port, wish: Wish, events: mpsc::Sender<Event>) {
    let say = |said| events.send(Event::Scoped(port, wish.pid, said));
    let mut failures = 0;
    loop {
        let failed = match cgroup(wish.pid) {
            None => return,
            Some(cgroup) if scope::is_in(&cgroup, &wish.name) => {
                let _ = say(Ok(Gauge::of(&cgroup))).await;
                return;
            }
            Some(_) => match ask(&wish).await {
                Ok(()) if moved(&wish).await => continue,
                Ok(()) => "systemd has answered, and has not moved the server".to_owned(),
                Err(words) => words,
            },
        };
        failures += 1;
        if failures == PATIENCE && say(Err(format!("{} cannot be had: {failed}", wish.name))).await.is_err() {
            return;
        }
        sleep(scope::pause(failures)).await;
    }
}

fn cgroup(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

async fn moved(wish: &Wish) -> bool {
    for _ in 0..LOOKS {
        if cgroup(wish.pid).is_none_or(|cgroup| scope::is_in(&cgroup, &wish.name)) {
            return true;
        }
        sleep(MOVE).await;
    }
    false
}

/// First for all of it; where systemd has not known that, without it from there on.
async fn ask(wish: &Wish) -> Result<(), String> {
    static ONE: Semaphore = Semaphore::const_new(1);
    static OLD: AtomicBool = AtomicBool::new(false);
    let _sole = ONE.acquire().await.map_err(|error| error.to_string())?;
    match call(&scope::request(wish, !OLD.load(Ordering::Relaxed))).await {
        Err(words) if words.contains(NEWER) => {
            OLD.store(true, Ordering::Relaxed);
            call(&scope::request(wish, false)).await
        }
        outcome => outcome,
    }
}

async fn call(words: &[String]) -> Result<(), String> {
    let mut command = Command::new("busctl");
    command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(ANSWER, output).await.map_err(|_| format!("busctl did not answer within {ANSWER:?}"))?;
    let output = output.map_err(|error| format!("cannot run busctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(printable(said.trim().trim_start_matches("Call failed: ")))
}

impl Gauge {
    /// Of the cgroup that a process is in, from now on; none where the kernel does not count.
    fn of(cgroup: &str) -> Option<Self> {
        // Where the old controllers are mounted beside it, the unified hierarchy is below `unified`; its counts are
        // not asked for there.
        let file = Path::new("/sys/fs/cgroup").join(scope::oom_file(cgroup)?);
        let before = scope::oom_kills(&fs::read_to_string(&file).ok()?)?;
        Some(Self { file, before })
    }

    /// Whether there were any since; none when the cgroup is gone, which systemd sees to soon after its last process.
    pub fn has_risen(&self) -> Option<bool> {
        Some(scope::oom_kills(&fs::read_to_string(&self.file).ok()?)? > self.before)
    }
}
