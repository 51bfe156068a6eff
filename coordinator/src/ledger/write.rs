//! Changes to the store. Each is made inside a transaction of [`Ledger::write`](super::Ledger::write).

use muster_proto::{ClusterName, HostAssignment, HostName, OperationId, Sha256, Term, wire};
use prost::Message as _;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{ClusterRecord, LedgerError, OpState, OperationRecord, damaged, document_place, signed, unix_ms, unsigned};
use crate::{formation::Goal, seal::Seal};

type Result<T> = std::result::Result<T, LedgerError>;

/// An open transaction.
pub struct Write<'a>(pub(super) Transaction<'a>, pub(super) &'a Seal);

impl<'a> Write<'a> {
    pub(super) fn new(transaction: Transaction<'a>, seal: &'a Seal) -> Self {
        Self(transaction, seal)
    }

    pub(super) fn transaction(&self) -> &Transaction<'a> {
        &self.0
    }

    pub(super) fn seal(&self) -> &Seal {
        self.1
    }

    pub(super) fn commit(self) -> Result<()> {
        Ok(self.0.commit()?)
    }

    /// Remembers who called.
    pub fn host(&self, name: &HostName, hello: &wire::Hello) -> Result<()> {
        crash::doing("host");
        let row = params![name.as_str(), hello.encode_to_vec(), signed(unix_ms())];
        self.0.execute("INSERT OR REPLACE INTO hosts VALUES (?1, ?2, ?3)", row)?;
        Ok(())
    }

    /// Sets what a host is to be told. The generation moves only when the content does. Of a host that was never told
    /// anything by this store it begins above the one that the host has said it has.
    pub fn tell(&self, host: &HostName, assignment: &HostAssignment) -> Result<wire::Desired> {
        crash::doing("tell");
        let (document, sha256) = assignment.encode();
        let before: Option<(i64, Vec<u8>)> = self
            .0
            .query_row("SELECT generation, sha256 FROM desired WHERE host = ?1", [host.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (generation, same) = match before {
            Some((generation, hash)) => (generation, hash == sha256.0),
            None => (self.generation_of(host)?, false),
        };
        let generation = if same { generation } else { generation.saturating_add(1) };
        if !same {
            let sealed = self.1.seal(&document_place(host.as_str()), &document)?;
            let row = params![host.as_str(), generation, sha256.0.to_vec(), sealed];
            self.0.execute("INSERT OR REPLACE INTO desired VALUES (?1, ?2, ?3, ?4)", row)?;
        }
        Ok(wire::Desired { term: 0, generation: unsigned(generation), sha256: sha256.0.to_vec(), document })
    }

    /// The generation that a host has said it has; 0 when it never called.
    fn generation_of(&self, host: &HostName) -> Result<i64> {
        let query = "SELECT hello FROM hosts WHERE name = ?1";
        let hello: Option<Vec<u8>> = self.0.query_row(query, [host.as_str()], |row| row.get(0)).optional()?;
        let hello = hello.map(|hello| wire::Hello::decode(hello.as_slice()).map_err(damaged)).transpose()?;
        Ok(hello.map_or(0, |hello| signed(hello.generation)))
    }

    /// A host goes on from there: what another store has told it is kept as what this one has, unless this one has told
    /// it more already. For a store that is rebuilt.
    pub fn go_on_from(&self, host: &HostName, told: &wire::Desired) -> Result<()> {
        let sealed = self.1.seal(&document_place(host.as_str()), &told.document)?;
        let row = params![host.as_str(), signed(told.generation), told.sha256, sealed];
        self.0.execute(
            "INSERT INTO desired VALUES (?1, ?2, ?3, ?4) ON CONFLICT (host) DO UPDATE SET \
             generation = excluded.generation, sha256 = excluded.sha256, document = excluded.document \
             WHERE excluded.generation > desired.generation",
            row,
        )?;
        Ok(())
    }

    /// The next start is of a later term than this one. For a store that is rebuilt.
    pub fn surpass(&self, term: Term) -> Result<()> {
        self.0.execute("UPDATE meta SET value = max(value, ?1) WHERE key = 'term'", [signed(term.0)])?;
        Ok(())
    }

    /// Keeps a plan until it expires, and forgets those that have.
    pub fn plan(&self, plan: &wire::Plan) -> Result<()> {
        crash::doing("plan");
        self.0.execute("DELETE FROM plans WHERE expires_ms < ?1", [signed(unix_ms()) - 3_600_000])?;
        let row = params![plan.hash, plan.encode_to_vec(), signed(plan.expires_unix_ms)];
        self.0.execute("INSERT OR REPLACE INTO plans VALUES (?1, ?2, ?3)", row)?;
        Ok(())
    }

    /// A new cluster.
    pub fn cluster(&self, record: &ClusterRecord) -> Result<()> {
        crash::doing("cluster");
        let row = params![
            record.blueprint.cluster.as_str(),
            wire::Spec::from(&record.spec).encode_to_vec(),
            record.blueprint.encode(),
            record.goal.word(),
            record.formed_ms.map(signed),
            record.operation.to_string(),
        ];
        self.0.execute("INSERT INTO clusters VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)?;
        self.duties(record)?;
        self.rebuild(record)?;
        match &record.credentials {
            Some(credentials) => self.credentials(&record.blueprint.cluster, credentials),
            None => Ok(()),
        }
    }

    /// Moves the cursor of a formation.
    pub fn goal(&self, cluster: &ClusterName, goal: Goal) -> Result<()> {
        crash::doing("goal");
        self.0.execute(
            "UPDATE clusters SET goal = ?2 WHERE name = ?1 AND formed_ms IS NULL",
            params![cluster.as_str(), goal.word()],
        )?;
        Ok(())
    }

    /// Latches *formed*.
    pub fn formed(&self, cluster: &ClusterName) -> Result<()> {
        crash::doing("formed");
        self.0.execute(
            "UPDATE clusters SET formed_ms = ?2 WHERE name = ?1",
            params![cluster.as_str(), signed(unix_ms())],
        )?;
        Ok(())
    }

    /// Forgets a cluster that never formed.
    pub fn forget_cluster(&self, cluster: &ClusterName) -> Result<()> {
        crash::doing("forget");
        let forgotten =
            self.0.execute("DELETE FROM clusters WHERE name = ?1 AND formed_ms IS NULL", [cluster.as_str()])?;
        if forgotten != 1 {
            return Err(damaged(format!("{cluster} is formed and cannot be forgotten")));
        }
        self.0.execute("DELETE FROM credentials WHERE cluster = ?1", [cluster.as_str()])?;
        for table in ["duties", "rebuilds", "remnants"] {
            self.0.execute(&format!("DELETE FROM {table} WHERE cluster = ?1"), [cluster.as_str()])?;
        }
        self.unprotect(cluster)
    }

    /// A new operation.
    pub fn operation(&self, record: &OperationRecord) -> Result<()> {
        crash::doing("operation");
        let row = params![
            record.id.to_string(),
            record.kind,
            record.cluster.as_str(),
            record.plan_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            record.state.word(),
            record.phase,
            record.message,
            signed(record.started_ms),
            record.ended_ms.map(signed),
        ];
        self.0.execute("INSERT INTO operations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", row)?;
        Ok(())
    }

    /// Something has happened to it: where it is now, and an event. The event's sequence number is returned.
    pub fn event(&self, id: OperationId, state: OpState, phase: &str, message: &str, count: (u32, u32)) -> Result<u64> {
        crash::doing(phase);
        let now = signed(unix_ms());
        let ended = state.ended().then_some(now);
        self.0.execute(
            "UPDATE operations SET state = ?2, phase = ?3, message = ?4, ended_ms = ?5 WHERE id = ?1",
            params![id.to_string(), state.word(), phase, message, ended],
        )?;
        self.0.execute(
            "INSERT INTO events (operation, unix_ms, phase, state, message, done, total) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id.to_string(), now, phase, state.word(), message, count.0, count.1],
        )?;
        Ok(unsigned(self.0.last_insert_rowid()))
    }

    /// A phase has ended; one that was entered again adds up.
    pub fn phase(&self, id: OperationId, phase: &str, micros: u64) -> Result<()> {
        crash::doing("timing");
        let row = params![id.to_string(), phase, signed(micros)];
        self.0.execute(
            "INSERT INTO phases (operation, phase, micros) VALUES (?1, ?2, ?3) \
             ON CONFLICT (operation, phase) DO UPDATE SET micros = micros + excluded.micros",
            row,
        )?;
        Ok(())
    }

    /// A request has been answered with that operation.
    pub fn request(&self, id: &str, asked: &Sha256, operation: OperationId) -> Result<()> {
        let row = params![id, asked.to_string(), operation.to_string()];
        self.0.execute("INSERT INTO requests VALUES (?1, ?2, ?3)", row)?;
        Ok(())
    }
}
