//! What a rebuild sets aside, what it puts back, and what speaks against it: a function of what hosts have said.
//!
//! [`plan`] is for the eyes of whoever types the cluster's name; [`findings`] stand beside those of preflight. Neither
//! asks anybody or changes anything. `changes` says how a spec differs from another one.

mod changes;
mod fence;
mod findings;
mod returns;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_proto::{
    HostName, Incarnation, Member, OperationId, Port, ServerVersion, Spec,
    spec::{SpecError, SpecParts},
    wire,
};

use crate::{blueprint::Blueprint, rebuild::offset_of};

pub use changes::changes;
pub use fence::{fence_live, too_old};
pub use findings::{findings, keeps_less, may_be_written, no_trash, writes};
pub use returns::{incomplete, lacking, placement};

/// How long writes are counted: shorter, and a client that writes now and then is missed.
pub const WATCH: Duration = Duration::from_secs(1);

/// What the instances of each host hold, or why that is not known.
pub type Appraisals = BTreeMap<HostName, Result<wire::Appraisal, String>>;
/// What is in the trash of each host, or why that is not known.
pub type Trash = BTreeMap<HostName, Result<wire::RummageResult, String>>;

/// A rebuild that somebody thinks of.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The life that would end.
    pub blueprint: &'a Blueprint,
    /// What was wanted of it.
    pub spec: &'a Spec,
    /// What is wanted of the next one: the same, the same [without](without) some hosts, or another one.
    pub next: &'a Spec,
    /// Which life begins, or is put back.
    pub becomes: Incarnation,
    /// Hosts that it is done without.
    pub fenced: &'a BTreeSet<HostName>,
    /// Why hosts are not there, of those that are not.
    pub away: &'a BTreeMap<HostName, String>,
    /// Also while clients write.
    pub even_if_serving: bool,
    /// It puts back a life that has been before.
    pub undo: Option<Undo<'a>>,
    /// Added to a client port, gives its bus port from then on.
    pub bus_offset: u16,
    /// The server that the next life would run, where that is known.
    pub server: Option<ServerVersion>,
    /// The operation that would give way to it.
    pub supersedes: Option<OperationId>,
    /// The life that an undo would bring back now, and not any more afterwards, if something is left of it.
    pub buries: Option<Incarnation>,
    /// What the instances hold.
    pub appraisals: &'a Appraisals,
}

/// What would be put back.
#[derive(Debug, Clone, Copy)]
pub struct Undo<'a> {
    /// The life that returns.
    pub blueprint: &'a Blueprint,
    /// What is in the trash of its hosts.
    pub trash: &'a Trash,
    /// Directories of it that may not have been set aside yet.
    pub in_place: &'a BTreeSet<(HostName, Port)>,
}

/// The spec without some hosts.
pub fn without(spec: &Spec, hosts: &BTreeSet<HostName>) -> Result<Spec, SpecError> {
    let parts = spec.parts();
    let stay = parts.hosts.iter().filter(|host| !hosts.contains(&host.name)).cloned().collect();
    Spec::new(SpecParts { hosts: stay, ..parts.clone() })
}

/// What it would do.
pub fn plan(of: &Question) -> wire::RebuildPlan {
    let mut doomed: Vec<_> = of.blueprint.members.iter().map(|member| doomed(member, of)).collect();
    doomed.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
    wire::RebuildPlan {
        cluster_id: of.blueprint.cluster_id.to_string(),
        incarnation: of.blueprint.incarnation.0,
        becomes: of.becomes.0,
        undo: of.undo.is_some(),
        doomed,
        returns: of.undo.as_ref().map(returns::returning).unwrap_or_default(),
        fenced: of.fenced.iter().map(ToString::to_string).collect(),
        bus_offset: of.bus_offset.into(),
        changes: changes(of.spec, of.next),
        even_if_serving: of.even_if_serving,
        supersedes: of.supersedes.map(|id| id.to_string()).unwrap_or_default(),
        bus_offset_now: offset_of(of.blueprint).get().into(),
        buries: of.buries.map_or(0, |life| life.0),
    }
}

fn doomed(member: &Member, of: &Question) -> wire::DoomedInstance {
    let known = wire::DoomedInstance {
        host: member.host.to_string(),
        address: member.address.to_string(),
        port: member.port.into(),
        node_id: member.node_id.to_string(),
        life: of.blueprint.incarnation.0,
        quarantined: of.fenced.contains(&member.host),
        ..Default::default()
    };
    match appraised(member, of.appraisals) {
        Err(error) => wire::DoomedInstance { error, ..known },
        Ok(found) => wire::DoomedInstance {
            path: found.path.clone(),
            role: found.role,
            bytes: found.bytes,
            error: found.error.clone(),
            keys: found.keys,
            clients: found.clients,
            writes_millihertz: found.writes_millihertz,
            last_save_unix_ms: found.last_save_unix_ms,
            keeps: found.keeps.clone(),
            ..known
        },
    }
}

/// What was found of an instance; its own `error` may still say that little was.
fn appraised<'a>(member: &Member, appraisals: &'a Appraisals) -> Result<&'a wire::Appraised, String> {
    match appraisals.get(&member.host) {
        None => Err("was not asked".to_owned()),
        Some(Err(why)) => Err(why.clone()),
        Some(Ok(appraisal)) => {
            let found = appraisal.instances.iter().find(|found| found.port == u32::from(member.port));
            found.ok_or_else(|| "its agent knows of no instance there".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
