//! A switch with a host on each of its cables, in network namespaces: addresses that are not loopback, and a network
//! that can fail. It takes root and `ip`; on a machine that has not both, a test that needs it fails and says so.
//!
//! ```text
//!   mt-PID-N-server1     mt-PID-N-server2     namespaces of the hosts: eth0, 192.168.77.1, .2, ...
//!          │ eth0               │ eth0        veth pairs
//!        ──┴──── br0 ───────────┴──           a bridge, in a namespace of its own
//! ```

use std::{
    net::Ipv4Addr,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

/// See the module. Dropping it removes it, with all that is in it; processes must be gone before.
#[derive(Debug)]
pub struct Network {
    /// Begins the names of its namespaces; no two networks have the same.
    prefix: String,
    hosts: Vec<String>,
    /// Of the first host; those of the others follow.
    first: Ipv4Addr,
}

impl Network {
    /// A network of these hosts, all cables plugged in.
    ///
    /// # Panics
    /// When it cannot be made; the message says what it takes.
    pub fn new(hosts: &[&str]) -> Self {
        Self::from(Ipv4Addr::new(192, 168, 77, 1), hosts)
    }

    /// The same, with addresses from that one on.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn from(first: Ipv4Addr, hosts: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let network = Self { prefix: format!("mt-{}-{nth}", process::id()), hosts, first };
        let switch = network.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for host in &network.hosts {
            let (namespace, cable) = (network.namespace(host), network.cable(host));
            let address = format!("{}/24", network.address(host));
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            ip(&["-n", &namespace, "link", "add", "eth0", "type", "veth", "peer", "name", &cable, "netns", &switch]);
            ip(&["-n", &switch, "link", "set", &cable, "master", "br0", "up"]);
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        network
    }

    /// A host's address.
    pub fn address(&self, host: &str) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + u32::try_from(self.nth(host)).expect("a network has few hosts"))
    }

    /// The namespace that a host's processes live in.
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{}", self.prefix, self.hosts[self.nth(host)])
    }

    /// A command as it would be run on a host.
    pub fn on(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// Pulls the cable out of the switch.
    pub fn unplug(&self, host: &str) {
        ip(&["-n", &self.switch(), "link", "set", &self.cable(host), "down"]);
    }

    /// Puts it in again.
    pub fn plug(&self, host: &str) {
        ip(&["-n", &self.switch(), "link", "set", &self.cable(host), "up"]);
    }

    /// Takes away the way from one host to another: the kernel there says so at once.
    pub fn no_route(&self, from: &str, to: &str) {
        ip(&["-n", &self.namespace(from), "route", "add", "unreachable", &self.address(to).to_string()]);
    }

    /// Gives it back.
    pub fn route(&self, from: &str, to: &str) {
        ip(&["-n", &self.namespace(from), "route", "del", "unreachable", &self.address(to).to_string()]);
    }

    /// A firewall on a host that drops, without a word, what comes in for one port.
    pub fn drop_port(&self, host: &str, port: u16) {
        let namespace = self.namespace(host);
        // The rule must be asked before the table of local addresses, which is asked first of all.
        ip(&["-n", &namespace, "rule", "add", "pref", "100", "lookup", "local"]);
        ip(&["-n", &namespace, "rule", "del", "pref", "0"]);
        ip(&[&["-n", &namespace, "rule", "add"], firewall(&port.to_string()).as_slice()].concat());
    }

    /// Opens the port again.
    pub fn open_port(&self, host: &str, port: u16) {
        ip(&[&["-n", &self.namespace(host), "rule", "del"], firewall(&port.to_string()).as_slice()].concat());
    }

    fn nth(&self, host: &str) -> usize {
        self.hosts.iter().position(|known| known == host).unwrap_or_else(|| panic!("this network has no {host}"))
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    fn cable(&self, host: &str) -> String {
        format!("cable{}", self.nth(host))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let namespaces = self.hosts.iter().map(|host| self.namespace(host)).chain([self.switch()]);
        for namespace in namespaces {
            // The virtual cables go with the namespaces. One that was never made cannot be removed, which is no harm.
            let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
        }
    }
}

fn firewall(port: &str) -> [&str; 9] {
    ["pref", "10", "iif", "eth0", "ipproto", "tcp", "dport", port, "blackhole"]
}

fn ip(args: &[&str]) {
    let needs = "network namespaces take root, CAP_NET_ADMIN and iproute2 (tests/setup.sh installs it)";
    let output = Command::new("ip").args(args).output().unwrap_or_else(|error| panic!("ip: {error}; {needs}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}{needs}", args.join(" "));
}
