//! Commands to our own instances, over their unix sockets.
//!
//! A time-out is *unknown*, never *failed*: the server may still have run the command. Everything here can be asked
//! again.

use std::{io, path::Path, time::Duration};

use muster_proto::{NodeView, Sha256, acl::Login, slots::key_in, topology::Role, view};
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, aio::MultiplexedConnection, cmd};
use tokio::{net::UnixStream, time::timeout};

use crate::{process::peer_is, reconcile::Answer};

/// Patience for one answer. INFO of a server that is forking or swapping can take long; redis-rs' own 500 ms is too
/// short.
const ANSWER: Duration = Duration::from_secs(5);

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// The socket, the protocol, or the server's own words.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// Nobody listens, mostly.
    #[error("{0}")]
    Socket(io::Error),
    /// The server's backlog is full.
    #[error("no connection within 1 s")]
    Slow,
    /// Somebody listens, and says nothing.
    #[error("does not answer within {} s", .0.as_secs())]
    Mute(Duration),
    /// Nobody to talk to.
    #[error("no server runs there")]
    Absent,
    /// Somebody, and not provably ours.
    #[error("{0}; nothing is said to it")]
    Unknown(String),
    /// Not ours.
    #[error("its socket is not that of pid {0}, which was started here; nothing is said to it")]
    Stranger(i32),
    /// The answer does not parse.
    #[error("{0}")]
    View(#[from] view::ViewError),
    /// Something is missing in INFO.
    #[error("INFO does not say {0}")]
    Missing(&'static str),
    /// A write that did not come back.
    #[error("{0}")]
    Canary(String),
}

/// A connection to one instance.
pub struct Talk(MultiplexedConnection);

impl Talk {
    /// Connects to the server with that pid, and logs in with the first that is accepted; fails at once when nobody
    /// listens. A password is said to that very process alone: what is called redis.sock in a directory of the servers'
    /// user may be a link to somebody else's.
    pub async fn connect(socket: &Path, pid: i32, logins: &[Login]) -> Result<Self, TalkError> {
        let stream = timeout(Duration::from_secs(1), UnixStream::connect(socket)).await;
        let stream = stream.map_err(|_| TalkError::Slow)?.map_err(TalkError::Socket)?;
        if !peer_is(&stream, pid).map_err(TalkError::Socket)? {
            return Err(TalkError::Stranger(pid));
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let plain = RedisConnectionInfo::default();
        let (connection, driver) = MultiplexedConnection::new_with_config(&plain, stream, config).await?;
        tokio::spawn(driver);
        let mut talk = Self(connection);
        let mut refused = None;
        for login in logins {
            let mut auth = cmd("AUTH");
            auth.arg(&login.user).arg(login.password.expose());
            match auth.query_async::<()>(&mut talk.0).await {
                Ok(()) => return Ok(talk),
                Err(error) => refused = Some(error),
            }
        }
        // A server that was started before there were users knows none, and lets everybody in.
        match refused {
            Some(error) if talk.tell(&cmd("PING")).await.is_err() => Err(error.into()),
            _ => Ok(talk),
        }
    }

    /// Says something that is answered with OK.
    pub async fn tell(&mut self, command: &Cmd) -> Result<(), TalkError> {
        Ok(command.query_async::<redis::Value>(&mut self.0).await.map(drop)?)
    }

    /// Asks something.
    pub async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> Result<T, TalkError> {
        Ok(command.query_async(&mut self.0).await?)
    }

    async fn text(&mut self, command: &Cmd) -> Result<String, TalkError> {
        Ok(command.query_async(&mut self.0).await?)
    }

    /// What the instance says of itself. The text of CLUSTER NODES comes along unless its digest is the expected one.
    pub async fn view(&mut self, expected: Option<Sha256>) -> Result<Answer, TalkError> {
        // INFO is answered while the data set is being loaded; CLUSTER is not.
        let info = Info(self.text(&cmd("INFO")).await?);
        if info.field("loading") == Some("1") {
            return Ok(Answer::Loading);
        }
        let (state, nodes): (String, String) =
            redis::pipe().cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("NODES").query_async(&mut self.0).await?;
        let state = Info(state);
        let view = view::parse(&nodes)?;
        let digest = view.topology.digest();
        let role = view.topology.get(view.myself).map(|node| node.role.clone());
        let online =
            (0..).map_while(|nth| info.field(&format!("slave{nth}"))).filter(|line| line.contains("state=online"));
        Ok(Answer::View(Box::new(NodeView {
            node_id: view.myself,
            role: role.unwrap_or(Role::Master { slots: Vec::new() }),
            cluster_ok: state.field("cluster_state") == Some("ok"),
            known_nodes: state.number("cluster_known_nodes").unwrap_or(0),
            link_up: info.field("master_link_status") == Some("up")
                && info.field("master_sync_in_progress") == Some("0"),
            online_replicas: u32::try_from(online.count()).unwrap_or(u32::MAX),
            digest,
            nodes_text: Some(nodes).filter(|_| expected != Some(digest)),
            troubles: view.troubles,
            keys: info.keys(),
            config_epoch: view.config_epoch,
        })))
    }

    /// Writes a key into one of this master's slots, reads it back, has `replicas` of its replicas acknowledge it, and
    /// removes it. The number of acknowledgements is returned.
    pub async fn canary(&mut self, replicas: u32, patience: Duration) -> Result<u32, TalkError> {
        let nodes = view::parse(&self.text(cmd("CLUSTER").arg("NODES")).await?)?;
        let role = nodes.topology.get(nodes.myself).map(|node| node.role.clone());
        let range = role.as_ref().and_then(|role| role.slots().first().copied());
        let range = range.ok_or_else(|| TalkError::Canary("it serves no slots".into()))?;
        let key = key_in("muster:canary:", range);
        let value = uuid::Uuid::new_v4().to_string();
        // Gone by itself if we are killed between the write and the removal.
        let () = cmd("SET").arg(&key).arg(&value).arg("EX").arg(60).query_async(&mut self.0).await?;
        crash::point("agent.canary.written");
        let acknowledged: u32 = cmd("WAIT")
            .arg(replicas)
            .arg(u64::try_from(patience.as_millis()).unwrap_or(1))
            .query_async(&mut self.0)
            .await?;
        let read: Option<String> = cmd("GET").arg(&key).query_async(&mut self.0).await?;
        let () = cmd("DEL").arg(&key).query_async(&mut self.0).await?;
        if read.as_deref() != Some(value.as_str()) {
            return Err(TalkError::Canary(format!("wrote {value} to {key} and read {read:?}")));
        }
        if acknowledged < replicas {
            return Err(TalkError::Canary(format!(
                "{acknowledged} of {replicas} replicas acknowledged a write within {patience:?}"
            )));
        }
        Ok(acknowledged)
    }
}

/// `key:value` lines, as INFO and CLUSTER INFO have them.
#[derive(Debug, Clone)]
pub struct Info(pub String);

impl Info {
    /// The value of a line.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    }

    /// The same, where it is a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.field(name)?.parse().ok()
    }

    /// `db0:keys=1,expires=0,avg_ttl=0`; missing when there are none.
    pub fn keys(&self) -> u64 {
        let count = |line: &str| line.strip_prefix("keys=")?.split(',').next()?.parse().ok();
        self.field("db0").and_then(count).unwrap_or(0)
    }
}
