//! The fake server of the crash matrix is held to the real one: whatever both can be asked, both answer alike.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use muster_tests::{binaries, eventually, processes, redis, subnet::Subnet};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const READY: Duration = Duration::from_secs(10);
const ID: &str = "29978c0169ecc0a9054de7f4142155c1ab70258b";

fn both() -> [PathBuf; 2] {
    [binaries::path("fake-redis"), PathBuf::from("redis-server")]
}

/// A node that serves all slots alone.
struct Server {
    program: PathBuf,
    child: Option<Child>,
    home: TempDir,
    endpoint: String,
    _subnet: Subnet,
}

impl Server {
    fn start(program: PathBuf) -> Self {
        processes::become_init();
        let (home, subnet) = (tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").unwrap(), Subnet::lease());
        let (dir, address) = (home.path().display().to_string(), subnet.address(1));
        let conf = format!(
            "port 7000\nbind {address}\ncluster-enabled yes\ncluster-config-file nodes.conf\ndir {dir}\nappendonly yes\n\
             cluster-announce-ip {address}\nunixsocket {dir}/redis.sock\nlogfile redis.log\nprotected-mode no\n"
        );
        let nodes = format!(
            "{ID} {address}:7000@17000 myself,master - 0 0 1 connected 0-16383\nvars currentEpoch 1 lastVoteEpoch 0\n"
        );
        fs::write(home.path().join("redis.conf"), conf).unwrap();
        fs::write(home.path().join("nodes.conf"), nodes).unwrap();
        let endpoint = format!("{address}:7000");
        let mut server = Self { program, child: None, home, endpoint, _subnet: subnet };
        server.begin();
        server
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.home.path().join("redis.conf")).current_dir(self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn begin(&mut self) {
        self.child = Some(processes::spawn_owned(&mut self.command()));
        eventually(READY, "it serves all slots", || match self.ask(&["cluster", "info"]) {
            Ok(info) if info.contains("cluster_state:ok") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn ask(&self, words: &[&str]) -> Result<String, String> {
        redis::cli(&self.endpoint, words).map_err(|error| error.replace(&self.endpoint, "HERE"))
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        processes::signal(child.id() as i32, signal);
        let code = child.wait().unwrap().code();
        processes::wait_owned(&mut child);
        code
    }

    fn path(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::SIGKILL);
    }
}

fn fields(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.into(), value.into())).collect()
}

/// Runs a server that judges its standard input; its verdict, as the agent reads it.
fn judged(program: &Path, conf: &str) -> String {
    let mut command = Command::new(program);
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(conf.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn it_answers_as_the_real_one_does() {
    let [fake, real] = both().map(Server::start);
    let questions: [&[&str]; 17] = [
        &["ping"],
        &["cluster", "myid"],
        &["set", "a", "1"],
        &["get", "a"],
        &["dbsize"],
        &["wait", "0", "10"],
        &["del", "a", "{a}b"],
        &["get", "a"],
        &["set", "b", "two words"],
        &["acl", "whoami"],
        &["acl", "users"],
        &["config", "get", "appendonly"],
        &["config", "set", "maxmemory-policy", "noeviction"],
        &["readonly"],
        &["flushall"],
        &["dbsize"],
        &["nosuch"],
    ];
    for question in questions {
        let plain = |server: &Server| server.ask(question).map_err(|error| error.trim().to_owned());
        assert_eq!(plain(&fake), plain(&real), "{question:?}");
    }
    let place = |server: &Server, words: &[&str]| {
        server.ask(words).unwrap().replace(server.endpoint.split(':').next().unwrap(), "HERE").trim().to_owned()
    };
    assert_eq!(place(&fake, &["cluster", "nodes"]), place(&real, &["cluster", "nodes"]));
    assert_eq!(place(&fake, &["cluster", "slots"]), place(&real, &["cluster", "slots"]));

    // What it says of itself is something that the real one says too; of its cluster, exactly that.
    let [(said, info), (known, true_info)] = [&fake, &real]
        .map(|server| {
            ["info", "cluster info"].map(|what| fields(&server.ask(&what.split(' ').collect::<Vec<_>>()).unwrap()))
        })
        .map(|[one, two]| (one, two));
    let unknown: Vec<_> = said.keys().filter(|key| !known.contains_key(*key)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for (key, value) in &info {
        assert_eq!(Some(value), true_info.get(key), "{key}");
    }
    for key in ["redis_version", "redis_mode", "loading", "aof_enabled", "role", "connected_slaves", "cluster_enabled"]
    {
        assert_eq!(said.get(key), known.get(key), "{key}");
    }
}

#[test]
fn it_keeps_its_data_and_its_directory_as_the_real_one_does() {
    for program in both() {
        let mut server = Server::start(program);
        server.ask(&["set", "kept", "for-good"]).unwrap();
        // A second one in its directory gives up, whatever its port.
        let conf = fs::read_to_string(server.path().join("redis.conf")).unwrap();
        fs::write(server.path().join("redis.conf"), conf.replace("port 7000", "port 7001")).unwrap();
        assert_eq!(server.command().status().unwrap().code(), Some(1), "{}", server.program.display());
        fs::write(server.path().join("redis.conf"), conf).unwrap();
        for (signal, code) in [(Signal::SIGTERM, Some(0)), (Signal::SIGKILL, None)] {
            assert_eq!(server.end(signal), code, "{}", server.program.display());
            let written = fs::read(server.path().join("appendonlydir/appendonly.aof.1.incr.aof")).unwrap();
            assert!(String::from_utf8_lossy(&written).contains("for-good"), "{}", server.program.display());
            server.begin();
            assert_eq!(server.ask(&["get", "kept"]).unwrap(), "for-good");
            assert_eq!(server.ask(&["cluster", "myid"]).unwrap(), ID);
        }
        assert!(server.path().join("appendonlydir/appendonly.aof.manifest").exists());
    }
}

#[test]
fn it_judges_as_the_real_one_does() {
    let version = |program: &Path| {
        let output = Command::new(program).arg("--version").output().unwrap();
        let banner = String::from_utf8(output.stdout).unwrap();
        banner.split(" sha=").next().unwrap().to_owned()
    };
    let [fake, real] = both();
    assert_eq!(version(&fake), version(&real));
    for conf in ["port 0\nappendonly yes\nmuster-end-of-conf yes\n", "port 0\nnosuch yes\nmuster-end-of-conf yes\n"] {
        let verdict = |program: &Path| muster_agent::conf::settings_verdict(&judged(program, conf));
        assert_eq!(verdict(&fake), verdict(&real), "{conf}");
    }
    let home = tempfile::tempdir().unwrap();
    for (rules, nth) in [("~* +@all", 1), ("~* +@nosuch", 2)] {
        let users = vec![muster_proto::acl::RedisUser {
            name: "reporting".into(),
            rules: rules.parse().unwrap(),
            passwords: Vec::new(),
        }];
        fs::write(home.path().join("users.acl"), muster_agent::conf::acl_probe_file(&users)).unwrap();
        let conf = muster_agent::conf::acl_probe(&[], home.path());
        let verdict = |program: &Path| muster_agent::conf::acl_verdict(&judged(program, &conf), &users);
        assert_eq!(verdict(&fake), verdict(&real), "{rules}");
        assert_eq!(verdict(&fake).is_ok(), nth == 1);
    }
}
