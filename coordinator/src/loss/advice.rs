//! The smallest change of the spec with which the cluster would survive the death of any one host.
//!
//! Nothing is guessed: a change is advised only after the changed spec was placed and its losses counted. Changes are
//! tried from the cheapest on: a replica where there was none, fewer masters, both; and then the same with hosts that
//! have to be bought, as few of them and as small as will do.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use muster_proto::{
    HostName, Port, PortSet, Spec, SpecHost,
    spec::{MASTERS_MIN, SpecParts},
};

use super::{Loss, losses};
use crate::placement::{Placement, Site, place, text::count};

/// Hosts more than this are a new cluster, not a change.
const MOST_HOSTS: usize = 2;

/// Ports that another host is imagined with, at most: a spec that needs more of them is not one change away.
const MOST_PORTS: usize = 64;

/// One sentence, when there is such a change; none when the cluster survives every single host anyway, or when no small
/// change helps. `losses` are those of the spec's own placement.
pub fn advice(spec: &Spec, sites: &BTreeMap<HostName, Site>, losses: &[Loss]) -> Option<String> {
    let worst = losses.iter().filter(|loss| !loss.survives).max_by_key(|loss| (loss.slots_lost, loss.masters_lost))?;
    let tried = |change: Change| change.placed(spec.parts(), sites).map(|placement| (change, placement.shards.len()));
    let (change, masters) = changes(spec.parts(), worst.masters).find_map(tried)?;
    let copies = if worst.slots_lost > 0 { "every shard has a copy on a second host and " } else { "" };
    let (what, half) = (change.text(spec.parts()), masters.div_ceil(2));
    Some(format!(
        "to survive the loss of any one host, {what}, so that {copies}no host holds {half} of {masters} masters"
    ))
}

/// What would be different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    hosts: usize,
    ports: usize,
    replicas: u32,
    masters: Option<u32>,
}

/// From the cheapest on.
fn changes(parts: &SpecParts, masters: usize) -> impl Iterator<Item = Change> {
    let now = Change { hosts: 0, ports: 0, replicas: parts.replicas, masters: parts.masters };
    let fewer = (MASTERS_MIN..u32::try_from(masters).unwrap_or(u32::MAX)).rev();
    let fewer = fewer.map(move |masters| Change { masters: Some(masters), ..now });
    let replicated = Change { replicas: parts.replicas.max(1), ..now };
    let least = Change { masters: Some(MASTERS_MIN), ..replicated };
    let grown = move |change: Change| {
        (1..=MOST_HOSTS).flat_map(move |hosts| (1..=MOST_PORTS).map(move |ports| Change { hosts, ports, ..change }))
    };
    [replicated]
        .into_iter()
        .chain(fewer)
        .chain([least])
        .chain(grown(replicated))
        .chain(grown(least))
        .filter(move |change| *change != now)
}

impl Change {
    /// Its placement, if that survives every single host.
    fn placed(self, parts: &SpecParts, sites: &BTreeMap<HostName, Site>) -> Option<Placement> {
        let mut parts = SpecParts { replicas: self.replicas, masters: self.masters, ..parts.clone() };
        let mut sites = sites.clone();
        for _ in 0..self.hosts {
            let site = stranger(&sites)?;
            let ports = (0..self.ports).filter_map(|nth| Port::try_from(7000 + u32::try_from(nth).ok()?).ok());
            parts.hosts.push(SpecHost { name: site.name.clone(), ports: PortSet::new(ports).ok()? });
            sites.insert(site.name.clone(), site);
        }
        let placement = place(&Spec::new(parts).ok()?, &sites).ok()?;
        losses(&placement).iter().all(|loss| loss.survives).then_some(placement)
    }

    fn text(self, parts: &SpecParts) -> String {
        let mut said = Vec::new();
        match self.hosts {
            0 => {}
            1 => said.push(format!("add one host with at least {}", count(self.ports, "port"))),
            hosts => said.push(format!("add {hosts} hosts with at least {} each", count(self.ports, "port"))),
        }
        if self.replicas != parts.replicas {
            said.push(format!("set `replicas = {}`", self.replicas));
        }
        if let Some(masters) = self.masters.filter(|_| self.masters != parts.masters) {
            said.push(format!("set `masters = {masters}`"));
        }
        said.join(" and ")
    }
}

/// A host that nobody knows, at an address of the range that RFC 3849 keeps for examples.
fn stranger(sites: &BTreeMap<HostName, Site>) -> Option<Site> {
    let free = |nth: &u16| {
        let site = nth_stranger(*nth)?;
        (!sites.contains_key(&site.name) && sites.values().all(|known| known.address != site.address)).then_some(site)
    };
    (1..=u16::MAX).find_map(|nth| free(&nth))
}

fn nth_stranger(nth: u16) -> Option<Site> {
    let address = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, nth));
    Some(Site { name: format!("another-host-{nth}").parse().ok()?, address, rack: None, zone: None })
}
