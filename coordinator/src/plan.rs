//! Puts a plan together: a pure function of the spec, the placement, what preflight found, and the time.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{Auth, HostName, Sha256, Spec, report::Server, wire};
use prost::Message as _;

use crate::{
    finding::Finding,
    lint::{self, Asked, Copy},
    loss,
    placement::{PlacedShard, Placement, Seat},
};

/// How long a plan may be applied: 15 minutes.
pub const VALID_MS: u64 = 15 * 60 * 1000;

/// What a plan is made from.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// What is wanted.
    pub spec: &'a Spec,
    /// Who would be what.
    pub placement: &'a Placement,
    /// What preflight found.
    pub findings: &'a [Finding],
    /// What all hosts will run.
    pub server: Option<&'a Server>,
    /// Facts of every host that takes part, by their names.
    pub facts: &'a BTreeMap<HostName, BTreeMap<String, String>>,
    /// A change that would survive more.
    pub advice: Option<String>,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Time that preflight took.
    pub preflight_micros: u64,
    /// What is set aside for it, and what comes back; none for a bootstrap.
    pub rebuild: Option<wire::RebuildPlan>,
}

/// Makes the plan and its hash.
pub fn make(from: &Ingredients) -> wire::Plan {
    let mut plan = wire::Plan {
        spec: Some(wire::Spec::from(from.spec)),
        shards: from.placement.shards.iter().map(shard).collect(),
        server: from.server.map(wire::Server::from),
        fingerprints: fingerprints(from),
        // With its figures: what is approved is what was shown.
        rebuild: from.rebuild.clone(),
        ..Default::default()
    };
    plan.hash = Sha256::of(&plan.encode_to_vec()).to_string();
    plan.losses = loss::losses(from.placement).into_iter().map(wire::Loss::from).collect();
    plan.findings = from.findings.iter().cloned().map(wire::Finding::from).collect();
    plan.expires_unix_ms = from.now_ms + VALID_MS;
    plan.preflight_micros = from.preflight_micros;
    plan.advice = from.advice.clone().unwrap_or_default();
    plan
}

/// What a plan does, by a hash that stays the same however many keys are written meanwhile: a second person approves
/// what a first one has planned a while ago.
pub fn essence(plan: &wire::Plan) -> Sha256 {
    let essence = wire::Plan {
        spec: plan.spec.clone(),
        shards: plan.shards.clone(),
        server: plan.server.clone(),
        fingerprints: plan.fingerprints.clone(),
        rebuild: plan.rebuild.as_ref().map(lasting),
        ..wire::Plan::default()
    };
    Sha256::of(&essence.encode_to_vec())
}

/// Which directories, not how many keys were in them at that moment.
fn lasting(rebuild: &wire::RebuildPlan) -> wire::RebuildPlan {
    let doomed = |one: &wire::DoomedInstance| wire::DoomedInstance {
        host: one.host.clone(),
        port: one.port,
        node_id: one.node_id.clone(),
        life: one.life,
        quarantined: one.quarantined,
        ..wire::DoomedInstance::default()
    };
    let returns = |one: &wire::ReturningInstance| wire::ReturningInstance {
        host: one.host.clone(),
        port: one.port,
        node_id: one.node_id.clone(),
        life: one.life,
        ..wire::ReturningInstance::default()
    };
    wire::RebuildPlan {
        doomed: rebuild.doomed.iter().map(doomed).collect(),
        returns: rebuild.returns.iter().map(returns).collect(),
        buries: 0,
        ..rebuild.clone()
    }
}

/// What the linter, which knows nothing of the planner, says of a placement.
pub fn lint(spec: &Spec, placement: &Placement) -> Vec<Finding> {
    let copies = (0_u32..).zip(&placement.shards).flat_map(|(nth, shard)| {
        let copy = move |seat: &Seat, slots| Copy {
            host: seat.host.clone(),
            name: format!("{}:{}", seat.host, seat.port),
            shard: nth,
            master: !Vec::is_empty(&slots),
            slots,
        };
        let replicas = shard.replicas.iter().map(move |seat| copy(seat, Vec::new()));
        std::iter::once(copy(&shard.master, vec![shard.slots])).chain(replicas)
    });
    lint::lint(&copies.collect::<Vec<_>>(), asked(spec))
}

/// What the spec leaves open.
pub fn doors(spec: &Spec) -> Option<Finding> {
    let open = matches!(spec.parts().auth, Auth::None);
    open.then(|| {
        let message = "auth = \"none\": whoever reaches the ports may read, change and delete everything";
        Finding::warning("OPEN_CLUSTER", "auth", message).cure(
            "delete the line auth = \"none\" from the spec, and Muster draws passwords; or let nobody but the \
             application's machines reach these ports",
        )
    })
}

/// What the rules depend on.
pub fn asked(spec: &Spec) -> Asked {
    let parts = spec.parts();
    Asked { replicas: parts.replicas, allow_shared_host: parts.allow_shared_host }
}

/// Whether something stands against it.
pub fn refused(plan: &wire::Plan) -> Option<&wire::Finding> {
    plan.findings.iter().find(|finding| finding.severity == i32::from(wire::Severity::Fatal))
}

/// The first fingerprint that does not hold any more, in words.
pub fn stale(plan: &wire::Plan, facts: impl Fn(&str) -> BTreeMap<String, String>) -> Option<String> {
    plan.fingerprints.iter().find_map(|print| {
        let now = facts(&print.host).remove(&print.fact);
        (now.as_deref() != Some(&print.value)).then(|| {
            let now = now.unwrap_or_else(|| "not known".into());
            format!("{}: {} was {}, and is {now} now", print.host, print.fact, print.value)
        })
    })
}

fn fingerprints(from: &Ingredients) -> Vec<wire::Fingerprint> {
    let mut prints = Vec::new();
    for host in &from.spec.parts().hosts {
        let ours: BTreeSet<String> = host.ports.iter().map(|port| format!("port {port}")).collect();
        let facts = from.facts.get(&host.name).into_iter().flatten();
        for (fact, value) in facts.filter(|(fact, _)| !fact.starts_with("port ") || ours.contains(*fact)) {
            let (host, fact, value) = (host.name.to_string(), fact.clone(), value.clone());
            prints.push(wire::Fingerprint { host, fact, value });
        }
    }
    prints
}

fn shard(shard: &PlacedShard) -> wire::PlannedShard {
    wire::PlannedShard {
        slots: Some(shard.slots.into()),
        master: Some(seat(&shard.master)),
        replicas: shard.replicas.iter().map(seat).collect(),
    }
}

fn seat(seat: &Seat) -> wire::PlannedInstance {
    wire::PlannedInstance {
        host: seat.host.to_string(),
        address: seat.address.to_string(),
        port: seat.port.into(),
        why: seat.why.clone(),
    }
}

#[cfg(test)]
mod tests;
