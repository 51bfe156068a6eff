//! Rebuilds that are under way, what they have left behind, and the lives that have ended.
//!
//! A life that will begin, and one that has ended, hold the cluster's secrets: they are sealed.

use muster_proto::{ClusterId, ClusterName, HostName, Incarnation, NodeId, OperationId, Spec, wire};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

use super::{ClusterRecord, Ledger, LedgerError, Write, damaged, signed, unix_ms, unsigned};
use crate::{
    blueprint::Blueprint,
    credentials::Credentials,
    rebuild::{LifeRecord, Rebuild, Remnant, Stage},
    rolling::{Duties, Duty},
    seal::Seal,
};

type Result<T> = std::result::Result<T, LedgerError>;

/// `nth` says which life ended after which: clocks may be set.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rebuilds (
    cluster TEXT PRIMARY KEY, operation TEXT NOT NULL, stage TEXT NOT NULL, undo INTEGER NOT NULL,
    missing TEXT NOT NULL, can_return INTEGER NOT NULL, lived INTEGER NOT NULL, sealed BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS remnants (cluster TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS lives (
    nth INTEGER PRIMARY KEY AUTOINCREMENT, cluster_id TEXT NOT NULL, incarnation INTEGER NOT NULL,
    formed INTEGER NOT NULL, ended_ms INTEGER NOT NULL, sealed BLOB NOT NULL, UNIQUE (cluster_id, incarnation)
) STRICT;
";

/// A life as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    spec: Vec<u8>,
    blueprint: Vec<u8>,
    credentials: Option<Credentials>,
    duties: BTreeMap<NodeId, (bool, u64, bool, u64)>,
}

impl Kept {
    fn of(life: &LifeRecord) -> Self {
        let duty = |duty: &Duty| (duty.stopped, duty.run, duty.all_stopped, duty.handed_ms);
        Self {
            spec: wire::Spec::from(&life.spec).encode_to_vec(),
            blueprint: life.blueprint.encode(),
            credentials: life.credentials.clone(),
            duties: life.duties.iter().map(|(id, it)| (*id, duty(it))).collect(),
        }
    }

    fn read(self) -> Result<LifeRecord> {
        let spec = wire::Spec::decode(self.spec.as_slice()).map_err(damaged)?;
        let duty = |(stopped, run, all_stopped, handed_ms)| Duty { stopped, run, all_stopped, handed_ms };
        let duties: Duties = self.duties.into_iter().map(|(id, it)| (id, duty(it))).collect();
        Ok(LifeRecord {
            spec: Spec::try_from(spec).map_err(damaged)?,
            blueprint: Blueprint::decode(&self.blueprint).map_err(damaged)?,
            credentials: self.credentials,
            duties,
        })
    }
}

fn seal(seal: &Seal, place: &str, life: &LifeRecord) -> Result<Vec<u8>> {
    let plain = Zeroizing::new(serde_json::to_vec(&Kept::of(life)).map_err(damaged)?);
    Ok(seal.seal(place, &plain)?)
}

fn open(seal: &Seal, place: &str, sealed: &[u8]) -> Result<LifeRecord> {
    serde_json::from_slice::<Kept>(&seal.unseal(place, sealed)?).map_err(damaged)?.read()
}

fn next_place(cluster: &str) -> String {
    format!("the next life of {cluster}")
}

fn ended_place(cluster: ClusterId, incarnation: Incarnation) -> String {
    format!("life {incarnation} of {cluster}")
}

/// A life of a cluster that has ended.
#[derive(Debug, Clone)]
pub struct EndedLife {
    /// All of it.
    pub life: LifeRecord,
    /// It was a cluster once; otherwise it never came to that.
    pub formed: bool,
    /// When it ended, milliseconds since 1970.
    pub ended_ms: u64,
}

type RebuildRow = (String, String, bool, String, bool, bool, Option<Vec<u8>>);

/// The rebuild of a cluster that is under way, and what earlier ones have left.
pub(super) fn of(connection: &Connection, sealer: &Seal, cluster: &str) -> Result<(Option<Rebuild>, Vec<Remnant>)> {
    let mut statement = connection.prepare_cached(
        "SELECT operation, stage, undo, missing, can_return, lived, sealed FROM rebuilds WHERE cluster = ?1",
    )?;
    let read = |row: &Row| {
        Ok::<RebuildRow, rusqlite::Error>((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
            row.get(6)?,
        ))
    };
    let row = statement.query_row([cluster], read).optional()?;
    let rebuild = row.map(|(operation, stage, undo, missing, can_return, lived, sealed)| {
        let next = sealed.map(|sealed| open(sealer, &next_place(cluster), &sealed)).transpose()?;
        Ok::<_, LedgerError>(Rebuild {
            operation: operation.parse().map_err(damaged)?,
            stage: serde_json::from_str::<Stage>(&stage).map_err(damaged)?,
            undo,
            missing: serde_json::from_str::<BTreeSet<HostName>>(&missing).map_err(damaged)?,
            can_return,
            lived,
            next: next.map(Box::new),
        })
    });
    let mut statement = connection.prepare_cached("SELECT document FROM remnants WHERE cluster = ?1")?;
    let document: Option<String> = statement.query_row([cluster], |row| row.get(0)).optional()?;
    let remnants = document.map(|document| serde_json::from_str(&document).map_err(damaged)).transpose()?;
    Ok((rebuild.transpose()?, remnants.unwrap_or_default()))
}

impl Ledger {
    /// The lives of a cluster that have ended, the last one first.
    pub fn lives(&self, cluster: ClusterId) -> Result<Vec<EndedLife>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT incarnation, formed, ended_ms, sealed FROM lives WHERE cluster_id = ?1 ORDER BY nth DESC",
        )?;
        let read = |row: &Row| Ok((unsigned(row.get(0)?), row.get(1)?, unsigned(row.get(2)?), row.get(3)?));
        let rows = statement.query_map([cluster.to_string()], read)?;
        let rows = rows.collect::<std::result::Result<Vec<(u64, bool, u64, Vec<u8>)>, _>>()?;
        let life = |(incarnation, formed, ended_ms, sealed): (u64, bool, u64, Vec<u8>)| {
            let life = open(&self.seal, &ended_place(cluster, Incarnation(incarnation)), &sealed)?;
            Ok(EndedLife { life, formed, ended_ms })
        };
        rows.into_iter().map(life).collect()
    }
}

impl Write<'_> {
    /// Keeps the rebuild of a cluster as it is now, if there is one, and what is left behind.
    pub fn rebuild(&self, record: &ClusterRecord) -> Result<()> {
        crash::doing("rebuild");
        let cluster = &record.blueprint.cluster;
        self.remnants(cluster, &record.remnants)?;
        let Some(rebuild) = &record.rebuild else {
            self.0.execute("DELETE FROM rebuilds WHERE cluster = ?1", [cluster.as_str()])?;
            return Ok(());
        };
        let next = rebuild.next.as_ref();
        let sealed = next.map(|next| seal(self.1, &next_place(cluster.as_str()), next)).transpose()?;
        let row = params![
            cluster.as_str(),
            rebuild.operation.to_string(),
            serde_json::to_string(&rebuild.stage).map_err(damaged)?,
            rebuild.undo,
            serde_json::to_string(&rebuild.missing).map_err(damaged)?,
            rebuild.can_return,
            rebuild.lived,
            sealed,
        ];
        self.0.execute("INSERT OR REPLACE INTO rebuilds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row)?;
        Ok(())
    }

    /// Keeps what is left behind.
    pub fn remnants(&self, cluster: &ClusterName, remnants: &[Remnant]) -> Result<()> {
        if remnants.is_empty() {
            self.0.execute("DELETE FROM remnants WHERE cluster = ?1", [cluster.as_str()])?;
            return Ok(());
        }
        let document = serde_json::to_string(remnants).map_err(damaged)?;
        self.0.execute("INSERT OR REPLACE INTO remnants VALUES (?1, ?2)", params![cluster.as_str(), document])?;
        Ok(())
    }

    /// The point of no return: a life has ended, and the record is the next one's.
    pub fn cross(&self, crossed: &ClusterRecord, ended: &LifeRecord, formed: bool) -> Result<()> {
        crash::doing("cross");
        let (cluster, id) = (&crossed.blueprint.cluster, crossed.blueprint.cluster_id);
        // One that comes back has not ended any more.
        self.0.execute(
            "DELETE FROM lives WHERE cluster_id = ?1 AND incarnation = ?2",
            params![id.to_string(), signed(crossed.blueprint.incarnation.0)],
        )?;
        let incarnation = ended.blueprint.incarnation;
        self.0.execute(
            "INSERT INTO lives (cluster_id, incarnation, formed, ended_ms, sealed) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                id.to_string(),
                signed(incarnation.0),
                formed,
                signed(unix_ms()),
                seal(self.1, &ended_place(id, incarnation), ended)?,
            ],
        )?;
        let changed = self.0.execute(
            "UPDATE clusters SET spec = ?2, blueprint = ?3, goal = ?4, formed_ms = NULL, operation = ?5 \
             WHERE name = ?1",
            params![
                cluster.as_str(),
                wire::Spec::from(&crossed.spec).encode_to_vec(),
                crossed.blueprint.encode(),
                crossed.goal.word(),
                crossed.operation.to_string(),
            ],
        )?;
        if changed != 1 {
            return Err(damaged(format!("{cluster} is not there to be rebuilt")));
        }
        self.0.execute("DELETE FROM credentials WHERE cluster = ?1", [cluster.as_str()])?;
        if let Some(credentials) = &crossed.credentials {
            self.credentials(cluster, credentials)?;
        }
        self.duties(crossed)?;
        self.rebuild(crossed)
    }

    /// Keeps all duties of a cluster in place of those before.
    pub fn duties(&self, record: &ClusterRecord) -> Result<()> {
        let cluster = &record.blueprint.cluster;
        self.0.execute("DELETE FROM duties WHERE cluster = ?1", [cluster.as_str()])?;
        record.duties.iter().try_for_each(|(id, duty)| self.duty(cluster, *id, *duty))
    }

    /// An operation has given way to another.
    pub fn gave_way(&self, id: OperationId, phase: &str, message: &str) -> Result<()> {
        self.event(id, super::OpState::Cancelled, phase, message, (0, 0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::Former;

    use super::*;
    use crate::{
        formation::Goal,
        rebuild::{Order, begin, cross},
        samples::record,
        seal,
    };

    fn draw() -> std::result::Result<[u8; 32], seal::SealError> {
        seal::random()
    }

    #[test]
    fn a_rebuild_its_next_life_and_those_that_have_ended_are_kept_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let ledger = Ledger::open(&path, Seal::for_tests()).unwrap();
        let spec = crate::credentials::tests::spec(muster_proto::Tls::Off);
        let credentials = Credentials::draw(&spec, Incarnation(1), None, draw).unwrap();
        let secret = credentials.as_ref().unwrap().password("default").unwrap().expose().to_owned();
        let duty = Duty { stopped: true, run: 3, ..Duty::default() };
        let plain = record(Goal::Running, true);
        let first = plain.blueprint.members[0].node_id;
        let formed = ClusterRecord { credentials, duties: [(first, duty)].into(), ..plain };
        let blueprint = Blueprint { incarnation: Incarnation(2), ..formed.blueprint.clone() };
        let next = LifeRecord {
            spec: formed.spec.clone(),
            blueprint,
            credentials: formed.credentials.clone(),
            duties: Duties::new(),
        };
        let (operation, missing) = (formed.operation, ["server9".parse().unwrap()].into());
        let fenced = begin(&formed, Order { operation, undo: false, missing, next });
        let store = |change: &dyn Fn(&Write) -> Result<()>| ledger.write(|write| change(write)).unwrap();
        store(&|write| write.cluster(&formed));
        store(&|write| write.rebuild(&fenced));
        let name = &formed.blueprint.cluster;
        let read = || ledger.cluster(name).unwrap().unwrap();
        assert_eq!(format!("{:?}", read().rebuild), format!("{:?}", fenced.rebuild));
        let (crossed, ended) = cross(&fenced).unwrap();
        store(&|write| write.cross(&crossed, &ended, true));
        let kept = read();
        assert_eq!(format!("{:?}", kept.rebuild), format!("{:?}", crossed.rebuild));
        assert_eq!((&kept.remnants, &kept.blueprint), (&crossed.remnants, &crossed.blueprint));
        assert_eq!((kept.formed_ms, &kept.duties), (None, &crossed.duties));
        let former = Former { operation, incarnation: Incarnation(1), life: muster_proto::Life(1), node_id: first };
        assert!(kept.remnants.iter().any(|remnant| remnant.former == former));
        let lives = ledger.lives(formed.blueprint.cluster_id).unwrap();
        assert_eq!(lives.len(), 1);
        assert!(lives[0].formed);
        assert_eq!((&lives[0].life.blueprint, &lives[0].life.duties), (&formed.blueprint, &formed.duties));
        assert_eq!(lives[0].life.credentials, formed.credentials);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a secret lies open");
    }
}
