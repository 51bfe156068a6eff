//! A fleet on a network: the coordinator on a machine of its own, agents on theirs, TLS in between, and nothing on
//! loopback. Everything is done the way the README tells an operator to.
//!
//! ```text
//!   control      server1      server2     network namespaces
//!   .1           .2           .3          192.168.77.x
//! ```

use std::{fs, net::Ipv4Addr, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{Network, Output, World, binaries, eventually, processes, world::LIVE};

/// The coordinator's machine.
pub const CONTROL: &str = "control";
/// Where it listens.
const PORT: u16 = 7700;

/// See the module. The network goes after everything that lives in it.
pub struct Fleet {
    /// Daemons, directories, the CLI over the admin socket.
    pub world: World,
    /// The network.
    pub network: Network,
}

impl Fleet {
    /// Hosts with their ports; configs are written, nothing is started. `extra` are lines of the coordinator's config.
    pub fn new(hosts: &[(&str, &str)], extra: &str) -> Self {
        let names: Vec<_> = [CONTROL].into_iter().chain(hosts.iter().map(|(name, _)| *name)).collect();
        let network = Network::new(&names);
        let mut world = World::new(hosts);
        let url = format!("https://{}:{PORT}", network.address(CONTROL));
        let state = world.dir().display().to_string();
        let config = format!(
            "state_dir = \"{state}/coordinator\"\nlisten = \"{url}\"\nadmin_socket = \"{state}/admin.sock\"\n{extra}\n"
        );
        world.coordinator().configure(&config);
        world.coordinator().start_through(&["ip", "netns", "exec", &network.namespace(CONTROL)]);
        for (name, _) in hosts {
            let config = world.agent(name).config();
            let line = |line: &str| match line.split(" = ").next() {
                Some("address") => format!("address = \"{}\"\n", network.address(name)),
                Some("coordinator") => format!("coordinator = \"{url}\"\n"),
                _ => format!("{line}\n"),
            };
            let config: String = config.lines().map(line).collect();
            world.agent(name).configure(&config);
            world.agent(name).start_through(&["ip", "netns", "exec", &network.namespace(name)]);
        }
        Self { world, network }
    }

    /// The same, all enrolled, started and live.
    pub fn up(hosts: &[(&str, &str)], extra: &str) -> Self {
        let mut fleet = Self::new(hosts, extra);
        fleet.start_coordinator();
        for (name, _) in hosts {
            fleet.enrol(name).expect(0);
        }
        fleet.world.start();
        fleet
    }

    /// Where agents and operators elsewhere dial.
    pub fn url(&self) -> String {
        format!("https://{}:{PORT}", self.network.address(CONTROL))
    }

    /// A host's address.
    pub fn address(&self, host: &str) -> Ipv4Addr {
        self.network.address(host)
    }

    /// Starts the coordinator, and waits until it answers.
    #[track_caller]
    pub fn start_coordinator(&mut self) {
        self.world.coordinator().start();
        eventually(LIVE, "the coordinator answers", || {
            let hosts = self.world.muster(&["hosts"]);
            if hosts.code == 0 { Ok(()) } else { Err(hosts.to_string()) }
        });
    }

    /// A command of `muster` on a machine, as whoever the context of that directory says.
    pub fn muster_on(&self, host: &str, home: &str, args: &[&str], input: &str) -> Output {
        let mut command = self.network.on(host, &binaries::path("muster").display().to_string());
        command.args(args).env("MUSTER_CONFIG", self.world.dir().join(home)).env_remove("MUSTER_ENDPOINT");
        fed(&mut command, input)
    }

    /// Makes a user, and on a machine his context, in a directory of his name.
    #[track_caller]
    pub fn let_in(&self, host: &str, user: &str, role: &str, how: &[&str]) {
        let made = self.world.muster(&["user", "add", user, "--role", role, "--output", "json"]).expect(0).json();
        let url = self.url();
        let args = [&["context", "add", "here", "--endpoint", &url], how].concat();
        self.muster_on(host, user, &args, &text(&made["access"])).expect(0);
    }

    /// A join token for a host, as `muster token create` prints it.
    #[track_caller]
    pub fn token(&self, args: &[&str]) -> String {
        let made = self.world.muster(&[&["token", "create", "--output", "json"], args].concat()).expect(0);
        text(&made.json()["token"])
    }

    /// Enrols a host with a token made for it, the way the token's command says.
    #[track_caller]
    pub fn enrol(&mut self, host: &str) -> Output {
        let token = self.token(&["--host", host]);
        self.enrol_with(host, &token, &[])
    }

    /// `muster-agent enrol` on a host, with a token on its standard input.
    pub fn enrol_with(&mut self, host: &str, token: &str, args: &[&str]) -> Output {
        let mut command = self.network.on(host, &binaries::path("muster-agent").display().to_string());
        command.arg("--config").arg(self.world.agent(host).config_path()).arg("enrol").args(args);
        fed(&mut command, token)
    }

    /// Writes a spec of all hosts and their ports; `head` are further lines before the hosts.
    pub fn spec(&self, cluster: &str, head: &str, hosts: &[(&str, &str)], settings: &str) -> String {
        let host = |(name, ports): &(&str, &str)| format!("[[hosts]]\nname = \"{name}\"\nports = [\"{ports}\"]\n");
        let hosts: String = hosts.iter().map(host).collect();
        let text = format!("name = \"{cluster}\"\nreplicas = 1\n{head}\n{hosts}[redis.config]\n{settings}\n");
        self.world.write(&format!("{cluster}.spec.toml"), &text)
    }

    /// What clients of a cluster log in with.
    #[track_caller]
    pub fn credentials(&self, cluster: &str) -> Credentials {
        let shown = self.world.muster(&["credentials", cluster, "--output", "json"]).expect(0).json();
        let ca = text(&shown["ca_pem"]);
        let ca_file = self.world.dir().join(format!("{cluster}-ca.pem"));
        fs::write(&ca_file, &ca).unwrap();
        Credentials { user: text(&shown["user"]), password: text(&shown["password"]), ca, ca_file }
    }

    /// redis-cli over TLS, run on a machine of the network, logged in with these.
    pub fn redis_cli(&self, on: &str, with: &Credentials, args: &[&str]) -> Result<String, String> {
        let mut command = self.network.on(on, "redis-cli");
        command.args(["-e", "--tls", "--cacert"]).arg(&with.ca_file).args(args);
        command.env("REDISCLI_AUTH", &with.password);
        let output = Output::from(command.output().unwrap());
        if output.code == 0 { Ok(output.stdout.trim_end().to_owned()) } else { Err(output.to_string()) }
    }
}

/// What a client logs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The authority, PEM.
    pub ca: String,
    /// The same, in a file.
    pub ca_file: PathBuf,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Runs a command with a line on its standard input. It may be an agent, which nobody else must bury.
pub fn fed(command: &mut Command, input: &str) -> Output {
    processes::run_fed(command, &format!("{input}\n")).into()
}
