//! `muster status CLUSTER --output json`, as far as scripts may rely on it.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Its name.
    pub cluster: String,
    /// Its life.
    pub incarnation: u64,
    /// `forming`, `formed`, ...
    pub state: String,
    /// Which of those that had this name.
    pub cluster_id: String,
    /// The rebuild that is under way.
    pub rebuild: Option<String>,
    /// Who has said that it may not be rebuilt.
    pub protection: Option<String>,
    /// What is left of earlier lives on hosts that were not there.
    pub quarantined: Vec<String>,
    /// In blueprint order.
    pub instances: Vec<Instance>,
}

/// One of its instances.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Instance {
    /// Where.
    pub host: String,
    /// The host's address.
    pub address: String,
    /// The client port.
    pub port: u16,
    /// None when there is no process.
    pub pid: Option<i32>,
    /// Redis' name for it.
    pub node_id: String,
    /// `master` or `replica`.
    pub role: String,
    /// Replicas: whose.
    pub master: Option<String>,
    /// `0-5460`; empty on replicas.
    pub slots: String,
    /// `running`, ...
    pub state: String,
    /// Replicas: `up`, `down`, `unknown`.
    pub link: Option<String>,
    /// Of all this.
    pub age_ms: u64,
    /// Why it is not what it should be.
    pub reason: Option<String>,
}

impl Instance {
    /// `ADDRESS:PORT`.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// `HOST:PORT`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is a master.
    pub fn is_master(&self) -> bool {
        self.role == "master"
    }

    /// Why it is not well; none when it is.
    pub fn complaint(&self) -> Option<String> {
        let well = self.state == "running" && (self.is_master() || self.link.as_deref() == Some("up"));
        (!well).then(|| format!("{} is {}, {}, link {:?}", self.name(), self.role, self.state, self.link))
    }
}

impl Status {
    /// Every endpoint.
    pub fn endpoints(&self) -> Vec<String> {
        self.instances.iter().map(Instance::endpoint).collect()
    }

    /// Everything runs and every link is up; otherwise who is not.
    pub fn well(&self) -> Result<(), String> {
        let complaints: Vec<String> = self.instances.iter().filter_map(Instance::complaint).collect();
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
    }

    /// Every node.
    pub fn node_ids(&self) -> BTreeSet<String> {
        self.instances.iter().map(|one| one.node_id.clone()).collect()
    }

    /// The instance at a port of a host.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn at(&self, host: &str, port: u16) -> &Instance {
        let found = self.instances.iter().find(|instance| instance.host == host && instance.port == port);
        found.unwrap_or_else(|| panic!("{} has no instance {host}:{port}", self.cluster))
    }

    /// A master on a host.
    pub fn master_on(&self, host: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.host == host && instance.is_master())
    }

    /// The replicas of a node.
    pub fn replicas_of<'a>(&'a self, node_id: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |instance| instance.master.as_deref() == Some(node_id))
    }
}
