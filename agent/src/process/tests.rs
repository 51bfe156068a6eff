//! Real processes: `/bin/sh` stands in for the server, and its redis.conf is the script that it runs.

use std::os::unix::process::ExitStatusExt as _;

use muster_proto::Port;
use nix::sys::{
    prctl::set_child_subreaper,
    signal::{self, kill},
    wait::waitpid,
};

use super::*;
use crate::samples::{alone, files, layout, stamp};

const SLEEP: &str = "exec sleep 1000";

/// An instance whose server runs until the test ends.
struct Running {
    dir: InstanceDir,
    process: Process,
    _base: tempfile::TempDir,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Running {
    fn of(script: &str) -> Self {
        let alone = alone();
        let (base, layout) = layout();
        let dir = layout.instance(stamp().port);
        dir.establish(&stamp(), &files(script, "")).unwrap();
        let process = Process::spawn(&dir, Path::new("/bin/sh"), None, 3).unwrap();
        Self { dir, process, _base: base, _alone: alone }
    }

    fn end(&mut self) -> ExitStatus {
        self.process.kill().unwrap();
        self.process.child.as_mut().unwrap().wait().unwrap()
    }

    fn record(&self) -> Record {
        match Record::read(&self.dir.record()) {
            Written::Record(record) => record,
            lost => panic!("{lost:?}"),
        }
    }

    /// What is found when something else is written down.
    fn found_with(&self, change: impl FnOnce(&mut Record)) -> String {
        let (before, mut record) = (self.record(), self.record());
        change(&mut record);
        record.write(&self.dir.record()).unwrap();
        let found = found(&self.dir);
        before.write(&self.dir.record()).unwrap();
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.child.as_mut().map(Child::wait);
    }
}

fn found(dir: &InstanceDir) -> String {
    match Process::find(dir, Vec::new).0 {
        Found::Nothing => "nothing".into(),
        Found::Ours(process) => format!("ours {}", process.pid()),
        Found::Foreign(who) => format!("foreign: {who}"),
        Found::Unknown(why) => {
            let why = why.replace(&dir.lock().display().to_string(), "LOCK");
            let words =
                why.split(' ').map(|word| if word.trim_end_matches(',').parse::<i32>().is_ok() { "N" } else { word });
            format!("unknown: {}", words.collect::<Vec<_>>().join(" "))
        }
    }
}

/// The process has become what its script execs; before that, its name is the shell's.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_server_holds_its_lock_and_is_found_again() {
    let mut server = Running::of(SLEEP);
    let ours = format!("ours {}", server.process.pid());
    assert_eq!(found(&server.dir), ours);
    assert_eq!(found(&server.dir), ours, "looking changes nothing");
    server.end();
    assert_eq!(found(&server.dir), "nothing");
}

#[test]
fn a_server_lives_in_its_directory_in_its_own_session_with_nothing_of_ours() {
    let server = Running::of("env > env; echo words; exec sleep 1000");
    let shown = || fs::read_to_string(server.dir.output()).unwrap_or_default();
    until("its output", || shown() == "words\n");
    let env = fs::read_to_string(server.dir.path().join("env")).unwrap();
    let names: Vec<_> = env
        .lines()
        .filter_map(|line| line.split('=').next())
        .filter(|n| !["PWD", "_", "OLDPWD", "SHLVL"].contains(n))
        .collect();
    assert_eq!(names.len(), 2, "PATH and the nonce: {names:?}");
    assert!(env.contains(&format!("{NONCE}={}", server.record().nonce)), "{env}");
    let stat = procfs::process::Process::new(server.process.pid()).unwrap().stat().unwrap();
    assert_eq!(stat.session, server.process.pid(), "a session of its own");
}

#[test]
fn a_second_server_is_not_started_and_the_first_stays_ours() {
    let server = Running::of(SLEEP);
    let second = Process::spawn(&server.dir, Path::new("/bin/sh"), None, 3).unwrap_err();
    assert!(matches!(second, SpawnError::Locked(_)), "{second:?}");
    assert_eq!(found(&server.dir), format!("ours {}", server.process.pid()));
}

#[test]
fn a_server_that_cannot_be_run_leaves_nothing_behind() {
    let mut server = Running::of(SLEEP);
    server.end();
    let none = Process::spawn(&server.dir, Path::new("/nonexistent/redis-server"), None, 3).unwrap_err();
    assert!(matches!(none, SpawnError::Exec(..)), "{none:?}");
    assert_eq!(found(&server.dir), "nothing");
}

#[test]
fn nothing_is_believed_that_the_kernel_does_not_say_too() {
    let server = Running::of(SLEEP);
    let comm = || procfs::process::Process::new(server.process.pid()).unwrap().stat().unwrap().comm;
    until("its exec", || comm() == "sleep");
    let ours = format!("ours {}", server.process.pid());
    let says = |found: String, why: &str| {
        assert_eq!(found, format!("unknown: LOCK is held by pid N (sleep), and its {why}"));
    };
    says(server.found_with(|record| record.boot_id = "another".into()), "record is of another boot");
    let other = "identity is not that of the one that was started";
    says(server.found_with(|record| record.identity.as_mut().unwrap().start_ticks += 1), other);
    says(server.found_with(|record| record.identity.as_mut().unwrap().pid += 1), other);
    says(server.found_with(|record| record.nonce = Uuid::nil()), "nonce is another than was written down");
    assert_eq!(
        server.found_with(|record| record.identity = None),
        ours,
        "after a crash between fork and identity the nonce is enough"
    );
    let away = server.dir.path().with_extension("away");
    fs::rename(server.dir.path(), &away).unwrap();
    says(found(&server.dir), "working directory is another");
    fs::create_dir(server.dir.path()).unwrap();
    says(found(&server.dir), "working directory is another");
    fs::remove_dir(server.dir.path()).unwrap();
    fs::rename(&away, server.dir.path()).unwrap();
    assert_eq!(found(&server.dir), ours);
    for lost in ["{ torn", ""] {
        fs::write(server.dir.record(), lost).unwrap();
        assert_eq!(found(&server.dir), ours, "a record that does not parse is made up for by the rest");
    }
    fs::remove_file(server.dir.record()).unwrap();
    assert_eq!(found(&server.dir), ours, "so is one that is lost");
}

#[test]
fn a_lock_that_somebody_else_holds_is_unknown() {
    let mut server = Running::of(SLEEP);
    server.end();
    let mut other =
        Command::new("flock").arg("--no-fork").arg(server.dir.lock()).args(["sleep", "1000"]).spawn().unwrap();
    until("its lock", || hold(&server.dir).unwrap().is_none());
    let pid = other.id().to_string();
    assert!(matches!(Process::find(&server.dir, Vec::new).0, Found::Unknown(why) if why.contains(&pid)));
    assert!(matches!(Process::spawn(&server.dir, Path::new("/bin/sh"), None, 4), Err(SpawnError::Locked(_))));
    other.kill().unwrap();
    other.wait().unwrap();
    // Of our own, for longer than a look takes: a child may have it from us.
    let held = hold(&server.dir).unwrap();
    let pid = std::process::id().to_string();
    assert!(matches!(Process::find(&server.dir, Vec::new).0, Found::Unknown(why) if why.contains(&pid)));
    drop(held);
    assert_eq!(found(&server.dir), "nothing");
}

/// As a BGSAVE child does, which outlives its parent by seconds, and writes.
#[test]
fn while_a_child_of_it_lives_the_place_is_not_free() {
    set_child_subreaper(true).unwrap();
    let mut server = Running::of("sleep 1000 & echo $! > child; wait");
    let child = || fs::read_to_string(server.dir.path().join("child")).unwrap_or_default().trim().parse::<i32>();
    until("its child", || child().is_ok());
    let child = nix::unistd::Pid::from_raw(child().unwrap());
    server.process.kill().unwrap();
    let dead = || procfs::process::Process::new(server.process.pid()).unwrap().stat().unwrap().state == 'Z';
    until("its end", dead);
    assert!(found(&server.dir).ends_with("its state is ended; a child of it still lives"), "{}", found(&server.dir));
    server.end();
    assert!(found(&server.dir).starts_with("unknown: "), "{}", found(&server.dir));
    let started = Process::spawn(&server.dir, Path::new("/bin/sh"), None, 3);
    assert!(matches!(started, Err(SpawnError::Locked(_))), "{started:?}");
    kill(child, signal::Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
    assert_eq!(found(&server.dir), "nothing");
}

#[test]
fn its_end_is_seen_and_its_status_collected() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut server = Running::of(SLEEP);
    let (Found::Ours(adopted), _) = Process::find(&server.dir, Vec::new) else { panic!("{}", found(&server.dir)) };
    let (exit, exit_of_adopted) = (server.process.exit().unwrap(), adopted.exit().unwrap());
    assert_eq!(server.process.reap(), None, "it still runs");
    server.process.kill().unwrap();
    runtime.block_on(async {
        let both = async { tokio::join!(exit, exit_of_adopted) };
        tokio::time::timeout(std::time::Duration::from_secs(10), both).await.unwrap();
    });
    assert_eq!(server.process.reap().unwrap().signal(), Some(9));
    let mut adopted = adopted;
    assert_eq!(adopted.reap(), None, "somebody else's child has no status for us");
    assert!(adopted.terminate().is_err(), "a pidfd never signals another process");
    assert_eq!(found(&server.dir), "nothing");
}

#[test]
fn it_is_asked_to_stop_with_sigterm() {
    let mut server = Running::of("trap 'exit 7' TERM; echo ready > ready; while :; do sleep 0.01; done");
    until("its trap", || server.dir.path().join("ready").exists());
    server.process.terminate().unwrap();
    assert_eq!(server.process.child.as_mut().unwrap().wait().unwrap().code(), Some(7));
}

/// The directory belongs to the servers' user, so what is called redis.sock there may lead to anybody.
#[test]
fn the_other_end_of_a_socket_is_known_by_the_kernel_and_not_by_its_name() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let _alone = alone();
    let base = tempfile::tempdir().unwrap();
    let (theirs, ours) = (base.path().join("theirs.sock"), base.path().join("ours.sock"));
    let mut server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--dir"])
        .arg(base.path())
        .arg("--unixsocket")
        .arg(&theirs)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("its socket", || UnixStream::connect(&theirs).is_ok());
    let _listener = UnixListener::bind(&ours).unwrap();
    let [pid, me] = [server.id(), std::process::id()].map(|pid| i32::try_from(pid).unwrap());
    let connect = |path| UnixStream::connect(path).unwrap();
    assert!(peer_is(&connect(&theirs), pid).unwrap() && peer_is(&connect(&ours), me).unwrap());
    fs::remove_file(&ours).unwrap();
    std::os::unix::fs::symlink(&theirs, &ours).unwrap();
    assert!(!peer_is(&connect(&ours), me).unwrap(), "a link to somebody else's socket");
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Nobody waits for it, as where PID 1 does not: signal 0 succeeds, and it holds nothing any more.
#[test]
fn a_server_that_has_ended_and_that_nobody_buries_is_gone() {
    let mut server = Running::of(SLEEP);
    server.process.kill().unwrap();
    until("its end", || server.process.state() == Some('Z'));
    assert_eq!(found(&server.dir), "nothing");
    server.end();
}

/// The lock is looked at while servers are started, and each start forks, so that a child has for a moment what somebody
/// else has just opened.
#[test]
fn looking_at_a_lock_is_never_in_the_way_of_a_start() {
    let _alone = alone();
    let (_base, layout) = layout();
    let ports: [InstanceDir; 2] = [7000, 7001].map(|port| layout.instance(Port::try_from(port).unwrap()));
    for dir in &ports {
        dir.establish(&crate::layout::Stamp { port: dir.port(), ..stamp() }, &files("exit 0", "")).unwrap();
    }
    let (over, ports) = (std::sync::atomic::AtomicBool::new(false), &ports);
    std::thread::scope(|scope| {
        let starts = |dir| {
            move || {
                for run in 1..=50 {
                    let mut process = Process::spawn(dir, Path::new("/bin/sh"), None, run).unwrap();
                    process.child.as_mut().unwrap().wait().unwrap();
                }
            }
        };
        let looks = || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for dir in ports {
                    let found = found(dir);
                    let is_agent = found.contains(&format!("pid {}", std::process::id()));
                    assert!(!is_agent, "nobody is taken for a server who only looks: {found}");
                }
            }
        };
        let starting: Vec<_> = ports.iter().map(|dir| scope.spawn(starts(dir))).collect();
        scope.spawn(looks);
        let ended: Vec<_> = starting.into_iter().map(|thread| thread.join()).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        ended.into_iter().for_each(|thread| thread.unwrap());
    });
}
