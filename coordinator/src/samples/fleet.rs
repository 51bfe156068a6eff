//! A coordinator without sockets: its store is real, its hosts say what a test has them say.

pub mod agents;

use std::{collections::HashMap, sync::Arc};

use muster_proto::{ClusterName, Generation, HostAssignment, HostName, OperationId, Spec, Tls, wire};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{blueprint, hello, report};
use crate::{
    blueprint::Blueprint,
    caller::Caller,
    config::Config,
    credentials::{Authority, Credentials},
    formation::Goal,
    gate::Visit,
    inventory::Session,
    keeper::Shared,
    ledger::{ClusterRecord, Ledger, OperationRecord},
    rolling::Duties,
    seal::{self, Seal},
};

pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub shared: Arc<Shared>,
    /// Ends of the hosts' streams.
    ears: Vec<mpsc::Receiver<wire::ToAgent>>,
}

pub fn owner() -> Caller {
    Caller::Owner { uid: 0 }
}

/// The owner, who calls.
pub fn visit() -> Visit {
    Visit { caller: owner(), from: "unix socket".into(), certificate_ms: None }
}

/// A formed cluster of that spec, whoever its hosts are, with passwords from the kernel.
pub fn formed(spec: &Spec, blueprint: Blueprint) -> ClusterRecord {
    let name = blueprint.cluster.as_str();
    let issued = matches!(spec.parts().tls, Tls::Issued);
    let authority = issued.then(|| Authority::generate(name, 1_700_000_000).unwrap());
    let credentials = Credentials::draw(spec, blueprint.incarnation, authority, seal::random).unwrap();
    let operation = OperationId(Uuid::nil());
    ClusterRecord {
        spec: spec.clone(),
        blueprint,
        goal: Goal::Running,
        formed_ms: Some(1),
        operation,
        credentials,
        duties: Duties::new(),
        roll: None,
        rebuild: None,
        remnants: Vec::new(),
    }
}

impl Fleet {
    /// The seed's hosts with these clusters, everybody there and where he should be.
    pub fn new(clusters: &[ClusterRecord]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap();
        for record in clusters {
            ledger.write(|write| write.cluster(record)).unwrap();
        }
        let text = format!("state_dir = {:?}\nheartbeat_ms = 60000", dir.path());
        let config = Config::parse(&text, "coordinator.toml".as_ref()).unwrap();
        let shared = Shared::new(config, ledger, CancellationToken::new()).unwrap();
        let fleet = Self { dir, shared, ears: Vec::new() };
        fleet.connected()
    }

    /// The coordinator dies and comes back; of hosts it knows what the store does.
    pub fn restarted(self) -> Self {
        let config = self.shared.config.clone();
        drop(self.shared);
        let ledger = Ledger::open(&self.dir.path().join("store.db"), Seal::for_tests()).unwrap();
        let shared = Shared::new(config, ledger, CancellationToken::new()).unwrap();
        Self { dir: self.dir, shared, ears: Vec::new() }.connected()
    }

    /// Hosts call, and have not followed yet.
    fn connected(mut self) -> Self {
        for host in blueprint().hosts() {
            let (say, ear) = mpsc::channel(64);
            self.ears.push(ear);
            let told = self.shared.ledger.desired(&host).unwrap().map_or(0, |desired| desired.generation);
            let session = Session { id: Uuid::new_v4(), say, asked: HashMap::new() };
            self.shared.inventory().arrive(hello(host.as_str()), Generation(told), session);
        }
        self
    }

    /// The host has made true what it was told last.
    pub fn follow(&self, host: &HostName) {
        let mut inventory = self.shared.inventory();
        let host = inventory.get_mut(host).unwrap();
        let told = host.told;
        host.report =
            Some(muster_proto::Report { received: told, accepted: told, converged: told, ..report(Vec::new()) });
    }

    /// All have.
    pub fn all_follow(&self) {
        blueprint().hosts().iter().for_each(|host| self.follow(host));
    }

    /// What the host is to be, as the store has it.
    pub fn told(&self, host: &HostName) -> HostAssignment {
        let document = self.shared.ledger.desired(host).unwrap().unwrap().document;
        wire::HostAssignment::decode(document.as_slice()).unwrap().try_into().unwrap()
    }

    /// A cluster, as the store has it.
    pub fn record(&self, name: &str) -> ClusterRecord {
        let name: ClusterName = name.parse().unwrap();
        self.shared.ledger.cluster(&name).unwrap().unwrap()
    }

    /// An operation, as the store has it.
    pub fn operation(&self, id: &str) -> OperationRecord {
        self.shared.ledger.operation(id.parse().unwrap()).unwrap().unwrap()
    }
}
