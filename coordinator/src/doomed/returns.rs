//! What an undo puts back.

use muster_proto::{HostName, Member, Role, wire};

use super::{Undo, words::places};
use crate::{
    blueprint::Blueprint,
    finding::Finding,
    placement::{PlacedShard, Placement, Seat},
};

/// Where the directory of a returning instance is.
enum Whereabouts {
    Trash(wire::Discarded),
    /// It was not set aside yet, or nobody has heard that it was.
    InPlace,
    Gone,
    NotKnown(String),
}

/// Every directory, by host and port.
pub(super) fn returning(undo: &Undo) -> Vec<wire::ReturningInstance> {
    let one = |member: &Member| {
        let (bytes, aside_unix_ms, missing) = match whereabouts(member, undo) {
            Whereabouts::Trash(found) => (found.bytes, found.aside_unix_ms, String::new()),
            Whereabouts::InPlace => (0, 0, String::new()),
            Whereabouts::Gone => (0, 0, "not there any more".to_owned()),
            Whereabouts::NotKnown(why) => (0, 0, format!("not known: {why}")),
        };
        wire::ReturningInstance {
            host: member.host.to_string(),
            address: member.address.to_string(),
            port: member.port.into(),
            node_id: member.node_id.to_string(),
            life: undo.blueprint.incarnation.0,
            bytes,
            aside_unix_ms,
            missing,
        }
    };
    let mut all: Vec<_> = undo.blueprint.members.iter().map(one).collect();
    all.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
    all
}

/// What is missing of it.
pub fn incomplete(undo: &Undo) -> Option<Finding> {
    let (cluster, life) = (&undo.blueprint.cluster, undo.blueprint.incarnation);
    let message = lacking(undo)?;
    Some(Finding::fatal("TRASH_INCOMPLETE", format!("life {life}"), message).cure(format!(
        "look at what is left: muster trash {cluster}; what was purged does not come back, and muster rebuild \
         {cluster} makes a cluster without data"
    )))
}

/// The same, as a sentence.
pub fn lacking(undo: &Undo) -> Option<String> {
    let (mut gone, mut unknown): (Vec<_>, Vec<(&HostName, String)>) = (Vec::new(), Vec::new());
    for member in &undo.blueprint.members {
        match whereabouts(member, undo) {
            Whereabouts::Trash(_) | Whereabouts::InPlace => {}
            Whereabouts::Gone => gone.push((&member.host, member.port)),
            Whereabouts::NotKnown(why) => unknown.push((&member.host, why)),
        }
    }
    unknown.dedup();
    let mut missing: Vec<_> =
        unknown.into_iter().map(|(host, why)| format!("the trash of {host} is not known: {why}")).collect();
    if !gone.is_empty() {
        missing.push(format!("not there any more: {}", places(gone)));
    }
    if missing.is_empty() {
        return None;
    }
    let (cluster, life) = (&undo.blueprint.cluster, undo.blueprint.incarnation);
    Some(format!("life {life} of {cluster} cannot be put back whole: {}", missing.join("; ")))
}

/// Exactly that directory, by its stamp; what only looks like it is not taken for it.
fn whereabouts(member: &Member, undo: &Undo) -> Whereabouts {
    let (id, life) = (undo.blueprint.cluster_id.to_string(), undo.blueprint.incarnation.0);
    let is = |found: &&wire::Discarded| {
        found.port == u32::from(member.port)
            && found.node_id == member.node_id.to_string()
            && found.cluster_id == id
            && (found.incarnation, found.life) == (life, life)
    };
    let in_place = undo.in_place.contains(&(member.host.clone(), member.port));
    match undo.trash.get(&member.host) {
        Some(Ok(result)) => match result.directories.iter().find(is) {
            Some(found) => Whereabouts::Trash(found.clone()),
            None if in_place => Whereabouts::InPlace,
            None => Whereabouts::Gone,
        },
        Some(Err(why)) => Whereabouts::NotKnown(why.clone()),
        None => Whereabouts::NotKnown("it was not asked".to_owned()),
    }
}

/// Who is what in a life that was formed before, as it was formed; none if it is not one that a placement has made.
pub fn placement(blueprint: &Blueprint) -> Option<Placement> {
    let mut shards: Vec<PlacedShard> = Vec::new();
    let mut members: Vec<_> = blueprint.members.iter().collect();
    members.sort_by_key(|member| (member.shard, member.role.master().is_some()));
    for member in members {
        let seat = Seat {
            host: member.host.clone(),
            address: member.address,
            port: member.port,
            why: "as it was formed".to_owned(),
        };
        match &member.role {
            Role::Master { slots } => {
                shards.push(PlacedShard { slots: *slots.first()?, master: seat, replicas: Vec::new() });
            }
            Role::Replica { .. } => shards.last_mut()?.replicas.push(seat),
        }
    }
    Some(Placement { shards, findings: Vec::new() })
}
