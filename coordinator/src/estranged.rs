//! Hosts that obey orders of a coordinator that this one knows nothing of: its store was lost, or they belong to
//! another fleet.
//!
//! They are told nothing. A document without the clusters that they hold would leave those servers to nobody, and a
//! cluster is not taken over because somebody happens to call. A person decides that, with `muster-coordinator
//! recover`. A function of values.

use std::collections::BTreeSet;

use muster_proto::{ClusterName, Generation, Held, Hello, Port, PortUse, Term};

use crate::{finding::Finding, inventory::Host, ledger::ClusterRecord};

/// The code of what is found here.
pub const CODE: &str = "LEDGER_UNKNOWN";

/// What to type about it.
const CURE: &str = "if this coordinator's store was lost: stop it, and muster-coordinator recover --from-agents; if \
    the host belongs to another coordinator: correct `coordinator` in its agent's config";

/// What a coordinator knows itself.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its term.
    pub term: Term,
    /// The generation that it has told this host; 0 when it never told it anything.
    pub told: Generation,
    /// Its clusters.
    pub clusters: BTreeSet<Held>,
}

/// Clusters in the words of a hello.
pub fn clusters(records: &[ClusterRecord]) -> BTreeSet<Held> {
    let held = |record: &ClusterRecord| Held {
        cluster: record.blueprint.cluster.clone(),
        cluster_id: record.blueprint.cluster_id,
        incarnation: record.blueprint.incarnation,
    };
    records.iter().map(held).collect()
}

/// Why a host that calls is told nothing; none when all is in order. Whoever was told something by this store is its
/// own: what such a host refuses, it says itself.
pub fn estrangement(hello: &Hello, known: &Known) -> Option<String> {
    if known.told > Generation(0) {
        return None;
    }
    let ours = |held: &&Held| {
        let same = |own: &Held| (&own.cluster, own.cluster_id) == (&held.cluster, held.cluster_id);
        !known.clusters.iter().any(|own| same(own) && own.incarnation >= held.incarnation)
    };
    let strange: Vec<_> = hello.held.iter().filter(ours).map(named).collect();
    let obeys = format!("it has obeyed term {}, and this coordinator is of term {}", hello.term, known.term);
    match (strange.as_slice(), hello.term > known.term) {
        ([], false) => None,
        ([], true) => Some(format!("{obeys}, so it listens to another coordinator, or did")),
        (_, late) => {
            let what = strange.join(", ");
            let why = if late { format!("; {obeys}") } else { String::new() };
            Some(format!("holds {what} of a coordinator that is not known here{why}; it is told nothing"))
        }
    }
}

fn named(held: &Held) -> String {
    format!("cluster {} (incarnation {})", held.cluster, held.incarnation)
}

/// What an operator should know of a host: that it is estranged, or that directories there are of clusters that nobody
/// here knows.
pub fn findings(host: &Host, clusters: &BTreeSet<ClusterName>) -> Vec<Finding> {
    let name = &host.hello.host;
    let finding = |subject: String, message: String| Finding::fatal(CODE, subject, message).on(name).cure(CURE);
    if let Some(why) = &host.estranged {
        return vec![finding("agent".into(), why.clone())];
    }
    let strange = |(port, usage): &(Port, PortUse)| match usage {
        PortUse::Stamped(cluster) if !clusters.contains(cluster) => Some((cluster.clone(), *port)),
        _ => None,
    };
    let ports = host.report.iter().flat_map(|report| report.ports.iter().filter_map(strange));
    let mut by_cluster = std::collections::BTreeMap::<ClusterName, Vec<String>>::new();
    ports.for_each(|(cluster, port)| by_cluster.entry(cluster).or_default().push(port.to_string()));
    let found = |(cluster, ports): (ClusterName, Vec<String>)| {
        let message = format!("directories there are stamped for cluster {cluster}, which is not known here");
        finding(format!("ports {}", ports.join(", ")), message)
    };
    by_cluster.into_iter().map(found).collect()
}

/// What keeps a host out of a plan; and the cure for directories of unknown clusters, which preflight takes for those
/// of known ones.
pub fn bars(findings: &mut Vec<Finding>, hosts: &[&Host], clusters: &BTreeSet<ClusterName>) {
    for host in hosts {
        let strange = self::findings(host, clusters);
        let name = Some(&host.hello.host);
        if !strange.is_empty() {
            let taken = |found: &&mut Finding| found.code == "DIRECTORY_TAKEN" && found.host.as_ref() == name;
            findings.iter_mut().filter(taken).for_each(|found| found.cure = CURE.to_owned());
        }
        findings.extend(strange.into_iter().filter(|_| host.estranged.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::{ClusterId, Incarnation};
    use uuid::Uuid;

    use super::*;
    use crate::samples;

    fn held(cluster: &str, id: u128, incarnation: u64) -> Held {
        let cluster_id = ClusterId(Uuid::from_u128(id));
        Held { cluster: cluster.parse().unwrap(), cluster_id, incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn who_holds_what_is_not_known_is_told_nothing_and_everybody_else_is() {
        let orders = held("orders", 1, 2);
        let known = |told| Known { term: Term(5), told: Generation(told), clusters: BTreeSet::from([orders.clone()]) };
        let hello = |term, held: &[Held]| Hello {
            term: Term(term),
            generation: Generation(7),
            held: held.to_vec(),
            ..samples::hello("server1")
        };
        let said = |hello: &Hello, told| estrangement(hello, &known(told)).unwrap_or_default();
        assert_eq!(said(&hello(0, &[]), 0), "", "a new host");
        assert_eq!(said(&hello(5, std::slice::from_ref(&orders)), 0), "", "one that this store knows from the others");
        assert_eq!(said(&hello(5, &[held("orders", 1, 1)]), 0), "", "an older life of the same");
        for strange in [held("orders", 2, 2), held("orders", 1, 3), held("carts", 1, 2)] {
            let named = format!("cluster {} (incarnation {})", strange.cluster, strange.incarnation);
            let words = said(&hello(5, &[orders.clone(), strange.clone()]), 0);
            assert_eq!(words, format!("holds {named} of a coordinator that is not known here; it is told nothing"));
            assert_eq!(said(&hello(5, &[strange]), 3), "", "this store has told it what it holds, or newer");
        }
        assert!(said(&hello(6, &[]), 0).starts_with("it has obeyed term 6, and this coordinator is of term 5"));
        assert!(said(&hello(6, &[held("carts", 1, 1)]), 0).contains("incarnation 1) of a coordinator that is not"));
        assert_eq!(said(&hello(6, &[]), 3), "", "an old copy of the store: the host refuses it itself");
    }
}
