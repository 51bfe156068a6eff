//! What a coordinator that has lost its store is told: the document that this host obeys, exactly as it was accepted,
//! and the stamps of its directories. Looks, and changes nothing.
//!
//! The document holds what the host's instances log in with. Whoever may give this host orders could set those anew
//! anyway; it goes to nobody else, and is neither logged nor remembered.

use std::collections::BTreeSet;

use muster_proto::{HostAssignment, Port, PortSet, wire};

use crate::{
    layout::{Directory, InstanceDir, Layout},
    ledger,
    process::{Found, Process},
};

/// Everything. `offered` are the ports of the agent's config; those of the document are looked at too.
pub fn disclose(layout: &Layout, offered: &PortSet) -> wire::Disclosure {
    let (told, ledger_error) = match ledger::kept(&layout.ledger()) {
        Ok(told) => (told.unwrap_or_default(), String::new()),
        Err(error) => (wire::Desired::default(), error.to_string()),
    };
    let assigned = HostAssignment::decode(&told.document).map(|told| told.by_port().into_keys().collect::<Vec<_>>());
    let ports: BTreeSet<Port> = offered.iter().chain(assigned.unwrap_or_default()).collect();
    let directories = ports.into_iter().filter_map(|port| directory(&layout.instance(port))).collect();
    let wire::Desired { term, generation, sha256, document } = told;
    wire::Disclosure { term, generation, sha256, document, ledger_error, directories }
}

fn directory(dir: &InstanceDir) -> Option<wire::HeldDirectory> {
    let Directory::Stamped(stamp) = dir.look() else { return None };
    let pid = match Process::find(dir, Vec::new).0 {
        Found::Ours(process) => process.pid(),
        Found::Nothing | Found::Foreign(_) | Found::Unknown(_) => 0,
    };
    Some(wire::HeldDirectory {
        port: stamp.port.into(),
        cluster: stamp.cluster.to_string(),
        cluster_id: stamp.cluster_id.to_string(),
        incarnation: stamp.incarnation.0,
        life: stamp.life.0,
        node_id: stamp.node_id.to_string(),
        formed: stamp.formed,
        pid,
    })
}

#[cfg(test)]
mod tests {
    use muster_proto::{Incarnation, Life, Sha256, Want};

    use super::*;
    use crate::{ledger::Ledger, reconcile::stamp_of, samples};

    #[test]
    fn what_was_told_is_disclosed_as_it_was_accepted_and_stamps_beside_it() {
        let (_base, layout) = samples::layout();
        let offered = PortSet::new([7000, 7001, 7002].map(|port| Port::try_from(port).unwrap())).unwrap();
        let empty = disclose(&layout, &offered);
        assert_eq!((empty.term, empty.generation, empty.document.len(), empty.directories.len()), (0, 0, 0, 0));

        let cluster = samples::cluster(Want::Running, true);
        let stamp = stamp_of(&cluster, &cluster.instances[0]);
        layout.instance(stamp.port).establish(&stamp, &[]).unwrap();
        let (document, sha256) = HostAssignment { host: "a".parse().unwrap(), clusters: vec![cluster] }.encode();
        let desired = wire::Desired { term: 3, generation: 5, sha256: sha256.0.to_vec(), document };
        Ledger::open(layout.ledger(), &"a".parse().unwrap()).unwrap().offer(&desired).unwrap();
        let told = disclose(&layout, &offered);
        assert_eq!((told.term, told.generation), (3, 5));
        assert_eq!(Sha256::of(&told.document), sha256);
        let [found] = &told.directories[..] else { panic!("{} directories", told.directories.len()) };
        assert_eq!((found.port, found.formed, found.pid), (7000, true, 0));
        assert_eq!((found.life, found.incarnation), (Life(1).0, Incarnation(1).0));
        assert_eq!(found.node_id, stamp.node_id.to_string());

        std::fs::write(layout.ledger(), "torn").unwrap();
        let torn = disclose(&layout, &offered);
        assert!(!torn.ledger_error.is_empty() && torn.document.is_empty() && torn.directories.len() == 1);
    }
}
