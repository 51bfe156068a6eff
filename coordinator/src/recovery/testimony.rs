//! What one agent says when it is asked what there is, checked.

use muster_proto::{
    ClusterAssignment, Generation, Held, Hello, HostAssignment, Life, NodeId, Port, Sha256, Term, printable, wire,
};

/// What one agent says.
#[derive(Debug, Clone)]
pub struct Testimony {
    /// Who it is.
    pub hello: Hello,
    /// What it obeys.
    pub told: Told,
    /// Its stamped directories, by port.
    pub directories: Vec<Directory>,
}

/// What a host obeys.
#[derive(Debug, Clone)]
pub enum Told {
    /// It was never told anything, or has forgotten it.
    Nothing,
    /// It cannot be read; why.
    Unreadable(String),
    /// This.
    Orders {
        /// As it was accepted.
        desired: wire::Desired,
        /// What it says.
        assignment: HostAssignment,
    },
}

/// A directory with a stamp of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its port.
    pub port: Port,
    /// Whose it is.
    pub cluster: Held,
    /// Its life.
    pub life: Life,
    /// The node that lives in it.
    pub node_id: NodeId,
    /// The cluster was proved to be formed.
    pub formed: bool,
    /// The process of ours that runs in it.
    pub pid: Option<i32>,
}

impl Told {
    /// The clusters of the host, as it was told.
    pub fn clusters(&self) -> &[ClusterAssignment] {
        match self {
            Self::Orders { assignment, .. } => &assignment.clusters,
            Self::Nothing | Self::Unreadable(_) => &[],
        }
    }

    /// The term that it came in; 0 without one.
    pub fn term(&self) -> Term {
        match self {
            Self::Orders { desired, .. } => Term(desired.term),
            Self::Nothing | Self::Unreadable(_) => Term(0),
        }
    }

    /// Its number; 0 without one.
    pub fn generation(&self) -> Generation {
        match self {
            Self::Orders { desired, .. } => Generation(desired.generation),
            Self::Nothing | Self::Unreadable(_) => Generation(0),
        }
    }
}

impl Testimony {
    /// Of an agent's answer. What does not hold together is as good as lost.
    pub fn of(hello: Hello, said: wire::Disclosure) -> Self {
        let directories = said.directories.iter().filter_map(|one| Directory::of(one).ok()).collect();
        let told = read(&hello, said);
        Self { hello, told, directories }
    }
}

fn read(hello: &Hello, said: wire::Disclosure) -> Told {
    if !said.ledger_error.is_empty() {
        return Told::Unreadable(printable(&said.ledger_error));
    }
    if said.generation == 0 && said.document.is_empty() {
        return Told::Nothing;
    }
    if said.sha256 != Sha256::of(&said.document).0 {
        return Told::Unreadable("its document does not have the hash that it was kept with".into());
    }
    let assignment = match HostAssignment::decode(&said.document) {
        Ok(assignment) => assignment,
        Err(error) => return Told::Unreadable(format!("it is not understood: {error}")),
    };
    if assignment.host != hello.host {
        return Told::Unreadable(format!("it is host {}'s", assignment.host));
    }
    let wire::Disclosure { term, generation, sha256, document, .. } = said;
    Told::Orders { desired: wire::Desired { term, generation, sha256, document }, assignment }
}

impl Directory {
    fn of(said: &wire::HeldDirectory) -> Result<Self, Box<dyn std::error::Error>> {
        let cluster = wire::HeldCluster {
            cluster: said.cluster.clone(),
            cluster_id: said.cluster_id.clone(),
            incarnation: said.incarnation,
        };
        Ok(Self {
            port: Port::try_from(said.port)?,
            cluster: Held::try_from(cluster)?,
            life: Life(said.life),
            node_id: said.node_id.parse()?,
            formed: said.formed,
            pid: Some(said.pid).filter(|pid| *pid > 0),
        })
    }
}
