//! Gives everyone a port and a reason, when it is settled which host holds what. Decides nothing else.

use muster_proto::{Port, SlotRange, SpecHost};

use super::{PlacedShard, Seat, Site, spread::Replica, text::count};

/// A host's masters get its lowest ports, in slot order, then its replicas.
pub(super) fn seat(
    hosts: &[SpecHost],
    sites: &[&Site],
    masters: &[usize],
    replicas: &[Vec<Replica>],
) -> Vec<PlacedShard> {
    let ports: Vec<Vec<Port>> = hosts.iter().map(|host| host.ports.iter().collect()).collect();
    let mut taken = vec![0; hosts.len()];
    let mut take = |host: usize, why: String| {
        taken[host] += 1;
        let Site { name, address, .. } = sites[host];
        Seat { host: name.clone(), address: *address, port: ports[host][taken[host] - 1], why }
    };
    let why = Why { hosts, masters, replicas };
    let first: Vec<Seat> = masters.iter().map(|&host| take(host, why.master(host))).collect();
    let slots = (0..masters.len()).filter_map(|shard| SlotRange::of_shard(shard, masters.len()));
    let shard = |(shard, (slots, master)): (usize, (SlotRange, Seat))| {
        let replicas = replicas[shard].iter().enumerate();
        let replicas = replicas.map(|(nth, replica)| take(replica.host, why.replica(shard, nth))).collect();
        PlacedShard { slots, master, replicas }
    };
    slots.zip(first).enumerate().map(shard).collect()
}

/// The reasons, from the finished plan.
struct Why<'a> {
    hosts: &'a [SpecHost],
    masters: &'a [usize],
    replicas: &'a [Vec<Replica>],
}

impl Why<'_> {
    fn master(&self, host: usize) -> String {
        let here = self.masters.iter().filter(|&&other| other == host).count();
        format!("masters go in turn over the hosts; {} has {here} of {}", self.hosts[host].name, self.masters.len())
    }

    fn replica(&self, shard: usize, nth: usize) -> String {
        let Replica { host, extra } = self.replicas[shard][nth];
        let leftover = if extra { "extra replica, from a leftover instance; " } else { "" };
        let (here, there) = (&self.hosts[host].name, &self.hosts[self.masters[shard]].name);
        let before = self.replicas[shard][..nth].iter().any(|other| other.host == host);
        if before || host == self.masters[shard] {
            return format!("{leftover}shares {here} with another copy: no other host is left, and the spec allows it");
        }
        let of_there = || self.masters.iter().zip(self.replicas).filter(|&(&host, _)| host == self.masters[shard]);
        let all: usize = of_there().map(|(_, replicas)| replicas.len()).sum();
        let ours = of_there().flat_map(|(_, replicas)| replicas).filter(|other| other.host == host).count();
        format!(
            "{leftover}not on its master's host; {here} holds {ours} of {} of {there}'s masters",
            count(all, "replica")
        )
    }
}
