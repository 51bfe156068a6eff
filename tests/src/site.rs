//! The seed's two servers, booted, with Muster installed on them the way the README tells: binaries in `/usr/bin`, units,
//! users and directories from `systemd/`, the coordinator on the first, both enrolled with tokens.
//!
//! ```text
//!   server1 192.168.1.198  coordinator, agent, 7000-7002
//!   server2 192.168.1.199               agent, 7003-7005
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Instance, Machine, Network, Status, binaries, eventually, processes};

/// Most that something may take that needs a round trip, a heartbeat or a restart.
pub const SOON: Duration = Duration::from_secs(40);
/// The hosts, and their ports.
pub const HOSTS: [(&str, &str); 2] = [("server1", "7000-7002"), ("server2", "7003-7005")];
/// Of the first.
const FIRST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 1, 198);
/// What the agent runs the servers as.
const RUN_AS: &str = "redis";

/// See the module. Fields drop in this order: machines, the network, the directory with their disks.
pub struct Site {
    machines: BTreeMap<&'static str, Machine>,
    /// The network.
    pub network: Network,
    _home: TempDir,
}

/// What makes one life of a server: its pid in its machine, and Redis' own name for the run.
pub type Lives = BTreeMap<String, (i32, String)>;

impl Site {
    /// Both are up, with everything installed, the agents live; nothing is formed.
    pub fn up() -> Self {
        processes::become_init();
        let names = HOSTS.map(|(name, _)| name);
        let network = Network::from(FIRST, &names);
        let home = tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").unwrap();
        let machine = |name| (name, Machine::new(name, &network.namespace(name), home.path()));
        let mut site = Self { machines: names.map(machine).into(), network, _home: home };
        for (name, machine) in &mut site.machines {
            install(machine, name);
            machine.switch_on();
        }
        site.machines.values_mut().for_each(Machine::until_up);
        let first = site.on("server1");
        first.shell("systemd-sysusers && systemctl enable --quiet --now muster-coordinator");
        for (name, _) in HOSTS {
            let machine = site.on(name);
            machine.shell("systemd-tmpfiles --create muster.conf && muster-agent check-config");
            machine.shell("systemctl enable --quiet --now muster-agent");
            let token = first.said(&["muster", "token", "create", "--host", name, "--output", "json"]);
            let token: serde_json::Value = serde_json::from_str(&token).unwrap();
            machine.fed(&["muster-agent", "enrol"], token["token"].as_str().unwrap()).expect(0);
        }
        names.into_iter().for_each(|name| site.until_host(name, "live"));
        site
    }

    /// The same, and the seed's cluster is formed, with these limits of each instance.
    pub fn formed(limits: &str) -> Self {
        let site = Self::up();
        let host = |(name, ports)| format!("[[hosts]]\nname = \"{name}\"\nports = [\"{ports}\"]\n");
        let hosts = HOSTS.map(host).concat();
        let spec = format!(
            "name = \"orders\"\nauth = \"none\"\nreplicas = 1\n{hosts}[limits]\n{limits}\n\
             [redis.config]\nappendonly = \"yes\"\nsave = \"3600 1\"\ncluster-node-timeout = \"2000\"\n"
        );
        fs::write(site.on("server1").path("/etc/muster/orders.toml"), spec).unwrap();
        let said = site.muster(&["bootstrap", "/etc/muster/orders.toml", "--yes"]);
        assert!(said.contains("is formed"), "{said}");
        site
    }

    /// One of the machines.
    pub fn on(&self, name: &str) -> &Machine {
        &self.machines[name]
    }

    /// One of the machines, to be switched off and on.
    pub fn power(&mut self, name: &str) -> &mut Machine {
        self.machines.get_mut(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// A command of `muster`, as root on the first machine.
    #[track_caller]
    pub fn muster(&self, args: &[&str]) -> String {
        self.on("server1").said(&[&["muster"], args].concat())
    }

    /// The cluster as it is shown.
    pub fn status(&self) -> Result<Status, String> {
        let said = self.on("server1").run(&["muster", "status", "orders", "--output", "json"]);
        serde_json::from_str(&said.stdout).map_err(|error| format!("{error}: {said}"))
    }

    /// Everything runs, every link is up, and it says nothing that an operator should know.
    #[track_caller]
    pub fn until_well(&self) -> Status {
        eventually(SOON, "all is well", || {
            let status = self.status()?;
            status.well()?;
            match status.instances.iter().find_map(|instance| instance.reason.clone()) {
                None => Ok(status),
                Some(reason) => Err(reason),
            }
        })
    }

    /// A host is `live` or `unknown` at the coordinator.
    #[track_caller]
    pub fn until_host(&self, name: &str, state: &str) {
        eventually(SOON, &format!("{name} is {state}"), || {
            let said = self.on("server1").run(&["muster", "hosts", "--output", "json"]);
            let hosts: serde_json::Value = serde_json::from_str(&said.stdout).map_err(|_| said.to_string())?;
            let host = hosts["hosts"].as_array().into_iter().flatten().find(|host| host["name"] == name);
            match host {
                Some(host) if host["state"] == state => Ok(()),
                host => Err(format!("{host:?}")),
            }
        });
    }

    /// The lives of the servers of a machine, by port, as they say themselves.
    pub fn lives_on(&self, name: &str) -> Result<Lives, String> {
        let ports = HOSTS.iter().find(|(host, _)| *host == name).map_or("", |(_, ports)| ports);
        let (first, last) = ports.split_once('-').ok_or("a run of ports")?;
        let mut lives = Lives::new();
        for port in first.parse::<u16>().unwrap()..=last.parse::<u16>().unwrap() {
            let info = self.redis(name, port, &["info", "server"])?;
            let value = |key: &str| info.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
            let (pid, run) = (value("process_id").unwrap_or_default(), value("run_id").unwrap_or_default());
            lives.insert(format!("{name}:{port}"), (pid.parse().map_err(|_| info.clone())?, run.to_owned()));
        }
        Ok(lives)
    }

    /// The lives of all servers.
    #[track_caller]
    pub fn lives(&self) -> Lives {
        HOSTS.iter().flat_map(|(name, _)| self.lives_on(name).unwrap()).collect()
    }

    /// redis-cli on a machine, to a server there, over the agent's socket.
    pub fn redis(&self, name: &str, port: u16, args: &[&str]) -> Result<String, String> {
        let socket = format!("/var/lib/muster/{port}/redis.sock");
        let said = self.on(name).run(&[&["redis-cli", "-e", "-s", &socket], args].concat());
        if said.code == 0 { Ok(said.stdout.trim_end().to_owned()) } else { Err(said.to_string()) }
    }

    /// redis-cli as a client of the cluster, on a machine.
    pub fn client(&self, name: &str, instance: &Instance, args: &[&str]) -> Result<String, String> {
        let port = instance.port.to_string();
        let said =
            self.on(name).run(&[&["redis-cli", "-e", "-c", "-h", &instance.address, "-p", &port], args].concat());
        if said.code == 0 { Ok(said.stdout.trim_end().to_owned()) } else { Err(said.to_string()) }
    }
}

/// What the README has an operator copy, onto a disk that is not running yet.
fn install(machine: &Machine, name: &str) {
    for program in ["muster", "muster-agent", "muster-coordinator"] {
        put_program(machine, program);
    }
    let systemd = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("systemd");
    let copy = |from: &str, to: &str| {
        let to = machine.path(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(systemd.join(from), to).unwrap();
    };
    copy("muster-coordinator.service", "/etc/systemd/system/muster-coordinator.service");
    copy("muster-agent.service", "/etc/systemd/system/muster-agent.service");
    copy("muster.sysusers", "/usr/lib/sysusers.d/muster.conf");
    copy("muster.tmpfiles", "/usr/lib/tmpfiles.d/muster.conf");
    let sample = |file: &str, changes: &[(&str, &str)]| {
        let text = fs::read_to_string(systemd.join(file)).unwrap();
        let line = |line: &str| match changes.iter().find(|(key, _)| line.split(" = ").next() == Some(key)) {
            Some((key, value)) => format!("{key} = {value}\n"),
            None => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        fs::create_dir_all(machine.path("/etc/muster")).unwrap();
        fs::write(machine.path("/etc/muster").join(file), text).unwrap();
    };
    let nth = HOSTS.iter().position(|(host, _)| *host == name).unwrap();
    let address = std::net::Ipv4Addr::from(u32::from(FIRST) + u32::try_from(nth).unwrap());
    sample(
        "agent.toml",
        &[
            ("name", &format!("\"{name}\"")),
            ("address", &format!("\"{address}\"")),
            ("coordinator", &format!("\"https://{FIRST}:7700\"")),
            ("ports", &format!("[\"{}\"]", HOSTS[nth].1)),
            ("run_as", &format!("\"{RUN_AS}\"")),
        ],
    );
    if nth == 0 {
        sample("coordinator.toml", &[("listen", &format!("\"https://{FIRST}:7700\""))]);
    }
}

/// A program as a package would bring it: a new file, put in the old one's place. Without what only a debugger reads,
/// which is nine tenths of it.
pub fn put_program(machine: &Machine, program: &str) {
    let (new, place) = (machine.path("/usr/bin/new"), machine.path("/usr/bin").join(program));
    let stripped = Command::new("strip").arg("-o").arg(&new).arg(binaries::path(program)).status().unwrap();
    assert!(stripped.success(), "strip {program}: {stripped}");
    fs::rename(new, place).unwrap();
}

/// Where an instance's files are, on a machine's disk.
pub fn instance_dir(machine: &Machine, port: u16) -> PathBuf {
    machine.path(&format!("/var/lib/muster/{port}"))
}
