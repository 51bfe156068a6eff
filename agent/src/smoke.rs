//! A client of the cluster, as applications are: it is told some nodes, finds the others, and follows redirects.
//!
//! The client is redis-rs' own cluster client, which we did not write. Before each write one node is asked plainly, so
//! that the redirect can be shown.

use std::time::{Duration, Instant};

use muster_proto::{
    SlotRange,
    acl::Login,
    convert::micros,
    slots::{key_in, key_slot},
    wire,
};
use redis::{
    AsyncConnectionConfig, Client, RedisError, TlsCertificates, aio::MultiplexedConnection,
    cluster::ClusterClientBuilder, cluster_async::ClusterConnection,
};

const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
/// Keys go by themselves if we are killed between the write and the removal, seconds.
const EXPIRY: u64 = 60;

/// How to be a client: nothing of it where the cluster is open.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// As whom.
    pub login: Option<Login>,
    /// Over TLS, believing these, PEM.
    pub authorities: Option<Vec<u8>>,
}

impl Access {
    fn scheme(&self) -> &'static str {
        if self.authorities.is_some() { "rediss" } else { "redis" }
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = Some(self.authorities.clone()?);
        Some(TlsCertificates { client_tls: None, root_cert })
    }
}

impl Access {
    /// A connection to one node, logged in: `127.0.0.2:7003`. `patience` is for each answer.
    pub async fn connect(&self, place: &str, patience: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(patience));
        let url = format!("{}://{place}", self.scheme());
        let client = match self.certificates() {
            Some(certificates) => Client::build_with_tls(url, certificates)?,
            None => Client::open(url)?,
        };
        let mut node = client.get_multiplexed_async_connection_with_config(&config).await?;
        if let Some(login) = &self.login {
            let () = redis::cmd("AUTH").arg(&login.user).arg(login.password.expose()).query_async(&mut node).await?;
        }
        Ok(node)
    }
}

/// Writes, reads and removes a key through the master of every range. The error is about the cluster as a whole; what
/// went wrong with one master stands in its step.
pub async fn smoke(task: &wire::Smoke, access: Access) -> Result<Vec<wire::SmokeStep>, String> {
    let endpoint = |seed: &wire::Target| format!("{}:{}", bracketed(&seed.address), seed.port);
    let seeds: Vec<String> = task.seeds.iter().map(endpoint).collect();
    let scheme = access.scheme();
    let mut builder = ClusterClientBuilder::new(seeds.iter().map(|seed| format!("{scheme}://{seed}")))
        .retries(3)
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER);
    if let Some(login) = &access.login {
        builder = builder.username(login.user.clone()).password(login.password.expose());
    }
    if let Some(certificates) = access.certificates() {
        builder = builder.certs(certificates);
    }
    let client = builder.build().map_err(said)?;
    let mut cluster = client.get_async_connection().await.map_err(said)?;
    let mut steps = Vec::new();
    for (nth, range) in task.masters.iter().enumerate() {
        let range = SlotRange::try_from(*range).map_err(|error| error.to_string())?;
        let key = key_in("muster:smoke:", range);
        // Another node each time: most of them have to redirect.
        let asked = seeds[(nth + 1) % seeds.len()].clone();
        let answered = owner(&asked, &key, &access).await.unwrap_or_else(|_| asked.clone());
        let began = Instant::now();
        let tried = write_and_read(&mut cluster, &key).await;
        steps.push(wire::SmokeStep {
            slot: key_slot(key.as_bytes()).into(),
            key,
            asked,
            answered,
            error: tried.err().unwrap_or_default(),
            micros: micros(began.elapsed()),
        });
    }
    Ok(steps)
}

/// Where a node sends a client that asks for the key: to itself, or where its MOVED says.
async fn owner(asked: &str, key: &str, access: &Access) -> Result<String, RedisError> {
    let mut node = access.connect(asked, ANSWER).await?;
    match redis::cmd("GET").arg(key).query_async::<Option<String>>(&mut node).await {
        Ok(_) => Ok(asked.to_owned()),
        Err(error) => Ok(error.redirect_node().map_or(asked, |(node, _slot)| node).to_owned()),
    }
}

async fn write_and_read(cluster: &mut ClusterConnection, key: &str) -> Result<(), String> {
    let value = uuid::Uuid::new_v4().to_string();
    let () = redis::cmd("SET").arg(key).arg(&value).arg("EX").arg(EXPIRY).query_async(cluster).await.map_err(said)?;
    let read: Option<String> = redis::cmd("GET").arg(key).query_async(cluster).await.map_err(said)?;
    let () = redis::cmd("DEL").arg(key).query_async(cluster).await.map_err(said)?;
    if read.as_deref() == Some(value.as_str()) { Ok(()) } else { Err(format!("wrote {value} and read {read:?}")) }
}

fn said(error: RedisError) -> String {
    error.to_string()
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}
