//! A world: one coordinator, some hosts with their agents, and whatever those start, on addresses and in a directory of
//! its own. It ends with the test, with everything in it.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Api, Daemon, Output, SmallDisk, Status, binaries, eventually, processes, subnet::Subnet};

/// Most that an agent may take to be live at the coordinator, on a busy machine.
pub const LIVE: Duration = Duration::from_secs(20);
/// Most that a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// The coordinator's own address in the subnet, and its port.
const COORDINATOR: (u8, u16) = (250, 7700);

struct Host {
    address: Ipv4Addr,
    ports: String,
    agent: Daemon,
    disk: Option<SmallDisk>,
}

/// See the module. Fields drop in this order: processes, disks, the directory that they are in, then the addresses.
pub struct World {
    coordinator: Daemon,
    hosts: BTreeMap<String, Host>,
    dir: TempDir,
    subnet: Subnet,
}

impl World {
    /// Hosts with their ports, `[("server1", "7000-7002"), ...]`; the first has 127.0.x.1, and so on. Directories and
    /// configs are made; nothing is started.
    pub fn new(hosts: &[(&str, &str)]) -> Self {
        processes::become_init();
        let subnet = Subnet::lease();
        // Short, because unix sockets' paths end at 107 bytes.
        let dir = tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").unwrap();
        let home = dir.path();
        let listen = format!("http://{}:{}", subnet.address(COORDINATOR.0), COORDINATOR.1);
        let config = format!(
            "state_dir = \"{0}/coordinator\"\nlisten = \"{listen}\"\nadmin_socket = \"{0}/admin.sock\"\n",
            home.display()
        );
        let coordinator = Daemon::new("muster-coordinator", home, "coordinator", &config);
        let host = |(nth, (name, ports)): (usize, &(&str, &str))| {
            let address = subnet.address(u8::try_from(nth + 1).expect("a world has few hosts"));
            let config = format!(
                "name = \"{name}\"\naddress = \"{address}\"\nbase_dir = \"{}/{name}\"\ncoordinator = \"{listen}\"\n\
                 ports = [\"{ports}\"]\n",
                home.display()
            );
            fs::create_dir(home.join(name)).unwrap();
            let agent = Daemon::new("muster-agent", home, name, &config);
            ((*name).to_owned(), Host { address, ports: (*ports).to_owned(), agent, disk: None })
        };
        let hosts = hosts.iter().enumerate().map(host).collect();
        Self { coordinator, hosts, dir, subnet }
    }

    /// The same, all started and live, with lines more in every agent's config.
    pub fn up_with(hosts: &[(&str, &str)], lines: &str) -> Self {
        let mut world = Self::new(hosts);
        for (host, _) in hosts {
            let config = format!("{}{lines}\n", world.agent(host).config());
            world.agent(host).configure(&config);
        }
        world.start();
        world
    }

    /// The same, all started and live.
    pub fn up(hosts: &[(&str, &str)]) -> Self {
        let mut world = Self::new(hosts);
        world.start();
        world
    }

    /// The seed's layout: `server1` with 7000-7002 and `server2` with 7003-7005, all started and live.
    pub fn seed() -> Self {
        Self::up(&[("server1", "7000-7002"), ("server2", "7003-7005")])
    }

    /// Starts what does not run, and waits until every host is live.
    #[track_caller]
    pub fn start(&mut self) {
        let daemons = self.hosts.values_mut().map(|host| &mut host.agent).chain([&mut self.coordinator]);
        daemons.filter(|daemon| !daemon.is_running()).for_each(Daemon::start);
        for host in self.hosts.keys() {
            self.until_host(host, "live");
        }
    }

    /// The coordinator.
    pub fn coordinator(&mut self) -> &mut Daemon {
        &mut self.coordinator
    }

    /// A host's agent.
    #[track_caller]
    pub fn agent(&mut self, host: &str) -> &mut Daemon {
        &mut self.hosts.get_mut(host).unwrap_or_else(|| panic!("this world has no {host}")).agent
    }

    /// Gives a host a small disk for its directory. Nothing must have been started there.
    #[track_caller]
    pub fn mount_small_disk(&mut self, host: &str, bytes: usize) {
        let disk = SmallDisk::mount(&self.base_dir(host), bytes);
        self.hosts.get_mut(host).unwrap_or_else(|| panic!("this world has no {host}")).disk = Some(disk);
    }

    /// That disk.
    #[track_caller]
    pub fn disk(&self, host: &str) -> &SmallDisk {
        self.hosts[host].disk.as_ref().unwrap_or_else(|| panic!("{host} was given no small disk"))
    }

    /// The names of all hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// The Admin service, called as automation calls it.
    pub fn api(&self) -> Api {
        Api::connect(&self.dir().join("admin.sock"))
    }

    /// A host's address.
    pub fn address(&self, host: &str) -> Ipv4Addr {
        self.hosts[host].address
    }

    /// An address of this world that no host has, 100-249.
    pub fn spare_address(&self, nth: u8) -> Ipv4Addr {
        self.subnet.address(100 + nth)
    }

    /// A host's directory, where its agent keeps everything.
    pub fn base_dir(&self, host: &str) -> PathBuf {
        self.dir().join(host)
    }

    /// The world's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the CLI calls with.
    pub fn endpoint(&self) -> String {
        format!("unix:{}/admin.sock", self.dir().display())
    }

    /// A call of the CLI that is not made yet; for tests that interrupt it or answer it.
    pub fn muster_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries::path("muster"));
        command.args(args).current_dir(self.dir()).env("MUSTER_ENDPOINT", self.endpoint());
        command
    }

    /// Calls the CLI, and waits.
    pub fn muster(&self, args: &[&str]) -> Output {
        self.muster_command(args).output().unwrap().into()
    }

    /// Writes a file into the world's directory, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Writes a spec of all hosts with all their ports, and returns its path. `settings` are lines of `[redis.config]`.
    pub fn spec(&self, cluster: &str, replicas: u32, settings: &str) -> String {
        let host =
            |(name, host): (&String, &Host)| format!("[[hosts]]\nname = \"{name}\"\nports = [\"{}\"]\n", host.ports);
        let hosts: String = self.hosts.iter().map(host).collect();
        // Passwords have tests of their own; here redis-cli asks plainly.
        let head = format!("name = \"{cluster}\"\nreplicas = {replicas}\nauth = \"none\"\n");
        let text = format!("{head}{hosts}[redis.config]\n{settings}\n");
        self.write(&format!("{cluster}.spec.toml"), &text)
    }

    /// Forms a cluster of all hosts with one replica, an append-only file and a short node timeout.
    #[track_caller]
    pub fn bootstrap(&self, cluster: &str) -> Status {
        let spec = self.spec(cluster, 1, "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"");
        self.muster(&["bootstrap", &spec, "--yes"]).expect(0);
        self.status(cluster).unwrap()
    }

    /// A cluster's status; what the CLI said when there is none.
    pub fn status(&self, cluster: &str) -> Result<Status, String> {
        let output = self.muster(&["status", cluster, "--output", "json"]);
        if output.code == 0 {
            serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {output}"))
        } else {
            Err(output.to_string())
        }
    }

    /// Waits until a cluster's status satisfies `look`.
    #[track_caller]
    pub fn until<T>(
        &self,
        deadline: Duration,
        cluster: &str,
        what: &str,
        look: impl Fn(&Status) -> Result<T, String>,
    ) -> T {
        eventually(deadline, what, || look(&self.status(cluster)?))
    }

    /// Waits until an operation is in that state and says these parts; returns it as `muster op show` has it.
    #[track_caller]
    pub fn until_operation(&self, deadline: Duration, id: &str, state: &str, parts: &[&str]) -> serde_json::Value {
        eventually(deadline, &format!("operation {id} is {state} and says {parts:?}"), || {
            let shown = self.muster(&["op", "show", id, "--output", "json"]);
            if shown.code != 0 {
                return Err(shown.to_string());
            }
            let operation = shown.json()["operation"].clone();
            let message = operation["message"].as_str().unwrap_or_default();
            let is = operation["state"] == state && parts.iter().all(|part| message.contains(part));
            if is { Ok(operation) } else { Err(operation.to_string()) }
        })
    }

    /// Waits until an operation is in that phase.
    #[track_caller]
    pub fn until_phase(&self, deadline: Duration, id: &str, phase: &str) -> serde_json::Value {
        eventually(deadline, &format!("operation {id} is in phase {phase}"), || {
            let operation = self.muster(&["op", "show", id, "--output", "json"]).expect(0).json()["operation"].clone();
            if operation["phase"] == phase { Ok(operation) } else { Err(operation.to_string()) }
        })
    }

    /// Waits until a host's agent is `live` or `unknown`, as `muster hosts` says.
    #[track_caller]
    pub fn until_host(&self, host: &str, state: &str) {
        eventually(LIVE, &format!("{host} is {state}"), || {
            let output = self.muster(&["hosts", "--output", "json"]);
            if output.code != 0 {
                return Err(format!("{output}\n{}", self.coordinator.log_end()));
            }
            let hosts = output.json();
            let found = hosts["hosts"].as_array().into_iter().flatten().find(|found| found["name"] == host);
            match found {
                Some(found) if found["state"] == state => Ok(()),
                Some(found) => Err(format!("it is {}", found["state"])),
                None => Err(format!("it is not listed\n{}", self.hosts[host].agent.log_end())),
            }
        });
    }

    /// Pids of the redis-servers that live in a host's directory, ascending.
    pub fn redis_pids(&self, host: &str) -> Vec<i32> {
        processes::living_in(&self.base_dir(host))
    }

    /// Kills everything, agents first, and waits until it is gone; what is left, otherwise.
    fn end(&mut self) -> Vec<i32> {
        for daemon in self.hosts.values_mut().map(|host| &mut host.agent).chain([&mut self.coordinator]) {
            if daemon.is_running() {
                daemon.kill();
            }
        }
        let began = std::time::Instant::now();
        loop {
            let left = processes::living_in(self.dir.path());
            left.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
            if left.is_empty() || began.elapsed() > GONE {
                return left;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let agents = self.hosts.values().map(|host| &host.agent);
            agents.chain([&self.coordinator]).for_each(|daemon| eprintln!("{}", daemon.log_end()));
        }
        let left = self.end();
        // A second panic while the first unwinds would abort and hide it.
        if !left.is_empty() && !thread::panicking() {
            panic!("these processes of {} outlived SIGKILL: {left:?}", self.dir().display());
        }
    }
}
