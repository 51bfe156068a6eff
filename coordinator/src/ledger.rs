//! The coordinator's store: one SQLite file, one writer, every change a transaction that is on the disk when it
//! returns.
//!
//! What is kept is what cannot be asked for again: the term, what hosts were told, plans, clusters with their blueprint
//! and goal, operations with their events, and the answers to requests. What hosts report is not kept.

mod audit;
mod credentials;
mod protection;
mod read;
mod rebuilds;
mod rolls;
mod trust;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use muster_proto::{ClusterName, OperationId, Sha256, Spec, Term, convert::millis};
use rusqlite::Connection;

use crate::{
    blueprint::Blueprint,
    credentials::{Credentials, CredentialsError},
    formation::Goal,
    rebuild::{Rebuild, Remnant},
    rolling::{Duties, HandedOver, Roll},
    seal::{Seal, SealError},
};

pub use protection::Protection;
pub use rebuilds::EndedLife;
pub use write::Write;

/// Raised with every change of the tables; a newer one than ours is refused.
const SCHEMA_VERSION: i64 = 3;
/// A store of this version lacks tables that are empty at first, and nothing else.
const SCHEMA_BEFORE: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS hosts (name TEXT PRIMARY KEY, hello BLOB NOT NULL, last_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS desired (
    host TEXT PRIMARY KEY, generation INTEGER NOT NULL, sha256 BLOB NOT NULL, document BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS plans (hash TEXT PRIMARY KEY, document BLOB NOT NULL, expires_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS clusters (
    name TEXT PRIMARY KEY, spec BLOB NOT NULL, blueprint BLOB NOT NULL, goal TEXT NOT NULL,
    formed_ms INTEGER, operation TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS credentials (cluster TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, cluster TEXT NOT NULL, plan_hash TEXT NOT NULL, state TEXT NOT NULL,
    phase TEXT NOT NULL, message TEXT NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS phases (
    nth INTEGER PRIMARY KEY, operation TEXT NOT NULL, phase TEXT NOT NULL, micros INTEGER NOT NULL,
    UNIQUE (operation, phase)
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, unix_ms INTEGER NOT NULL, phase TEXT NOT NULL,
    state TEXT NOT NULL, message TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_of ON events (operation, seq);
CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, asked TEXT NOT NULL, operation TEXT NOT NULL) STRICT;
";

/// What went wrong with the store. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite, or the disk below it.
    #[error("the store refused")]
    Sql(#[from] rusqlite::Error),
    /// Something in it does not parse.
    #[error("the store holds something that is not understood: {0}")]
    Damaged(String),
    /// Something in it does not open.
    #[error("the store's secrets cannot be used: is key_file, or the credential muster-store-key, of this store?")]
    Seal(#[from] SealError),
    /// There is nothing to keep: drawing it has failed.
    #[error("a cluster's secrets cannot be made")]
    Credentials(#[source] CredentialsError),
    /// Written by another version, or changed by hand.
    #[error(
        "the store says that its schema is {found}, and this version of Muster reads {SCHEMA_BEFORE} and \
         {SCHEMA_VERSION}"
    )]
    Version {
        /// What it says.
        found: i64,
    },
}

/// How an operation is doing, as the store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpState {
    /// Takes steps.
    Running,
    /// Somebody paused it.
    Paused,
    /// Waits for a person.
    NeedsOperator,
    /// Is being called off.
    Cancelling,
    /// Done.
    Done,
    /// Called off.
    Cancelled,
}

impl OpState {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Running, "running"),
        (Self::Paused, "paused"),
        (Self::NeedsOperator, "needs-operator"),
        (Self::Cancelling, "cancelling"),
        (Self::Done, "done"),
        (Self::Cancelled, "cancelled"),
    ];

    /// As the store keeps it and people read it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }

    /// From the store.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(state, _)| *state)
    }

    /// Nothing will be done any more.
    pub fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct ClusterRecord {
    /// What the operator wanted.
    pub spec: Spec,
    /// Who is what.
    pub blueprint: Blueprint,
    /// How far the hosts have been told to go.
    pub goal: Goal,
    /// When formation was proved, milliseconds since 1970.
    pub formed_ms: Option<u64>,
    /// The operation that makes, or made, it.
    pub operation: OperationId,
    /// What is logged in with and believed there; none for one that is open and plain, or older than passwords.
    pub credentials: Option<Credentials>,
    /// What operators want of its instances, beyond the blueprint.
    pub duties: Duties,
    /// The operation that moves those, while it lasts.
    pub roll: Option<Roll>,
    /// The rebuild that is under way.
    pub rebuild: Option<Rebuild>,
    /// What lives that rebuilds have ended may have left in place.
    pub remnants: Vec<Remnant>,
}

impl ClusterRecord {
    /// Those that may be under way with it.
    pub fn operations(&self) -> impl Iterator<Item = OperationId> {
        let rotation = self.credentials.as_ref().and_then(|credentials| credentials.rotation);
        let others = [
            rotation.map(|rotation| rotation.operation),
            self.roll.as_ref().map(|roll| roll.operation),
            self.rebuild.as_ref().map(|rebuild| rebuild.operation),
        ];
        [self.operation].into_iter().chain(others.into_iter().flatten())
    }
}

/// An operation.
#[derive(Debug, Clone)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// `bootstrap`, or the word of a [`credentials::Kind`](crate::credentials::Kind::word) or a
    /// [`rolling::Kind`](crate::rolling::Kind::word).
    pub kind: String,
    /// Whose.
    pub cluster: ClusterName,
    /// The plan that was approved; a rotation needs none.
    pub plan_hash: Option<Sha256>,
    /// How it is doing.
    pub state: OpState,
    /// Where it is.
    pub phase: String,
    /// What it does or waits for.
    pub message: String,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// Milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// Finished phases and how long they took, in microseconds.
    pub phases: Vec<(String, u64)>,
    /// Its last event.
    pub last_seq: u64,
    /// Hand-overs that it has done.
    pub hand_overs: Vec<HandedOver>,
}

impl OperationRecord {
    /// One that begins now.
    pub fn begin(id: OperationId, kind: &str, cluster: &ClusterName, phase: &str, message: String) -> Self {
        Self {
            id,
            kind: kind.to_owned(),
            cluster: cluster.clone(),
            plan_hash: None,
            state: OpState::Running,
            phase: phase.to_owned(),
            message,
            started_ms: unix_ms(),
            ended_ms: None,
            phases: Vec::new(),
            last_seq: 0,
            hand_overs: Vec::new(),
        }
    }
}

/// Something that happened to an operation.
#[derive(Debug, Clone)]
pub struct EventRecord {
    /// Strictly increasing.
    pub seq: u64,
    /// Whose.
    pub operation: OperationId,
    /// When.
    pub unix_ms: u64,
    /// In which phase.
    pub phase: String,
    /// In which state.
    pub state: OpState,
    /// What.
    pub message: String,
    /// Instances that are where the phase wants them.
    pub done: u32,
    /// Of how many.
    pub total: u32,
}

/// The store.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    seal: Seal,
    term: Term,
    path: PathBuf,
}

impl Ledger {
    /// Whether there is a store, with secrets in it.
    pub fn is_sealed(path: &Path) -> Result<bool, LedgerError> {
        if !path.exists() {
            return Ok(false);
        }
        let connection = Connection::open(path)?;
        Ok(tables(&connection)? > 0)
    }

    /// Opens or makes the store, and begins a new term, which is on the disk before this returns.
    pub fn open(path: &Path, seal: Seal) -> Result<Self, LedgerError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        // A store that says that it is older would have its end of the audit sealed anew: there was none before.
        let new = tables(&connection)? == 0;
        if !new && found != SCHEMA_VERSION && found != SCHEMA_BEFORE {
            return Err(LedgerError::Version { found });
        }
        // Nothing is begun with a key that does not open what is there.
        if !new && let Err(error @ LedgerError::Seal(_)) = audit::AuditEnd::read(&connection, &seal) {
            return Err(error);
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(trust::SCHEMA)?;
        transaction.execute_batch(audit::SCHEMA)?;
        transaction.execute_batch(rolls::SCHEMA)?;
        transaction.execute_batch(rebuilds::SCHEMA)?;
        transaction.execute_batch(protection::SCHEMA)?;
        if new {
            audit::begin(&transaction, &seal)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction
            .execute("INSERT INTO meta VALUES ('term', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1", [])?;
        let term: i64 = transaction.query_row("SELECT value FROM meta WHERE key = 'term'", [], |row| row.get(0))?;
        crash::point("coordinator.open.uncommitted");
        transaction.commit()?;
        crash::point("coordinator.open.committed");
        let term = Term(term.unsigned_abs());
        Ok(Self { connection: Mutex::new(connection), seal, term, path: path.to_owned() })
    }

    /// This start's.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Several changes as one: all of them on the disk, or none.
    pub fn write<T, E: From<LedgerError>>(&self, changes: impl FnOnce(&Write) -> Result<T, E>) -> Result<T, E> {
        let mut connection = self.lock();
        crash::anew();
        let transaction = connection.transaction().map_err(LedgerError::from)?;
        let write = Write::new(transaction, &self.seal);
        let done = changes(&write)?;
        crash::point_of("coordinator.store.uncommitted");
        write.commit()?;
        crash::point_of("coordinator.store.committed");
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the document for a host belongs, for the seal.
fn document_place(host: &str) -> String {
    format!("what {host} is told")
}

fn tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
}

/// Now, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn damaged(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests;
