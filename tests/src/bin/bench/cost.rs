//! What agents and the coordinator cost while nothing happens.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, thread, time::Duration};

use muster_tests::World;
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// Looked at for this long. /proc counts processor time in steps of 10 ms, so that one step is 0.05 % here.
const WINDOW: Duration = Duration::from_secs(20);
/// The goals, for an agent with three instances.
const RSS_KIB: u64 = 12 * 1024;
const CPU_PERCENT: f64 = 0.2;

/// One process.
#[derive(Debug, Serialize)]
pub struct Cost {
    name: String,
    /// Memory in use, shared pages counted whole.
    rss_kib: u64,
    /// The same, shared pages counted in parts.
    pss_kib: u64,
    /// Of one core.
    cpu_percent: f64,
    /// How often a thread of it went to sleep, and so was woken: its voluntary context switches.
    wakeups_per_s: f64,
}

/// All of them.
#[derive(Debug, Serialize)]
pub struct Idle {
    instances_per_agent: u16,
    window_s: u64,
    processes: Vec<Cost>,
}

/// Measures a world that is left alone meanwhile.
pub fn idle(world: &mut World, hosts: u16, instances_per_agent: u16) -> Idle {
    eprintln!("idle for {} s ...", WINDOW.as_secs());
    let mut pids = vec![("muster-coordinator".to_owned(), world.coordinator().pid())];
    for nth in 1..=hosts {
        let host = format!("server{nth}");
        pids.push((format!("muster-agent of {host}"), world.agent(&host).pid()));
    }
    let before: Vec<_> = pids.iter().map(|(_, pid)| (cpu_seconds(*pid), wakeups(*pid))).collect();
    thread::sleep(WINDOW);
    let cost = |((name, pid), (cpu, woken)): (&(String, i32), (f64, Woken))| Cost {
        name: name.clone(),
        rss_kib: kib(*pid, "status", "VmRSS:"),
        pss_kib: kib(*pid, "smaps_rollup", "Pss:"),
        cpu_percent: (cpu_seconds(*pid) - cpu) / WINDOW.as_secs_f64() * 100.0,
        wakeups_per_s: woken_since(&woken, *pid) as f64 / WINDOW.as_secs_f64(),
    };
    let processes = pids.iter().zip(before).map(cost).collect();
    Idle { instances_per_agent, window_s: WINDOW.as_secs(), processes }
}

/// User and system time of all its threads, those that have ended too.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, tail) = stat.rsplit_once(") ").unwrap();
    // Fields 14 and 15 of proc(5), of which `tail` begins with the third.
    let ticks: u64 = tail.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64
}

/// By thread, how often it went to sleep.
type Woken = BTreeMap<PathBuf, u64>;

fn wakeups(pid: i32) -> Woken {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let count = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((task.path(), line.trim().parse().ok()?))
    };
    tasks.filter_map(count).collect()
}

/// Of the threads that are there now. One that has ended meanwhile does not count; an idle daemon starts none.
fn woken_since(before: &Woken, pid: i32) -> u64 {
    wakeups(pid).iter().map(|(task, now)| now - before.get(task).copied().unwrap_or(0)).sum()
}

fn kib(pid: i32, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nIdle for {} s, {} instances an agent", self.window_s, self.instances_per_agent)?;
        writeln!(f, "  {:<26}{:>12}{:>12}{:>12}{:>14}", "", "RSS", "PSS", "CPU", "wake-ups/s")?;
        for cost in &self.processes {
            let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
            let cpu = format!("{:.2} %", cost.cpu_percent);
            let (rss, pss) = (mib(cost.rss_kib), mib(cost.pss_kib));
            writeln!(f, "  {:<26}{rss:>12}{pss:>12}{cpu:>12}{:>14.1}", cost.name, cost.wakeups_per_s)?;
        }
        if self.instances_per_agent != 3 {
            return Ok(());
        }
        let mut agents = self.processes.iter().filter(|cost| cost.name.starts_with("muster-agent"));
        let met = agents.all(|cost| cost.rss_kib < RSS_KIB && cost.cpu_percent < CPU_PERCENT);
        let verdict = if met { "met" } else { "MISSED" };
        writeln!(f, "  goal: an agent under {} MiB RSS and {CPU_PERCENT} % of a core: {verdict}", RSS_KIB / 1024)
    }
}
