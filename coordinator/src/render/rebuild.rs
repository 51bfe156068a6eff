//! `muster rebuild`, before it asks: what ends and what begins, every directory that is set aside or comes back, how
//! the spec changes; and then the plan of what is there afterwards, as a bootstrap shows it.
//!
//! Ages are as of the plan, whose making is its expiry less the time that it holds.

use muster_proto::{
    BusOffset,
    wire::{DoomedInstance, Plan, RebuildPlan, ReturningInstance, Role},
};
use serde::Serialize;

use super::{
    age, count, moment,
    plan::{self, Detail, cluster},
    rate, short, size, some, table,
};
use crate::plan::VALID_MS;

/// What `keeps` says of a directory without any data.
const NOTHING: &str = "nothing";

/// What is set aside, and what comes back, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct RebuildJson {
    cluster_id: String,
    incarnation: u64,
    becomes: u64,
    undo: bool,
    doomed: Vec<DoomedJson>,
    returns: Vec<ReturningJson>,
    fenced: Vec<String>,
    bus_offset: u32,
    changes: Vec<String>,
    even_if_serving: bool,
    supersedes: Option<String>,
    ends_undo_of: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct DoomedJson {
    host: String,
    address: String,
    port: u32,
    path: Option<String>,
    node_id: String,
    life: u64,
    role: Option<&'static str>,
    bytes: Option<u64>,
    keys: Option<u64>,
    clients: Option<u32>,
    writes_millihertz: Option<u64>,
    last_save_unix_ms: Option<u64>,
    keeps: Option<String>,
    quarantined: bool,
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct ReturningJson {
    host: String,
    address: String,
    port: u32,
    node_id: String,
    life: u64,
    bytes: u64,
    aside_unix_ms: Option<u64>,
    missing: Option<String>,
}

impl From<&RebuildPlan> for RebuildJson {
    fn from(rebuild: &RebuildPlan) -> Self {
        Self {
            cluster_id: rebuild.cluster_id.clone(),
            incarnation: rebuild.incarnation,
            becomes: rebuild.becomes,
            undo: rebuild.undo,
            doomed: rebuild.doomed.iter().map(DoomedJson::from).collect(),
            returns: rebuild.returns.iter().map(ReturningJson::from).collect(),
            fenced: rebuild.fenced.clone(),
            bus_offset: rebuild.bus_offset,
            changes: rebuild.changes.clone(),
            even_if_serving: rebuild.even_if_serving,
            supersedes: some(&rebuild.supersedes),
            ends_undo_of: Some(rebuild.buries).filter(|life| *life > 0),
        }
    }
}

impl From<&DoomedInstance> for DoomedJson {
    fn from(doomed: &DoomedInstance) -> Self {
        let answered = is_known(doomed);
        Self {
            host: doomed.host.clone(),
            address: doomed.address.clone(),
            port: doomed.port,
            path: some(&doomed.path),
            node_id: doomed.node_id.clone(),
            life: doomed.life,
            role: role(doomed),
            bytes: is_measured(doomed).then_some(doomed.bytes),
            keys: answered.then_some(doomed.keys),
            clients: answered.then_some(doomed.clients),
            writes_millihertz: answered.then_some(doomed.writes_millihertz),
            last_save_unix_ms: Some(doomed.last_save_unix_ms).filter(|at| *at > 0),
            keeps: some(&doomed.keeps),
            quarantined: doomed.quarantined,
            error: some(&doomed.error),
        }
    }
}

impl From<&ReturningInstance> for ReturningJson {
    fn from(returning: &ReturningInstance) -> Self {
        Self {
            host: returning.host.clone(),
            address: returning.address.clone(),
            port: returning.port,
            node_id: returning.node_id.clone(),
            life: returning.life,
            bytes: returning.bytes,
            aside_unix_ms: Some(returning.aside_unix_ms).filter(|at| *at > 0),
            missing: some(&returning.missing),
        }
    }
}

/// The whole plan: what ends, what begins, every directory, what changes; then what is there afterwards, and findings.
pub fn text(plan: &Plan) -> String {
    let rebuild = plan.rebuild.clone().unwrap_or_default();
    let now = plan.expires_unix_ms.saturating_sub(VALID_MS);
    let mut parts = vec![heading(cluster(plan), &rebuild)];
    if rebuild.undo {
        parts.push(returning(&rebuild, now));
    }
    parts.extend([doomed(&rebuild, now), changes(&rebuild)]);
    parts.push(plan::text(plan, Detail::Brief));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// What the typed name would begin, for whoever is asked to type it.
pub fn meaning(plan: &Plan) -> String {
    let rebuild = plan.rebuild.clone().unwrap_or_default();
    let name = cluster(plan);
    let (there, away) = (rebuild.doomed.iter().filter(|doomed| !doomed.quarantined).count(), rebuild.fenced.join(", "));
    let instances = count(there, "instance");
    let without = match away.is_empty() {
        true => String::new(),
        false => format!(" {away} is fenced off and not waited for; an undo waits until it is back."),
    };
    let then = if rebuild.undo {
        format!("incarnation {} is put back with the data that it had", rebuild.becomes)
    } else {
        "a new, empty cluster is formed".to_owned()
    };
    let lost = list(&rebuild.doomed, |doomed| doomed.keeps == NOTHING && (doomed.keys > 0 || !doomed.error.is_empty()));
    let lost = if lost.is_empty() { lost } else { format!("\nWhat {lost} holds is on no disk: it is lost.") };
    // What is superseded has left no whole cluster to go back to.
    let cancel = match rebuild.supersedes.is_empty() {
        true => format!(
            "Until the first directory moves it can be called off (muster op cancel); afterwards it can be undone \
             (muster rebuild {name} --undo)."
        ),
        false => format!(
            "It cannot be called off, because what there is now is no whole cluster; what can be brought back then is \
             said by: muster trash {name}."
        ),
    };
    let buries = match rebuild.buries {
        0 => String::new(),
        life => {
            format!("\nIncarnation {life}, which an undo would bring back now, no command brings back any more then.")
        }
    };
    let total = totals(&rebuild.doomed);
    format!(
        "{total}All {instances} of {name} are stopped, then their directories are renamed into .trash on their hosts, \
         and {then}. Clients are cut off until it is formed.{without}\n{cancel}{buries}{lost}"
    )
}

fn heading(name: &str, rebuild: &RebuildPlan) -> String {
    let RebuildPlan { incarnation, becomes, .. } = rebuild;
    let mut text = if rebuild.undo {
        format!(">>> Undo of the rebuild of {name}: incarnation {incarnation} ends, incarnation {becomes} comes back\n")
    } else {
        format!(">>> Rebuild of cluster {name}: incarnation {incarnation} ends, incarnation {becomes} begins, empty\n")
    };
    if !rebuild.supersedes.is_empty() {
        text += &format!("Operation {} cannot go on by itself, and gives way to this\n", rebuild.supersedes);
    }
    if rebuild.even_if_serving {
        text += "[SERVING] goes ahead although clients may write\n";
    }
    let fenced = rebuild.fenced.join(", ");
    if !fenced.is_empty() {
        text += &format!("[FENCED] without {fenced}: what comes back of that finds nobody, because bus ports change\n");
    }
    // Of a coordinator from before it was said what they are now, what is unusual is shown.
    let now = if rebuild.bus_offset_now == 0 { BusOffset::default().get().into() } else { rebuild.bus_offset_now };
    if ![0, now].contains(&rebuild.bus_offset) {
        text += &format!("Bus ports are client ports + {} from then on, and are + {now} now\n", rebuild.bus_offset);
    }
    text
}

fn doomed(rebuild: &RebuildPlan, now: u64) -> String {
    let all = &rebuild.doomed;
    if all.is_empty() {
        return "Nothing is set aside.\n".to_owned();
    }
    let row = |doomed: &DoomedInstance| {
        let known = |text: String| if is_known(doomed) { text } else { "-".to_owned() };
        [
            name(doomed),
            short(&doomed.node_id),
            role(doomed).unwrap_or("-").to_owned(),
            if is_measured(doomed) { size(doomed.bytes) } else { "-".to_owned() },
            known(doomed.keys.to_string()),
            known(doomed.clients.to_string()),
            known(rate(doomed.writes_millihertz)),
            ago(doomed.last_save_unix_ms, now).unwrap_or_else(|| "-".to_owned()),
            some(&doomed.keeps).unwrap_or_else(|| "-".to_owned()),
            if doomed.quarantined { "QUARANTINED".to_owned() } else { doomed.path.clone() },
        ]
    };
    let header = ["INSTANCE", "NODE", "ROLE", "SIZE", "KEYS", "CLIENTS", "WRITES/S", "LAST SAVE", "KEEPS", "DIRECTORY"];
    let title = match rebuild.undo {
        true => "Set aside instead, renamed into .trash on each host and not deleted:\n",
        false => "Set aside, renamed into .trash on each host and not deleted:\n",
    };
    format!("{title}{}{}{}", table(header, all.iter().map(row).collect()), totals(all), notes(all))
}

/// Keys and writes of masters alone: replicas hold the same ones again.
fn totals(all: &[DoomedInstance]) -> String {
    let masters = || all.iter().filter(|doomed| is_known(doomed) && doomed.role() == Role::Master);
    let known = || all.iter().filter(|doomed| is_known(doomed));
    let unknown = all.len() - known().count();
    let least = if unknown > 0 { format!(" at least; {unknown} not known") } else { String::new() };
    format!(
        "Total: {}, {}; {} on {}, {}, {} writes/s{least}\n",
        if all.len() == 1 { "1 directory".to_owned() } else { format!("{} directories", all.len()) },
        size(all.iter().map(|doomed| doomed.bytes).sum()),
        count(masters().map(|doomed| doomed.keys).sum::<u64>(), "key"),
        count(masters().count(), "master"),
        count(known().map(|doomed| doomed.clients).sum::<u32>(), "client"),
        rate(masters().map(|doomed| doomed.writes_millihertz).sum()),
    )
}

/// Of whom nothing is known and nothing is waited for. What else is not known is a finding.
fn notes(all: &[DoomedInstance]) -> String {
    let quarantined = list(all, |doomed| doomed.quarantined);
    match quarantined.is_empty() {
        true => quarantined,
        false => format!(
            "[QUARANTINED] {quarantined}: the host is not there; set aside when it comes back, before anything else\n"
        ),
    }
}

fn returning(rebuild: &RebuildPlan, now: u64) -> String {
    let row = |returning: &ReturningInstance| {
        let aside = match (&*returning.missing, ago(returning.aside_unix_ms, now)) {
            ("", Some(ago)) => format!("{ago} ({})", moment(returning.aside_unix_ms)),
            ("", None) => "still in place".to_owned(),
            (missing, _) => missing.to_uppercase(),
        };
        let name = format!("{}:{}", returning.host, returning.port);
        [name, short(&returning.node_id), size(returning.bytes), aside]
    };
    let table = table(["INSTANCE", "NODE", "SIZE", "SET ASIDE"], rebuild.returns.iter().map(row).collect());
    format!(
        "Put back from .trash:\n{table}Nothing that clients have written to incarnation {} is in it: that is set aside \
         now\n",
        rebuild.incarnation
    )
}

fn changes(rebuild: &RebuildPlan) -> String {
    if rebuild.changes.is_empty() {
        return "The spec stays as it is.\n".to_owned();
    }
    let lines: String = rebuild.changes.iter().map(|change| format!("  {change}\n")).collect();
    format!("The spec changes:\n{lines}")
}

fn name(doomed: &DoomedInstance) -> String {
    format!("{}:{}", doomed.host, doomed.port)
}

/// The names of some.
fn list(all: &[DoomedInstance], which: fn(&DoomedInstance) -> bool) -> String {
    all.iter().filter(|doomed| which(doomed)).map(name).collect::<Vec<_>>().join(", ")
}

/// Whether its server has answered.
fn is_known(doomed: &DoomedInstance) -> bool {
    doomed.error.is_empty() && !doomed.quarantined
}

/// Whether its agent has looked into the directory: a server that does not answer does not hide its files.
fn is_measured(doomed: &DoomedInstance) -> bool {
    !doomed.quarantined && (doomed.error.is_empty() || doomed.bytes > 0)
}

fn role(doomed: &DoomedInstance) -> Option<&'static str> {
    match doomed.role() {
        Role::Master => Some("master"),
        Role::Replica => Some("replica"),
        Role::Unspecified => None,
    }
}

/// None when it is not known since when.
fn ago(unix_ms: u64, now: u64) -> Option<String> {
    (unix_ms > 0).then(|| format!("{} ago", age(now.saturating_sub(unix_ms))))
}

#[cfg(test)]
pub(crate) mod tests;
