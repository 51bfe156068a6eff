//! The best plan of a tiny fleet, by trying all of them. Nothing of the planner is used.

use std::cmp::Reverse;

use super::Case;

/// How good a plan is; the lowest is the best. Spread is compared last, and only among plans with the same masters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    doubled: usize,
    used: Reverse<usize>,
    uneven: usize,
    /// Masters on hosts, the fullest first.
    tops: Vec<usize>,
    alone: usize,
    together: usize,
    /// Sum of the numbers of the shards with an extra replica.
    turn: usize,
    /// Masters on each host.
    pub masters: Vec<usize>,
}

impl Score {
    pub fn of(plan: &[(usize, Vec<usize>)], hosts: usize) -> Self {
        let mut masters = vec![0; hosts];
        let mut pairs = vec![vec![0_usize; hosts]; hosts];
        let (mut doubled, mut alone) = (0, 0);
        for (master, replicas) in plan {
            masters[*master] += 1;
            let on = |host| usize::from(*master == host) + replicas.iter().filter(|replica| **replica == host).count();
            doubled += (0..hosts).map(|host| on(host).saturating_sub(1)).sum::<usize>();
            alone += usize::from(!replicas.is_empty() && replicas.iter().all(|replica| replica == master));
            for replica in replicas.iter().filter(|replica| *replica != master) {
                pairs[*replica][*master] += 1;
            }
        }
        let sizes: Vec<usize> = plan.iter().map(|(_, replicas)| replicas.len()).collect();
        let mut tops = masters.clone();
        tops.sort_by_key(|&number| Reverse(number));
        Self {
            doubled,
            used: Reverse(sizes.iter().sum::<usize>() + plan.len()),
            uneven: (sizes.iter().max().unwrap() - sizes.iter().min().unwrap()).saturating_sub(1),
            tops,
            alone,
            together: pairs.iter().flatten().map(|&n| n * n.saturating_sub(1) / 2).sum(),
            turn: turn(plan, &masters),
            masters,
        }
    }

    pub fn without_spread(&self) -> Self {
        Self { alone: 0, together: 0, turn: 0, masters: Vec::new(), ..self.clone() }
    }
}

/// Shards are numbered round and round the hosts. Those of one host are alike, so its first ones have its extras.
fn turn(plan: &[(usize, Vec<usize>)], masters: &[usize]) -> usize {
    let rounds = (0..plan.len()).flat_map(|round| (0..masters.len()).filter(move |&host| masters[host] > round));
    let numbered: Vec<usize> = rounds.collect();
    let everywhere = plan.iter().map(|(_, replicas)| replicas.len()).sum::<usize>() / plan.len();
    let extras = |host| plan.iter().filter(|(master, replicas)| *master == host && replicas.len() > everywhere).count();
    let first = |host| (0..plan.len()).filter(|&shard| numbered[shard] == host).take(extras(host)).sum::<usize>();
    (0..masters.len()).map(first).sum()
}

/// The fewest masters that the fullest host can have.
pub(super) fn best_maximum(ports: &[usize], masters: usize) -> usize {
    let fits = |most: &usize| ports.iter().map(|&ports| ports.min(*most)).sum::<usize>() >= masters;
    (1..=masters).find(fits).unwrap()
}

/// The best of all plans that give what was asked.
pub(super) fn best(case: &Case) -> Option<Score> {
    search(case, None)
}

/// The best of those with so many masters on each host.
pub(super) fn best_with_masters(case: &Case, masters: &[usize]) -> Option<Score> {
    search(case, Some(masters))
}

fn search(case: &Case, fixed: Option<&[usize]>) -> Option<Score> {
    let masters = case.masters? as usize;
    let asked = case.replicas as usize;
    let offered: usize = case.ports.iter().sum();
    if offered < masters * (asked + 1) {
        return None;
    }
    // Extra replicas are never worth a doubled copy, so plans that double at all have none.
    let most = if offered > masters { (offered / masters).max(asked + 1) } else { asked };
    let apart = shards(case.ports.len(), asked, most, false);
    let mut found = try_all(case, fixed, masters, &apart);
    if found.is_none() && case.allow_shared_host {
        found = try_all(case, fixed, masters, &shards(case.ports.len(), asked, asked, true));
    }
    found
}

/// All shards that could be: the master's host and the replicas' hosts, ascending.
fn shards(hosts: usize, fewest: usize, most: usize, doubling: bool) -> Vec<(usize, Vec<usize>)> {
    let mut lists: Vec<Vec<usize>> = vec![Vec::new()];
    let mut replicas = lists.clone();
    for _ in 0..most {
        let longer = |list: &Vec<usize>| {
            let from = list.last().map_or(0, |&last| last + usize::from(!doubling));
            (from..hosts).map(|host| [list.as_slice(), &[host]].concat()).collect::<Vec<_>>()
        };
        lists = lists.iter().flat_map(longer).collect();
        replicas.extend(lists.clone());
    }
    replicas.retain(|list| list.len() >= fewest);
    let with_master = |list: &Vec<usize>| {
        let free = (0..hosts).filter(|host| doubling || !list.contains(host));
        free.map(|host| (host, list.clone())).collect::<Vec<_>>()
    };
    replicas.iter().flat_map(with_master).collect()
}

fn try_all(case: &Case, fixed: Option<&[usize]>, masters: usize, shards: &[(usize, Vec<usize>)]) -> Option<Score> {
    let mut left = case.ports.clone();
    let mut masters_left = fixed.map_or_else(|| left.clone(), <[usize]>::to_vec);
    let mut best = None;
    let mut plan = Vec::new();
    extend(&mut plan, masters, shards, &mut left, &mut masters_left, &mut best);
    best
}

/// Shards are alike, so only ascending plans are tried.
fn extend(
    plan: &mut Vec<(usize, Vec<usize>)>,
    masters: usize,
    shards: &[(usize, Vec<usize>)],
    left: &mut [usize],
    masters_left: &mut [usize],
    best: &mut Option<Score>,
) {
    if plan.len() == masters {
        let score = Score::of(plan, left.len());
        if best.as_ref().is_none_or(|best| score < *best) {
            *best = Some(score);
        }
        return;
    }
    for (at, shard) in shards.iter().enumerate() {
        let (master, replicas) = shard;
        let needs = |host| usize::from(*master == host) + replicas.iter().filter(|replica| **replica == host).count();
        if masters_left[*master] == 0 || (0..left.len()).any(|host| left[host] < needs(host)) {
            continue;
        }
        masters_left[*master] -= 1;
        (0..left.len()).for_each(|host| left[host] -= needs(host));
        plan.push(shard.clone());
        extend(plan, masters, &shards[at..], left, masters_left, best);
        plan.pop();
        (0..left.len()).for_each(|host| left[host] += needs(host));
        masters_left[*master] += 1;
    }
}
