//! A pid namespace: a place where it can be said which pid the next process gets, and so where a pid is used again at
//! once and not after hours. It takes root; on a machine that has not that, a test that needs it fails and says so.
//!
//! ```text
//!   the test ── unshare ── init (sleep)      pid 1 in there: whoever loses his parent becomes its child, and is buried
//!            └─ nsenter ── muster-agent      by the kernel, because it ignores SIGCHLD
//!                             └─ redis-server
//! ```

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{eventually, processes};

/// Everything here is the kernel's work, and done at once.
const SOON: Duration = Duration::from_secs(10);
/// Somebody else may fork in there between the wish and the fork.
const TRIES: usize = 20;

/// See the module. Dropping it kills all that lives in it.
#[derive(Debug)]
pub struct PidSpace {
    unshare: Child,
    init: i32,
}

impl PidSpace {
    /// A new one, with a /proc of its own.
    #[expect(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        processes::become_init();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "env", "--ignore-signal=CHLD", "sleep", "infinity"]);
        // It complains when it is ended from outside.
        let unshare = processes::spawn_owned(command.stdin(Stdio::null()).stderr(Stdio::null()));
        let init = eventually(SOON, "a pid namespace (unshare takes root)", || {
            let init = processes::child_of(unshare.id() as i32).ok_or("its init is not there")?;
            if init.name == "sleep" { Ok(init.pid) } else { Err(format!("{init:?}")) }
        });
        Self { unshare, init }
    }

    /// What a command is started by to live in there. It is then a child of what these words start.
    pub fn words(&self) -> [String; 6] {
        let init = self.init.to_string();
        ["nsenter", "--target", &init, "--pid", "--mount", "--"].map(str::to_owned)
    }

    /// Our pid of the process that has this one in there.
    pub fn outside(&self, pid: i32) -> Option<i32> {
        let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = space(self.init);
        processes::all().map(|process| process.pid).find(|outer| inner(*outer) == Some(pid) && space(*outer) == ours)
    }

    /// Starts a command in a directory under that pid, which must be free, and returns our pid of it.
    ///
    /// # Panics
    /// When it cannot have that pid.
    #[track_caller]
    pub fn start_as(&self, pid: i32, home: &Path, command: &[&str]) -> i32 {
        // The kernel gives the next pid that is free after the last one.
        let script = "echo $1 > /proc/sys/kernel/ns_last_pid; shift; \"$@\" </dev/null >/dev/null 2>&1 & echo $!";
        for _ in 0..TRIES {
            let words = self.words();
            let mut shell = Command::new(&words[0]);
            shell.args(&words[1..]).args(["sh", "-c", script, "sh"]).arg((pid - 1).to_string()).args(command);
            let output = processes::run_owned(shell.current_dir(home));
            let got: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
            let outer = self.outside(got).unwrap_or_else(|| panic!("{command:?} did not start: {output:?}"));
            if got == pid {
                return outer;
            }
            processes::signal(outer, Signal::SIGKILL);
        }
        panic!("pid {pid} was not given in {TRIES} tries");
    }
}

/// Its pid in its own namespace.
fn inner(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}

impl Drop for PidSpace {
    fn drop(&mut self) {
        // The kernel kills all that is left in there.
        processes::signal(self.init, Signal::SIGKILL);
        processes::wait_owned(&mut self.unshare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_used_again_by_somebody_else() {
        let (space, home) = (PidSpace::new(), tempfile::tempdir().unwrap());
        let first = space.start_as(4711, home.path(), &["sleep", "1000"]);
        assert_eq!(space.outside(4711), Some(first));
        processes::signal(first, Signal::SIGKILL);
        eventually(SOON, "it is gone", || space.outside(4711).map_or(Ok(()), |pid| Err(format!("{pid}"))));
        let second = space.start_as(4711, home.path(), &["sleep", "1000"]);
        assert_ne!(first, second);
        drop(space);
        assert!(!processes::alive(second));
    }
}
