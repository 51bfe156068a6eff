//! The independent verdict on a running cluster: every node's own view, asked anew, against each other, the blueprint
//! and the placement rules.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{
    HostName, InstanceState, InstanceStatus, Member, NodeId, Role, SLOTS, Sha256, SlotRange, Topology, slots::normal,
    view,
};

use crate::{
    blueprint::Blueprint,
    finding::{Finding, Severity},
    lint::{self, Asked, Copy},
    trust::{Bars, away},
};

/// What was found, and what was held to be true.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Worst first.
    pub findings: Vec<Finding>,
    /// One sentence each.
    pub passed: Vec<String>,
    /// Instances whose own view was judged.
    pub answered: usize,
}

/// What one instance has answered.
struct Seen<'a> {
    member: &'a Member,
    status: &'a InstanceStatus,
    topology: Topology,
}

/// Judges fresh answers. `stopped` are those that an operator wants not to run: that they are away is meant.
pub fn judge(
    blueprint: &Blueprint,
    asked: Asked,
    answers: &BTreeMap<HostName, Result<Vec<InstanceStatus>, String>>,
    bars: &Bars,
    stopped: &BTreeSet<NodeId>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let seen = gather(blueprint, answers, (bars, stopped), &mut verdict);
    verdict.answered = seen.len();
    if seen.is_empty() {
        let nobody = Finding::fatal("NOBODY_ANSWERS", blueprint.cluster.as_str(), "no instance has answered");
        verdict.findings.push(nobody.cure("muster hosts"));
        return verdict;
    }
    let common = common(&seen);
    agree(&seen, common, stopped, &mut verdict);
    states(&seen, blueprint.members.len() - stopped.len(), stopped, &mut verdict);
    let now = &common.topology;
    coverage(now, &seen, &silent_hosts(blueprint, answers), &mut verdict);
    roles(blueprint, now, &mut verdict);
    rules(blueprint, asked, now, stopped, &mut verdict);
    verdict.findings.sort();
    verdict
}

fn gather<'a>(
    blueprint: &'a Blueprint,
    answers: &'a BTreeMap<HostName, Result<Vec<InstanceStatus>, String>>,
    (bars, stopped): (&Bars, &BTreeSet<NodeId>),
    verdict: &mut Verdict,
) -> Vec<Seen<'a>> {
    let mut seen = Vec::new();
    for host in blueprint.hosts() {
        if let Some(Err(why)) = answers.get(&host) {
            verdict.findings.push(away(&host, &format!("the agent did not answer: {why}"), bars));
        }
    }
    for member in &blueprint.members {
        let Some(Ok(statuses)) = answers.get(&member.host) else { continue };
        let status = statuses.iter().find(|status| status.node_id == member.node_id);
        let view = status.and_then(|status| status.view.as_ref()).and_then(|view| view.nodes_text.as_deref());
        match (status, view.map(view::parse)) {
            (Some(status), Some(Ok(view))) if status.state == InstanceState::Running => {
                seen.push(Seen { member, status, topology: view.topology });
            }
            (_, Some(Err(error))) => {
                verdict
                    .findings
                    .push(Finding::fatal("VIEW_UNREADABLE", member.name(), error.to_string()).on(&member.host));
            }
            _ if stopped.contains(&member.node_id) => verdict.findings.push(
                Finding::warning("STOPPED", member.name(), "is stopped, as an operator asked")
                    .on(&member.host)
                    .cure(format!("muster start {} --instance {}", blueprint.cluster, member.name())),
            ),
            (status, _) => {
                let why = status.map_or("not reported", |status| status.reason.as_str());
                verdict.findings.push(
                    Finding::fatal("INSTANCE_SILENT", member.name(), why)
                        .on(&member.host)
                        .cure(format!("muster status {}", blueprint.cluster)),
                );
            }
        }
    }
    seen
}

/// One of those whose view is shared by most, so that one node that was cut off is named and not all the others; of
/// equals, the first in the blueprint.
fn common<'a, 'b>(seen: &'b [Seen<'a>]) -> &'b Seen<'a> {
    let digests: Vec<Sha256> = seen.iter().map(|one| one.topology.digest()).collect();
    let mut sharing: BTreeMap<Sha256, usize> = BTreeMap::new();
    digests.iter().for_each(|digest| *sharing.entry(*digest).or_default() += 1);
    let most = sharing.values().max().copied().unwrap_or(0);
    let first = digests.iter().position(|digest| sharing.get(digest) == Some(&most));
    &seen[first.unwrap_or(0)]
}

/// What others know of one that is stopped is as old as its last word to each of them.
fn agree(seen: &[Seen], common: &Seen, stopped: &BTreeSet<NodeId>, verdict: &mut Verdict) {
    let there = |topology: &Topology| {
        Topology::new(topology.nodes().iter().filter(|node| !stopped.contains(&node.id)).cloned())
    };
    let right = there(&common.topology);
    let before = verdict.findings.len();
    for other in seen {
        if let Some(difference) = right.differences(&there(&other.topology)).into_iter().next() {
            let message = format!("{difference}, in the eyes of {}", common.member.name());
            verdict.findings.push(Finding::fatal("VIEWS_DIFFER", other.member.name(), message).on(&other.member.host));
        }
    }
    if verdict.findings.len() == before {
        verdict.passed.push(format!("All {} nodes agree about slots and roles.", seen.len()));
    }
}

fn states(seen: &[Seen], members: usize, stopped: &BTreeSet<NodeId>, verdict: &mut Verdict) {
    let is_meant = |trouble: &&String| stopped.iter().any(|id| trouble.contains(&format!("({})", id.short())));
    let before = verdict.findings.len();
    for one in seen {
        let Some(view) = &one.status.view else { continue };
        let name = one.member.name();
        let on = |finding: Finding| finding.on(&one.member.host);
        if view.node_id != one.member.node_id {
            verdict.findings.push(on(Finding::fatal(
                "WRONG_NODE",
                &name,
                format!("node {} answers there", view.node_id),
            )));
        }
        if !view.cluster_ok {
            verdict.findings.push(on(Finding::fatal("CLUSTER_STATE", &name, "says cluster_state:fail")));
        }
        if view.role.master().is_some() && !view.link_up {
            verdict.findings.push(on(Finding::fatal("LINK_DOWN", &name, "its link to its master is not up")));
        }
        for trouble in view.troubles.iter().filter(|trouble| !is_meant(trouble)) {
            verdict.findings.push(on(Finding::warning("NODE_TROUBLE", &name, format!("thinks that {trouble}"))));
        }
    }
    if verdict.findings.len() == before {
        let who = if seen.len() == members { "Every node" } else { "Every node that answered" };
        verdict.passed.push(format!("{who} says cluster_state:ok, and every replica is in sync."));
    }
}

/// Nodes on hosts whose agents have not answered: whether those serve, only the others can say.
fn silent_hosts(
    blueprint: &Blueprint,
    answers: &BTreeMap<HostName, Result<Vec<InstanceStatus>, String>>,
) -> BTreeSet<NodeId> {
    let silent = |member: &&Member| !matches!(answers.get(&member.host), Some(Ok(_)));
    blueprint.members.iter().filter(silent).map(|member| member.node_id).collect()
}

/// Slots whose owner has answered, or is well in the eyes of all that have. Those of any other are served by nobody.
fn coverage(now: &Topology, seen: &[Seen], silent: &BTreeSet<NodeId>, verdict: &mut Verdict) {
    let answered: BTreeSet<NodeId> = seen.iter().map(|one| one.member.node_id).collect();
    let doubted = |id: &NodeId| {
        let named = format!("({})", id.short());
        let views = seen.iter().filter_map(|one| one.status.view.as_ref());
        views.flat_map(|view| &view.troubles).any(|trouble| trouble.contains(&named))
    };
    let count = |owns: &dyn Fn(&NodeId) -> bool| {
        let owners = now.nodes().iter().filter(|node| owns(&node.id));
        let covered = normal(owners.flat_map(|node| node.role.slots().to_vec()).collect());
        covered.iter().map(|range: &SlotRange| u32::from(range.len())).sum::<u32>()
    };
    let sure = count(&|id| answered.contains(id));
    let believed = count(&|id| answered.contains(id) || (silent.contains(id) && !doubted(id)));
    if sure == u32::from(SLOTS) {
        verdict.passed.push(format!("All {SLOTS} slots covered."));
    } else if believed == u32::from(SLOTS) {
        let others = believed - sure;
        verdict.passed.push(format!(
            "{sure} slots covered; the other {others} too, in the eyes of every node that answered, on hosts whose \
             agents did not."
        ));
    } else {
        let message = format!("{believed} of {SLOTS} slots are served by a node that answers, or is seen to serve");
        verdict.findings.push(
            Finding::fatal("SLOTS_UNCOVERED", "slots", message).cure("bring back an instance of the missing shard"),
        );
    }
}

fn roles(blueprint: &Blueprint, now: &Topology, verdict: &mut Verdict) {
    let before = verdict.findings.len();
    for member in &blueprint.members {
        match now.get(member.node_id) {
            None => verdict
                .findings
                .push(Finding::fatal("NODE_MISSING", member.name(), "no node knows it").on(&member.host)),
            Some(node) if node.role.word() != member.role.word() => {
                let message =
                    format!("is a {}, planned as a {}: Redis failed over", node.role.word(), member.role.word());
                verdict.findings.push(Finding::warning("ROLE_CHANGED", member.name(), message).on(&member.host));
            }
            Some(_) => {}
        }
    }
    let planned: BTreeSet<NodeId> = blueprint.members.iter().map(|member| member.node_id).collect();
    for node in now.nodes().iter().filter(|node| !planned.contains(&node.id)) {
        verdict.findings.push(
            Finding::fatal(
                "STRANGER",
                format!("{}:{}", node.address, node.port),
                format!("node {} is in no blueprint", node.id),
            )
            .cure(format!("on every instance: redis-cli -s SOCKET cluster forget {}", node.id)),
        );
    }
    if verdict.findings.len() == before {
        verdict.passed.push("Every node is what the blueprint says.".into());
    }
}

/// The placement rules, on what is and not on what was planned. One that has handed over and was stopped at once may
/// still be a master to the others, of no slots: it follows who took them.
fn rules(blueprint: &Blueprint, asked: Asked, now: &Topology, stopped: &BTreeSet<NodeId>, verdict: &mut Verdict) {
    let shard_of: BTreeMap<NodeId, u32> =
        blueprint.members.iter().map(|member| (member.node_id, member.shard)).collect();
    let copy = |member: &Member| {
        let node = now.get(member.node_id)?;
        let leader = node.role.master().unwrap_or(node.id);
        Some(Copy {
            host: member.host.clone(),
            name: member.name(),
            shard: shard_of.get(&leader).copied().unwrap_or(member.shard),
            slots: node.role.slots().to_vec(),
            master: matches!(&node.role, Role::Master { slots } if !slots.is_empty() || !stopped.contains(&node.id)),
        })
    };
    let copies: Vec<_> = blueprint.members.iter().filter_map(copy).collect();
    // A running cluster may be out of its planned balance; that is for people to know, not a failure.
    let findings = lint::lint(&copies, asked);
    if !findings.iter().any(|finding| finding.severity == Severity::Fatal) {
        verdict.passed.push("The placement rules hold.".into());
    }
    verdict.findings.extend(findings);
}

#[cfg(test)]
mod tests;
