//! The stale island: a host that was not there when its cluster was rebuilt, and comes back. Its old masters must not
//! take a client's write once their node timeout has passed, whoever lets them go on, and however often they are looked
//! at; and when its agent is back, all of it is stopped and set aside before anything else.
//!
//! Old and new are asked by clients that know nothing of each other. Tested are the installed redis-server and what
//! `tests/servers.sh` has unpacked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests are tests"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use muster_proto::ServerVersion;
use muster_tests::{
    Data, Instance, Output, Status, World, data, eventually,
    lives::{self, Directory},
    processes, redis,
    soak::talk::{Reply, Talk},
};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(60);
const HOSTS: [(&str, &str); 3] = [("server1", "7000-7002"), ("server2", "7000-7002"), ("server3", "7000-7002")];
const NODE_TIMEOUT: Duration = Duration::from_millis(2000);
/// What a server takes beyond its node timeout to see that it is alone: it looks ten times a second, and notices that a
/// peer does not answer only after it has asked; and this machine may be busy. Measured: 1.0 s, of one that was started
/// by hand, on Redis 7.0.15, 8.0.2 and 8.0.6; on Valkey 8.1.1 and 9.1.2 it takes no write at all.
const MARGIN: Duration = Duration::from_millis(1500);
/// So long is watched after that.
const WATCHED: Duration = Duration::from_millis(4 * 2000);
/// Between two tries of a client.
const PACE: Duration = Duration::from_millis(5);
/// A client that hears nothing for so long dials again.
const PATIENCE: Duration = Duration::from_millis(500);

// --- the servers there are
// --------------------------------------------------------------------------------------------

struct Server {
    binary: PathBuf,
    version: ServerVersion,
}

/// The installed one, and those of `tests/servers.sh`, each version once.
fn servers() -> Vec<Server> {
    let root = std::env::var_os("MUSTER_SERVERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/servers"), PathBuf::from);
    let mut names: Vec<_> = fs::read_dir(&root).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let unpacked =
        names.iter().flat_map(|name| ["redis-server", "valkey-server"].map(|file| name.join("bin").join(file)));
    let mut found: Vec<Server> = Vec::new();
    for binary in [PathBuf::from("/usr/bin/redis-server")].into_iter().chain(unpacked).filter(|binary| binary.exists())
    {
        let output = processes::run_owned(Command::new(&binary).arg("--version"));
        let version = ServerVersion::from_banner(&String::from_utf8_lossy(&output.stdout)).unwrap();
        if !found.iter().any(|other| other.version == version) {
            found.push(Server { binary, version });
        }
    }
    let list: Vec<_> = found.iter().map(|server| server.version.to_string()).collect();
    assert!(!found.is_empty(), "the installed redis-server is missing: make setup, which installs it");
    eprintln!("testing {}; for others: tests/servers.sh all", list.join(", "));
    found
}

// --- the cluster
// ------------------------------------------------------------------------------------------------------

/// Three hosts with a master each, formed, with data, under that server.
fn formed(server: &Server) -> (World, Status) {
    let mut world = World::new(&HOSTS);
    for (host, _) in HOSTS {
        let config = format!("{}redis_server = \"{}\"\n", world.agent(host).config(), server.binary.display());
        world.agent(host).configure(&config);
    }
    world.start();
    let host = |(name, ports): &(&str, &str)| format!("[[hosts]]\nname = \"{name}\"\nports = [\"{ports}\"]\n");
    let hosts: String = HOSTS.iter().map(host).collect();
    let head = "name = \"orders\"\nreplicas = 1\nmasters = 3\nauth = \"none\"\n";
    let settings = "[redis.config]\nappendonly = \"yes\"\ncluster-node-timeout = \"2000\"\n";
    world.muster(&["bootstrap", &world.write("orders.toml", &format!("{head}{hosts}{settings}")), "--yes"]).expect(0);
    let status = lives::standing(&world, "orders");
    Data::write(&status, "old", 300);
    lives::until_latched(&world);
    (world, status)
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let said = format!("{}{}", output.stdout, output.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not said\n{output}");
    }
}

/// Rebuilt without server3, which is not there; the new life, and when it was formed.
#[track_caller]
fn rebuilt_without(world: &World, before: &Status) -> (Status, Instant) {
    world.until_host("server3", "unknown");
    let refused = world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(1);
    says(
        &refused,
        &["MISSING_HOST", "server3", "muster rebuild orders --fence-missing server3", "nothing was changed"],
    );
    // Neither somebody who is there, nor somebody who never was.
    for (host, why) in [("server1", "FENCE_LIVE"), ("server9", "server9")] {
        let line = ["rebuild", "orders", "--fence-missing", host, "--confirm", "orders"];
        says(&world.muster(&line).expect(1), &[why, "nothing was changed"]);
    }
    assert_eq!(world.status("orders").unwrap().node_ids(), before.node_ids());
    let line = ["rebuild", "orders", "--fence-missing", "server3", "--confirm", "orders"];
    says(&world.muster(&line).expect(0), &["ISLAND", "QUARANTINED", "11000"]);
    let formed_at = Instant::now();
    let after = lives::standing(world, "orders");
    assert_eq!((after.incarnation, after.instances.len()), (2, 6));
    assert_eq!(data::count(&after), 0);
    let left: Vec<_> = [7000, 7001, 7002].map(|port| format!("server3:{port} (life 1)")).into();
    assert_eq!(after.quarantined, left);
    says(&world.muster(&["status", "orders"]), &["Quarantined", "server3:7000 (life 1)"]);
    (after, formed_at)
}

// --- clients
// ----------------------------------------------------------------------------------------------------------

/// A client that has nothing but one old server's address, and never gives up.
struct Clinging {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Heard>,
}

/// What it was answered.
#[derive(Debug, Default)]
struct Heard {
    /// When its command was done.
    done: Vec<Instant>,
    /// How often it was refused, and with which words last.
    refused: (u64, String),
}

impl Clinging {
    /// Says that command, over and over: one that the server would have to answer for a slot of its own.
    fn to(endpoint: &str, command: [String; 3]) -> Self {
        let (enough, endpoint) = (Arc::new(AtomicBool::new(false)), endpoint.to_owned());
        let stop = enough.clone();
        let thread = thread::spawn(move || {
            let (mut heard, mut talk) = (Heard::default(), None);
            let words: Vec<_> = command.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(PACE);
                let Some(open) = &mut talk else {
                    talk = Talk::to(&endpoint, PATIENCE).ok();
                    continue;
                };
                match Talk::ask(open, &words) {
                    Ok(Reply::Error(why)) => heard.refused = (heard.refused.0 + 1, why),
                    Ok(_) => heard.done.push(Instant::now()),
                    Err(_) => talk = None,
                }
            }
            heard
        });
        Self { enough, thread }
    }

    fn end(self) -> Heard {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A key of a slot that this master served.
fn key_of(master: &Instance) -> String {
    let (first, last) = master.slots.split(',').next().unwrap().split_once('-').unwrap();
    let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
    let slot = |key: &String| muster_proto::slots::key_slot(key.as_bytes());
    (0..).map(|nth| format!("island:{nth}")).find(|key| (first..=last).contains(&slot(key))).unwrap()
}

/// Watches an old master that has begun to go on at that moment, by clients of its own: within the node timeout it must
/// be silent, and stay so.
#[track_caller]
fn is_silent(what: &str, master: &Instance, formed_at: Instant, goes_on: Instant, clients: [Clinging; 2]) {
    let key = key_of(master);
    let silent_from = formed_at.max(goes_on) + NODE_TIMEOUT + MARGIN;
    let until = silent_from + WATCHED;
    eventually(SOON, "it has been watched for long enough", || {
        if Instant::now() >= until { Ok(()) } else { Err(format!("{:?} more", until - Instant::now())) }
    });
    for (client, deed) in clients.into_iter().zip(["write", "read"]) {
        let heard = client.end();
        let after = |at: &Instant| at.saturating_duration_since(goes_on);
        let last = heard.done.iter().filter(|at| **at >= goes_on).map(after).max().unwrap_or_default();
        eprintln!(
            "{what}: {} {deed}s of {key} done since it goes on, the last after {last:.2?}; {} refused: {}",
            heard.done.iter().filter(|at| **at >= goes_on).count(),
            heard.refused.0,
            heard.refused.1
        );
        let late: Vec<_> = heard.done.iter().filter(|at| **at > silent_from).map(after).collect();
        assert!(late.is_empty(), "{what}: {} {deed}s were done, the first after {:?}", late.len(), late[0]);
        // It was there, and said no: otherwise this has shown nothing.
        assert!(heard.refused.0 > 10, "{what}: {heard:?}");
    }
}

fn clinging(master: &Instance) -> [Clinging; 2] {
    let key = key_of(master);
    let write = Clinging::to(&master.endpoint(), ["SET".into(), key.clone(), "stale".into()]);
    [write, Clinging::to(&master.endpoint(), ["GET".into(), key, String::new()])]
}

// --- afterwards
// -------------------------------------------------------------------------------------------------------

/// How often servers have begun in these directories, as they say themselves.
fn beginnings(directories: &[Directory]) -> Vec<(u16, usize)> {
    let of = |one: &Directory| {
        let log = fs::read_to_string(one.path.join("redis.log")).unwrap();
        (one.stamp.port, log.matches("Server initialized").count())
    };
    directories.iter().map(of).collect()
}

/// The old life on server3 is set aside, nothing runs there, nobody asks for it any more, and the new life has not
/// noticed.
#[track_caller]
fn is_set_aside(world: &World, before: &Status, after: &Status, begun: &[(u16, usize)]) {
    world.until(SOON, "orders", "nothing is quarantined any more", |status| match status.quarantined.is_empty() {
        true => Ok(()),
        false => Err(format!("{:?}", status.quarantined)),
    });
    assert_eq!(world.redis_pids("server3"), Vec::<i32>::new());
    assert_eq!(lives::in_place(world, "server3"), []);
    let trash = lives::all_trash(world);
    lives::are(&trash, before);
    assert_eq!(beginnings(&lives::trash(world, "server3")), begun, "an old life was started again");
    let now = lives::standing(world, "orders");
    assert_eq!((now.incarnation, now.node_ids()), (2, after.node_ids()));
    let pids = |status: &Status| status.instances.iter().map(|one| one.pid).collect::<Vec<_>>();
    assert_eq!(pids(&now), pids(after), "the new life goes on as it was");
    world.muster(&["check", "orders"]).expect(0);
}

/// Freezes everything on server3: its agent first, so that it does nothing about the rest.
fn freeze(world: &mut World) -> Vec<i32> {
    world.agent("server3").freeze();
    let pids = world.redis_pids("server3");
    assert_eq!(pids.len(), 3);
    pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGSTOP));
    pids
}

/// The old master's redis-server, started by a person.
struct ByHand(Child);

impl ByHand {
    fn start(server: &Server, directory: &Path) -> Self {
        let mut command = Command::new(&server.binary);
        command.arg("redis.conf").current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
        Self(processes::spawn_owned(&mut command))
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        processes::signal(self.0.id() as i32, Signal::SIGKILL);
        processes::wait_owned(&mut self.0);
    }
}

// --- the tests
// --------------------------------------------------------------------------------------------------------

#[test]
fn an_old_master_that_was_frozen_and_goes_on_takes_no_write() {
    for server in servers().iter().filter(|server| server.version.major >= 7) {
        // As soon as the new life is formed, and long after that.
        for pause in [Duration::ZERO, NODE_TIMEOUT * 2] {
            let (mut world, before) = formed(server);
            let master = before.master_on("server3").expect("each host has a master").clone();
            freeze(&mut world);
            let (after, formed_at) = rebuilt_without(&world, &before);
            let begun = beginnings(&lives::in_place(&world, "server3"));
            eventually(SOON, "it is time", || if formed_at.elapsed() >= pause { Ok(()) } else { Err(String::new()) });
            // They are there already when it goes on.
            let clients = clinging(&master);
            let goes_on = Instant::now();
            processes::signal(master.pid.unwrap(), Signal::SIGCONT);
            let what = format!("{}, let go on {pause:?} after FORMED", server.version);
            is_silent(&what, &master, formed_at, goes_on, clients);
            // All of them together are an island of three nodes, and no more.
            let clients = clinging(&master);
            let goes_on = Instant::now();
            world.redis_pids("server3").iter().for_each(|pid| processes::signal(*pid, Signal::SIGCONT));
            is_silent(&format!("{}, and its neighbours", server.version), &master, formed_at, goes_on, clients);
            let written = Data::write(&lives::standing(&world, "orders"), "new", 30);

            world.agent("server3").thaw();
            world.until_host("server3", "live");
            is_set_aside(&world, &before, &after, &begun);
            written.is_there(&after);
            assert_eq!(data::count(&lives::standing(&world, "orders")), 30, "nothing of the old life has come over");
        }
    }
}

#[test]
fn an_old_master_that_is_started_by_hand_from_its_directory_takes_no_write() {
    for server in servers().iter().filter(|server| server.version.major >= 7) {
        let (mut world, before) = formed(server);
        let master = before.master_on("server3").expect("each host has a master").clone();
        world.agent("server3").kill();
        let pids = world.redis_pids("server3");
        pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
        eventually(SOON, "they are gone", || match world.redis_pids("server3") {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        let (after, formed_at) = rebuilt_without(&world, &before);
        let place = world.base_dir("server3").join(master.port.to_string());
        let clients = clinging(&master);
        let by_hand = ByHand::start(server, &place);
        eventually(SOON, "it says something", || redis::info(&master.endpoint(), "server").map(drop));
        let goes_on = Instant::now();
        is_silent(&format!("{}, started by hand", server.version), &master, formed_at, goes_on, clients);

        // The agent does not know that server: it names it, leaves it alone, and sets nothing of it aside. The others go.
        let begun = beginnings(&lives::in_place(&world, "server3"));
        world.agent("server3").start();
        world.until_host("server3", "live");
        let name = format!("server3:{} (life 1)", master.port);
        world.until(SOON, "orders", "it alone is quarantined", |status| match &*status.quarantined {
            [one] if *one == name => Ok(()),
            left => Err(format!("{left:?}")),
        });
        assert!(processes::alive(by_hand.0.id() as i32) && place.join("nodes.conf").is_file());
        drop(by_hand);
        is_set_aside(&world, &before, &after, &begun);
    }
}

/// What its ledger holds is the life that has ended meanwhile, and its servers are gone in this boot.
#[test]
fn an_agent_that_begins_after_the_rebuild_does_not_start_the_old_life() {
    for server in servers().iter().filter(|server| server.version.major >= 7) {
        let (mut world, before) = formed(server);
        world.agent("server3").kill();
        world.redis_pids("server3").iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
        let begun = beginnings(&lives::in_place(&world, "server3"));
        let (after, _) = rebuilt_without(&world, &before);
        world.agent("server3").start();
        world.until_host("server3", "live");
        is_set_aside(&world, &before, &after, &begun);
        let log = world.agent("server3").log();
        assert!(!log.rsplit_once("accepted").unwrap().1.contains("started port="), "{log}");

        // And it is a host like any other again: the cluster takes it back.
        let spec = world.dir().join("orders.toml").display().to_string();
        let back = world.muster(&["rebuild", "orders", "--file", &spec, "--confirm", "orders"]).expect(0);
        says(&back, &["server3 joins: 7000-7002"]);
        let third = lives::standing(&world, "orders");
        assert_eq!((third.incarnation, third.instances.len()), (3, 9));
        assert_eq!(world.redis_pids("server3").len(), 3);
    }
}

/// They cannot have another bus port, so that an old master would find the new nodes.
#[test]
fn before_seven_a_host_is_not_left_behind_and_why_is_said() {
    let older: Vec<_> = servers().into_iter().filter(|server| server.version.major < 7).collect();
    for server in &older {
        let (mut world, before) = formed(server);
        freeze(&mut world);
        world.until_host("server3", "unknown");
        let line = ["rebuild", "orders", "--fence-missing", "server3", "--confirm", "orders"];
        let refused = world.muster(&line).expect(1);
        says(&refused, &["FENCE_UNSUPPORTED", "cluster-port", "7.0", "nothing was changed"]);
        assert_eq!(world.status("orders").unwrap().node_ids(), before.node_ids());
        assert_eq!(lives::all_trash(&world), []);
    }
    if older.is_empty() {
        eprintln!("no server before 7.0 is here (tests/servers.sh redis-6.0); one that only says so is refused too");
        let mut world = World::new(&HOSTS);
        let server = world.write("redis-server", "#!/bin/sh\nexec /usr/bin/redis-server \"$@\"\n");
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
        for (host, _) in HOSTS {
            let config = format!("{}redis_server = \"{server}\"\n", world.agent(host).config());
            world.agent(host).configure(&config);
        }
        world.start();
        let status = world.bootstrap("orders");
        freeze(&mut world);
        world.until_host("server3", "unknown");
        let banner = "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64 build=0";
        let older =
            format!("#!/bin/sh\n[ \"$1\" = --version ] && exec echo '{banner}'\nexec /usr/bin/redis-server \"$@\"\n");
        fs::write(&server, older).unwrap();
        let line = ["rebuild", "orders", "--fence-missing", "server3", "--confirm", "orders"];
        let parts = ["FENCE_UNSUPPORTED", "6.2.14", "cluster-port", "7.0", "nothing was changed"];
        says(&world.muster(&line).expect(1), &parts);
        assert_eq!(world.status("orders").unwrap().node_ids(), status.node_ids());
    }
}
