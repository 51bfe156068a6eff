//! stub
use crate::{blueprint::Blueprint, finding::Finding, ledger::ClusterRecord};
use muster_proto::*;
use std::collections::{BTreeMap, BTreeSet};
pub type Found<T> = BTreeMap<HostName, Result<T, String>>;
pub struct Scene<'a> {
    pub record: &'a ClusterRecord,
    pub spec: &'a Spec,
    pub becomes: Incarnation,
    pub back: Option<&'a Blueprint>,
    pub fenced: &'a BTreeSet<HostName>,
    pub live: &'a BTreeSet<HostName>,
    pub even_if_serving: bool,
    pub offset: BusOffset,
    pub appraised: &'a Found<wire::Appraisal>,
    pub trash: &'a Found<wire::RummageResult>,
    pub server: Option<ServerVersion>,
}
pub struct Told {
    pub plan: wire::RebuildPlan,
    pub findings: Vec<Finding>,
}
pub fn tell(_: &Scene) -> Told {
    Told { plan: wire::RebuildPlan::default(), findings: Vec::new() }
}
pub fn without(spec: &Spec, _: &BTreeSet<HostName>) -> Result<Spec, String> {
    Ok(spec.clone())
}
pub fn writes(_: &Blueprint, _: &Found<wire::Appraisal>) -> Option<String> {
    None
}
pub fn keeps_less(_: &wire::RebuildPlan, _: &Found<wire::Appraisal>) -> Option<String> {
    None
}
