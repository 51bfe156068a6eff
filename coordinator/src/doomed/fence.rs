//! What speaks against a rebuild because hosts are not there, or are.

use std::collections::BTreeSet;

use muster_proto::{ClusterName, Hello, HostName, Member, PERMITS_SINCE, VERSION, ports::DEFAULT_BUS_OFFSET, wire};

use super::{
    Question, appraised,
    words::{command, runs},
};
use crate::{finding::Finding, placement::text::list};

/// Of a spec that says nothing (`CLUSTER_DEFAULT_NODE_TIMEOUT` in cluster.h).
const NODE_TIMEOUT_MS: u64 = 15_000;

pub(super) fn findings(of: &Question) -> Vec<Finding> {
    let mut findings: Vec<_> = missing(of).into_iter().chain(unsupported(of)).collect();
    for host in of.fenced {
        findings.extend(live(host, of));
        findings.extend(wanted(host, of));
        findings.extend(island(host, of));
    }
    findings.extend(majority(of));
    findings
}

/// Hosts whose servers would have to be stopped, or come back, and that are not there.
fn missing(of: &Question) -> Option<Finding> {
    let returning = of.undo.iter().flat_map(|undo| undo.blueprint.hosts());
    let needed: BTreeSet<_> = of.blueprint.hosts().into_iter().chain(returning).collect();
    let missing: Vec<_> = needed.iter().filter(|host| !of.fenced.contains(*host)).collect();
    let missing: Vec<_> = missing.into_iter().filter_map(|host| Some((host, of.away.get(host)?))).collect();
    if missing.is_empty() {
        return None;
    }
    let names = list(missing.iter().map(|(host, _)| host));
    let said = missing.iter().map(|(host, why)| format!("{host} {why}")).collect::<Vec<_>>().join("; ");
    let message = format!("{said}; what runs there cannot be stopped, and its directories cannot be moved");
    let look = format!("on {names}: systemctl status muster-agent");
    let cure = if of.undo.is_some() {
        format!("{look}; an undo needs all hosts")
    } else {
        let names = missing.iter().map(|(host, _)| *host);
        format!("{look}; if gone for good: {}", command(of, names))
    };
    Some(Finding::fatal("MISSING_HOST", names, message).cure(cure))
}

/// Fencing is for those that cannot be stopped; a live one only has to be told.
fn live(host: &HostName, of: &Question) -> Option<Finding> {
    (!of.away.contains_key(host)).then(|| fence_live(host, &of.blueprint.cluster))
}

/// Says of a host that is there that it need not be fenced.
pub fn fence_live(host: &HostName, cluster: &ClusterName) -> Finding {
    Finding::fatal("FENCE_LIVE", "--fence-missing", format!("{host} is there: what runs on it can be stopped"))
        .on(host)
        .cure(format!(
            "leave out --fence-missing {host}; to go on without that host: muster rebuild {cluster} --file SPEC, with \
             a spec that does not name it"
        ))
}

/// An agent from before there were permits would stop its servers, and then wait for ever.
pub fn too_old(host: &HostName, agent: &Hello) -> Option<Finding> {
    (agent.protocol < PERMITS_SINCE).then(|| {
        let message = format!("its agent ({}) is from before there were rebuilds", agent.agent_version);
        Finding::fatal("AGENT_TOO_OLD", host.to_string(), message)
            .on(host)
            .cure(format!("on {host}: install the muster-agent of {VERSION}, and restart it; its servers go on"))
    })
}

fn wanted(host: &HostName, of: &Question) -> Option<Finding> {
    let named = of.next.parts().hosts.iter().any(|wanted| wanted.name == *host);
    named.then(|| {
        let message = format!("{host} is fenced, and the spec wants instances on it");
        Finding::fatal("FENCE_WANTED", "--fence-missing", message).on(host).cure("take that host out of the spec")
    })
}

/// Servers before 7.0 derive the bus port from the client port, and nothing else (`CLUSTER_PORT_INCR`, cluster.h).
fn unsupported(of: &Question) -> Option<Finding> {
    let server = of.server.filter(|server| server.major < 7)?;
    let usual = of.bus_offset == DEFAULT_BUS_OFFSET;
    if of.fenced.is_empty() {
        let message = format!(
            "{server} has no cluster-port (Redis 7.0 and newer have), and the usual bus ports are not free of servers \
             that may still be listening there"
        );
        let cure = "bring back the hosts that are awaited (muster status), or install Redis 7.0 or newer, or Valkey";
        return (!usual).then(|| Finding::fatal("FENCE_UNSUPPORTED", "redis-server", message).cure(cure));
    }
    let fenced = list(of.fenced);
    let message = format!(
        "{server} has no cluster-port (Redis 7.0 and newer have): the next life would listen on the bus ports of the \
         old one, and a server of {fenced} that comes back would be taken in and take writes"
    );
    let cure = format!("install Redis 7.0 or newer, or Valkey, on all hosts; or bring back {fenced}");
    Some(Finding::fatal("FENCE_UNSUPPORTED", "redis-server", message).cure(cure))
}

fn members<'a>(host: &HostName, of: &Question<'a>) -> Vec<&'a Member> {
    of.blueprint.members.iter().filter(|member| member.host == *host).collect()
}

/// What an old master that still runs there can do.
fn island(host: &HostName, of: &Question) -> Option<Finding> {
    let members = members(host, of);
    if members.is_empty() {
        return None;
    }
    let ports = runs(members.iter().map(|member| member.port).collect());
    let timeout = node_timeout(of);
    let message = format!(
        "{host} is done without. What it holds is not known. A master that still runs there, was frozen and goes on, \
         or is started there by hand takes writes of clients that reach it until it has heard nothing of the others \
         for cluster-node-timeout ({timeout}) and about a second; these writes stay in its directory, and are in no \
         cluster"
    );
    Some(Finding::warning("ISLAND", format!("ports {ports}"), message).on(host).cure(format!(
        "power {host} off, or cut it off from the clients. When its agent calls, what runs there is stopped and set \
         aside before anything else"
    )))
}

/// With a majority of the masters an island elects, and serves on.
fn majority(of: &Question) -> Option<Finding> {
    let masters = of.blueprint.masters();
    let (there, fenced): (Vec<_>, Vec<_>) = of.blueprint.members.iter().partition(|it| !of.fenced.contains(&it.host));
    let is_master =
        |member: &&&Member| appraised(member, of.appraisals).is_ok_and(|it| it.role() == wire::Role::Master);
    let seen = there.iter().filter(is_master).count();
    let unseen = masters.saturating_sub(seen).min(fenced.len());
    (unseen * 2 > masters).then(|| {
        let names = list(of.fenced);
        let message = format!(
            "{names} may have {unseen} of {masters} masters, a majority: if they still run and reach each other, they \
             go on as a cluster for as long as they run, and take writes that are in no cluster afterwards"
        );
        Finding::warning("ISLAND_SERVES", names.clone(), message)
            .cure(format!("before you go on, power off, or cut off from the clients: {names}"))
    })
}

fn node_timeout(of: &Question) -> String {
    let settings = &of.blueprint.settings;
    let written = settings.iter().rfind(|setting| setting.key == "cluster-node-timeout");
    let ms =
        written.and_then(|setting| setting.value.trim_matches(['"', '\'']).parse().ok()).unwrap_or(NODE_TIMEOUT_MS);
    if ms % 1000 == 0 { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}
