//! Reads CLUSTER NODES: one node's own view of its cluster.
//!
//! A line is `<id> <ip:port@bus[,hostname[,aux]]> <flags> <master|-> <ping> <pong> <epoch> <link> [slots ...]`
//! (`clusterGenNodeDescription` in cluster.c, Redis 4.0 to 8.x and Valkey to 9.1). The text comes from a server that
//! may be anybody's, so nothing in it is trusted: what does not parse is an error that names the line.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    NodeId, SlotRange,
    ports::DEFAULT_BUS_OFFSET,
    printable,
    topology::{Node, Role, Topology},
};

/// What does not parse, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of CLUSTER NODES: {what}")]
pub struct ViewError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// What one node believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The node whose view it is.
    pub myself: NodeId,
    /// Its own configEpoch.
    pub config_epoch: u64,
    /// Every node that it knows by a real id and address.
    pub topology: Topology,
    /// Entries that are no healthy member, a sentence each.
    pub troubles: Vec<String>,
}

struct Line {
    node: Option<Node>,
    id: String,
    myself: bool,
    config_epoch: u64,
    trouble: Option<String>,
}

/// Reads a whole text.
pub fn parse(text: &str) -> Result<View, ViewError> {
    let mut myself = None;
    let mut nodes = Vec::new();
    let mut troubles = Vec::new();
    let mut known = BTreeSet::new();
    for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| ViewError { line: nth + 1, what: printable(&what) };
        let read = parse_line(line).map_err(wrong)?;
        if let Some(node) = &read.node {
            if !known.insert(node.id) {
                return Err(wrong(format!("{} has a line already", node.id)));
            }
            if read.myself && myself.replace((node.id, read.config_epoch)).is_some() {
                return Err(wrong("a second line says myself".into()));
            }
        }
        troubles.extend(read.trouble.map(|trouble| printable(&format!("{} is {trouble}", read.id))));
        nodes.extend(read.node);
    }
    let (myself, config_epoch) =
        myself.ok_or_else(|| ViewError { line: text.lines().count(), what: "no line says myself".into() })?;
    Ok(View { myself, config_epoch, topology: Topology::new(nodes), troubles })
}

fn parse_line(line: &str) -> Result<Line, String> {
    let mut words = line.split_ascii_whitespace();
    let mut word = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    let (id, address, flags, master) = (word("the id")?, word("the address")?, word("flags")?, word("the master")?);
    let (_ping, _pong, epoch) = (word("ping-sent")?, word("pong-recv")?, word("the epoch")?);
    let _link = word("the link state")?;
    let config_epoch = epoch.parse().map_err(|_| format!("the epoch {epoch:?} is no number"))?;
    let flag = |name: &str| flags.split(',').any(|flag| flag == name);
    let trouble = ["handshake", "noaddr", "fail", "fail?"].into_iter().find(|name| flag(name));
    let mut read = Line {
        node: None,
        id: short(address, id),
        myself: flag("myself"),
        config_epoch,
        trouble: trouble.map(|name| match name {
            "fail" => "failed (fail)".to_owned(),
            "fail?" => "suspected to have failed (fail?)".to_owned(),
            other => format!("in state {other}"),
        }),
    };
    // A handshake has a made-up id and goes away by itself; a node without an address has none to compare.
    if flag("handshake") || flag("noaddr") {
        return Ok(read);
    }
    let id: NodeId = id.parse().map_err(|error| format!("the id: {error}"))?;
    let (address, port, bus_port) = endpoint(address, read.myself)?;
    let role = if flag("slave") || flag("replica") {
        Role::Replica { master: master.parse().map_err(|error| format!("the master: {error}"))? }
    } else {
        Role::Master { slots: slots(words)? }
    };
    read.node = Some(Node { id, address, port, bus_port, role });
    Ok(read)
}

fn short(address: &str, id: &str) -> String {
    let address = address.split('@').next().unwrap_or(address);
    format!("{address} ({})", id.get(..8).unwrap_or(id))
}

/// `ip:port@bus[,...]`. A node that nobody has told its address shows an empty one for itself.
fn endpoint(field: &str, myself: bool) -> Result<(IpAddr, u16, u16), String> {
    let wrong = || format!("the address {field:?} is not ip:port@bus");
    let plain = field.split(',').next().unwrap_or(field);
    let (client, bus) = plain.split_once('@').ok_or_else(wrong)?;
    let (ip, port) = client.rsplit_once(':').ok_or_else(wrong)?;
    let ip = match ip {
        "" if myself => IpAddr::from([0, 0, 0, 0]),
        ip => ip.trim_matches(['[', ']']).parse().map_err(|_| wrong())?,
    };
    let (port, bus): (u16, u16) = (port.parse().map_err(|_| wrong())?, bus.parse().map_err(|_| wrong())?);
    // Who asks without TLS is shown the plain port (`clusterNodeClientPort`, cluster_legacy.c, from 7.2 on), and a node
    // that speaks TLS alone has none. Its client port is as far from the bus port as ever.
    let port = if port == 0 { bus.saturating_sub(DEFAULT_BUS_OFFSET) } else { port };
    Ok((ip, port, bus))
}

/// Slots that are served; those on the move (`[93-<-id]`) are still counted where they are.
fn slots<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<SlotRange>, String> {
    words.filter(|word| !word.starts_with('[')).map(|word| word.parse().map_err(|e| format!("{e}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::ranges_text;
    use proptest::prelude::*;

    const SEED: &str = "\
29978c0169ecc0a9054de7f4142155c1ab70258b 127.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-5461
8f285670923d4f1c599ecc93367c95a30fb8bf34 127.0.0.1:6380@16380,db1,shard-id=8f28 master - 0 1496130078744 3 connected 5462-10922 [93-<-29978c0169ecc0a9054de7f4142155c1ab70258b]
961097d6be64ebd2fd739ff719e97565a8cee7b5 127.0.0.1:6382@16382 slave 29978c0169ecc0a9054de7f4142155c1ab70258b 0 1496130080749 5 connected
6fb7dfdb6188a9fe53c48ea32d541724f36434e9 127.0.0.1:6383@16383 slave,fail 8f285670923d4f1c599ecc93367c95a30fb8bf34 0 1 4 disconnected
0000000000000000000000000000000000000001 127.0.0.1:6390@16390 handshake - 0 0 0 disconnected
e0c7961a1b07ab655bc31d8dfd583da565ec167d :0@0 master,noaddr - 0 0 6 disconnected 7
";

    #[test]
    fn a_view_keeps_the_members_and_names_the_troubles() {
        let view = parse(SEED).unwrap();
        assert_eq!(view.myself.short(), "29978c01");
        assert_eq!(view.config_epoch, 1);
        assert_eq!(view.topology.nodes().len(), 4);
        let peer = view.topology.get("8f285670923d4f1c599ecc93367c95a30fb8bf34".parse().unwrap()).unwrap();
        assert_eq!((peer.port, peer.bus_port, ranges_text(peer.role.slots())), (6380, 16380, "5462-10922".into()));
        assert_eq!(
            view.troubles,
            [
                "127.0.0.1:6383 (6fb7dfdb) is failed (fail)",
                "127.0.0.1:6390 (00000000) is in state handshake",
                ":0 (e0c7961a) is in state noaddr",
            ]
        );
    }

    #[test]
    fn the_digest_ignores_order_times_and_epochs() {
        let other: String =
            SEED.lines().rev().map(|line| format!("{}\n", line.replace("1496130078744 3", "9 8"))).collect();
        assert_eq!(parse(SEED).unwrap().topology.digest(), parse(&other).unwrap().topology.digest());
        let moved = SEED.replace("5462-10922", "5463-10922");
        assert_ne!(parse(SEED).unwrap().topology.digest(), parse(&moved).unwrap().topology.digest());
    }

    #[test]
    fn what_does_not_parse_is_named() {
        let cases = [
            ("", "line 0 of CLUSTER NODES: no line says myself"),
            ("abc", "line 1 of CLUSTER NODES: the address is missing"),
            (
                "abc 1.2.3.4:1@2 myself,master - 0 0 0 connected",
                "line 1 of CLUSTER NODES: the id: \"abc\" is not 40 lower-case hex digits",
            ),
            (
                "29978c0169ecc0a9054de7f4142155c1ab70258b nowhere master - 0 0 0 connected",
                "line 1 of CLUSTER NODES: the address \"nowhere\" is not ip:port@bus",
            ),
            (
                "29978c0169ecc0a9054de7f4142155c1ab70258b 1.2.3.4:1@2 myself,master - 0 0 0 connected 0-99999",
                "line 1 of CLUSTER NODES: \"0-99999\" is not a range of slots within 0-16383",
            ),
            (
                "29978c0169ecc0a9054de7f4142155c1ab70258b 1.2.3.4:1@2 myself,master - 0 0 0 connected\n\
                 29978c0169ecc0a9054de7f4142155c1ab70258b 1.2.3.4:1@3 master - 0 0 0 connected",
                "line 2 of CLUSTER NODES: 29978c0169ecc0a9054de7f4142155c1ab70258b has a line already",
            ),
            (
                "29978c0169ecc0a9054de7f4142155c1ab70258b 1.2.3.4:1@2 myself,master - 0 0 0 connected\n\
                 8f285670923d4f1c599ecc93367c95a30fb8bf34 1.2.3.4:1@3 myself,master - 0 0 0 connected",
                "line 2 of CLUSTER NODES: a second line says myself",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n]{0,300}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0..SEED.len(), with in any::<char>()) {
            let damaged: String = SEED.chars().enumerate().map(|(i, c)| if i == at { with } else { c }).collect();
            let _ = parse(&damaged);
        }
    }
}
