//! `muster audit`: what was done, by whom.

use muster_proto::{Sha256, wire::AuditEntry};
use serde::Serialize;

use super::{moment, table};

/// Entries, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct EntriesJson {
    entries: Vec<EntryJson>,
}

/// An entry, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct EntryJson {
    seq: u64,
    unix_ms: u64,
    caller: String,
    from: String,
    action: String,
    detail: String,
    sha256: String,
    previous: String,
}

/// Whether the chain holds, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct VerdictJson {
    holds: bool,
    entries: u64,
    last_seq: u64,
    last_sha256: String,
    error: Option<String>,
}

impl From<&[AuditEntry]> for EntriesJson {
    fn from(entries: &[AuditEntry]) -> Self {
        let one = |entry: &AuditEntry| EntryJson {
            seq: entry.seq,
            unix_ms: entry.unix_ms,
            caller: entry.caller.clone(),
            from: entry.from.clone(),
            action: entry.action.clone(),
            detail: entry.detail.clone(),
            sha256: hex(&entry.sha256),
            previous: hex(&entry.previous),
        };
        Self { entries: entries.iter().map(one).collect() }
    }
}

impl VerdictJson {
    /// Up to the last entry that holds; they are numbered from 1 without gaps.
    pub fn new(last: u64, sha256: Sha256, error: Option<String>) -> Self {
        Self { holds: error.is_none(), entries: last, last_seq: last, last_sha256: hex(&sha256.0), error }
    }
}

/// A table, oldest first.
pub fn text(entries: &[AuditEntry]) -> String {
    if entries.is_empty() {
        return "Nothing was done yet.\n".to_owned();
    }
    let row = |entry: &AuditEntry| {
        [
            entry.seq.to_string(),
            moment(entry.unix_ms),
            entry.caller.clone(),
            entry.from.clone(),
            entry.action.clone(),
            entry.detail.clone(),
        ]
    };
    table(["ENTRY", "WHEN", "WHO", "FROM", "ACTION", "DETAIL"], entries.iter().map(row).collect())
}

/// The whole chain holds.
pub fn holds(last: u64, sha256: Sha256) -> String {
    let entries = match last {
        0 => return "[OK] There are no entries yet.\n".to_owned(),
        1 => "1 entry".to_owned(),
        _ => format!("{last} entries"),
    };
    format!(
        "[OK] {entries} in one chain, none changed, none taken out, none cut off.\n\
         The last one is {last}, {}; keep that elsewhere, and an older store put in its place shows too.\n",
        hex(&sha256.0)
    )
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;
    use muster_proto::audit::entry_hash;

    pub(crate) fn chain(length: u64) -> Vec<AuditEntry> {
        let mut previous = vec![0; 32];
        let mut entry = |seq| {
            let mut entry = AuditEntry {
                seq,
                unix_ms: 1_795_384_800_000 + seq * 1000,
                caller: "user alice".into(),
                from: "192.168.1.7:40312".into(),
                action: "Trust/RevokeHost".into(),
                detail: format!("server{seq}: stolen"),
                previous: previous.clone(),
                sha256: vec![],
            };
            entry.sha256 = entry_hash(&entry).0.to_vec();
            previous = entry.sha256.clone();
            entry
        };
        (1..=length).map(&mut entry).collect()
    }

    #[test]
    fn entries_are_a_table_and_a_document() {
        expect![[r#"
            ENTRY  WHEN                  WHO         FROM               ACTION            DETAIL
            1      2026-11-22T22:00:01Z  user alice  192.168.1.7:40312  Trust/RevokeHost  server1: stolen
            2      2026-11-22T22:00:02Z  user alice  192.168.1.7:40312  Trust/RevokeHost  server2: stolen
        "#]]
        .assert_eq(&text(&chain(2)));
        let json: serde_json::Value = serde_json::from_str(&document(&EntriesJson::from(&*chain(2)))).unwrap();
        assert_eq!(json["entries"][1]["previous"], json["entries"][0]["sha256"]);
        assert_eq!(json["entries"][0]["previous"], "0".repeat(64));
        assert_eq!(text(&[]), "Nothing was done yet.\n");
    }
}
