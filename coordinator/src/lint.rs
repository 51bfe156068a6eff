//! Judges who is what and where, without knowing how it came about.
//!
//! It shares no code with `placement`: it sees copies, by name and host, and says which rules they break. It runs on
//! every blueprint before it is used, and behind `muster check` on what a running cluster has become. One `check_*` a
//! property; findings are values, and nothing is ever changed here.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{HostName, Member, SLOTS, SlotRange, slots::normal, slots::ranges_text, spec::MASTERS_MIN};

pub use crate::finding::{Finding, Severity};

/// One copy of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where it lives.
    pub host: HostName,
    /// As people call it: `server1:7000`.
    pub name: String,
    /// Which shard it belongs to.
    pub shard: u32,
    /// What it serves; empty for replicas.
    pub slots: Vec<SlotRange>,
    /// It is the master.
    pub master: bool,
}

impl From<&Member> for Copy {
    fn from(member: &Member) -> Self {
        Self {
            host: member.host.clone(),
            name: member.name(),
            shard: member.shard,
            slots: member.role.slots().to_vec(),
            master: member.role.master().is_none(),
        }
    }
}

/// What the operator asked for, as far as the rules depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Copies beside each master, at least.
    pub replicas: u32,
    /// Two copies of a shard on one host are worth a warning only.
    pub allow_shared_host: bool,
}

/// Every rule that the copies break, the worst first.
pub fn lint(copies: &[Copy], asked: Asked) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(check_names(copies));
    findings.extend(check_slots(copies));
    findings.extend(check_roles(copies));
    findings.extend(check_masters(copies));
    findings.extend(check_replicas(copies, asked));
    findings.extend(check_even_replicas(copies));
    findings.extend(check_separation(copies, asked));
    findings.extend(check_majority(copies));
    findings.extend(check_even_masters(copies));
    findings.sort();
    findings
}

/// No instance has two seats.
fn check_names(copies: &[Copy]) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let twice = copies.iter().filter(|copy| !seen.insert(&copy.name));
    let finding = |copy: &Copy| Finding {
        host: Some(copy.host.clone()),
        ..fatal("INSTANCE_TWICE", &copy.name, "it has two places in the cluster", "give every instance one place")
    };
    twice.map(finding).collect()
}

/// Every slot is served, by one node.
fn check_slots(copies: &[Copy]) -> Vec<Finding> {
    // Where the number of nodes that serve a slot changes, and by how much; both ends are there so that all is covered.
    let mut steps = BTreeMap::from([(0, 0), (SLOTS, 0)]);
    for range in copies.iter().flat_map(|copy| &copy.slots) {
        *steps.entry(range.first()).or_insert(0) += 1;
        *steps.entry(range.last() + 1).or_insert(0) -= 1;
    }
    let (mut unserved, mut twice, mut servers) = (Vec::new(), Vec::new(), 0_i32);
    for ((&first, step), &next) in steps.iter().zip(steps.keys().skip(1)) {
        servers += step;
        match servers {
            0 => unserved.extend(SlotRange::new(first, next - 1)),
            1 => {}
            _ => twice.extend(SlotRange::new(first, next - 1)),
        }
    }
    let finding = |code, slots: Vec<SlotRange>, message: &str, cure: &str| {
        let subject = format!("slots {}", ranges_text(&normal(slots.clone())));
        (!slots.is_empty()).then(|| fatal(code, &subject, message, cure))
    };
    let cure = "assign them: the cluster serves nothing while cluster-require-full-coverage is yes, the default";
    let unserved = finding("SLOTS_UNSERVED", unserved, "no master serves them", cure);
    let twice = finding("SLOTS_TWICE", twice, "more than one node serves them", "leave them to one master");
    unserved.into_iter().chain(twice).collect()
}

/// Every shard has one master; it serves slots, and its replicas serve none.
fn check_roles(copies: &[Copy]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (shard, copies) in by_shard(copies) {
        let masters: Vec<&str> = copies.iter().filter(|copy| copy.master).map(|copy| copy.name.as_str()).collect();
        let subject = format!("shard {shard}");
        match masters.as_slice() {
            [] => findings.push(fatal("NO_MASTER", &subject, "nobody in it is master", "promote one of its replicas")),
            [_] => {}
            many => {
                let message = format!("it has {} masters: {}", many.len(), many.join(", "));
                findings.push(fatal("MANY_MASTERS", &subject, &message, "make all but one of them replicas"));
            }
        }
        for copy in copies {
            let host = Some(copy.host.clone());
            if copy.master && copy.slots.is_empty() {
                let cure = "give it slots, or make it a replica: without slots it has no vote";
                findings.push(Finding { host, ..warning("MASTER_IDLE", &copy.name, "a master without slots", cure) });
            } else if !copy.master && !copy.slots.is_empty() {
                let message = format!("a replica that serves slots {}", ranges_text(&copy.slots));
                let cure = "leave the slots to its master";
                findings.push(Finding { host, ..fatal("REPLICA_SERVES", &copy.name, &message, cure) });
            }
        }
    }
    findings
}

/// Enough masters to elect a successor for a dead one. Those without slots have no vote (`clusterUpdateState`).
fn check_masters(copies: &[Copy]) -> Vec<Finding> {
    let voters = voters(copies).count();
    if voters >= MASTERS_MIN as usize {
        return Vec::new();
    }
    let message = format!("{voters} masters with slots: when one dies, no majority is left to elect its successor");
    vec![fatal("FEW_MASTERS", "masters", &message, "spread the slots over at least 3 masters")]
}

/// Every shard has the replicas asked for.
fn check_replicas(copies: &[Copy], asked: Asked) -> Vec<Finding> {
    let few = by_shard(copies).into_iter().filter_map(|(shard, copies)| {
        let replicas = copies.iter().filter(|copy| !copy.master).count();
        let message = format!("it has {replicas} of the {} replicas asked for", asked.replicas);
        let cure = "add an instance to it, or bring the missing one back";
        (replicas < asked.replicas as usize).then(|| fatal("FEW_REPLICAS", &format!("shard {shard}"), &message, cure))
    });
    few.collect()
}

/// No shard has two copies more than another.
fn check_even_replicas(copies: &[Copy]) -> Vec<Finding> {
    let shards = by_shard(copies);
    let most = shards.iter().max_by_key(|(_, copies)| copies.len());
    let fewest = shards.iter().min_by_key(|(_, copies)| copies.len());
    match most.zip(fewest) {
        Some(((most, many), (fewest, few))) if many.len() > few.len() + 1 => {
            let message = format!("shard {most} has {} copies and shard {fewest} has {}", many.len(), few.len());
            let cure = format!("make a replica of shard {most} copy shard {fewest} instead");
            vec![warning("REPLICAS_UNEVEN", &format!("shard {fewest}"), &message, &cure)]
        }
        _ => Vec::new(),
    }
}

/// No two copies of a shard live on one host.
fn check_separation(copies: &[Copy], asked: Asked) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (shard, copies) in by_shard(copies) {
        let hosts = count_by(copies.iter().map(|copy| &copy.host));
        for (host, number) in hosts.iter().filter(|(_, number)| **number > 1) {
            let names = copies.iter().filter(|copy| copy.host == **host).map(|copy| copy.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            let loss = match copies.len() - number {
                0 => "its death takes the whole shard".to_owned(),
                left => format!("its death leaves {left} of {}", copies.len()),
            };
            let message = format!("{number} of its {} copies are on {host} ({names}): {loss}", copies.len());
            let cure = "offer more instances on other hosts";
            let subject = format!("shard {shard}");
            let finding = if asked.allow_shared_host { warning } else { fatal };
            let finding = finding("SHARED_HOST", &subject, &message, cure);
            findings.push(Finding { host: Some((*host).clone()), ..finding });
        }
    }
    findings
}

/// No host's death leaves the other masters without a majority.
fn check_majority(copies: &[Copy]) -> Vec<Finding> {
    let masters = voters(copies).count();
    let blocking = count_by(voters(copies).map(|copy| &copy.host)).into_iter().filter(|(_, here)| here * 2 >= masters);
    let finding = |(host, here): (&HostName, usize)| {
        let message = format!(
            "{host} has {here} of {masters} masters: if it dies, {} of {masters} is no majority and cannot elect",
            masters - here
        );
        let cure = "spread the masters over at least 3 hosts";
        Finding { host: Some(host.clone()), ..warning("MAJORITY_ON_HOST", "masters", &message, cure) }
    };
    blocking.map(finding).collect()
}

/// No host has two masters more than another that could take one: that has a replica.
fn check_even_masters(copies: &[Copy]) -> Vec<Finding> {
    let masters = |host: &HostName| copies.iter().filter(|copy| copy.master && copy.host == *host).count();
    let hosts: BTreeSet<&HostName> = copies.iter().map(|copy| &copy.host).collect();
    let with_room: BTreeSet<&HostName> = copies.iter().filter(|copy| !copy.master).map(|copy| &copy.host).collect();
    let most = hosts.into_iter().map(|host| (masters(host), host)).max_by_key(|(here, _)| *here);
    let fewest = with_room.into_iter().map(|host| (masters(host), host)).min_by_key(|(here, _)| *here);
    match most.zip(fewest) {
        Some(((many, most), (few, fewest))) if many > few + 1 => {
            let message = format!("{most} has {many} masters, {fewest} has {few} and could take one");
            let cure = "fail masters over to replicas on hosts that have fewer";
            vec![Finding { host: Some(most.clone()), ..warning("MASTERS_UNEVEN", "masters", &message, cure) }]
        }
        _ => Vec::new(),
    }
}

/// Masters that vote.
fn voters(copies: &[Copy]) -> impl Iterator<Item = &Copy> {
    copies.iter().filter(|copy| copy.master && !copy.slots.is_empty())
}

fn by_shard(copies: &[Copy]) -> BTreeMap<u32, Vec<&Copy>> {
    let mut shards: BTreeMap<u32, Vec<&Copy>> = BTreeMap::new();
    for copy in copies {
        shards.entry(copy.shard).or_default().push(copy);
    }
    shards
}

fn count_by<'a>(hosts: impl Iterator<Item = &'a HostName>) -> BTreeMap<&'a HostName, usize> {
    let mut counts = BTreeMap::new();
    for host in hosts {
        *counts.entry(host).or_default() += 1;
    }
    counts
}

fn fatal(code: &'static str, subject: &str, message: &str, cure: &str) -> Finding {
    Finding { severity: Severity::Fatal, ..warning(code, subject, message, cure) }
}

fn warning(code: &'static str, subject: &str, message: &str, cure: &str) -> Finding {
    let [subject, message, cure] = [subject, message, cure].map(str::to_owned);
    Finding { severity: Severity::Warning, code, host: None, subject, message, cure }
}

#[cfg(test)]
mod tests;
