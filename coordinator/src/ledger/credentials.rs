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

#[cfg(test)]
mod tests {
    use muster_proto::Tls;

    use super::*;
    use crate::{
        credentials::tests::spec,
        ledger::{ClusterRecord, Ledger},
        samples::{blueprint, fleet::formed},
    };

    fn store() -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap();
        (dir, ledger)
    }

    #[test]
    fn they_come_and_go_with_their_cluster_and_are_read_as_they_were_written() {
        let (_dir, ledger) = store();
        let kept = ClusterRecord { formed_ms: None, ..formed(&spec(Tls::Issued), blueprint()) };
        let name = kept.blueprint.cluster.clone();
        let read = || ledger.cluster(&name).unwrap().unwrap().credentials;
        ledger.write(|write| write.cluster(&kept)).unwrap();
        assert_eq!(read(), kept.credentials);
        let other = formed(&spec(Tls::Issued), blueprint()).credentials;
        ledger.write(|write| write.credentials(&name, other.as_ref().unwrap())).unwrap();
        assert_eq!(read(), other, "the last that was written");
        ledger.write(|write| write.forget_cluster(&name)).unwrap();
        let open = ClusterRecord { credentials: None, ..kept };
        ledger.write(|write| write.cluster(&open)).unwrap();
        assert_eq!(read(), None, "a later cluster of that name has not inherited them");
    }

    #[test]
    fn they_do_not_open_for_another_cluster_or_with_another_key() {
        let (dir, ledger) = store();
        let orders = formed(&spec(Tls::Off), blueprint());
        let mut carts = orders.clone();
        carts.blueprint.cluster = "carts".parse().unwrap();
        ledger.write(|write| write.cluster(&orders).and_then(|()| write.cluster(&carts))).unwrap();
        let path = dir.path().join("store.db");
        let swap = "UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE cluster = 'orders')";
        rusqlite::Connection::open(&path).unwrap().execute(swap, []).unwrap();
        assert!(ledger.cluster(&orders.blueprint.cluster).is_ok());
        assert!(matches!(ledger.cluster(&carts.blueprint.cluster), Err(LedgerError::Seal(_))));
        drop(ledger);
        let other = Ledger::open(&path, Seal::new(&[9; 32]).unwrap());
        assert!(matches!(other, Err(LedgerError::Seal(_))), "{other:?}");
    }
}
