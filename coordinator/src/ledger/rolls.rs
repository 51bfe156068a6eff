//! Duties of instances, and the operations that move them.

use muster_proto::{ClusterName, NodeId, OperationId};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Ledger, LedgerError, Write, damaged, signed, unsigned};
use crate::rolling::{Duties, Duty, Roll};

type Result<T> = std::result::Result<T, LedgerError>;

/// A roll stays when it has ended: its hand-overs are part of the operation. `cluster` is NULL then.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS duties (
    cluster TEXT NOT NULL, node_id TEXT NOT NULL, stopped INTEGER NOT NULL, run INTEGER NOT NULL,
    all_stopped INTEGER NOT NULL, handed_ms INTEGER NOT NULL, PRIMARY KEY (cluster, node_id)
) STRICT;
CREATE TABLE IF NOT EXISTS rolls (operation TEXT PRIMARY KEY, cluster TEXT UNIQUE, document TEXT NOT NULL) STRICT;
";

/// What is wanted of a cluster's instances, and the operation that is under way.
pub(super) fn of(connection: &Connection, cluster: &str) -> Result<(Duties, Option<Roll>)> {
    let mut statement = connection
        .prepare_cached("SELECT node_id, stopped, run, all_stopped, handed_ms FROM duties WHERE cluster = ?1")?;
    let rows = statement.query_map([cluster], |row| {
        let (run, handed_ms) = (unsigned(row.get(2)?), unsigned(row.get(4)?));
        let duty = Duty { stopped: row.get(1)?, run, all_stopped: row.get(3)?, handed_ms };
        Ok((row.get::<_, String>(0)?, duty))
    })?;
    let mut duties = Duties::new();
    for row in rows {
        let (id, duty) = row?;
        duties.insert(id.parse().map_err(damaged)?, duty);
    }
    let mut statement = connection.prepare_cached("SELECT document FROM rolls WHERE cluster = ?1")?;
    let document: Option<String> = statement.query_row([cluster], |row| row.get(0)).optional()?;
    let roll = document.map(|document| serde_json::from_str(&document).map_err(damaged)).transpose()?;
    Ok((duties, roll))
}

impl Ledger {
    /// The roll that an operation is, or was.
    pub fn roll(&self, operation: OperationId) -> Result<Option<Roll>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT document FROM rolls WHERE operation = ?1")?;
        let document: Option<String> = statement.query_row([operation.to_string()], |row| row.get(0)).optional()?;
        document.map(|document| serde_json::from_str(&document).map_err(damaged)).transpose()
    }
}

impl Write<'_> {
    /// What is wanted of an instance from now on.
    pub fn duty(&self, cluster: &ClusterName, id: NodeId, duty: Duty) -> Result<()> {
        let (run, handed) = (signed(duty.run), signed(duty.handed_ms));
        let row = params![cluster.as_str(), id.to_string(), duty.stopped, run, duty.all_stopped, handed];
        self.0.execute("INSERT OR REPLACE INTO duties VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)?;
        Ok(())
    }

    /// Keeps a roll that is under way.
    pub fn roll(&self, cluster: &ClusterName, roll: &Roll) -> Result<()> {
        let document = serde_json::to_string(roll).map_err(damaged)?;
        let row = params![roll.operation.to_string(), cluster.as_str(), document];
        self.0.execute("INSERT OR REPLACE INTO rolls VALUES (?1, ?2, ?3)", row)?;
        Ok(())
    }

    /// It is over.
    pub fn roll_ended(&self, roll: &Roll) -> Result<()> {
        let document = serde_json::to_string(roll).map_err(damaged)?;
        self.0.execute(
            "INSERT OR REPLACE INTO rolls VALUES (?1, NULL, ?2)",
            params![roll.operation.to_string(), document],
        )?;
        Ok(())
    }
}
