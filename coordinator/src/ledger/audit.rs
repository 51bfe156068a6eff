//! The audit: entries in a chain, and its end.
//!
//! Where the chain ends is kept once more, sealed: whoever can write to the store, and has not its key, can cut nothing
//! off at the end unseen. The next entry follows the sealed end and not the last one that is found, so that what was
//! cut off stays missing.

use muster_proto::{Sha256, audit::entry_hash, wire};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Ledger, LedgerError, Write, damaged, signed, unix_ms, unsigned};
use crate::{caller::Caller, seal::Seal};

type Result<T> = std::result::Result<T, LedgerError>;

/// Tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY, unix_ms INTEGER NOT NULL, caller TEXT NOT NULL, came_from TEXT NOT NULL,
    action TEXT NOT NULL, detail TEXT NOT NULL, previous BLOB NOT NULL, sha256 BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS audit_end (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL) STRICT;
";

const PLACE: &str = "the end of the audit";

/// Where the audit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEnd {
    /// The number of the last entry; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub sha256: Sha256,
}

impl AuditEnd {
    pub(super) fn read(connection: &Connection, seal: &Seal) -> Result<Self> {
        let query = "SELECT sealed FROM audit_end";
        let sealed: Option<Vec<u8>> = connection.prepare_cached(query)?.query_row([], |row| row.get(0)).optional()?;
        let sealed = sealed.ok_or_else(|| damaged(format!("{PLACE} was taken out")))?;
        let plain = seal.unseal(PLACE, &sealed)?;
        let (seq, sha256) = plain.split_first_chunk().ok_or_else(|| damaged(PLACE))?;
        let sha256 = sha256.try_into().map_err(|_| damaged(PLACE))?;
        Ok(Self { seq: u64::from_be_bytes(*seq), sha256: Sha256(sha256) })
    }

    fn write(self, connection: &Connection, seal: &Seal) -> Result<()> {
        let sealed = seal.seal(PLACE, &[self.seq.to_be_bytes().as_slice(), &self.sha256.0].concat())?;
        connection.execute("INSERT OR REPLACE INTO audit_end VALUES (1, ?1)", [sealed])?;
        Ok(())
    }
}

/// Of a new store.
pub(super) fn begin(connection: &Connection, seal: &Seal) -> Result<()> {
    AuditEnd { seq: 0, sha256: Sha256([0; 32]) }.write(connection, seal)
}

impl Ledger {
    /// Entries of the audit after a sequence number, oldest first, at most so many; and where it ends, as of the same
    /// moment.
    pub fn audit(&self, after: u64, most: u32) -> Result<(Vec<wire::AuditEntry>, AuditEnd)> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT seq, unix_ms, caller, came_from, action, detail, previous, sha256 FROM audit \
             WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let read = |row: &Row| {
            Ok(wire::AuditEntry {
                seq: unsigned(row.get(0)?),
                unix_ms: unsigned(row.get(1)?),
                caller: row.get(2)?,
                from: row.get(3)?,
                action: row.get(4)?,
                detail: row.get(5)?,
                previous: row.get(6)?,
                sha256: row.get(7)?,
            })
        };
        let entries = statement.query_map(params![signed(after), most], read)?.collect::<rusqlite::Result<_>>()?;
        Ok((entries, AuditEnd::read(&connection, &self.seal)?))
    }
}

impl Write<'_> {
    /// Something was done, or refused: an entry at the end of the chain.
    pub fn audit(&self, caller: &Caller, from: &str, action: &str, detail: &str) -> Result<()> {
        crash::doing("audit");
        let end = AuditEnd::read(self.transaction(), self.seal())?;
        let entry = wire::AuditEntry {
            seq: end.seq + 1,
            unix_ms: unix_ms(),
            caller: caller.to_string(),
            from: from.to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
            previous: end.sha256.0.to_vec(),
            sha256: Vec::new(),
        };
        let sha256 = entry_hash(&entry);
        let (seq, unix_ms) = (signed(entry.seq), signed(entry.unix_ms));
        let hash = sha256.0.to_vec();
        let row = params![seq, unix_ms, entry.caller, entry.from, entry.action, entry.detail, entry.previous, hash];
        self.transaction().execute("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row)?;
        AuditEnd { seq: entry.seq, sha256 }.write(self.transaction(), self.seal())
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::audit::verify;

    use super::*;

    #[test]
    fn what_is_cut_off_at_the_end_stays_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let ledger = Ledger::open(&path, Seal::for_tests()).unwrap();
        let zero = Sha256([0; 32]);
        assert_eq!(ledger.audit(0, 10).unwrap(), (vec![], AuditEnd { seq: 0, sha256: zero }));
        let enter = |detail: &str| ledger.write(|write| write.audit(&Caller::Local, "here", "did", detail));
        (1..=4).for_each(|nth| enter(&nth.to_string()).unwrap());
        let (entries, end) = ledger.audit(0, 10).unwrap();
        assert_eq!((verify(zero, &entries), end.seq), (Ok(end.sha256), 4));

        let spoil = |sql: &str| Connection::open(&path).unwrap().execute(sql, []).unwrap();
        spoil("DELETE FROM audit WHERE seq > 2");
        let (entries, kept) = ledger.audit(0, 10).unwrap();
        assert!(verify(zero, &entries).is_ok() && entries.len() == 2, "the chain itself does not show it");
        assert_eq!(kept, end);
        enter("5").unwrap();
        assert_eq!(verify(zero, &ledger.audit(0, 10).unwrap().0).unwrap_err(), "entry 3 is missing; after it comes 5");

        spoil("DELETE FROM audit_end");
        assert!(enter("6").unwrap_err().to_string().contains("the end of the audit was taken out"));
        assert!(ledger.audit(0, 10).is_err());
    }
}
