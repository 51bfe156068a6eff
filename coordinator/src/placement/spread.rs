//! Which hosts hold the replicas, when it is settled who holds the masters and how many replicas each host gives.
//!
//! Masters of one host are alike, so hosts are matched with hosts: `counts[from][to]` replicas on `from` of the masters
//! on `to`. That is a flow, from hosts through the hosts whose masters they copy to the shards, and [`Price`] is the
//! policy. When no host gives more instances than there are shards, there is always a flow that doubles nothing (the
//! bipartite form of Kundu's theorem on factors; the tests try it on every small fleet), so the cheapest flow finds it.
//! Inside a group each host's run is then dealt round and round the shards: no run is longer than a round, so none of
//! them meets a shard twice. Racks and zones would be fields of the price, between `doubled` and `together`.

use std::{
    cmp::Reverse,
    ops::{Add, Sub},
};

use super::exchange::{self, Arc};

/// What is given.
pub(super) struct Given<'a> {
    /// The host of each shard's master, in slot order.
    pub masters: &'a [usize],
    /// Replicas that each host gives.
    pub spare: &'a [usize],
}

/// A replica on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replica {
    pub host: usize,
    /// Beyond what every shard has.
    pub extra: bool,
}

/// The policy: compared from top to bottom, summed over all replicas, the lowest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Price {
    /// Copies that one shard has more than another, beyond what division leaves.
    uneven: i64,
    /// Copies on a host that already has one of their shard.
    doubled: i64,
    /// Shards with all copies on one host, counted by what they lack.
    alone: i64,
    /// Pairs of one host's masters with a replica on the same other host: when the first dies, its load spreads.
    together: i64,
    /// Only makes equals deterministic: extra replicas go to the first shards.
    turn: i64,
}

impl Add for Price {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            uneven: self.uneven + other.uneven,
            doubled: self.doubled + other.doubled,
            alone: self.alone + other.alone,
            together: self.together + other.together,
            turn: self.turn + other.turn,
        }
    }
}

impl Sub for Price {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            uneven: self.uneven - other.uneven,
            doubled: self.doubled - other.doubled,
            alone: self.alone - other.alone,
            together: self.together - other.together,
            turn: self.turn - other.turn,
        }
    }
}

/// What an arc of the flow stands for. A group is the masters of one host.
enum Kind {
    /// From a host to another's masters.
    Abroad { masters: usize },
    /// From a host to its own masters: every such copy is doubled.
    Home,
    /// All that a group gets from abroad: as long as there is one for each shard, none of them is alone.
    Together { masters: usize },
    /// All that a group gets, dealt over its shards.
    Dealt { group: usize },
}

/// The masters of each host, as shard numbers.
type Groups = Vec<Vec<usize>>;

/// Replicas of each shard, in slot order.
pub(super) fn spread(given: &Given) -> Vec<Vec<Replica>> {
    let mut groups: Groups = vec![Vec::new(); given.spare.len()];
    for (shard, &host) in given.masters.iter().enumerate() {
        groups[host].push(shard);
    }
    let everywhere = given.spare.iter().sum::<usize>() / given.masters.len().max(1);
    let mut counts = first_try(given, &groups);
    improve(&mut counts, &groups, everywhere);
    deal(&counts, &groups, given.masters.len(), everywhere)
}

/// Shard after shard, each replica to the host that has fewest of that group's; near the best, not always the best.
fn first_try(given: &Given, groups: &Groups) -> Vec<Vec<usize>> {
    let hosts = given.spare.len();
    let mut spare = given.spare.to_vec();
    let mut counts = vec![vec![0; hosts]; hosts];
    for &to in given.masters.iter().cycle().take(given.spare.iter().sum()) {
        let rank = |from: usize| {
            let full = counts[from][to] >= groups[to].len();
            (from == to || full, counts[from][to], Reverse(spare[from]), (from + hosts - to) % hosts)
        };
        if let Some(from) = (0..hosts).filter(|&host| spare[host] > 0).min_by_key(|&host| rank(host)) {
            counts[from][to] += 1;
            spare[from] -= 1;
        }
    }
    counts
}

/// Exchanges replicas until the price cannot fall any further.
fn improve(counts: &mut [Vec<usize>], groups: &Groups, everywhere: usize) {
    let hosts = counts.len();
    let giving: Vec<usize> = (0..hosts).filter(|&from| counts[from].iter().any(|&count| count > 0)).collect();
    let sink = 3 * hosts;
    let mut arcs = Vec::new();
    for to in (0..hosts).filter(|&to| !groups[to].is_empty()) {
        let (abroad, all) = (hosts + to, 2 * hosts + to);
        let masters = groups[to].len();
        let got: usize = counts.iter().map(|row| row[to]).sum();
        arcs.push(Arc { from: abroad, to: all, flow: got - counts[to][to], kind: Kind::Together { masters } });
        arcs.push(Arc { from: all, to: sink, flow: got, kind: Kind::Dealt { group: to } });
        for &from in &giving {
            let flow = counts[from][to];
            arcs.push(match from == to {
                true => Arc { from, to: all, flow, kind: Kind::Home },
                false => Arc { from, to: abroad, flow, kind: Kind::Abroad { masters } },
            });
        }
    }
    exchange::settle(sink + 1, &mut arcs, |kind, nth| price(kind, nth, groups, everywhere));
    for arc in arcs.iter().filter(|arc| arc.from < hosts) {
        counts[arc.from][arc.to % hosts] = arc.flow;
    }
}

/// What the n-th replica on an arc costs, from 1.
fn price(kind: &Kind, nth: usize, groups: &Groups, everywhere: usize) -> Price {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    match *kind {
        Kind::Abroad { masters } => {
            Price { doubled: (nth > masters).into(), together: number(nth - 1), ..Price::default() }
        }
        Kind::Home => Price { doubled: 1, alone: 1, ..Price::default() },
        Kind::Together { masters } => Price { alone: (nth > masters).into(), ..Price::default() },
        Kind::Dealt { group } => {
            let shards = &groups[group];
            let beyond = ((nth - 1) / shards.len() + 1).saturating_sub(everywhere);
            let turn = if beyond > 0 { shards[(nth - 1) % shards.len()] } else { 0 };
            Price { uneven: number(beyond), turn: number(turn), ..Price::default() }
        }
    }
}

/// Each host's run, round and round the shards of the group. The group's own host comes last, so that the replicas from
/// abroad are one run and reach as many shards as they can.
fn deal(counts: &[Vec<usize>], groups: &Groups, shards: usize, everywhere: usize) -> Vec<Vec<Replica>> {
    let hosts = counts.len();
    let mut replicas = vec![Vec::new(); shards];
    for (to, group) in groups.iter().enumerate() {
        let runs = (1..=hosts).map(|step| (to + step) % hosts);
        let hosts_in_turn = runs.flat_map(|from| std::iter::repeat_n(from, counts[from][to]));
        for (host, &shard) in hosts_in_turn.zip(group.iter().cycle()) {
            let extra = replicas[shard].len() >= everywhere;
            replicas[shard].push(Replica { host, extra });
        }
    }
    replicas
}
