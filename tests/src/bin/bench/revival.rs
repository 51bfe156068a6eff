//! From SIGKILL of an instance to its successor's exec, and to its first PONG: under an agent, under systemd's
//! `Restart=always` as it is by default (it waits `RestartSec`, 100 ms), and under a shell's endless loop.
//!
//! All three start the same server with the same settings of a cluster node without data. Under the agent every kill
//! is another instance of thirty, because a second end within five minutes is answered after a pause, on purpose.

use std::{
    fmt, fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use muster_tests::{World, processes, soak::talk::Talk, subnet::Subnet};
use nix::sys::signal::Signal;
use serde::Serialize;

/// Kills under each.
const KILLS: usize = 30;
/// Between two looks.
const LOOK: Duration = Duration::from_micros(200);
/// Most that a successor may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// systemd.service(5): the default of RestartSec.
const RESTART_SEC: Duration = Duration::from_millis(100);
/// From SIGKILL to exec, when a restart is safe.
const GOAL_MS: f64 = 20.0;

/// What one kill took.
#[derive(Debug, Clone, Copy)]
struct Took {
    exec: Duration,
    pong: Duration,
}

/// One side.
#[derive(Debug, Serialize)]
pub struct Side {
    name: &'static str,
    kills: usize,
    exec_median_ms: f64,
    exec_most_ms: f64,
    pong_median_ms: f64,
    pong_most_ms: f64,
}

/// All sides.
#[derive(Debug, Serialize)]
pub struct Revival(Vec<Side>);

/// Measures them; `world` has a formed cluster `bench` of thirty masters on `server1`.
pub fn run(world: &mut World) -> Revival {
    eprintln!("killing {KILLS} instances under each supervisor ...");
    Revival(vec![under_the_agent(world), under_systemd(), under_a_shell()])
}

fn under_the_agent(world: &mut World) -> Side {
    let agent = world.agent("server1").pid();
    let status = world.status("bench").unwrap();
    let kill = |one: &muster_tests::Instance| kill(agent, one.pid.unwrap(), &one.endpoint());
    Side::of("Muster", &status.instances.iter().take(KILLS).map(kill).collect::<Vec<_>>())
}

/// Waits for the end, waits RestartSec, execs: what a manager with `Restart=always` does.
fn under_systemd() -> Side {
    supervised("Restart=always, 100 ms", |server, enough| {
        let (mut command, enough) = (server, enough.clone());
        let thread = thread::spawn(move || {
            while !enough.load(Ordering::Relaxed) {
                processes::wait_owned(&mut processes::spawn_owned(&mut command));
                thread::sleep(RESTART_SEC);
            }
        });
        (std::process::id() as i32, Box::new(move || thread.join().unwrap()))
    })
}

fn under_a_shell() -> Side {
    supervised("while :; do ...; done", |server, _| {
        let words = [server.get_program()].into_iter().chain(server.get_args());
        let line: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("while :; do {} >/dev/null; done", line.join(" "))]);
        let mut child = processes::spawn_owned(shell.stdin(Stdio::null()).stderr(Stdio::null()));
        let pid = child.id() as i32;
        let end = move || {
            processes::signal(pid, Signal::SIGKILL);
            processes::wait_owned(&mut child);
        };
        (pid, Box::new(end))
    })
}

type Ending = Box<dyn FnOnce()>;

/// Starts a server under a supervisor, kills it again and again, and ends both.
fn supervised(name: &'static str, begin: impl FnOnce(Command, &Arc<AtomicBool>) -> (i32, Ending)) -> Side {
    let (subnet, home) = (Subnet::lease(), tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").unwrap());
    let endpoint = format!("{}:7000", subnet.address(1));
    let enough = Arc::new(AtomicBool::new(false));
    let (supervisor, end) = begin(server(&endpoint, home.path()), &enough);
    let began = Instant::now();
    until_pong(&endpoint, began);
    let running = || children(supervisor).into_iter().find(|pid| lives_in(*pid, home.path()));
    let took: Vec<_> = (0..KILLS).map(|_| kill(supervisor, running().unwrap(), &endpoint)).collect();
    enough.store(true, Ordering::Relaxed);
    let last = running();
    // The supervisor first, where it would start another.
    if supervisor != std::process::id() as i32 {
        end();
        last.into_iter().for_each(|pid| processes::signal(pid, Signal::SIGKILL));
    } else {
        last.into_iter().for_each(|pid| processes::signal(pid, Signal::SIGKILL));
        end();
    }
    while !processes::living_in(home.path()).is_empty() {
        assert!(began.elapsed() < PATIENCE * 10, "{:?} are left", processes::living_in(home.path()));
        thread::sleep(LOOK);
    }
    Side::of(name, &took)
}

fn server(endpoint: &str, home: &Path) -> Command {
    let (address, port) = endpoint.split_once(':').unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--port", port, "--bind", address, "--cluster-enabled", "yes", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(home).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Kills a server that is a supervisor's to start again.
fn kill(supervisor: i32, pid: i32, endpoint: &str) -> Took {
    let before = children(supervisor);
    let began = Instant::now();
    processes::signal(pid, Signal::SIGKILL);
    while !children(supervisor).iter().any(|child| *child != pid && !before.contains(child) && is_server(*child)) {
        assert!(began.elapsed() < PATIENCE, "{endpoint}: no successor of pid {pid} within {PATIENCE:?}");
        thread::sleep(LOOK);
    }
    let exec = began.elapsed();
    until_pong(endpoint, began);
    Took { exec, pong: began.elapsed() }
}

fn until_pong(endpoint: &str, began: Instant) {
    let pong = || Talk::to(endpoint, Duration::from_secs(1)).and_then(|mut talk| talk.text(&["PING"])).is_ok();
    while !pong() {
        assert!(began.elapsed() < PATIENCE, "{endpoint} does not answer within {PATIENCE:?}");
        thread::sleep(LOOK);
    }
}

/// The children of all its threads.
fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks
        .map(of)
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// It has become one: before its exec it is called what its parent is.
fn is_server(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "redis-server")
}

fn lives_in(pid: i32, home: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == home)
}

impl Side {
    fn of(name: &'static str, took: &[Took]) -> Self {
        let sorted = |of: fn(&Took) -> Duration| {
            let mut all: Vec<f64> = took.iter().map(|one| of(one).as_secs_f64() * 1000.0).collect();
            all.sort_by(f64::total_cmp);
            (all[(all.len() - 1) / 2], all[all.len() - 1])
        };
        let (exec_median_ms, exec_most_ms) = sorted(|took| took.exec);
        let (pong_median_ms, pong_most_ms) = sorted(|took| took.pong);
        Self { name, kills: took.len(), exec_median_ms, exec_most_ms, pong_median_ms, pong_most_ms }
    }
}

impl fmt::Display for Revival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nFrom SIGKILL of an instance to its successor, {KILLS} kills each")?;
        writeln!(f, "  {:<26}{:>14}{:>12}{:>14}{:>12}", "", "exec, median", "most", "PONG, median", "most")?;
        for side in &self.0 {
            let ms = |ms: f64| format!("{ms:.1} ms");
            writeln!(
                f,
                "  {:<26}{:>14}{:>12}{:>14}{:>12}",
                side.name,
                ms(side.exec_median_ms),
                ms(side.exec_most_ms),
                ms(side.pong_median_ms),
                ms(side.pong_most_ms)
            )?;
        }
        let met = self.0.iter().take(1).all(|muster| muster.exec_median_ms < GOAL_MS);
        writeln!(f, "  goal: exec in under {GOAL_MS} ms: {}", if met { "met" } else { "MISSED" })
    }
}
