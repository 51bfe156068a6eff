//! The systemd units: systemd itself takes them, their exposure stays under a bound, and what the agent's unit leaves to
//! root is enough for all that an agent does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use muster_tests::{Output, World, binaries, eventually, processes};
use nix::sys::signal::Signal;

/// Everything here happens within this, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// Whom the servers run as: a user that every system has, and that may do nothing.
const NOBODY: &str = "nobody";

/// Unit, program, and its highest exposure in tenths, as `systemd-analyze security` counts it: 0 is none, 100 is all.
/// The agent is root, sees all processes and becomes other users, which is what it is for; that alone is 20.
const UNITS: [(&str, &str, u32); 2] =
    [("muster-coordinator.service", "muster-coordinator", 15), ("muster-agent.service", "muster-agent", 35)];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("systemd").join(name)
}

fn analyze(args: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze").args(args).arg(unit).output().unwrap().into()
}

/// The values of a directive, in order.
fn values(unit: &str, directive: &str) -> Vec<String> {
    let found = unit.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
    found.map(str::to_owned).collect()
}

#[test]
fn systemd_takes_them_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let judge = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        analyze(&["verify", "--man=no"], &path)
    };
    for (name, program, _) in UNITS {
        // The program is not installed here; the one that was built stands for it.
        let built = binaries::path(program).display().to_string();
        let text = fs::read_to_string(unit(name)).unwrap().replace(&format!("/usr/bin/{program}"), &built);
        let said = judge(name, &text).expect(0);
        assert!(!said.stderr.contains(name), "{said}");
        let spoilt = judge(name, &text.replace("ProtectSystem=", "ProtectSistem="));
        assert!(spoilt.stderr.contains("ProtectSistem"), "the judge sees nothing: {spoilt}");
    }
}

#[test]
fn their_exposure_stays_under_its_bound() {
    for (name, _, bound) in UNITS {
        let judge = |bound: u32| {
            analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={bound}")], &unit(name))
        };
        let said = judge(bound);
        println!("{}", said.stdout.lines().last().unwrap_or_default());
        assert_eq!(said.code, 0, "{name} is above {bound}: {said}");
        assert_ne!(judge(5).code, 0, "the judge finds nothing in {name}");
    }
}

#[test]
fn every_directive_that_restricts_says_why() {
    for (name, ..) in UNITS {
        let text = fs::read_to_string(unit(name)).unwrap();
        let service = text.split("[Service]").nth(1).unwrap();
        // A comment is about all the lines below it, up to the next empty line or comment.
        for paragraph in service.split("\n\n").filter(|paragraph| paragraph.contains('=')) {
            let first = paragraph.lines().find(|line| !line.is_empty()).unwrap();
            assert!(first.starts_with('#') || first == "[Install]", "{name}: {first} has no why");
        }
    }
}

/// The words that start an agent with the capabilities of its unit and no others.
fn as_in_the_unit() -> Vec<String> {
    let text = fs::read_to_string(unit("muster-agent.service")).unwrap();
    let bounding = values(&text, "CapabilityBoundingSet");
    let kept: String =
        bounding[0].split(' ').map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    assert!(kept.contains(",+chown"), "{bounding:?}");
    assert_eq!(values(&text, "NoNewPrivileges"), ["yes"]);
    let words = ["setpriv", "--no-new-privs", "--inh-caps=-all", &format!("--bounding-set=-all{kept}")];
    words.map(str::to_owned).to_vec()
}

/// The capabilities that a process has, of those that it could have.
fn capabilities(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().filter(|line| line.starts_with("CapEff") || line.starts_with("NoNewPrivs")).collect()
}

/// A server's user id, its limit of core files, and its parent's.
fn core_limit(pid: i32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().skip(4).take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_unit_leaves_to_root_is_enough_to_form_adopt_restart_and_call_off() {
    let hosts = [("server1", "7000-7002"), ("server2", "7003-7005")];
    let mut world = World::new(&hosts);
    // Servers of another user must get to their directories.
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    let words = as_in_the_unit();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for (host, _) in hosts {
        fs::set_permissions(world.base_dir(host), fs::Permissions::from_mode(0o755)).unwrap();
        let agent = world.agent(host);
        agent.configure(&format!("{}run_as = \"{NOBODY}\"\n", agent.config()));
        agent.start_through(&words);
    }
    world.start();
    let agent = world.agent("server1").pid();
    assert!(!capabilities(agent).contains("000001ffffffffff"), "it has all capabilities: {}", capabilities(agent));
    assert_eq!(core_limit(agent), "0 0");

    // Called off: servers of another user are stopped, their directories set aside.
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let mut api = world.api();
    let hash = api.plan(&spec).unwrap().plan.unwrap().hash;
    let id = api.apply(&hash, "once").unwrap();
    eventually(SOON, "all servers are started", || started(&world, 6));
    world.agent("server2").freeze();
    world.muster(&["op", "cancel", &id]).expect(0);
    world.agent("server2").thaw();
    eventually(SOON, "all servers are stopped", || started(&world, 0));
    eventually(SOON, "the operation is over", || {
        let said = world.muster(&["op", "show", &id]);
        if said.stdout.contains("cancelled") { Ok(()) } else { Err(said.to_string()) }
    });

    // Formed, by servers that may nothing and leave no cores.
    world.bootstrap("orders");
    let pids = world.redis_pids("server1");
    assert_eq!(pids.len(), 3);
    let uid = nix::unistd::User::from_name(NOBODY).unwrap().unwrap().uid.as_raw();
    for pid in &pids {
        let owner = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let owner = owner.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().to_owned();
        assert!(owner.split_whitespace().all(|id| id == uid.to_string()), "{owner}");
        assert!(capabilities(*pid).contains("0000000000000000"), "{}", capabilities(*pid));
        assert_eq!(core_limit(*pid), "0 0");
    }

    // Adopted: environment and working directory of another user's process are read.
    world.agent("server1").restart();
    world.until_host("server1", "live");
    world.until(SOON, "orders", "all is well again", |status| status.well());
    assert_eq!(world.redis_pids("server1"), pids, "the servers were started anew");

    // Restarted.
    processes::signal(pids[0], Signal::SIGKILL);
    eventually(SOON, "the server is started again", || match world.redis_pids("server1") {
        found if found.len() == 3 && !found.contains(&pids[0]) => Ok(()),
        found => Err(format!("{found:?} run")),
    });
    world.until(SOON, "orders", "all is well again", |status| status.well());
}

fn started(world: &World, wanted: usize) -> Result<(), String> {
    let count: usize = ["server1", "server2"].map(|host| world.redis_pids(host).len()).iter().sum();
    if count == wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
}
