//! Renders the `nodes.conf` that a new instance wakes up with, knowing every peer.
//!
//! The lines are those that the server itself would write (`clusterGenNodeDescription`) and reads on every restart
//! (`clusterLoadConfig`; cluster.c, from 7.2 cluster_legacy.c), kept to the minimum that the dialect needs: an unknown
//! flag or field is fatal to the server. It is for directories that have never run; a server that has run owns its
//! file.

use std::fmt::Write;

use muster_proto::{Dialect, Member, NodeId, Role};

/// Renders the whole file for the member `myself`, which must be one of `members`: a server whose file has no line for
/// itself refuses to start.
pub fn nodes_conf(dialect: Dialect, members: &[Member], myself: NodeId) -> String {
    // Masters first. A server that reads a replica before its master makes the master up, with another shard id.
    let is_master = |member: &&Member| member.role.master().is_none();
    let (masters, replicas): (Vec<_>, Vec<_>) = members.iter().partition(is_master);
    let mut text = String::new();
    for member in masters.into_iter().chain(replicas) {
        line(&mut text, dialect, member, member.node_id == myself);
    }
    // Not below any node's own epoch, and no vote given in any: the next election is the first.
    let epoch = members.iter().map(|member| member.config_epoch).max().unwrap_or(0);
    let _ = writeln!(text, "vars currentEpoch {epoch} lastVoteEpoch 0");
    text
}

/// `<id> <ip:port@bus...> <flags> <master or -> <ping-sent> <pong-received> <config-epoch> <link> [slots ...]`
fn line(text: &mut String, dialect: Dialect, member: &Member, myself: bool) {
    let Member { node_id, address, port, bus_port, config_epoch, .. } = member;
    // An IPv6 address stands there without brackets: servers look for the last colon.
    let _ = write!(text, "{node_id} {address}:{port}@{bus_port}");
    match dialect {
        Dialect::Plain => {}
        // Between the two commas stands the hostname, and there is none.
        Dialect::ShardId => drop(write!(text, ",,shard-id={}", member.shard_id)),
    }
    let myself = if myself { "myself," } else { "" };
    let _ = match &member.role {
        Role::Master { .. } => write!(text, " {myself}master -"),
        Role::Replica { master } => write!(text, " {myself}slave {master}"),
    };
    let _ = write!(text, " 0 0 {config_epoch} connected");
    for range in member.role.slots() {
        let _ = write!(text, " {range}");
    }
    text.push('\n');
}
