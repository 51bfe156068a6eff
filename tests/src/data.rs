//! Keys that were written through a cluster, to be looked for later: what a rebuild sets aside, and what an undo brings
//! back.

use redis::cluster::{ClusterClientBuilder, ClusterConnection};

use crate::{Status, redis as servers};

/// Keys with a common beginning, each with its number as its value.
#[derive(Debug, Clone)]
pub struct Data {
    tag: &'static str,
    keys: u64,
    password: Option<String>,
}

impl Data {
    /// Writes them; when this returns every replica has them.
    #[track_caller]
    pub fn write(status: &Status, tag: &'static str, keys: u64) -> Self {
        Self::write_as(status, tag, keys, None)
    }

    /// The same where the default user has a password.
    #[track_caller]
    pub fn write_as(status: &Status, tag: &'static str, keys: u64, password: Option<String>) -> Self {
        let data = Self { tag, keys, password };
        let mut connection = data.connection(status);
        for nth in 0..keys {
            redis::cmd("SET").arg(data.key(nth)).arg(nth).exec(&mut connection).unwrap();
        }
        let masters: Vec<_> = status.instances.iter().filter(|one| one.is_master()).collect();
        for replica in status.instances.iter().filter(|one| !one.is_master()) {
            let master = masters.iter().find(|one| Some(&one.node_id) == replica.master.as_ref()).unwrap();
            let what = format!("{} has the keys of its master", replica.name());
            crate::eventually(std::time::Duration::from_secs(20), &what, || {
                let (one, other) = (data.size(&replica.endpoint())?, data.size(&master.endpoint())?);
                if one == other { Ok(()) } else { Err(format!("{one} of {other}")) }
            });
        }
        data
    }

    fn key(&self, nth: u64) -> String {
        format!("{}:{nth}", self.tag)
    }

    fn connection(&self, status: &Status) -> ClusterConnection {
        let seeds = status.endpoints().into_iter().map(|endpoint| format!("redis://{endpoint}"));
        let builder = ClusterClientBuilder::new(seeds).retries(16);
        let builder = match &self.password {
            Some(password) => builder.password(password.clone()),
            None => builder,
        };
        builder.build().unwrap().get_connection().unwrap()
    }

    fn size(&self, endpoint: &str) -> Result<u64, String> {
        let said = match &self.password {
            Some(password) => servers::cli(endpoint, &["--no-auth-warning", "-a", password, "dbsize"]),
            None => servers::cli(endpoint, &["dbsize"]),
        }?;
        said.parse().map_err(|_| format!("{endpoint}: {said}"))
    }

    /// Insists that every one of them is there, as a client of the cluster sees it.
    #[track_caller]
    pub fn is_there(&self, status: &Status) {
        let mut connection = self.connection(status);
        let read = |nth: u64| redis::cmd("GET").arg(self.key(nth)).query::<Option<u64>>(&mut connection).unwrap();
        let found: Vec<_> = (0..self.keys).map(read).collect();
        let lost: Vec<_> = (0..self.keys).filter(|nth| found[*nth as usize] != Some(*nth)).collect();
        assert!(lost.is_empty(), "{} of {} keys of {} are lost: {lost:?}", lost.len(), self.keys, self.tag);
    }

    /// Keys of all masters, as they say themselves.
    #[track_caller]
    pub fn count(&self, status: &Status) -> u64 {
        let masters = status.instances.iter().filter(|one| one.is_master());
        masters.map(|master| self.size(&master.endpoint()).unwrap()).sum()
    }
}

/// Keys of all masters of a cluster without passwords.
#[track_caller]
pub fn count(status: &Status) -> u64 {
    Data { tag: "", keys: 0, password: None }.count(status)
}
