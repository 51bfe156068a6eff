//! `muster trash`: what was set aside, by the life that it belonged to; and what was deleted of it.

use std::collections::BTreeMap;

use muster_proto::wire::{ListTrashResponse, PurgeTrashResponse, TrashEntry};
use serde::Serialize;

use super::{moment, short, size, table};

/// What is in the trash, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct TrashJson {
    entries: Vec<EntryJson>,
    unknown: Vec<String>,
    incomplete: Vec<String>,
}

/// What was deleted, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct PurgedJson {
    /// What is gone.
    pub purged: Vec<EntryJson>,
    /// What is not, and why.
    pub errors: Vec<String>,
}

/// A directory in the trash, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct EntryJson {
    cluster: String,
    cluster_id: String,
    incarnation: u64,
    host: String,
    port: u32,
    life: u64,
    node_id: String,
    name: String,
    bytes: u64,
    aside_unix_ms: Option<u64>,
    until_unix_ms: Option<u64>,
    undoable: bool,
}

impl From<&ListTrashResponse> for TrashJson {
    fn from(answer: &ListTrashResponse) -> Self {
        Self {
            entries: answer.entries.iter().map(EntryJson::from).collect(),
            unknown: answer.unknown.clone(),
            incomplete: answer.incomplete.clone(),
        }
    }
}

impl From<&PurgeTrashResponse> for PurgedJson {
    fn from(answer: &PurgeTrashResponse) -> Self {
        Self { purged: answer.purged.iter().map(EntryJson::from).collect(), errors: answer.errors.clone() }
    }
}

impl From<&TrashEntry> for EntryJson {
    fn from(entry: &TrashEntry) -> Self {
        Self {
            cluster: entry.cluster.clone(),
            cluster_id: entry.cluster_id.clone(),
            incarnation: entry.incarnation,
            host: entry.host.clone(),
            port: entry.port,
            life: entry.life,
            node_id: entry.node_id.clone(),
            name: entry.name.clone(),
            bytes: entry.bytes,
            aside_unix_ms: Some(entry.aside_unix_ms).filter(|at| *at > 0),
            until_unix_ms: Some(entry.until_unix_ms).filter(|until| *until > 0),
            undoable: entry.undoable,
        }
    }
}

/// One line a life of a cluster, and if that cluster was named, one a directory below; then the hosts not heard.
pub fn text(answer: &ListTrashResponse, cluster: &str) -> String {
    let entries = &answer.entries;
    let mut parts = vec![if entries.is_empty() { nothing(answer, cluster) } else { lives(entries) }];
    if !entries.is_empty() && !cluster.is_empty() {
        parts.push(directories(entries));
    }
    parts.push(answer.incomplete.iter().map(|why| format!("[INCOMPLETE] {why}\n")).collect());
    parts.push(unknown(&answer.unknown));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn nothing(answer: &ListTrashResponse, cluster: &str) -> String {
    let of = if cluster.is_empty() { String::new() } else { format!(" of {cluster}") };
    match answer.unknown.is_empty() {
        true => format!("Nothing{of} is in the trash of any host.\n"),
        false => format!("Nothing{of} is in the trash of the hosts that were heard.\n"),
    }
}

/// Each entry.
pub fn directories(entries: &[TrashEntry]) -> String {
    let row = |entry: &TrashEntry| {
        [
            format!("{}:{}", entry.host, entry.port),
            entry.cluster.clone(),
            entry.incarnation.to_string(),
            short(&entry.node_id),
            size(entry.bytes),
            moment(entry.aside_unix_ms),
            until(entry.until_unix_ms),
            format!(".trash/{}", entry.name),
        ]
    };
    let header = ["INSTANCE", "CLUSTER", "INCARNATION", "NODE", "SIZE", "SET ASIDE", "UNTIL", "DIRECTORY"];
    table(header, entries.iter().map(row).collect())
}

/// Entries by the life that they belonged to. What is shown of each is what its undo depends on: the first directory
/// to be set aside, and the first to be deleted.
fn lives(entries: &[TrashEntry]) -> String {
    let mut lives: BTreeMap<(&str, &str, u64), Vec<&TrashEntry>> = BTreeMap::new();
    for entry in entries {
        lives.entry((&entry.cluster, &entry.cluster_id, entry.incarnation)).or_default().push(entry);
    }
    let row = |((cluster, id, incarnation), all): ((&str, &str, u64), Vec<&TrashEntry>)| {
        let mut hosts: Vec<&str> = all.iter().map(|entry| entry.host.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let earliest = |of: fn(&TrashEntry) -> u64| {
            all.iter().map(|entry| of(entry)).filter(|at| *at > 0).min().unwrap_or_default()
        };
        let undoable = all.iter().any(|entry| entry.undoable);
        [
            cluster.to_owned(),
            incarnation.to_string(),
            all.len().to_string(),
            hosts.join(", "),
            size(all.iter().map(|entry| entry.bytes).sum()),
            moment(earliest(|entry| entry.aside_unix_ms)),
            until(earliest(|entry| entry.until_unix_ms)),
            if undoable { format!("muster rebuild {cluster} --undo") } else { "-".to_owned() },
            id.to_owned(),
        ]
    };
    let header = ["CLUSTER", "INCARNATION", "INSTANCES", "HOSTS", "SIZE", "SET ASIDE", "UNTIL", "UNDO", "CLUSTER ID"];
    table(header, lives.into_iter().map(row).collect())
}

/// Hosts that were not heard, one line each.
pub fn unknown(unknown: &[String]) -> String {
    unknown.iter().map(|why| format!("[NOT KNOWN] {why}\n")).collect()
}

/// What the typed name would begin.
pub fn meaning(doomed: &[TrashEntry]) -> String {
    let bytes = size(doomed.iter().map(|entry| entry.bytes).sum());
    let back = match doomed.iter().any(|entry| entry.undoable) {
        true => " The last rebuild of this cluster cannot be undone any more then.",
        false => "",
    };
    format!("This deletes {} of {bytes} for good; there is no way back.{back}", all_of(doomed.len()))
}

/// How it ended.
pub fn purged(answer: &PurgeTrashResponse) -> String {
    let bytes = size(answer.purged.iter().map(|entry| entry.bytes).sum());
    let errors: String = answer.errors.iter().map(|error| format!("[NOT DELETED] {error}\n")).collect();
    format!("{} of {bytes} deleted\n{errors}", all_of(answer.purged.len()))
}

fn all_of(number: usize) -> String {
    if number == 1 { "1 directory".to_owned() } else { format!("{number} directories") }
}

fn until(unix_ms: u64) -> String {
    if unix_ms == 0 { "not by age".to_owned() } else { moment(unix_ms) }
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;

    use super::*;
    use crate::render::document;

    pub(crate) const ID: &str = "6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f";

    /// Two lives of a cluster: the first one of which only one directory is left, the second whole.
    pub(crate) fn two_lives() -> ListTrashResponse {
        let entry = |incarnation: u64, host: u32, port: u32, undoable| TrashEntry {
            host: format!("server{host}"),
            cluster: "orders".into(),
            cluster_id: ID.into(),
            incarnation,
            life: incarnation,
            node_id: format!("{port}abcd{incarnation}").repeat(4),
            port,
            name: format!("{port}-orders-{port}abcd-life{incarnation}"),
            bytes: 1_288_490_189,
            aside_unix_ms: 1_795_384_800_000 + u64::from(port),
            until_unix_ms: if undoable { 1_795_384_800_000 + 168 * 3_600_000 } else { 0 },
            undoable,
        };
        ListTrashResponse {
            entries: vec![entry(1, 1, 7000, false), entry(2, 1, 7000, true), entry(2, 2, 7003, true)],
            unknown: vec![],
            incomplete: vec![],
        }
    }

    #[test]
    fn each_life_is_a_line_with_what_brings_it_back() {
        expect![[r#"
            CLUSTER  INCARNATION  INSTANCES  HOSTS             SIZE     SET ASIDE             UNTIL                 UNDO                          CLUSTER ID
            orders   1            1          server1           1.2 GiB  2026-11-22T22:00:07Z  not by age            -                             6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f
            orders   2            2          server1, server2  2.4 GiB  2026-11-22T22:00:07Z  2026-11-29T22:00:00Z  muster rebuild orders --undo  6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f
        "#]].assert_eq(&text(&two_lives(), ""));
    }

    #[test]
    fn of_one_cluster_each_directory_is_shown_and_who_was_not_heard() {
        let incomplete = vec!["life 1 of orders cannot be put back whole: not there any more: server1 (7001)".into()];
        let answer = ListTrashResponse { unknown: vec!["server3 does not answer".into()], incomplete, ..two_lives() };
        expect![[r#"
            CLUSTER  INCARNATION  INSTANCES  HOSTS             SIZE     SET ASIDE             UNTIL                 UNDO                          CLUSTER ID
            orders   1            1          server1           1.2 GiB  2026-11-22T22:00:07Z  not by age            -                             6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f
            orders   2            2          server1, server2  2.4 GiB  2026-11-22T22:00:07Z  2026-11-29T22:00:00Z  muster rebuild orders --undo  6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f

            INSTANCE      CLUSTER  INCARNATION  NODE      SIZE     SET ASIDE             UNTIL                 DIRECTORY
            server1:7000  orders   1            7000abcd  1.2 GiB  2026-11-22T22:00:07Z  not by age            .trash/7000-orders-7000abcd-life1
            server1:7000  orders   2            7000abcd  1.2 GiB  2026-11-22T22:00:07Z  2026-11-29T22:00:00Z  .trash/7000-orders-7000abcd-life2
            server2:7003  orders   2            7003abcd  1.2 GiB  2026-11-22T22:00:07Z  2026-11-29T22:00:00Z  .trash/7003-orders-7003abcd-life2

            [INCOMPLETE] life 1 of orders cannot be put back whole: not there any more: server1 (7001)

            [NOT KNOWN] server3 does not answer
        "#]].assert_eq(&text(&answer, "orders"));
    }

    #[test]
    fn nothing_is_said_of_hosts_that_were_not_heard() {
        assert_eq!(text(&ListTrashResponse::default(), ""), "Nothing is in the trash of any host.\n");
        let answer =
            ListTrashResponse { unknown: vec!["server3 does not answer".into()], ..ListTrashResponse::default() };
        expect![[r#"
            Nothing of orders is in the trash of the hosts that were heard.

            [NOT KNOWN] server3 does not answer
        "#]]
        .assert_eq(&text(&answer, "orders"));
    }

    #[test]
    fn what_is_deleted_is_said_before_and_after() {
        let entries = two_lives().entries;
        let answer =
            PurgeTrashResponse { purged: entries[..1].to_vec(), errors: vec!["server2: Permission denied".into()] };
        expect![[r#"
            This deletes 3 directories of 3.6 GiB for good; there is no way back. The last rebuild of this cluster cannot be undone any more then.
            This deletes 1 directory of 1.2 GiB for good; there is no way back.
            1 directory of 1.2 GiB deleted
            [NOT DELETED] server2: Permission denied
        "#]].assert_eq(
            &[meaning(&entries), "\n".into(), meaning(&entries[..1]), "\n".into(), purged(&answer)].concat(),
        );
        expect![[r#"
            {
              "purged": [
                {
                  "cluster": "orders",
                  "cluster_id": "6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f",
                  "incarnation": 1,
                  "host": "server1",
                  "port": 7000,
                  "life": 1,
                  "node_id": "7000abcd17000abcd17000abcd17000abcd1",
                  "name": "7000-orders-7000abcd-life1",
                  "bytes": 1288490189,
                  "aside_unix_ms": 1795384807000,
                  "until_unix_ms": null,
                  "undoable": false
                }
              ],
              "errors": [
                "server2: Permission denied"
              ]
            }
        "#]]
        .assert_eq(&document(&PurgedJson::from(&answer)));
    }
}
