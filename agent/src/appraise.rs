//! What the instances of a cluster hold and who uses them: what a person is shown before they are set aside.
//!
//! Facts alone, found by looking; nothing is judged here and nothing is changed.

use std::{collections::HashMap, time::Duration};

use muster_proto::{ClusterAssignment, Keeps, acl::Login, wire};
use redis::cmd;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    layout::{InstanceDir, Layout},
    talk::{Info, Talk, TalkError},
    tasks,
    tree::Kind,
    watch,
};

/// Into so many pieces the time is cut in which writes are counted: a save in one of them costs that piece.
const PIECES: u32 = 10;
/// Beside the time in which writes are counted, a server has so long for its answers: one that hangs is not waited for,
/// and the others of its host are known all the same.
const ANSWERS: Duration = Duration::from_secs(3);

/// Looks at every instance of a cluster here, all side by side. Takes as long as it watches.
pub async fn appraise(layout: &Layout, cluster: &ClusterAssignment, watched: Duration) -> wire::Appraisal {
    let (logins, keeps) = (watch::logins(cluster), Keeps::of(&cluster.settings));
    let place = layout.clone();
    let trash = tokio::task::spawn_blocking(move || place.has_trash().map_err(|error| error.to_string()));
    let mut looks = JoinSet::new();
    for wanted in &cluster.instances {
        looks.spawn(one(layout.instance(wanted.port), logins.clone(), keeps, watched));
    }
    let mut instances = looks.join_all().await;
    instances.sort_by_key(|instance| instance.port);
    let trash_error = trash.await.map_err(|error| error.to_string()).flatten().err().unwrap_or_default();
    wire::Appraisal { instances, trash_error }
}

async fn one(dir: InstanceDir, logins: Vec<Login>, keeps: Keeps, watched: Duration) -> wire::Appraised {
    let (port, path) = (dir.port().into(), dir.path().display().to_string());
    let place = dir.clone();
    let count = tokio::task::spawn_blocking(move || place.open().and_then(|dir| dir.bytes()));
    let patience = watched + ANSWERS;
    let asked = async {
        let said = timeout(patience, ask(&dir, &logins, keeps, watched)).await;
        said.unwrap_or(Err(TalkError::Mute(patience)))
    };
    let (bytes, said) = tokio::join!(count, asked);
    let bytes = bytes.map_err(std::io::Error::other).and_then(|bytes| bytes);
    let uncounted = bytes.as_ref().err().map(|error| format!("its files cannot be counted: {error}"));
    let bytes = bytes.unwrap_or(0);
    let instance = match said {
        Ok(said) => said,
        Err(error) => wire::Appraised {
            error: error.to_string(),
            runs: !matches!(error, TalkError::Absent),
            ..wire::Appraised::default()
        },
    };
    let errors: Vec<_> = uncounted.into_iter().chain([instance.error.clone()]).filter(|it| !it.is_empty()).collect();
    wire::Appraised { port, path, bytes, error: errors.join("; "), ..instance }
}

/// What the server itself says.
async fn ask(
    dir: &InstanceDir,
    logins: &[Login],
    keeps: Keeps,
    watched: Duration,
) -> Result<wire::Appraised, TalkError> {
    let mut talk = Talk::connect(&dir.socket(), tasks::pid_in(dir)?, logins).await?;
    let began = Instant::now();
    let mut writes = Writes::default();
    let mut info = look(&mut talk, &mut writes, began).await?;
    if info.field("loading") == Some("1") {
        return Err(TalkError::Unknown("it loads its data set".into()));
    }
    for piece in 1..=PIECES {
        sleep_until(began + watched * piece / PIECES).await;
        info = look(&mut talk, &mut writes, began).await?;
    }
    let clients: String = talk.ask(cmd("CLIENT").arg("LIST")).await?;
    let mut config: HashMap<String, String> = talk.ask(cmd("CONFIG").arg("GET").arg("appendonly")).await?;
    for key in ["save", "dbfilename"] {
        config.extend(talk.ask::<HashMap<String, String>>(cmd("CONFIG").arg("GET").arg(key)).await?);
    }
    let running = |key: &str| config.get(key).map_or("", String::as_str);
    Ok(wire::Appraised {
        keys: keys(&info),
        clients: others(&clients, logins),
        writes_millihertz: writes.millihertz(),
        last_save_unix_ms: saved(dir, running("dbfilename"), number(&info, "rdb_last_save_time")?),
        role: match info.field("role") {
            Some("master") => wire::Role::Master,
            Some(_) => wire::Role::Replica,
            None => return Err(TalkError::Missing("role")),
        }
        .into(),
        keeps: kept(keeps, running("appendonly") == "yes", !running("save").is_empty()).into(),
        runs: true,
        ..wire::Appraised::default()
    })
}

async fn look(talk: &mut Talk, writes: &mut Writes, began: Instant) -> Result<Info, TalkError> {
    let info = Info(talk.ask(&cmd("INFO")).await?);
    let [changes, saved] = ["rdb_changes_since_last_save", "rdb_last_save_time"].map(|field| number(&info, field));
    writes.see(began.elapsed(), changes?, saved?);
    Ok(info)
}

/// When the snapshot in a directory was written; 0 where there is none. A server that has never saved says when it was
/// started (`server.lastsave`, server.c).
fn saved(dir: &InstanceDir, name: &str, said_unix_s: u64) -> u64 {
    let is_there = dir.open().and_then(|dir| dir.kind(name)).is_ok_and(|kind| matches!(kind, Kind::File(_)));
    if is_there { said_unix_s.saturating_mul(1000) } else { 0 }
}

fn number(info: &Info, field: &'static str) -> Result<u64, TalkError> {
    info.field(field).and_then(|value| value.parse().ok()).ok_or(TalkError::Missing(field))
}

/// Keys of all databases: a cluster has one, but from Valkey 9.0 on it may have more (`cluster-databases`).
fn keys(info: &Info) -> u64 {
    let database = |line: &str| {
        let (name, values) = line.split_once(':')?;
        name.strip_prefix("db")?.parse::<u32>().ok()?;
        values.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok()
    };
    info.0.lines().filter_map(database).sum()
}

/// Clients of CLIENT LIST that are somebody's: neither replicas (`S`) nor the master (`M`), nor come through the unix
/// socket (`U`), as only we do, nor logged in as we do.
fn others(list: &str, logins: &[Login]) -> u32 {
    let somebodys = |line: &&str| {
        let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or_default();
        !line.trim().is_empty()
            && !value("flags=").contains(['S', 'M', 'U'])
            && !logins.iter().any(|login| login.user == value("user="))
    };
    u32::try_from(list.lines().filter(somebodys).count()).unwrap_or(u32::MAX)
}

/// What of its data a server that is asked to stop leaves in its directory, so that one with the cluster's settings
/// finds it again. With `appendonly yes` it loads the log and nothing else, so one that does not write a log keeps
/// nothing, whatever else it writes; without, it loads the snapshot, which is written at SIGTERM where there are save
/// points (`prepareForShutdown`, server.c), whether there is a log too or not.
fn kept(settings: Keeps, appends: bool, saves: bool) -> &'static str {
    match settings {
        Keeps::Log if appends => "append-only file",
        Keeps::Snapshots | Keeps::Nothing if saves => "snapshots",
        Keeps::Log | Keeps::Snapshots | Keeps::Nothing => "nothing",
    }
}

/// Counts changes of the data set, over the saves that take them off the count.
#[derive(Debug, Default)]
struct Writes {
    /// When it was looked at last, and what was said then: changes, and when a save had ended last.
    last: Option<(Duration, u64, u64)>,
    changes: u64,
    counted: Duration,
}

impl Writes {
    /// The server's words on its changes since its last save, and when that was.
    fn see(&mut self, at: Duration, changes: u64, saved: u64) {
        if let Some((before, known, save)) = self.last
            && save == saved
            && changes >= known
        {
            self.changes += changes - known;
            self.counted += at.saturating_sub(before);
        }
        self.last = Some((at, changes, saved));
    }

    /// Thousandths of a change a second; 0 where nothing could be counted.
    fn millihertz(&self) -> u64 {
        let micros = self.counted.as_micros().max(1);
        u64::try_from(u128::from(self.changes) * 1_000_000_000 / micros).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
