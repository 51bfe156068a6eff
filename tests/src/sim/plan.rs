//! What a seed means: the fleet, the settings, and how bad the night is.

use std::{collections::BTreeMap, time::Duration};

use muster_coordinator::placement::Site;
use muster_proto::{Auth, HostName, Limits, Port, PortSet, Setting, Spec, SpecHost, Tls, spec::SpecParts};

use super::{dice::Dice, host::Host, sabotage::Sabotage};

/// What every host would start.
pub const VERSION: &str = "redis 7.0.15";

/// What is drawn before anything happens.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Ports of each host.
    pub fleet: Vec<usize>,
    pub replicas: u32,
    pub settings: Vec<Setting>,
    pub node_timeout: Duration,
    /// Until then there are faults.
    pub night: Duration,
    /// Between two of them, on average, in milliseconds.
    pub pace: usize,
    /// Messages in a hundred that come twice.
    pub repeats: usize,
    /// Between two acts of the operator, in milliseconds.
    pub acts: usize,
    /// Patience before an operator is called for.
    pub patience: Duration,
    pub stop_patience: Duration,
    pub sabotage: Option<Sabotage>,
    /// A second coordinator may have the term of the first.
    pub rivals: bool,
}

const FIRST_PORT: usize = 7000;

pub fn port(number: usize) -> Port {
    Port::try_from(u32::try_from(number).expect("small")).expect("a port")
}

impl Plan {
    pub fn draw(dice: &mut Dice) -> Self {
        let fleets = [&[2, 2, 2][..], &[2, 2, 2], &[3, 3, 3], &[2, 2, 2, 2], &[3, 3, 2], &[3, 3]];
        let fleet = dice.pick(&fleets).expect("some").to_vec();
        let node_timeout = dice.ms(1_000, 5_000);
        let mut settings = vec![("cluster-node-timeout", node_timeout.as_millis().to_string())];
        match dice.below(5) {
            0 => settings.extend([("appendonly", "no".to_owned()), ("save", "\"\"".to_owned())]),
            1 => settings.push(("appendonly", "no".to_owned())),
            _ => {}
        }
        let setting = |(key, value): (&str, String)| Setting { key: key.to_owned(), value };
        Self {
            fleet,
            replicas: 1,
            settings: settings.into_iter().map(setting).collect(),
            node_timeout,
            night: dice.ms(40_000, 110_000),
            pace: [400, 1_500, 5_000, 15_000][dice.below(4)],
            repeats: [0, 3, 15][dice.below(3)],
            acts: [1_500, 5_000, 12_000][dice.below(3)],
            patience: dice.ms(10_000, 30_000),
            stop_patience: Duration::from_secs(3),
            sabotage: None,
            rivals: false,
        }
    }

    fn host_name(nth: usize) -> HostName {
        format!("server{}", nth + 1).parse().expect("a name")
    }

    fn ports(count: usize) -> PortSet {
        PortSet::new((FIRST_PORT..FIRST_PORT + count).map(port)).expect("in a row")
    }

    pub fn hosts(&self, dice: &mut Dice) -> Vec<Host> {
        let host = |(nth, count): (usize, &usize)| {
            let address = [10, 0, 0, u8::try_from(nth + 1).expect("few")].into();
            Host::new(Self::host_name(nth), address, Self::ports(*count), dice.uuid())
        };
        self.fleet.iter().enumerate().map(host).collect()
    }

    /// The spec on these hosts, with as many replicas as they allow.
    pub fn spec(&self, hosts: impl Iterator<Item = usize>) -> Option<Spec> {
        let hosts: Vec<SpecHost> =
            hosts.map(|nth| SpecHost { name: Self::host_name(nth), ports: Self::ports(self.fleet[nth]) }).collect();
        let instances: usize = hosts.iter().map(|host| host.ports.iter().count()).sum();
        let replicas =
            if instances >= 3 * (usize::try_from(self.replicas).expect("few") + 1) { self.replicas } else { 0 };
        let parts = SpecParts {
            name: "orders".parse().expect("a name"),
            replicas,
            masters: None,
            hosts,
            settings: self.settings.clone(),
            allow_shared_host: true,
            auth: Auth::None,
            tls: Tls::Off,
            limits: Limits::default(),
        };
        Spec::new(parts).ok()
    }

    /// What placement knows of them.
    pub fn sites(hosts: &[Host]) -> BTreeMap<HostName, Site> {
        let site = |host: &Host| Site { name: host.name.clone(), address: host.address, rack: None, zone: None };
        hosts.iter().map(|host| (host.name.clone(), site(host))).collect()
    }
}
