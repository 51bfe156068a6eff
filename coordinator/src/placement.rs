//! Who is master and who is replica, and on which host: a pure function of the spec and of what is known of the hosts.
//!
//! Exact and deterministic: the same input gives the same plan, and every seat says why. In order of importance:
//!
//! 1. every shard has the replicas that were asked for, and none more than one beyond another;
//! 2. no two copies of a shard on one host; the spec may allow it, then it is done as seldom as the fleet permits;
//! 3. masters even over the hosts, which also keeps every host from a majority of them wherever that can be;
//! 4. replicas of one host's masters spread over the other hosts, so that its load spreads when it dies;
//! 5. leftover instances become extra replicas, one more a shard in turn. What fits nowhere stays unused, and is said.
//!
//! Masters go in turn over the hosts of the spec and need no search; how the replicas follow is in `spread`. It never
//! logs, waits, draws a random number or reads the clock, and it shares no code with `lint`, which judges it.

mod exchange;
mod refusal;
mod remedy;
mod seat;
mod spread;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;

use std::{collections::BTreeMap, net::IpAddr};

use muster_proto::{
    BusOffset, HostName, Port, SlotRange, Spec, SpecHost,
    spec::{MASTERS_MAX, MASTERS_MIN},
};

pub use refusal::{Offer, Refusal};
pub use remedy::Remedies;
use text::{count, list};

use crate::finding::{Finding, Severity};

/// What is known of a host. Rack and zone are not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// As its agent calls itself.
    pub name: HostName,
    /// What its instances announce.
    pub address: IpAddr,
    /// Where it stands.
    pub rack: Option<String>,
    /// And in which zone.
    pub zone: Option<String>,
}

/// Who would be what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// In slot order; together they serve all slots.
    pub shards: Vec<PlacedShard>,
    /// What the operator should know and the linter cannot see: ports left unused, hosts that share an address.
    pub findings: Vec<Finding>,
}

/// A master and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedShard {
    /// What it serves.
    pub slots: SlotRange,
    /// The first master.
    pub master: Seat,
    /// Its replicas.
    pub replicas: Vec<Seat>,
}

/// Where an instance would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// On which host.
    pub host: HostName,
    /// What it announces.
    pub address: IpAddr,
    /// Its client port.
    pub port: Port,
    /// Why there, as a short sentence.
    pub why: String,
}

impl Placement {
    /// Every instance, shard by shard.
    pub fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.shards.iter().flat_map(PlacedShard::seats)
    }
}

impl PlacedShard {
    /// Master first.
    pub fn seats(&self) -> impl Iterator<Item = &Seat> {
        std::iter::once(&self.master).chain(&self.replicas)
    }
}

/// Places every instance of the spec, or says why that cannot be.
pub fn place(spec: &Spec, sites: &BTreeMap<HostName, Site>) -> Result<Placement, Refusal> {
    let hosts = &spec.parts().hosts;
    let sites = known(hosts, sites)?;
    refuse_same_endpoints(hosts, &sites)?;
    let masters = wanted_masters(spec)?;
    let used = used_instances(spec, masters)?;
    let masters: Vec<usize> = in_turn(&used).take(masters).collect();
    let mut spare = used.clone();
    for &host in &masters {
        spare[host] -= 1;
    }
    let replicas = spread::spread(&spread::Given { masters: &masters, spare: &spare });
    let shards = seat::seat(hosts, &sites, &masters, &replicas);
    let mut findings = unused(hosts, &used);
    findings.extend(same_addresses(&sites));
    Ok(Placement { shards, findings })
}

/// The hosts' sites, in the order of the spec.
fn known<'a>(hosts: &[SpecHost], sites: &'a BTreeMap<HostName, Site>) -> Result<Vec<&'a Site>, Refusal> {
    let site = |host: &SpecHost| {
        let unknown = || Refusal::UnknownHost { host: host.name.clone(), known: sites.keys().cloned().collect() };
        sites.get(&host.name).ok_or_else(unknown)
    };
    hosts.iter().map(site).collect()
}

/// No two instances listen at one place, neither for clients nor on the bus.
fn refuse_same_endpoints(hosts: &[SpecHost], sites: &[&Site]) -> Result<(), Refusal> {
    let mut client: BTreeMap<(IpAddr, u16), (&SpecHost, Port)> = BTreeMap::new();
    let all = || hosts.iter().zip(sites).flat_map(|(host, site)| host.ports.iter().map(move |port| (host, site, port)));
    let clash = |first: &SpecHost, port, second: &SpecHost, other, site: &Site| Refusal::SameEndpoint {
        first: first.name.clone(),
        second: second.name.clone(),
        address: site.address,
        port,
        other,
    };
    for (host, site, port) in all() {
        if let Some((first, other)) = client.insert((site.address, port.get()), (host, port)) {
            return Err(clash(first, other, host, port, site));
        }
    }
    for (host, site, port) in all() {
        if let Some(&(first, taken)) = client.get(&(site.address, port.bus(BusOffset::default()))) {
            return Err(clash(first, taken, host, port, site));
        }
    }
    Ok(())
}

/// As many as asked for, or as the instances allow.
fn wanted_masters(spec: &Spec) -> Result<usize, Refusal> {
    let parts = spec.parts();
    let (replicas, instances) = (parts.replicas as usize, spec.instances());
    let fitting = instances / (replicas + 1);
    let asked = parts.masters.map(|masters| masters as usize);
    let masters = asked.unwrap_or(fitting).max(MASTERS_MIN as usize);
    if masters > fitting {
        let (asked, remedies) = (asked.is_some(), remedy::remedies(spec));
        return Err(Refusal::FewInstances { masters, asked, replicas, offers: offers(spec), remedies });
    }
    if masters > MASTERS_MAX as usize {
        return Err(Refusal::ManyMasters { masters, replicas, instances });
    }
    Ok(masters)
}

/// How many instances of each host are used. A host takes one copy of each shard; more only where it is allowed and
/// the replicas asked for cannot be had without.
fn used_instances(spec: &Spec, masters: usize) -> Result<Vec<usize>, Refusal> {
    let parts = spec.parts();
    let offered: Vec<usize> = parts.hosts.iter().map(|host| host.ports.len()).collect();
    let replicas = parts.replicas as usize;
    let mut used: Vec<usize> = offered.iter().map(|&ports| ports.min(masters)).collect();
    let missing = (masters * (replicas + 1)).saturating_sub(used.iter().sum());
    if missing == 0 {
        return Ok(used);
    }
    if !parts.allow_shared_host {
        return Err(Refusal::SharedHost { masters, replicas, offers: offers(spec), remedies: remedy::remedies(spec) });
    }
    let beyond: Vec<usize> = offered.iter().map(|&ports| ports.saturating_sub(masters)).collect();
    for host in in_turn(&beyond).take(missing) {
        used[host] += 1;
    }
    Ok(used)
}

/// Round and round the hosts, each as often as it has room. No host is ever two ahead of one that still has room.
fn in_turn(room: &[usize]) -> impl Iterator<Item = usize> + '_ {
    let rounds = room.iter().max().copied().unwrap_or(0);
    (0..rounds).flat_map(move |round| (0..room.len()).filter(move |&host| room[host] > round))
}

fn offers(spec: &Spec) -> Vec<Offer> {
    let offer = |host: &SpecHost| Offer { host: host.name.clone(), ports: host.ports.clone() };
    spec.parts().hosts.iter().map(offer).collect()
}

/// Ports that nothing could be placed on.
fn unused(hosts: &[SpecHost], used: &[usize]) -> Vec<Finding> {
    let idle = hosts.iter().zip(used).filter(|(host, used)| host.ports.len() > **used);
    let finding = |(host, used): (&SpecHost, &usize)| Finding {
        severity: Severity::Warning,
        code: "PORTS_UNUSED",
        host: Some(host.name.clone()),
        subject: format!("ports {}", list(host.ports.iter().skip(*used))),
        message: format!(
            "{} of {}'s {} would stay unused: one more would share the host with another copy of its shard",
            host.ports.len() - used,
            host.name,
            count(host.ports.len(), "instance")
        ),
        cure: "take the ports out of the spec, or offer them on another host".to_owned(),
    };
    idle.map(finding).collect()
}

/// Hosts that are perhaps one machine, which would make their separation worthless.
fn same_addresses(sites: &[&Site]) -> Vec<Finding> {
    let mut by_address: BTreeMap<IpAddr, Vec<&HostName>> = BTreeMap::new();
    for site in sites {
        by_address.entry(site.address).or_default().push(&site.name);
    }
    let finding = |(address, names): (&IpAddr, &Vec<&HostName>)| Finding {
        severity: Severity::Warning,
        code: "ADDRESS_SHARED",
        host: None,
        subject: format!("address {address}"),
        message: format!("{} have one address: if they are one machine, its death takes all of them", list(names)),
        cure: "run one agent a machine".to_owned(),
    };
    by_address.iter().filter(|(_, names)| names.len() > 1).map(finding).collect()
}
