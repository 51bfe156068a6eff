//! Real servers of every version at hand wake up from the files that the agent renders, and judge settings when asked.
//!
//! Tested are the installed redis-server, which must be there, and what `tests/servers.sh` has unpacked. Servers run in
//! temporary directories on ports 21000-21005 and go with the test, however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use muster_agent::{
    adjust::{Target, adjust},
    certify::Certified,
    conf::{ConfFile, ConfInput, Live, access, nodes_conf, redis_conf, settings_probe, settings_verdict},
};
use muster_coordinator::credentials::{Authority, Credentials, authority::Subject};
use muster_proto::{
    Auth, ClusterAssignment, ClusterId, Dialect, HostName, Incarnation, Limits, Member, NodeId, Port, PortSet, Role,
    ServerVersion, Setting, SlotRange, Spec, SpecHost, Tls, pki::Key, spec::SpecParts, view,
};

/// More than a test takes.
const HOLDS: Duration = Duration::from_secs(3600);
/// Ten times what a cluster of six takes here.
const DEADLINE: Duration = Duration::from_secs(30);

// --- the servers there are
// --------------------------------------------------------------------------------------------

struct Server {
    binary: PathBuf,
    version: ServerVersion,
}

fn servers() -> Vec<Server> {
    let installed = server(Path::new("redis-server")).unwrap_or_else(|why| {
        panic!("the installed redis-server cannot be tested: {why}\nhint: make setup, which installs it")
    });
    let root = std::env::var_os("MUSTER_SERVERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/servers"), PathBuf::from);
    let mut found = vec![installed];
    let mut names: Vec<_> = fs::read_dir(&root).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let binaries =
        names.iter().flat_map(|name| ["redis-server", "valkey-server"].map(|file| name.join("bin").join(file)));
    for binary in binaries.filter(|binary| binary.exists()) {
        let server = server(&binary).unwrap();
        if !found.iter().any(|other| other.version == server.version) {
            found.push(server);
        }
    }
    let list: Vec<_> = found.iter().map(|server| server.version.to_string()).collect();
    eprintln!("testing {}; for others: tests/servers.sh all", list.join(", "));
    found
}

fn server(binary: &Path) -> Result<Server, String> {
    let output =
        Command::new(binary).arg("--version").output().map_err(|error| format!("{}: {error}", binary.display()))?;
    let version = ServerVersion::from_banner(&String::from_utf8_lossy(&output.stdout)).map_err(|e| e.to_string())?;
    Ok(Server { binary: binary.to_owned(), version })
}

// --- seeded clusters
// --------------------------------------------------------------------------------------------------

/// Processes that do not outlive the test.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|child| drop(child.kill()));
        self.0.iter_mut().for_each(|child| drop(child.wait()));
    }
}

fn settings(lines: &[(&str, &str)]) -> Vec<Setting> {
    lines.iter().map(|(key, value)| Setting { key: (*key).into(), value: (*value).into() }).collect()
}

/// Three masters and their replicas on two addresses; `nth` keeps the ids of one cluster from those of another.
fn cluster(nth: u8, addresses: [IpAddr; 2]) -> ClusterAssignment {
    let id = |kind: u8, shard: u32| NodeId(std::array::from_fn(|at| [nth, kind, u8::try_from(shard).unwrap()][at % 3]));
    let mut members = Vec::new();
    for shard in 0..3 {
        let (master, on) = (id(1, shard), shard as usize % 2);
        let slots = vec![SlotRange::of_shard(shard as usize, 3).unwrap()];
        let roles =
            [(id(2, shard), 1 - on, 21_003, Role::Replica { master }), (master, on, 21_000, Role::Master { slots })];
        members.extend(roles.map(|(node_id, on, base, role)| Member {
            node_id,
            host: format!("server{}", on + 1).parse().unwrap(),
            address: addresses[on],
            port: Port::try_from(base + shard).unwrap(),
            bus_port: u16::try_from(base + shard + 10_000).unwrap(),
            role,
            shard,
            shard_id: id(3, shard),
            config_epoch: u64::from(shard) + 1,
        }));
    }
    ClusterAssignment {
        cluster: "dialects".parse().unwrap(),
        cluster_id: ClusterId("0197a000-0000-7000-8000-000000000000".parse().unwrap()),
        incarnation: Incarnation(1),
        formed: false,
        members,
        settings: settings(&[("cluster-node-timeout", "2000"), ("save", "\"\""), ("save", "900 1")]),
        replicas: 1,
        instances: Vec::new(),
        users: None,
        tls: None,
        limits: Limits::default(),
        keeps: Vec::new(),
        spec: Vec::new(),
    }
}

/// The same with passwords and TLS, as the coordinator would have it, and each host's certificate.
struct Secured {
    cluster: ClusterAssignment,
    credentials: Credentials,
    certified: BTreeMap<HostName, Certified>,
}

impl Secured {
    fn of(cluster: ClusterAssignment) -> Self {
        let ports = |on: &str| {
            let mine = cluster.members.iter().filter(|member| member.host.as_str() == on).map(|member| member.port);
            SpecHost { name: on.parse().unwrap(), ports: PortSet::new(mine).unwrap() }
        };
        let parts = SpecParts {
            name: cluster.cluster.clone(),
            replicas: 1,
            masters: None,
            hosts: vec![ports("server1"), ports("server2")],
            settings: cluster.settings.clone(),
            allow_shared_host: false,
            auth: Auth::default(),
            tls: Tls::Issued,
            limits: Limits::default(),
        };
        let spec = Spec::new(parts).unwrap();
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let authority = Authority::generate("dialects", now_s).unwrap();
        let mut drawn = 0;
        let random = || {
            drawn += 1;
            Ok::<_, ()>([drawn; 32])
        };
        let credentials = Credentials::draw(&spec, Incarnation(1), Some(authority.clone()), random).unwrap().unwrap();
        let mut certified = BTreeMap::new();
        for member in &cluster.members {
            let key = Key::generate().unwrap();
            let addresses = vec![member.address];
            let subject = Subject { host: &member.host, addresses, now_s, holds: HOLDS, serial: [1; 16] };
            let signed = authority.sign(&key.request("x").unwrap(), &subject).unwrap();
            let pem = muster_proto::pki::to_pem(&[signed]);
            certified.insert(member.host.clone(), Certified::of(pem, &key, &authority.pem()));
        }
        let (users, tls) = (credentials.users(&spec), credentials.tls(&spec));
        Self { cluster: ClusterAssignment { users, tls, ..cluster }, credentials, certified }
    }

    /// What is in an instance's directory besides its confs, and what it is told of that.
    fn access(&self, server: &Server, member: &Member, dir: &Path) -> (Vec<ConfFile>, Live) {
        let (files, live) = access(server.version, &self.cluster, dir, self.certified.get(&member.host)).unwrap();
        (files, live.unwrap())
    }
}

/// Sure of itself: every server logs in to its master, believes its peers, and takes new users and certificates.
fn forms_secured(server: &Server, nth: u8, addresses: [IpAddr; 2]) {
    let secured = Secured::of(cluster(nth, addresses));
    let temporary = tempfile::tempdir().unwrap();
    let dir = |member: &Member| temporary.path().join(member.port.to_string());
    let begun = Instant::now();
    let mut running = Running(Vec::new());
    let members = &secured.cluster.members;
    for member in members {
        fs::create_dir_all(dir(member)).unwrap();
        for file in secured.access(server, member, &dir(member)).0 {
            fs::write(dir(member).join(file.name), file.text.expose()).unwrap();
        }
        running.0.push(start(server, &secured.cluster, member, &dir(member)));
    }
    for member in members {
        while let Err(why) = check(server, &secured.cluster, member, &dir(member)) {
            if begun.elapsed() > DEADLINE {
                let log = fs::read_to_string(dir(member).join("redis.log")).unwrap_or_default();
                panic!("{}: {} after {DEADLINE:?}: {why}\n{log}", server.version, member.name());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    eprintln!("{} with passwords and TLS: all say so after {:.1?}", server.version, begun.elapsed());
    // A client needs the password, and no certificate.
    let member = members.iter().find(|member| member.role.master().is_none()).unwrap();
    let url = format!("rediss://{}", SocketAddr::new(member.address, member.port.get()));
    let authorities = Some(secured.credentials.ca_pem().into_bytes());
    let certificates = redis::TlsCertificates { client_tls: None, root_cert: authorities };
    let client = redis::Client::build_with_tls(url, certificates).unwrap();
    let mut connection = client.get_connection().unwrap();
    redis::cmd("INFO").query::<String>(&mut connection).unwrap_err();
    let password = secured.credentials.password("default").unwrap().expose();
    redis::cmd("AUTH").arg(password).exec(&mut connection).unwrap();
    redis::cmd("CLUSTER").arg("SLOTS").query::<redis::Value>(&mut connection).unwrap();
    redis::cmd("CLUSTER").arg("NODES").query::<String>(&mut connection).unwrap();
    redis::cmd("CONFIG").arg("GET").arg("port").query::<redis::Value>(&mut connection).unwrap_err();
    // And what is told to a server that runs is taken, by every version in its own way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let base = tempfile::tempdir().unwrap();
    let layout = muster_agent::layout::Layout::open(base.path(), None).unwrap();
    for (nth, member) in members.iter().enumerate() {
        let place = layout.instance(member.port);
        std::os::unix::fs::symlink(dir(member), place.path()).unwrap();
        let target = Target {
            pid: i32::try_from(running.0[nth].id()).unwrap(),
            logins: secured.cluster.users.as_ref().unwrap().admin.clone(),
            address: SocketAddr::new(member.address, member.port.get()),
        };
        let live = secured.access(server, member, &dir(member)).1;
        runtime.block_on(adjust(&place, &live, &target)).unwrap();
    }
}

fn start(server: &Server, cluster: &ClusterAssignment, member: &Member, dir: &Path) -> Child {
    fs::create_dir_all(dir).unwrap();
    let input = ConfInput { version: server.version, member, cluster, dir, socket: &dir.join("redis.sock") };
    let dialect = server.version.dialect().expect("every server tested has a dialect");
    fs::write(dir.join("redis.conf"), redis_conf(&input)).unwrap();
    fs::write(dir.join("nodes.conf"), nodes_conf(dialect, &cluster.members, member.node_id)).unwrap();
    let said = File::create(dir.join("output")).unwrap();
    let mut command = Command::new(&server.binary);
    command.arg("redis.conf").current_dir(dir).stdin(Stdio::null()).stderr(said.try_clone().unwrap()).stdout(said);
    command.spawn().unwrap()
}

/// The first thing about the member that is not as it should be.
fn check(server: &Server, cluster: &ClusterAssignment, member: &Member, dir: &Path) -> Result<(), String> {
    let client = redis::Client::open(format!("redis+unix://{}", dir.join("redis.sock").display())).unwrap();
    let mut connection = client.get_connection().map_err(|error| error.to_string())?;
    if let Some(login) = cluster.users.as_ref().and_then(|users| users.admin.first()) {
        let mut auth = redis::cmd("AUTH");
        let auth = auth.arg(&login.user).arg(login.password.expose());
        auth.exec(&mut connection).map_err(|error| error.to_string())?;
    }
    let mut ask = |command: &str| {
        let mut words = command.split(' ');
        redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query::<String>(&mut connection)
    };
    let mut says = |command: &str, expected: &str| match ask(command).map_err(|error| error.to_string())? {
        text if text.lines().any(|line| line == expected) => Ok(()),
        text => Err(format!("{command} does not say {expected}:\n{text}")),
    };
    says("CLUSTER INFO", "cluster_state:ok")?;
    says("CLUSTER INFO", "cluster_known_nodes:6")?;
    if member.role.master().is_some() {
        says("INFO replication", "master_link_status:up")?;
    }
    if server.version.dialect() == Some(Dialect::ShardId) {
        says("CLUSTER MYSHARDID", &member.shard_id.to_string())?;
    }
    let text = ask("CLUSTER NODES").map_err(|error| error.to_string())?;
    let view = view::parse(&text).map_err(|error| error.to_string())?;
    let mut wrong = cluster.topology().differences(&view.topology);
    wrong.extend(view.troubles);
    if view.myself != member.node_id || view.config_epoch != member.config_epoch {
        wrong.push(format!("is {} at epoch {}", view.myself, view.config_epoch));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn forms(server: &Server, nth: u8, addresses: [IpAddr; 2]) {
    let cluster = cluster(nth, addresses);
    let temporary = tempfile::tempdir().unwrap();
    // A path that has to be quoted.
    let dir = |member: &Member| temporary.path().join("a \"dir\"").join(member.port.to_string());
    let begun = Instant::now();
    let mut running = Running(Vec::new());
    for member in &cluster.members {
        running.0.push(start(server, &cluster, member, &dir(member)));
    }
    for member in &cluster.members {
        while let Err(why) = check(server, &cluster, member, &dir(member)) {
            if begun.elapsed() > DEADLINE {
                let read = |name: &str| fs::read_to_string(dir(member).join(name)).unwrap_or_default();
                let (said, log) = (read("output"), read("redis.log"));
                panic!("{}: {} after {DEADLINE:?}: {why}\n{said}\n{log}", server.version, member.name());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    eprintln!("{} on {} and {}: all say so after {:.1?}", server.version, addresses[0], addresses[1], begun.elapsed());
}

#[test]
fn every_server_wakes_up_in_the_cluster_that_was_written_for_it() {
    let v4: [IpAddr; 2] = ["127.0.9.1".parse().unwrap(), "127.0.9.2".parse().unwrap()];
    let v6: [IpAddr; 2] = ["::1".parse().unwrap(), "::1".parse().unwrap()];
    let has_v6 = TcpListener::bind((v6[0], 0)).is_ok();
    for (nth, server) in (1u8..).zip(servers()) {
        forms(&server, nth, v4);
        if has_v6 {
            forms(&server, nth + 100, v6);
        } else {
            eprintln!("{}: not tested over IPv6, which this machine does not have", server.version);
        }
    }
}

#[test]
fn every_server_wakes_up_with_passwords_and_tls() {
    let addresses: [IpAddr; 2] = ["127.0.9.3".parse().unwrap(), "127.0.9.4".parse().unwrap()];
    for (nth, server) in (50u8..).zip(servers()) {
        forms_secured(&server, nth, addresses);
    }
}

// --- settings
// ---------------------------------------------------------------------------------------------------------

/// What a server answers, and what it has left in its working directory.
fn probe(server: &Server, settings: &[Setting]) -> (Result<(), String>, Vec<PathBuf>) {
    let (cwd, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = outside.path().join("output");
    let said = File::create(&output).unwrap();
    let mut command = Command::new(&server.binary);
    command.arg("-").current_dir(cwd.path()).stdin(Stdio::piped()).stderr(said.try_clone().unwrap()).stdout(said);
    let mut running = Running(vec![command.spawn().unwrap()]);
    // It may have stopped reading already, at a line that it does not take.
    let _ = running.0[0].stdin.take().unwrap().write_all(settings_probe(settings).as_bytes());
    let begun = Instant::now();
    while running.0[0].try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < DEADLINE, "{} does not stop at the sentinel", server.version);
        thread::sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(&output).unwrap();
    let listens = text.lines().find(|line| line.contains("port=") && !line.contains("port=0"));
    assert_eq!(listens, None, "{}", server.version);
    (settings_verdict(&text), fs::read_dir(cwd.path()).unwrap().map(|entry| entry.unwrap().path()).collect())
}

#[test]
fn every_server_judges_settings_in_its_own_words_and_leaves_no_trace() {
    type Lines = &'static [(&'static str, &'static str)];
    let cases: &[(Lines, Option<&str>)] = &[
        (&[], None),
        (&[("appendonly", "yes"), ("save", "\"\""), ("maxmemory", "1gb"), ("syslog-enabled", "yes")], None),
        (&[("cluster-node-timeout", "5000"), ("client-output-buffer-limit", "normal 0 0 0")], None),
        (&[("save", "900 1"), ("nosuch", "yes"), ("maxmemory", "1gb")], Some("'nosuch yes': ")),
        (&[("maxmemory", "lots")], Some("'maxmemory lots': argument must be a memory value")),
        (&[("appendonly", "yes yes")], Some("'appendonly yes yes': ")),
        (&[("maxmemory-policy", "sometimes")], Some("'maxmemory-policy sometimes': argument")),
        (&[("save", "\"900 1")], Some("'save \"900 1': Unbalanced quotes in configuration line")),
    ];
    for server in servers() {
        for (lines, expected) in cases {
            let (verdict, left) = probe(&server, &settings(lines));
            match (expected, verdict) {
                (None, verdict) => assert_eq!(verdict, Ok(()), "{} and {lines:?}", server.version),
                (Some(words), Err(said)) if said.starts_with(words) => {}
                (_, verdict) => panic!("{} says {verdict:?} to {lines:?}", server.version),
            }
            assert_eq!(left, Vec::<PathBuf>::new(), "{} and {lines:?}", server.version);
        }
    }
}
