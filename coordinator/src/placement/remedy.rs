//! What would make a refused spec fit. Every remedy is computed by the rule that decides, not guessed.

use muster_proto::{
    Spec,
    spec::{MASTERS_MAX, MASTERS_MIN},
};

/// Changes, any one of which is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remedies {
    /// The most masters that these hosts can have with these replicas; none when it is not the masters' fault.
    pub masters: Option<usize>,
    /// The most replicas that these hosts can have beside each master.
    pub replicas: Option<usize>,
    /// The fewest ports on one more host.
    pub another_host: Option<usize>,
}

/// For a spec that was refused.
pub(super) fn remedies(spec: &Spec) -> Remedies {
    let parts = spec.parts();
    let offered: Vec<usize> = parts.hosts.iter().map(|host| host.ports.len()).collect();
    let (replicas, masters) = (parts.replicas as usize, parts.masters.map(|masters| masters as usize));
    let wanted = masters.unwrap_or(offered.iter().sum::<usize>() / (replicas + 1)).max(MASTERS_MIN as usize);
    let grown = |ports: usize| [offered.as_slice(), &[ports]].concat();
    Remedies {
        masters: (MASTERS_MIN as usize..wanted).rev().find(|&fewer| fits(&offered, replicas, Some(fewer))),
        replicas: (0..replicas).rev().find(|&fewer| fits(&offered, fewer, masters)),
        another_host: (1..=wanted * (replicas + 1)).find(|&ports| fits(&grown(ports), replicas, masters)),
    }
}

/// Whether there are instances enough when no host takes two copies of a shard, and masters enough to elect.
fn fits(offered: &[usize], replicas: usize, masters: Option<usize>) -> bool {
    let masters = masters.unwrap_or(offered.iter().sum::<usize>() / (replicas + 1));
    let usable: usize = offered.iter().map(|&ports| ports.min(masters)).sum();
    (MASTERS_MIN as usize..=MASTERS_MAX as usize).contains(&masters) && usable >= masters * (replicas + 1)
}
