//! What the store holds.

use muster_proto::{ClusterName, HostName, OperationId, Sha256, Spec, wire};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    ClusterRecord, EventRecord, Ledger, LedgerError, OpState, OperationRecord, credentials, damaged, document_place,
    rebuilds, rolls, signed, unsigned,
};
use crate::{blueprint::Blueprint, formation::Goal, seal::Seal};

type Result<T> = std::result::Result<T, LedgerError>;

/// A row as SQLite has it, to be parsed outside of its closure.
type ClusterRow = (Vec<u8>, Vec<u8>, String, Option<i64>, String, String, Option<Vec<u8>>);
type OperationRow = (String, String, String, String, String, String, String, i64, Option<i64>, Option<i64>);

const CLUSTER: &str = "SELECT spec, blueprint, goal, formed_ms, operation, name, sealed FROM clusters \
    LEFT JOIN credentials ON credentials.cluster = clusters.name";
const OPERATION: &str = "SELECT id, kind, cluster, plan_hash, state, phase, message, started_ms, ended_ms, \
    (SELECT MAX(seq) FROM events WHERE operation = operations.id) FROM operations";

impl Ledger {
    /// Everyone who ever called, with the time of the last call.
    pub fn hosts(&self) -> Result<Vec<(wire::Hello, u64)>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT hello, last_ms FROM hosts ORDER BY name")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))?;
        rows.map(|row| {
            let (hello, last) = row?;
            Ok((wire::Hello::decode(hello.as_slice()).map_err(damaged)?, unsigned(last)))
        })
        .collect()
    }

    /// What a host is to be told; none if it never was told anything. The term is filled in.
    pub fn desired(&self, host: &HostName) -> Result<Option<wire::Desired>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT generation, sha256, document FROM desired WHERE host = ?1")?;
        let term = self.term().0;
        let read = |row: &Row| {
            let generation = unsigned(row.get(0)?);
            Ok(wire::Desired { term, generation, sha256: row.get(1)?, document: row.get(2)? })
        };
        let Some(sealed) = statement.query_row([host.as_str()], read).optional()? else { return Ok(None) };
        let document = self.seal.unseal(&document_place(host.as_str()), &sealed.document)?.to_vec();
        Ok(Some(wire::Desired { document, ..sealed }))
    }

    /// A plan that has not been forgotten.
    pub fn plan(&self, hash: &str) -> Result<Option<wire::Plan>> {
        let connection = self.lock();
        let bytes: Option<Vec<u8>> =
            connection.query_row("SELECT document FROM plans WHERE hash = ?1", [hash], |row| row.get(0)).optional()?;
        bytes.map(|bytes| wire::Plan::decode(bytes.as_slice()).map_err(damaged)).transpose()
    }

    /// All clusters, by name.
    pub fn clusters(&self) -> Result<Vec<ClusterRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{CLUSTER} ORDER BY name"))?;
        let rows = statement.query_map([], cluster_row)?.collect::<std::result::Result<Vec<_>, _>>()?;
        rows.into_iter().map(|row| cluster(row, &self.seal, &connection)).collect()
    }

    /// One cluster.
    pub fn cluster(&self, name: &ClusterName) -> Result<Option<ClusterRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{CLUSTER} WHERE name = ?1"))?;
        let row = statement.query_row([name.as_str()], cluster_row).optional()?;
        row.map(|row| cluster(row, &self.seal, &connection)).transpose()
    }

    /// Operations, newest first; of one cluster, or of all.
    pub fn operations(&self, of: Option<&str>) -> Result<Vec<OperationRecord>> {
        let rows = {
            let connection = self.lock();
            let mut statement =
                connection.prepare_cached(&format!("{OPERATION} WHERE ?1 IS NULL OR cluster = ?1 ORDER BY id DESC"))?;
            statement.query_map([of], operation_row)?.collect::<std::result::Result<Vec<_>, _>>()?
        };
        rows.into_iter().map(|row| self.with_phases(row)).collect()
    }

    /// One operation.
    pub fn operation(&self, id: OperationId) -> Result<Option<OperationRecord>> {
        let row = {
            let connection = self.lock();
            let mut statement = connection.prepare_cached(&format!("{OPERATION} WHERE id = ?1"))?;
            statement.query_row([id.to_string()], operation_row).optional()?
        };
        row.map(|row| self.with_phases(row)).transpose()
    }

    fn with_phases(&self, row: OperationRow) -> Result<OperationRecord> {
        let id: OperationId = row.0.parse().map_err(damaged)?;
        let hand_overs = self.roll(id)?.map(|roll| roll.hand_overs).unwrap_or_default();
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT phase, micros FROM phases WHERE operation = ?1 ORDER BY nth")?;
        let phases = statement.query_map([&row.0], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
        let phases = phases.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(OperationRecord { hand_overs, ..operation(row, phases)? })
    }

    /// Events of an operation after a sequence number.
    pub fn events(&self, id: OperationId, after: u64) -> Result<Vec<EventRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT seq, unix_ms, phase, state, message, done, total FROM events \
             WHERE operation = ?1 AND seq > ?2 ORDER BY seq",
        )?;
        let read = |row: &Row| {
            let state: String = row.get(3)?;
            Ok(EventRecord {
                seq: unsigned(row.get(0)?),
                operation: id,
                unix_ms: unsigned(row.get(1)?),
                phase: row.get(2)?,
                state: OpState::from_word(&state).unwrap_or(OpState::NeedsOperator),
                message: row.get(4)?,
                done: row.get(5)?,
                total: row.get(6)?,
            })
        };
        let rows = statement.query_map(params![id.to_string(), signed(after)], read)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// What a request id was used for, and the operation that answered it.
    pub fn request(&self, id: &str) -> Result<Option<(Sha256, OperationId)>> {
        let connection = self.lock();
        let row: Option<(String, String)> = connection
            .query_row("SELECT asked, operation FROM requests WHERE id = ?1", [id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        row.map(|(asked, operation)| Ok((asked.parse().map_err(damaged)?, operation.parse().map_err(damaged)?)))
            .transpose()
    }
}

fn cluster_row(row: &Row) -> rusqlite::Result<ClusterRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn cluster(row: ClusterRow, seal: &Seal, connection: &Connection) -> Result<ClusterRecord> {
    let (spec, blueprint, goal, formed, operation, name, sealed) = row;
    let (duties, roll) = rolls::of(connection, &name)?;
    let (rebuild, remnants) = rebuilds::of(connection, seal, &name)?;
    let spec = wire::Spec::decode(spec.as_slice()).map_err(damaged)?;
    Ok(ClusterRecord {
        spec: Spec::try_from(spec).map_err(damaged)?,
        blueprint: Blueprint::decode(&blueprint).map_err(damaged)?,
        goal: Goal::from_word(&goal).ok_or_else(|| damaged(format!("the goal {goal:?}")))?,
        formed_ms: formed.map(unsigned),
        operation: operation.parse().map_err(damaged)?,
        credentials: sealed.map(|sealed| credentials::open(seal, &name, &sealed)).transpose()?,
        duties,
        roll,
        rebuild,
        remnants,
    })
}

fn operation_row(row: &Row) -> rusqlite::Result<OperationRow> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
        row.get(8)?,
        row.get(9)?,
    ))
}

fn operation(row: OperationRow, phases: Vec<(String, u64)>) -> Result<OperationRecord> {
    let (id, kind, cluster, plan_hash, state, phase, message, started, ended, last_seq) = row;
    Ok(OperationRecord {
        id: id.parse().map_err(damaged)?,
        kind,
        cluster: cluster.parse().map_err(damaged)?,
        plan_hash: (!plan_hash.is_empty()).then(|| plan_hash.parse()).transpose().map_err(damaged)?,
        state: OpState::from_word(&state).ok_or_else(|| damaged(format!("the state {state:?}")))?,
        phase,
        message,
        started_ms: unsigned(started),
        ended_ms: ended.map(unsigned),
        phases,
        last_seq: last_seq.map_or(0, unsigned),
        hand_overs: Vec::new(),
    })
}
