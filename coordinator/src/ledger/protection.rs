//! Clusters that may not be rebuilt.

use muster_proto::ClusterName;
use rusqlite::{OptionalExtension as _, params};

use super::{Ledger, LedgerError, Write, signed, unsigned};

type Result<T> = std::result::Result<T, LedgerError>;

/// Tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS protections (
    cluster TEXT PRIMARY KEY, said_by TEXT NOT NULL, since_ms INTEGER NOT NULL
) STRICT;
";

/// That a cluster may not be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Who has said so, as the audit names him.
    pub by: String,
    /// When, milliseconds since 1970.
    pub since_ms: u64,
}

impl Ledger {
    /// Whether a cluster may not be rebuilt.
    pub fn protection(&self, cluster: &ClusterName) -> Result<Option<Protection>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT said_by, since_ms FROM protections WHERE cluster = ?1")?;
        let read = |row: &rusqlite::Row| Ok(Protection { by: row.get(0)?, since_ms: unsigned(row.get(1)?) });
        Ok(statement.query_row([cluster.as_str()], read).optional()?)
    }
}

impl Write<'_> {
    /// A cluster may not be rebuilt from now on.
    pub fn protect(&self, cluster: &ClusterName, protection: &Protection) -> Result<()> {
        let row = params![cluster.as_str(), protection.by, signed(protection.since_ms)];
        self.transaction().execute("INSERT OR REPLACE INTO protections VALUES (?1, ?2, ?3)", row)?;
        Ok(())
    }

    /// It may again.
    pub fn unprotect(&self, cluster: &ClusterName) -> Result<()> {
        self.transaction().execute("DELETE FROM protections WHERE cluster = ?1", [cluster.as_str()])?;
        Ok(())
    }
}
