//! Judges how a scenario has ended. Knows nothing of Muster but what stands in its README: where directories are, and
//! what their stamps are called.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::resp::{ask, field};
use crate::processes;

/// A host as the judge knows it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its directory.
    pub base: PathBuf,
    /// Its address.
    pub address: String,
    /// Its ports; each has an instance.
    pub ports: Vec<u16>,
}

/// How it must have ended.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The cluster.
    pub cluster: String,
    /// Its life; every directory's too.
    pub life: u64,
    /// Lives that every port has in the trash, once.
    pub aside: Vec<u64>,
    /// Values that were written, and into which life.
    pub data: Vec<(String, u64)>,
}

/// A node as CLUSTER NODES has it, without what changes by itself.
type Node = (String, String, String, Vec<String>);

/// What is wrong; the first thing that is found.
pub fn judge(places: &[Place], expected: &Expected) -> Result<(), String> {
    let mut agreed: Option<(String, BTreeSet<Node>)> = None;
    for place in places {
        for port in &place.ports {
            let endpoint = format!("{}:{port}", place.address);
            let id = directory(&place.base.join(port.to_string()), expected, *port)?;
            let (me, nodes) = view(&endpoint)?;
            if me != id {
                return Err(format!("{endpoint} calls itself {me}, and its directory is stamped for {id}"));
            }
            well(&endpoint)?;
            match &agreed {
                None => agreed = Some((endpoint, nodes)),
                Some((first, other)) if *other != nodes => {
                    return Err(format!("{first} and {endpoint} do not agree: {other:?} {nodes:?}"));
                }
                Some(_) => {}
            }
        }
        alone(place)?;
        tidy(place)?;
        trash(place, expected)?;
    }
    let (_, nodes) = agreed.ok_or("nobody was asked")?;
    let count = places.iter().map(|place| place.ports.len()).sum::<usize>();
    if nodes.len() != count {
        return Err(format!("{} nodes, and {count} are wanted: {nodes:?}", nodes.len()));
    }
    covered(&nodes)?;
    data(places, expected)
}

/// What is wrong where a cluster was called off before it was formed: nothing of it runs or is in place, and what was
/// made of it lies in the trash once.
pub fn gone(places: &[Place]) -> Result<(), String> {
    for place in places {
        let living = processes::directories(&processes::living_in(&place.base));
        if !living.is_empty() {
            return Err(format!("processes live in {living:?}"));
        }
        let in_place = place.ports.iter().map(|port| place.base.join(port.to_string())).find(|dir| dir.exists());
        if let Some(dir) = in_place {
            return Err(format!("{} is still there", dir.display()));
        }
        tidy(place)?;
        let mut ports = BTreeSet::new();
        for dir in aside(place)? {
            let port = stamp(&dir)?["port"].clone().to_string();
            if !ports.insert(port) {
                return Err(format!("{} is the second of its port in the trash", dir.display()));
            }
        }
    }
    Ok(())
}

/// The stamp's node id.
fn directory(dir: &Path, expected: &Expected, port: u16) -> Result<String, String> {
    let stamp = stamp(dir)?;
    let life = Value::from(expected.life);
    let wanted = [
        ("cluster", Value::from(&*expected.cluster)),
        ("port", Value::from(port)),
        ("incarnation", life.clone()),
        ("life", life),
        ("formed", Value::from(true)),
    ];
    for (name, wanted) in wanted {
        if stamp[name] != wanted {
            return Err(format!("{}: {name} is {} and not {wanted}", dir.display(), stamp[name]));
        }
    }
    stamp["node_id"].as_str().map(str::to_owned).ok_or_else(|| format!("{}: no node id: {stamp}", dir.display()))
}

fn stamp(dir: &Path) -> Result<Value, String> {
    let path = dir.join("muster.json");
    if !fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
        return Err(format!("{} is no directory", dir.display()));
    }
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A node's own view: who it is, and everybody.
fn view(endpoint: &str) -> Result<(String, BTreeSet<Node>), String> {
    let text = ask(endpoint, &["CLUSTER", "NODES"])?;
    let (mut me, mut nodes) = (None, BTreeSet::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, master, _, _, _, link, slots @ ..] = words.as_slice() else {
            return Err(format!("{endpoint}: not a line of CLUSTER NODES: {line}"));
        };
        let flags: Vec<&str> = flags.split(',').collect();
        let trouble = ["fail", "fail?", "handshake", "noaddr"].iter().find(|trouble| flags.contains(trouble));
        if trouble.is_some() || *link != "connected" {
            return Err(format!("{endpoint} sees {line}"));
        }
        if flags.contains(&"myself") {
            me = Some((*id).to_owned());
        }
        let mut slots: Vec<String> = slots.iter().map(|range| (*range).to_owned()).collect();
        slots.sort();
        let address = address.split(['@', ',']).next().unwrap_or_default();
        nodes.insert(((*id).to_owned(), address.to_owned(), (*master).to_owned(), slots));
    }
    Ok((me.ok_or_else(|| format!("{endpoint} does not say who it is"))?, nodes))
}

fn well(endpoint: &str) -> Result<(), String> {
    let state = ask(endpoint, &["CLUSTER", "INFO"])?;
    if field(&state, "cluster_state") != Some("ok") {
        return Err(format!("{endpoint}: cluster_state is {:?}", field(&state, "cluster_state")));
    }
    let info = ask(endpoint, &["INFO", "replication"])?;
    let link = field(&info, "master_link_status");
    match (field(&info, "role"), link, field(&info, "master_sync_in_progress")) {
        (Some("master"), _, _) | (Some("slave"), Some("up"), Some("0")) => Ok(()),
        other => Err(format!("{endpoint}: {other:?}")),
    }
}

/// Every slot once, and every master with a replica on another address.
fn covered(nodes: &BTreeSet<Node>) -> Result<(), String> {
    let mut served = vec![0_u8; 16_384];
    for (id, address, master, slots) in nodes {
        if master != "-" {
            continue;
        }
        for range in slots {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let end = |text: &str| text.parse::<usize>().map_err(|_| format!("{id} has the slots {range}"));
            served.get_mut(end(first)?..=end(last)?).into_iter().flatten().for_each(|count| *count += 1);
        }
        let host = |address: &str| address.split(':').next().unwrap_or_default().to_owned();
        let elsewhere = nodes.iter().any(|other| other.2 == *id && host(&other.1) != host(address));
        if !slots.is_empty() && !elsewhere {
            return Err(format!("{address} has no replica on another host"));
        }
    }
    match served.iter().position(|count| *count != 1) {
        Some(slot) => Err(format!("slot {slot} is served by {} masters", served[slot])),
        None => Ok(()),
    }
}

/// One process in each directory, and none anywhere else of the host.
fn alone(place: &Place) -> Result<(), String> {
    let mut living = processes::directories(&processes::living_in(&place.base));
    living.sort();
    let wanted: BTreeSet<PathBuf> = place.ports.iter().map(|port| place.base.join(port.to_string())).collect();
    if living == wanted.into_iter().collect::<Vec<_>>() {
        return Ok(());
    }
    Err(format!("processes live in {living:?}"))
}

/// Nothing half made is left.
fn tidy(place: &Place) -> Result<(), String> {
    let staging = place.base.join(".staging");
    match names(&staging)?.as_slice() {
        [] => Ok(()),
        left => Err(format!("{} holds {left:?}", staging.display())),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", dir.display());
    let entries = fs::read_dir(dir).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let mut names: Vec<String> =
        entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Directories in a host's trash.
fn aside(place: &Place) -> Result<Vec<PathBuf>, String> {
    let trash = place.base.join(".trash");
    let all = names(&trash)?.into_iter().map(|name| trash.join(name));
    Ok(all.filter(|path| path.is_dir()).collect())
}

/// Every life that has ended, once for every port.
fn trash(place: &Place, expected: &Expected) -> Result<(), String> {
    let mut found: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for dir in aside(place)? {
        let stamp = stamp(&dir)?;
        let number = |name: &str| stamp[name].as_u64().ok_or_else(|| format!("{}: {stamp}", dir.display()));
        *found.entry((number("port")?, number("life")?)).or_default() += 1;
    }
    let mut wanted: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for port in &place.ports {
        wanted.extend(expected.aside.iter().map(|life| ((u64::from(*port), *life), 1)));
    }
    if found != wanted {
        return Err(format!("the trash of {} holds {found:?} (port, life), and not {wanted:?}", place.base.display()));
    }
    Ok(())
}

/// What was written is in exactly two directories, a master's and its replica's, of the life that it was written into.
fn data(places: &[Place], expected: &Expected) -> Result<(), String> {
    for (value, life) in &expected.data {
        let mut holders = Vec::new();
        for place in places {
            let live = place.ports.iter().map(|port| place.base.join(port.to_string()));
            for dir in live.chain(aside(place)?) {
                if holds(&dir, value.as_bytes()) {
                    holders.push((stamp(&dir)?["life"].as_u64(), dir));
                }
            }
        }
        if holders.len() != 2 || holders.iter().any(|(found, _)| *found != Some(*life)) {
            return Err(format!("{value} of life {life} is in {holders:?} (life, directory)"));
        }
    }
    Ok(())
}

/// Whether a file of the directory, or one directly below it, has those bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => holds(&path, bytes),
        Ok(meta) if meta.is_file() => {
            fs::read(&path).is_ok_and(|text| text.windows(bytes.len()).any(|window| window == bytes))
        }
        _ => false,
    })
}
