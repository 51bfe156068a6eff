//! The coordinator's store, modelled: every change of it is whole or did not happen.

use std::collections::BTreeMap;

use muster_coordinator::{
    estranged,
    ledger::{ClusterRecord, OpState, OperationRecord},
    rebuild::LifeRecord,
    reconcile::{Told, assignments},
};
use muster_proto::{ClusterName, Generation, HostAssignment, HostName, OperationId, Sha256, Term, wire};

/// What outlives a coordinator.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub term: Term,
    pub desired: BTreeMap<HostName, wire::Desired>,
    pub hellos: BTreeMap<HostName, wire::Hello>,
    pub clusters: BTreeMap<ClusterName, ClusterRecord>,
    pub operations: BTreeMap<OperationId, OperationRecord>,
    /// Those that have ended, oldest first, and whether they were a cluster.
    pub lives: Vec<(LifeRecord, bool)>,
}

impl Store {
    pub fn told(&self, host: &HostName) -> Generation {
        Generation(self.desired.get(host).map_or(0, |desired| desired.generation))
    }

    pub fn known(&self, host: &HostName, term: Term) -> estranged::Known {
        let records: Vec<_> = self.clusters.values().cloned().collect();
        estranged::Known { term, told: self.told(host), clusters: estranged::clusters(&records) }
    }

    /// Sets what a host is to be told. The generation moves only when the content does; of a host that was never told
    /// anything it begins above the one that the host has said it has.
    fn tell(&mut self, host: &HostName, wish: &HostAssignment) -> wire::Desired {
        let (document, sha256) = wish.encode();
        let generation = match self.desired.get(host) {
            Some(before) if before.sha256 == sha256.0 => before.generation,
            Some(before) => before.generation + 1,
            None => self.hellos.get(host).map_or(0, |hello| hello.generation) + 1,
        };
        let desired = wire::Desired { term: 0, generation, sha256: Sha256(sha256.0).0.to_vec(), document };
        self.desired.insert(host.clone(), desired.clone());
        desired
    }

    /// What these hosts are to be told now.
    pub fn tell_all(&mut self, hosts: &[HostName]) -> Vec<(HostName, wire::Desired)> {
        let clusters = self.clusters.clone();
        let told: Vec<Told> = clusters.values().map(Told::from).collect();
        let wishes = assignments(hosts, &told);
        wishes.iter().map(|(host, wish)| (host.clone(), self.tell(host, wish))).collect()
    }

    /// Where an operation is now.
    pub fn event(&mut self, id: OperationId, state: OpState, phase: &str, message: &str) {
        if let Some(operation) = self.operations.get_mut(&id) {
            (operation.state, operation.phase, operation.message) = (state, phase.to_owned(), message.to_owned());
        }
    }
}
