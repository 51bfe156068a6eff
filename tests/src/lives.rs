//! Lives of a cluster as the disks of its hosts have them: whose each directory is, in its place or in the trash, read
//! from stamps and from nothing else.

use std::{fs, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{Instance, Status, World, eventually, redis};

/// Most that a formed cluster may take to be well in every judge's eyes, on a busy machine.
const CALM: Duration = Duration::from_secs(30);

/// A directory with a stamp.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Directory {
    /// Its host.
    pub host: String,
    /// Its stamp.
    pub stamp: Stamp,
    /// Where it is.
    pub path: PathBuf,
}

/// What a directory says of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Stamp {
    /// The cluster's name.
    pub cluster: String,
    /// Its port.
    pub port: u16,
    /// The cluster's life.
    pub incarnation: u64,
    /// The directory's.
    pub life: u64,
    /// The node that lives in it.
    pub node_id: String,
    /// Its cluster was proved to be formed.
    pub formed: bool,
}

impl Directory {
    /// Its name among its neighbours.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// The file beside it that says since when it is in the trash.
    pub fn note(&self) -> PathBuf {
        self.path.with_file_name(format!("{}.json", self.name()))
    }
}

/// What lies in the trash of a host.
pub fn trash(world: &World, host: &str) -> Vec<Directory> {
    stamped(host, world.base_dir(host).join(".trash"))
}

/// What is in its place on a host.
pub fn in_place(world: &World, host: &str) -> Vec<Directory> {
    stamped(host, world.base_dir(host))
}

/// What lies in the trash of all hosts.
pub fn all_trash(world: &World) -> Vec<Directory> {
    world.hosts().flat_map(|host| trash(world, host)).collect()
}

fn stamped(host: &str, below: PathBuf) -> Vec<Directory> {
    let entries = fs::read_dir(&below).into_iter().flatten().flatten().map(|entry| entry.path());
    let directory = |path: PathBuf| {
        let text = fs::read(path.join("muster.json")).ok()?;
        let stamp = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Some(Directory { host: host.to_owned(), stamp, path })
    };
    let mut found: Vec<_> = entries.filter_map(directory).collect();
    found.sort();
    found
}

/// Where the directory of an instance in that life is set aside.
pub fn aside(world: &World, life: &Status, instance: &Instance) -> PathBuf {
    let (port, node) = (instance.port, &instance.node_id[..8]);
    let name = format!("{port}-{}-{node}-life{}", life.cluster, life.incarnation);
    world.base_dir(&instance.host).join(".trash").join(name)
}

/// Insists that these directories are those of a life, one for each of its instances and no other.
#[track_caller]
pub fn are(directories: &[Directory], life: &Status) {
    let key = |host: &str, port: u16, node: &str| format!("{host}:{port} {node} in life {}", life.incarnation);
    let mut expected: Vec<_> = life.instances.iter().map(|one| key(&one.host, one.port, &one.node_id)).collect();
    let named = |one: &Directory| {
        let Stamp { port, incarnation, node_id, .. } = &one.stamp;
        format!("{}:{port} {node_id} in life {incarnation}", one.host)
    };
    let mut found: Vec<_> = directories.iter().map(named).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    for one in directories {
        assert_eq!(one.stamp.life, life.incarnation, "{one:?}");
        for file in ["nodes.conf", "redis.conf"] {
            assert!(one.path.join(file).is_file(), "{} has no {file}", one.path.display());
        }
    }
}

/// The directories of one life among these.
pub fn of_life(directories: &[Directory], incarnation: u64) -> Vec<Directory> {
    directories.iter().filter(|one| one.stamp.incarnation == incarnation).cloned().collect()
}

/// Waits until every stamp in its place says that its cluster is formed: agents write that when the operation is done
/// already.
#[track_caller]
pub fn until_latched(world: &World) {
    eventually(CALM, "every agent has noted what is formed", || {
        let unlatched = |host: &str| in_place(world, host).into_iter().find(|one| !one.stamp.formed);
        world.hosts().find_map(unlatched).map_or(Ok(()), |one| Err(one.path.display().to_string()))
    });
}

/// A cluster that is formed in every judge's eyes, once they all say so: Muster's, the nodes' own, and redis-cli's.
#[track_caller]
pub fn standing(world: &World, cluster: &str) -> Status {
    let status = world.until(CALM, cluster, "all is well", |status| {
        status.well()?;
        if status.state == "formed" { Ok(status.clone()) } else { Err(format!("it is {}", status.state)) }
    });
    let endpoints = status.endpoints();
    let topology = eventually(CALM, "all nodes agree", || redis::agreement(&endpoints));
    let mut nodes: Vec<_> = topology.nodes().iter().map(|node| node.id.to_string()).collect();
    let mut planned: Vec<_> = status.instances.iter().map(|one| one.node_id.clone()).collect();
    nodes.sort();
    planned.sort();
    assert_eq!(nodes, planned, "other nodes than those of {cluster} take part");
    eventually(CALM, "all replicas are in sync", || redis::in_sync(&endpoints));
    let check = redis::check(&endpoints[0]).unwrap();
    for line in ["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."] {
        assert!(check.contains(line), "{check}");
    }
    status
}
