//! What a plan's hash covers, and what makes a plan stale.

use muster_proto::spec::SpecParts;

use super::*;
use crate::{
    placement::tests::Case,
    samples::{seed, spec},
};

#[test]
fn an_open_cluster_is_said_and_a_closed_one_is_not() {
    let open = doors(&spec()).unwrap();
    assert_eq!((open.code, open.severity), ("OPEN_CLUSTER", crate::finding::Severity::Warning));
    assert!(open.cure.contains("auth = \"none\""));
    let closed = SpecParts { auth: Auth::default(), ..spec().parts().clone() };
    assert_eq!(doors(&Spec::new(closed).unwrap()), None);
}

type Facts = BTreeMap<HostName, BTreeMap<String, String>>;

/// All that a plan is made from, to be changed.
#[derive(Clone)]
struct Made {
    spec: Spec,
    placement: Placement,
    findings: Vec<Finding>,
    server: Option<Server>,
    facts: Facts,
    advice: Option<String>,
    now_ms: u64,
    preflight_micros: u64,
    rebuild: Option<wire::RebuildPlan>,
}

fn good() -> Made {
    let fact = |(fact, value): (&str, &str)| (fact.to_owned(), value.to_owned());
    let facts = [("address", "10.0.0.1"), ("identity", "i"), ("port 7000", "free"), ("port 7999", "free")];
    Made {
        spec: spec(),
        placement: seed().place().unwrap(),
        findings: Vec::new(),
        server: Some(Server { path: "/r".into(), version: "redis 7.0.15".parse().unwrap() }),
        facts: [("server1".parse().unwrap(), facts.map(fact).into())].into(),
        advice: None,
        now_ms: 1_000_000,
        preflight_micros: 5,
        rebuild: None,
    }
}

impl Made {
    fn plan(&self) -> wire::Plan {
        make(&Ingredients {
            spec: &self.spec,
            placement: &self.placement,
            findings: &self.findings,
            server: self.server.as_ref(),
            facts: &self.facts,
            advice: self.advice.clone(),
            now_ms: self.now_ms,
            preflight_micros: self.preflight_micros,
            rebuild: self.rebuild.clone(),
        })
    }
}

fn hash_changes(change: impl FnOnce(&mut Made)) -> bool {
    let mut made = good();
    change(&mut made);
    made.plan().hash != good().plan().hash
}

fn set(made: &mut Made, fact: &str, value: &str) {
    made.facts.get_mut(&"server1".parse().unwrap()).unwrap().insert(fact.into(), value.into());
}

#[test]
fn the_hash_covers_what_was_approved() {
    assert!(hash_changes(|made| made.spec = Case::new(&[3, 4], 1).world().0), "the spec");
    assert!(hash_changes(|made| made.placement.shards.swap(0, 1)), "who is what");
    assert!(hash_changes(|made| made.placement.shards[0].master.port = 7005.try_into().unwrap()), "where");
    assert!(hash_changes(|made| made.server = None), "what would run");
    assert!(hash_changes(|made| set(made, "address", "10.0.0.2")), "a fact of the host");
    assert!(hash_changes(|made| set(made, "port 7000", "orders")), "a fact of a port");
    assert!(hash_changes(|made| made.facts.clear()), "that there was one");
    let rebuild = |incarnation, keys| {
        let doomed = vec![wire::DoomedInstance { keys, ..Default::default() }];
        Some(wire::RebuildPlan { incarnation, doomed, ..Default::default() })
    };
    assert!(hash_changes(|made| made.rebuild = rebuild(1, 0)), "that something is set aside");
    let hash = |rebuild| Made { rebuild, ..good() }.plan().hash;
    assert_ne!(hash(rebuild(1, 0)), hash(rebuild(2, 0)), "what");
    assert_ne!(hash(rebuild(1, 0)), hash(rebuild(1, 7)), "and what is in it");
    let essence = |rebuild| essence(&Made { rebuild, ..good() }.plan());
    assert_eq!(essence(rebuild(1, 0)), essence(rebuild(1, 7)), "a second person approves it though a key was written");
    assert_ne!(essence(rebuild(1, 0)), essence(rebuild(2, 0)), "but nothing else");
}

#[test]
fn the_hash_covers_nothing_else() {
    assert!(!hash_changes(|_| {}));
    assert!(!hash_changes(|made| made.now_ms += 1), "the time");
    assert!(!hash_changes(|made| made.preflight_micros += 1), "how long it took");
    assert!(!hash_changes(|made| made.advice = Some("x".into())), "advice");
    assert!(!hash_changes(|made| made.findings.push(Finding::warning("X", "x", "x"))), "findings");
    assert!(!hash_changes(|made| set(made, "port 7999", "foreign")), "a port that is not in the spec");
}

#[test]
fn what_is_not_hashed_is_still_said() {
    let made = Made { advice: Some("more hosts".into()), findings: vec![Finding::fatal("X", "x", "x")], ..good() };
    let plan = made.plan();
    assert_eq!(plan.hash.len(), 64);
    assert_eq!(
        (plan.expires_unix_ms, plan.preflight_micros, plan.advice.as_str()),
        (1_000_000 + VALID_MS, 5, "more hosts")
    );
    assert_eq!(plan.losses.len(), 2);
    assert_eq!(refused(&plan).unwrap().code, "X");
    assert!(refused(&good().plan()).is_none());
    let warned = Made { findings: vec![Finding::warning("X", "x", "x")], ..good() };
    assert!(refused(&warned.plan()).is_none());
}

#[test]
fn a_stale_plan_names_the_fact() {
    let plan = good().plan();
    let stale_with = |change: fn(&mut Made)| {
        let mut made = good();
        change(&mut made);
        stale(&plan, |host| made.facts.get(&host.parse::<HostName>().unwrap()).cloned().unwrap_or_default())
    };
    assert_eq!(stale_with(|_| {}), None);
    assert_eq!(stale_with(|made| set(made, "port 7999", "foreign")), None, "not leant on");
    let said = stale_with(|made| set(made, "port 7000", "foreign"));
    assert_eq!(said.as_deref(), Some("server1: port 7000 was free, and is foreign now"));
    let said = stale_with(|made| made.facts.clear());
    assert_eq!(said.as_deref(), Some("server1: address was 10.0.0.1, and is not known now"));
}

#[test]
fn the_linter_is_shown_what_the_planner_has_placed() {
    assert_eq!(
        lint(&spec(), &seed().place().unwrap()).iter().map(|f| f.code).collect::<Vec<_>>(),
        ["MAJORITY_ON_HOST"]
    );
    let mut broken = seed().place().unwrap();
    let replica = broken.shards[0].replicas[0].clone();
    broken.shards[0].master.host = replica.host;
    let codes: Vec<_> = lint(&spec(), &broken).iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"SHARED_HOST"), "{codes:?}");
}
