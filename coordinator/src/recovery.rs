//! Rebuilding a store that was lost from what agents hold: a function of their testimonies.
//!
//! Every agent has the whole of what it was told, with everybody's place in it, so one host's ledger names all others
//! of its clusters. What hosts were told is kept as it is wherever that is possible, and told again under its own
//! number: then nothing changes on any host. A cluster is taken up whole or not at all; a host that holds one that was
//! not taken up is told nothing, so that nothing of it is lost. Who contradicts whom is said, both sides by name.
//!
//! Reading order: [`testimony`], here, [`inferred`], [`hosts`]; [`listen`] hears the agents, [`store`] writes,
//! [`text`] shows, [`command`] is where they meet.

pub mod command;
pub mod hosts;
pub mod inferred;
pub mod listen;
pub mod store;
pub mod testimony;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{
    ClusterAssignment, ClusterId, Generation, HostName, InstanceAssignment, Member, OperationId, Port, Spec, Term,
    Want, spec::SpecError, wire,
};
use prost::Message as _;

use crate::{
    blueprint::Blueprint,
    credentials::recovered,
    finding::Finding,
    formation::Goal,
    ledger::ClusterRecord,
    rolling::{Duties, Duty},
};

pub use testimony::{Directory, Testimony, Told};

/// By host.
pub type Evidence = BTreeMap<HostName, Testimony>;

/// Above every term that was heard of. Where a host was not heard, it may have obeyed a later one.
const TERM_MARGIN: u64 = 1000;
/// A start count that no coordinator comes to: one a second makes eight million years of it. Whoever has obeyed a later
/// one lies, and must not take the numbers away from those who do not.
const TERM_MOST: Term = Term(1 << 48);

/// A store, as far as it can be rebuilt.
#[derive(Debug, Clone)]
pub struct Rebuilt {
    /// By name.
    pub clusters: Vec<Cluster>,
    /// Those that were heard, and those that clusters name.
    pub hosts: BTreeMap<HostName, Host>,
    /// Later than every term that was heard of.
    pub term: Term,
    /// The worst first. What is fatal is left out; the rest is taken up.
    pub findings: Vec<Finding>,
}

/// A cluster that is taken up.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// As the store will have it.
    pub record: ClusterRecord,
    /// Whose ledgers say so.
    pub by: Vec<HostName>,
}

/// A host, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What it is told.
    pub standing: Standing,
    /// The generation that it has.
    pub generation: Generation,
    /// Stamped directories there.
    pub directories: usize,
    /// Those in which a server of ours runs.
    pub running: usize,
}

/// What a host is told by the coordinator that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// What it has, under the same number.
    Same,
    /// Something else, under the next number.
    Anew,
    /// Nothing: it was told nothing, and no cluster names it.
    Idle,
    /// Nothing: it holds what was not taken up.
    LeftAlone,
    /// It was not heard. It is told when it calls, unless it holds what was not taken up.
    Missing,
}

/// What one host was told of one cluster.
#[derive(Debug, Clone, Copy)]
struct Claim<'a> {
    host: &'a HostName,
    told: &'a ClusterAssignment,
}

/// A cluster as several hosts have it, equal for all of them.
#[derive(Debug, Clone)]
struct Candidate<'a> {
    claims: Vec<Claim<'a>>,
    formed: bool,
}

impl<'a> Candidate<'a> {
    fn told(&self) -> &'a ClusterAssignment {
        self.claims[0].told
    }

    fn by(&self) -> Vec<HostName> {
        self.claims.iter().map(|claim| claim.host.clone()).collect()
    }

    /// What is proved outweighs what is not; then what more hosts hold.
    fn weight(&self) -> (bool, usize) {
        (self.formed, self.claims.len())
    }

    fn places(&self) -> BTreeSet<(&HostName, Port)> {
        self.told().members.iter().map(|member| (&member.host, member.port)).collect()
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.told().cluster == other.told().cluster || !self.places().is_disjoint(&other.places())
    }
}

/// Puts a store together. `own` is the term of the empty one, `draw` gives fresh ids for what will have been done.
pub fn rebuild(evidence: &Evidence, own: Term, now_ms: u64, mut draw: impl FnMut() -> OperationId) -> Rebuilt {
    let mut findings = Vec::new();
    let candidates = candidates(evidence, &mut findings);
    let chosen = choose(&candidates, &mut findings);
    let mut clusters = Vec::new();
    for candidate in chosen {
        let record = record(candidate, now_ms, &mut draw, &mut findings);
        clusters.extend(record.map(|record| Cluster { record, by: candidate.by() }));
    }
    clusters.sort_by(|one, other| one.record.blueprint.cluster.cmp(&other.record.blueprint.cluster));
    let hosts = hosts::hosts(evidence, &clusters, &mut findings);
    let told = evidence.values().flat_map(|testimony| testimony.told.clusters());
    let claimed = told.map(|told| told.cluster_id).collect();
    hosts::stamps(evidence, &clusters, &claimed, &mut findings);
    findings.sort();
    let missing = hosts.values().any(|host| host.standing == Standing::Missing);
    let heard = evidence.values().flat_map(|one| [one.hello.term, one.told.term()]);
    let newest = heard.filter(|term| *term <= TERM_MOST).chain([own]).max().unwrap_or(own);
    let term = Term(newest.0.saturating_add(if missing { TERM_MARGIN } else { 1 }));
    Rebuilt { clusters, hosts, term, findings }
}

/// Names, for a sentence.
fn list<'a>(names: impl IntoIterator<Item = &'a HostName>) -> String {
    names.into_iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

/// Of every cluster that is held: its newest life, as most hosts have it.
fn candidates<'a>(evidence: &'a Evidence, findings: &mut Vec<Finding>) -> Vec<Candidate<'a>> {
    let mut by_id: BTreeMap<ClusterId, Vec<Claim>> = BTreeMap::new();
    for (host, testimony) in evidence {
        for told in testimony.told.clusters() {
            by_id.entry(told.cluster_id).or_default().push(Claim { host, told });
        }
    }
    by_id.into_values().filter_map(|claims| candidate(claims, evidence, findings)).collect()
}

fn candidate<'a>(claims: Vec<Claim<'a>>, evidence: &Evidence, findings: &mut Vec<Finding>) -> Option<Candidate<'a>> {
    let newest = claims.iter().map(|claim| claim.told.incarnation).max()?;
    let (claims, older): (Vec<_>, Vec<_>) = claims.into_iter().partition(|claim| claim.told.incarnation == newest);
    let differ = |severe: bool, message: String| {
        let finding = if severe { Finding::fatal } else { Finding::warning };
        finding("LEDGERS_DIFFER", claims[0].told.cluster.as_str(), message)
    };
    let hosts = |claims: &[Claim]| claims.iter().map(|claim| claim.host.to_string()).collect::<Vec<_>>().join(", ");
    if !older.is_empty() {
        let message = format!(
            "{} was told an older life of it than {} (incarnation {newest}), which is taken up",
            hosts(&older),
            hosts(&claims)
        );
        findings.push(differ(false, message));
    }
    let mut versions: Vec<Vec<Claim>> = Vec::new();
    for claim in &claims {
        match versions.iter_mut().find(|version| same_blueprint(version[0].told, claim.told)) {
            Some(version) => version.push(*claim),
            None => versions.push(vec![*claim]),
        }
    }
    versions.sort_by_key(|version| std::cmp::Reverse(version.len()));
    if let [first, second, ..] = versions.as_slice() {
        let both = format!("{} was told another blueprint of it than {}", hosts(second), hosts(first));
        if first.len() == second.len() {
            let cure = "find out which is right, and leave the other host out: --hosts";
            findings.push(differ(true, format!("{both}: it is not taken up")).cure(cure));
            return None;
        }
        findings.push(differ(false, format!("{both}, which more hosts have, and which is taken up")));
    }
    let claims = versions.into_iter().next()?;
    let told = claims[0].told;
    let stamped = |directory: &Directory| {
        (directory.cluster.cluster_id, directory.cluster.incarnation) == (told.cluster_id, told.incarnation)
            && directory.formed
    };
    let formed = claims.iter().any(|claim| claim.told.formed)
        || evidence.values().any(|testimony| testimony.directories.iter().any(stamped));
    let candidate = Candidate { claims, formed };
    let against = contradicted(&candidate, evidence);
    if formed && against.len() >= candidate.claims.len() {
        let message = format!(
            "{} was told of instances at {}, and nothing there says so: it is not taken up",
            hosts(&candidate.claims),
            list(against)
        );
        findings.push(differ(true, message));
        return None;
    }
    Some(candidate)
}

/// Hosts that a cluster names, and that were told something else, with no directory of it. A host may speak for others
/// only as long as they do not speak against it.
fn contradicted<'a>(candidate: &Candidate, evidence: &'a Evidence) -> BTreeSet<&'a HostName> {
    let told = candidate.told();
    let named: BTreeSet<_> = told.members.iter().map(|member| &member.host).collect();
    let against = |(host, testimony): &(&HostName, &Testimony)| {
        let speaks = matches!(testimony.told, Told::Orders { .. });
        let directory = |one: &Directory| one.cluster.cluster_id == told.cluster_id;
        let holds = testimony.told.clusters().iter().any(|one| one.cluster_id == told.cluster_id);
        named.contains(*host) && speaks && !holds && !testimony.directories.iter().any(directory)
    };
    evidence.iter().filter(against).map(|(host, _)| host).collect()
}

/// Who is what is decided once, and is the same on all hosts.
fn same_blueprint(one: &ClusterAssignment, other: &ClusterAssignment) -> bool {
    (&one.cluster, &one.members, &one.settings, one.replicas, one.limits)
        == (&other.cluster, &other.members, &other.settings, other.replicas, other.limits)
}

/// No two of one name, and none at the places of another. Of two that are in each other's way the weightier is taken
/// up; of equals neither.
fn choose<'a, 'b>(candidates: &'b [Candidate<'a>], findings: &mut Vec<Finding>) -> Vec<&'b Candidate<'a>> {
    let mut chosen = Vec::new();
    for (nth, candidate) in candidates.iter().enumerate() {
        let others = candidates.iter().enumerate().filter(|(at, _)| *at != nth).map(|(_, other)| other);
        let rival =
            others.filter(|other| other.weight() >= candidate.weight()).find(|other| candidate.conflicts(other));
        let Some(rival) = rival else {
            chosen.push(candidate);
            continue;
        };
        let words = |one: &Candidate| {
            let told = one.told();
            let formed = if one.formed { "formed" } else { "never formed" };
            format!("{} {} ({formed}, by {})", told.cluster, told.cluster_id, list(&one.by()))
        };
        let message = format!("{} is in the way of {}: it is not taken up", words(candidate), words(rival));
        let cure = "find out which is right, and leave the hosts of the other out: --hosts";
        findings.push(Finding::fatal("CLUSTERS_CONFLICT", candidate.told().cluster.as_str(), message).cure(cure));
    }
    chosen
}

fn record(
    candidate: &Candidate,
    now_ms: u64,
    draw: &mut impl FnMut() -> OperationId,
    findings: &mut Vec<Finding>,
) -> Option<ClusterRecord> {
    let told = candidate.told();
    let subject = told.cluster.as_str();
    let sent = candidate.claims.iter().find_map(|claim| sent_spec(claim.told));
    let inferred = || {
        let message = "its spec is inferred from its blueprint: the order of hosts, whether a number of masters was \
                       asked for, and whose the passwords of its own users are, may have been written otherwise";
        let unfit = |error: SpecError| {
            let message = format!("what hosts were told of it fits no spec: {error}; it is not taken up");
            Finding::fatal("SPEC_INFERRED", subject, message)
        };
        (inferred::spec(told).map_err(unfit), Some(Finding::warning("SPEC_INFERRED", subject, message)))
    };
    let (spec, warning) = sent.map_or_else(inferred, |sent| (Ok(sent), None));
    if !candidate.formed && is_rebuilt(candidate) {
        let message = format!(
            "a rebuild of {} was under way: which directories of which life are where, the lost store knew alone; it \
             is not taken up, and its hosts go on as they were told",
            told.cluster
        );
        findings.push(Finding::fatal("REBUILD_UNDER_WAY", subject, message).cure(
            "put back a copy of the store; or look into .trash on the hosts (muster.json in each directory says whose \
             it is), and put back by hand what is wanted",
        ));
        return None;
    }
    let spec = match spec {
        Ok(spec) => spec,
        Err(unfit) => {
            findings.push(unfit);
            return None;
        }
    };
    findings.extend(warning);
    let logins: Vec<_> =
        candidate.claims.iter().map(|claim| (claim.told.users.as_ref(), claim.told.tls.as_ref())).collect();
    let operation = draw();
    let recovered = recovered(&spec, told.incarnation, &logins, draw());
    let note = |note: &str| Finding::warning("CREDENTIALS_LOST", subject, note);
    findings.extend(recovered.notes.into_iter().map(note));
    Some(ClusterRecord {
        spec,
        blueprint: Blueprint {
            cluster: told.cluster.clone(),
            cluster_id: told.cluster_id,
            incarnation: told.incarnation,
            members: told.members.clone(),
            settings: told.settings.clone(),
            replicas: told.replicas,
            limits: told.limits,
        },
        goal: goal(candidate),
        formed_ms: candidate.formed.then_some(now_ms),
        operation,
        credentials: recovered.credentials,
        duties: duties(candidate),
        roll: None,
        rebuild: None,
        remnants: Vec::new(),
    })
}

/// The operator's spec, where the host was told it, and it is the one that the blueprint was made from.
fn sent_spec(told: &ClusterAssignment) -> Option<Spec> {
    let sent = wire::Spec::decode(told.spec.as_slice()).ok().filter(|_| !told.spec.is_empty())?;
    let spec = Spec::try_from(sent).ok()?;
    let parts = spec.parts();
    let wanted: BTreeSet<_> =
        parts.hosts.iter().flat_map(|host| host.ports.iter().map(|port| (&host.name, port))).collect();
    let placed: BTreeSet<_> = told.members.iter().map(|member: &Member| (&member.host, member.port)).collect();
    (parts.name == told.cluster && parts.settings == told.settings && wanted == placed).then_some(spec)
}

/// What operators wanted of its instances, as the host of each was told. Of a host that was not heard nothing is known:
/// what was stopped there is started when it is told again.
fn duties(candidate: &Candidate) -> Duties {
    let of = |one: &InstanceAssignment| {
        let duty =
            Duty { stopped: one.want == Want::Stopped, run: one.run, all_stopped: one.all_stopped, handed_ms: 0 };
        (candidate.formed && duty != Duty::default()).then_some((one.node_id, duty))
    };
    candidate.claims.iter().flat_map(|claim| claim.told.instances.iter().filter_map(of)).collect()
}

/// Whether hosts were told to put directories back, or of earlier lives that may still be in the way.
fn is_rebuilt(candidate: &Candidate) -> bool {
    let instances = candidate.claims.iter().flat_map(|claim| &claim.told.instances);
    instances.into_iter().any(|one| one.restore || (one.want != Want::Retired && !one.formers.is_empty()))
}

/// How far its hosts were told to go. The barrier was passed when anybody was told to start; one that was being called
/// off goes on being called off.
fn goal(candidate: &Candidate) -> Goal {
    let wants: BTreeSet<_> =
        candidate.claims.iter().flat_map(|claim| claim.told.instances.iter().map(|one| one.want)).collect();
    // What an earlier life has left somewhere says nothing of this one.
    let wants: BTreeSet<_> = wants.into_iter().filter(|want| *want != Want::Retired).collect();
    if candidate.formed {
        Goal::Running
    } else if wants.contains(&Want::SetAside) {
        Goal::SetAside
    } else if wants.contains(&Want::Prepared) && wants.len() == 1 {
        Goal::Prepared
    } else {
        Goal::Running
    }
}

#[cfg(test)]
mod tests;
