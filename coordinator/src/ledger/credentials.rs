//! Credentials of clusters, sealed.

use muster_proto::ClusterName;
use rusqlite::params;
use zeroize::Zeroizing;

use super::{LedgerError, Write, damaged};
use crate::{credentials::Credentials, seal::Seal};

type Result<T> = std::result::Result<T, LedgerError>;

/// Where they belong, for the seal.
fn place(cluster: &str) -> String {
    format!("credentials of {cluster}")
}

/// Opens what the store keeps.
pub(super) fn open(seal: &Seal, cluster: &str, sealed: &[u8]) -> Result<Credentials> {
    serde_json::from_slice(&seal.unseal(&place(cluster), sealed)?).map_err(damaged)
}

impl Write<'_> {
    /// Keeps them in place of those before.
    pub fn credentials(&self, cluster: &ClusterName, credentials: &Credentials) -> Result<()> {
        let plain = Zeroizing::new(serde_json::to_vec(credentials).map_err(damaged)?);
        let sealed = self.1.seal(&place(cluster.as_str()), &plain)?;
        self.0.execute("INSERT OR REPLACE INTO credentials VALUES (?1, ?2)", params![cluster.as_str(), sealed])?;
        Ok(())
    }
}
