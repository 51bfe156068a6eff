//! What a cluster's own servers and directories explain of what its hosts' surveys found: they go before the ports are
//! needed again. What they do not explain stays, and is judged like everything else: a new port that is taken, a new
//! bus port on which a stranger listens, a directory that is not ours.

use std::collections::BTreeMap;

use muster_proto::{ClusterName, HostName, InstanceState, InstanceStatus, Member, NodeId, Port, wire};

use super::{Answer, not_local};
use crate::{blueprint::Blueprint, rebuild::Remnant};

/// The instances that a cluster has now, by host and client port.
pub type Ours = BTreeMap<HostName, BTreeMap<Port, Own>>;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Its bus port, as it is now.
    pub bus: u16,
    /// Who of ours listens there.
    pub listens: Listens,
}

/// Who of ours listens on the ports of an instance, as its agent said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listens {
    /// Nobody: whoever does is a stranger.
    Nobody,
    /// This process.
    Process(i32),
    /// It comes and goes, or is not known: nothing is concluded.
    Unsure,
}

/// One of the two ports of an instance, as a survey found it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its number.
    pub port: u32,
    /// Why it cannot be bound; empty when it can.
    pub error: &'a str,
    /// Who holds it: `pid 4711 (redis-server *:7000)`; empty where that cannot be seen.
    pub holder: &'a str,
}

/// The instances of a blueprint, and who listens on their ports.
pub fn ours(blueprint: &Blueprint, instances: &BTreeMap<NodeId, InstanceStatus>) -> Ours {
    let mut ours = Ours::new();
    for member in &blueprint.members {
        let own = Own { bus: member.bus_port, listens: listening(member, instances) };
        ours.entry(member.host.clone()).or_default().insert(member.port, own);
    }
    ours
}

/// What earlier lives may have left in place explains a directory, too: it goes before the port is needed again.
pub fn add_left(ours: &mut Ours, left: &[Remnant]) {
    for remnant in left {
        let own = Own { bus: remnant.bus_port, listens: Listens::Unsure };
        ours.entry(remnant.host.clone()).or_default().entry(remnant.port).or_insert(own);
    }
}

fn listening(member: &Member, instances: &BTreeMap<NodeId, InstanceStatus>) -> Listens {
    let Some(status) = instances.get(&member.node_id) else { return Listens::Unsure };
    match (status.state, status.pid) {
        (InstanceState::Running, Some(pid)) => Listens::Process(pid),
        (InstanceState::Absent | InstanceState::Prepared | InstanceState::Stopped | InstanceState::Blocked, None) => {
            Listens::Nobody
        }
        // A server that crashes again and again has another pid each time.
        _ => Listens::Unsure,
    }
}

/// Client port and bus port.
pub fn sides(fact: &wire::PortFact, bus_offset: u16) -> [Side<'_>; 2] {
    let bus = fact.port + u32::from(bus_offset);
    [
        Side { port: fact.port, error: &fact.client_error, holder: &fact.client_holder },
        Side { port: bus, error: &fact.bus_error, holder: &fact.bus_holder },
    ]
}

/// Whether one of our servers certainly listens there: whoever cannot reach it would not reach its successor either.
pub fn listens(ours: &Ours, host: &HostName, side: &Side) -> bool {
    is_ours(ours, host, side) && matches!(at(ours, host, side.port), Some(Listens::Process(_)))
}

/// Takes out of the answers what our own instances explain.
pub fn explain(
    mut answers: BTreeMap<HostName, Answer>,
    cluster: &ClusterName,
    ours: &Ours,
    bus_offset: u16,
) -> BTreeMap<HostName, Answer> {
    for (host, answer) in &mut answers {
        let Ok(survey) = &mut answer.survey else { continue };
        for fact in survey.ports.iter_mut().filter(|fact| not_local(fact).is_none()) {
            let [client, bus] = sides(fact, bus_offset).map(|side| is_ours(ours, host, &side));
            if client {
                (fact.client_error, fact.client_holder) = Default::default();
            }
            if bus {
                (fact.bus_error, fact.bus_holder) = Default::default();
            }
            let has_port = |owns: &BTreeMap<Port, Own>| owns.keys().any(|port| u32::from(*port) == fact.port);
            let stamped = fact.directory() == wire::Directory::Stamped && fact.directory_note == cluster.as_str();
            if stamped && ours.get(host).is_some_and(has_port) {
                fact.set_directory(wire::Directory::Free);
                fact.directory_note.clear();
            }
        }
    }
    answers
}

/// Whether a port is taken by one of our own: any of their ports, for one's old bus port may be another's new one.
fn is_ours(ours: &Ours, host: &HostName, side: &Side) -> bool {
    if side.error.is_empty() {
        return false;
    }
    match at(ours, host, side.port) {
        None | Some(Listens::Nobody) => false,
        Some(Listens::Process(pid)) => side.holder.is_empty() || side.holder.starts_with(&format!("pid {pid} ")),
        Some(Listens::Unsure) => true,
    }
}

fn at(ours: &Ours, host: &HostName, number: u32) -> Option<Listens> {
    let mut owns = ours.get(host)?.iter();
    let found = owns.find(|(port, own)| u32::from(**port) == number || u32::from(own.bus) == number);
    found.map(|(_, own)| own.listens)
}
