//! A hand-over: the replica here becomes the master of its shard, and the one that was copies it.
//!
//! It is the server's own (`CLUSTER FAILOVER`, cluster.c): the master stops taking writes until the replica has
//! everything, and then loses an election on purpose; no acknowledged write is lost. Clients that write meanwhile wait
//! and are sent on. How long is measured and not guessed: a canary writes through both, as a client that follows
//! redirects, and its longest wait between two acknowledgements is the gap.
//!
//! Looks before it acts: a replica that has the slots already has nothing to do, and one that cannot have everything
//! is not asked to.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use muster_proto::{
    ClusterAssignment, NodeId, NodeView, Role, SlotRange, Topology, convert::micros, slots::key_in, view, wire,
};
use redis::{aio::MultiplexedConnection, cmd};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{reconcile::Answer, smoke::Access, talk::Talk};

/// Between two writes of the canary: what is shorter is not measured.
const PACE: Duration = Duration::from_millis(1);
/// Between two looks at the replica's role. There is no event for it.
const LOOK: Duration = Duration::from_millis(5);
/// Patience for the first write of the canary, before anything is handed over.
const FIRST: Duration = Duration::from_secs(2);
/// Keys go by themselves if we are killed between the write and the removal, seconds.
const EXPIRY: u64 = 60;

/// What the replica's own view says about a hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It can take over these slots.
    Ready(SlotRange),
    /// It has.
    Done,
    /// It cannot, and why.
    Unfit(String),
}

/// Judges. `topology` is what it sees.
pub fn stand(view: &NodeView, topology: &Topology, from: NodeId) -> Stand {
    match &view.role {
        Role::Master { slots } if !slots.is_empty() => match topology.get(from).map(|node| &node.role) {
            Some(Role::Master { slots }) if !slots.is_empty() => {
                Stand::Unfit("it is a master beside the one that should hand over".into())
            }
            _ => Stand::Done,
        },
        Role::Master { .. } => Stand::Unfit("it is a master without slots".into()),
        Role::Replica { master } if *master != from => Stand::Unfit(format!("it is a replica of {master}")),
        Role::Replica { .. } if !view.link_up => Stand::Unfit("its link to its master is not up".into()),
        Role::Replica { .. } => match topology.get(from).and_then(|node| node.role.slots().first().copied()) {
            Some(range) => Stand::Ready(range),
            None => Stand::Unfit("its master serves no slots".into()),
        },
    }
}

/// The longest time between two acknowledgements.
pub fn longest(acknowledged: &[Instant]) -> Duration {
    acknowledged.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
}

/// Has the replica behind `talk`, which listens at `here`, take over.
pub async fn hand_over(
    talk: &mut Talk,
    cluster: &ClusterAssignment,
    here: SocketAddr,
    from: NodeId,
    access: &Access,
    patience: Duration,
) -> Result<wire::HandOverResult, String> {
    let range = match look(talk, from).await? {
        Stand::Ready(range) => range,
        Stand::Done => return Ok(wire::HandOverResult { already: true, ..wire::HandOverResult::default() }),
        Stand::Unfit(why) => return Err(why),
    };
    let master = cluster.member(from).ok_or_else(|| format!("{from} is not in the topology"))?;
    let there = SocketAddr::new(master.address, master.port.get());
    let (over, ends) = watch::channel(false);
    let (first, mut begun) = watch::channel(0_u32);
    let canary = Canary::new(access, [there, here], key_in("muster:gap:", range), patience).await;
    let canary = canary.map(|canary| tokio::spawn(canary.run(ends, first)));
    if canary.is_ok() {
        // Without a write before there is nothing to measure from; then it is not measured.
        let _ = timeout(FIRST, begun.wait_for(|count| *count > 0)).await;
    }
    talk.tell(cmd("CLUSTER").arg("FAILOVER")).await.map_err(|error| error.to_string())?;
    let taken = timeout(patience, taken(talk, from)).await;
    let late = || format!("it has not taken over within {} s", patience.as_secs());
    let taken = taken.map_err(|_| late()).and_then(|taken| taken);
    let measured = match canary {
        Ok(canary) => {
            let _ = over.send(true);
            let stop = canary.abort_handle();
            match timeout(patience, canary).await {
                Ok(ended) => ended.map_err(|error| error.to_string()),
                Err(_) => {
                    stop.abort();
                    Err(format!("no write of the canary was acknowledged for {} s", patience.as_secs()))
                }
            }
        }
        Err(why) => Err(why),
    };
    taken?;
    let none = |unmeasured| wire::HandOverResult { unmeasured, ..wire::HandOverResult::default() };
    Ok(match measured {
        Ok(acknowledged) if acknowledged.len() < 2 => none("the canary's writes were not acknowledged".into()),
        Ok(acknowledged) => wire::HandOverResult {
            gap_micros: micros(longest(&acknowledged)),
            writes: u32::try_from(acknowledged.len()).unwrap_or(u32::MAX),
            ..wire::HandOverResult::default()
        },
        Err(why) => none(why),
    })
}

async fn look(talk: &mut Talk, from: NodeId) -> Result<Stand, String> {
    match talk.view(None).await.map_err(|error| error.to_string())? {
        Answer::View(seen) => {
            let text = seen.nodes_text.as_deref().unwrap_or_default();
            let topology = view::parse(text).map_err(|error| error.to_string())?.topology;
            Ok(stand(&seen, &topology, from))
        }
        Answer::Loading => Ok(Stand::Unfit("it loads its data set".into())),
        Answer::Silent(why) | Answer::Hung(why) => Err(why),
        Answer::Frozen(_) => Err("it is stopped by a signal".into()),
    }
}

/// Ends when it has.
async fn taken(talk: &mut Talk, from: NodeId) -> Result<(), String> {
    while look(talk, from).await? != Stand::Done {
        sleep(LOOK).await;
    }
    Ok(())
}

/// A client that writes one key over and over, and follows its slot from one node to the other.
struct Canary {
    nodes: [MultiplexedConnection; 2],
    key: String,
}

impl Canary {
    async fn new(access: &Access, places: [SocketAddr; 2], key: String, patience: Duration) -> Result<Self, String> {
        let connect = |place: SocketAddr| async move {
            let connected = access.connect(&place.to_string(), patience).await;
            connected.map_err(|error| format!("the canary does not reach {place}: {error}"))
        };
        Ok(Self { nodes: [connect(places[0]).await?, connect(places[1]).await?], key })
    }

    /// Writes until it is told that it is over, and then once more; when each write was acknowledged.
    async fn run(mut self, over: watch::Receiver<bool>, count: watch::Sender<u32>) -> Vec<Instant> {
        let mut acknowledged = Vec::new();
        let (mut at, mut errors) = (0, 0_u32);
        loop {
            let told = *over.borrow();
            let mut set = cmd("SET");
            set.arg(&self.key).arg("canary").arg("EX").arg(EXPIRY);
            match set.query_async::<()>(&mut self.nodes[at]).await {
                Ok(()) => {
                    acknowledged.push(Instant::now());
                    count.send_modify(|count| *count += 1);
                    errors = 0;
                    if told {
                        break;
                    }
                }
                // A redirect, mostly. The other node is asked at once, unless it has just sent us here.
                Err(_) => {
                    (at, errors) = (1 - at, errors + 1);
                    if errors == 1 {
                        continue;
                    }
                }
            }
            sleep(PACE).await;
        }
        let mut gone = cmd("DEL");
        let _ = gone.arg(&self.key).query_async::<()>(&mut self.nodes[at]).await;
        acknowledged
    }
}

#[cfg(test)]
mod tests;
