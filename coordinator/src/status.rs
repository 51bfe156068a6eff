//! A cluster as it is shown: the blueprint beside what was last heard, issues first.

use std::collections::BTreeSet;

use muster_proto::{Condition, HostName, InstanceState, InstanceStatus, Member, NodeId, convert::millis, wire};

use crate::{
    estranged,
    finding::Finding,
    inventory::{Host, Inventory, use_word},
    ledger::{ClusterRecord, OpState},
    rebuild::Remnant,
    trust::{Bars, away},
};

/// Older than this, a view is said to be old.
const OLD_MS: u64 = 5_000;

/// A host in the words of the API.
pub fn host(inventory: &Inventory, host: &Host) -> wire::Host {
    let report = host.report.as_ref();
    let state = if inventory.live(host) { wire::HostState::Live } else { wire::HostState::Unknown };
    let server = report.map(|report| report.server.clone());
    wire::Host {
        name: host.hello.host.to_string(),
        address: host.hello.address.to_string(),
        state: state.into(),
        age_ms: millis(host.heard.elapsed()),
        agent_version: host.hello.agent_version.clone(),
        server: server.as_ref().and_then(|server| server.as_ref().ok()).map(wire::Server::from),
        server_error: server.and_then(Result::err).unwrap_or_default(),
        ports: host
            .hello
            .ports
            .iter()
            .map(|port| {
                let usage = report.and_then(|report| report.ports.iter().find(|(known, _)| *known == port));
                let usage = usage.map_or_else(|| "unknown".to_owned(), |(_, usage)| use_word(usage));
                wire::HostPort { port: port.into(), r#use: usage }
            })
            .collect(),
        base_dir: host.hello.base_dir.clone(),
        rack: host.hello.rack.clone().unwrap_or_default(),
        zone: host.hello.zone.clone().unwrap_or_default(),
        generation: host.told.0,
        accepted: report.map_or(0, |report| report.accepted.0),
        converged: report.map_or(0, |report| report.converged.0),
        refusal: report.and_then(|report| report.refusal.clone()).unwrap_or_default(),
        trust: None,
        facts: Vec::new(),
        facts_error: String::new(),
        findings: Vec::new(),
    }
}

/// A cluster in a line.
pub fn cluster(record: &ClusterRecord, operation: Option<OpState>) -> wire::Cluster {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let state = match (record.formed_ms, operation) {
        _ if record.rebuild.is_some() => "rebuilding",
        (Some(_), _) if is_stopped(record) => "stopped",
        (Some(_), _) => "formed",
        (None, Some(OpState::Cancelling)) => "cancelling",
        (None, _) => "forming",
    };
    wire::Cluster {
        name: record.blueprint.cluster.to_string(),
        incarnation: record.blueprint.incarnation.0,
        state: state.to_owned(),
        masters: count(record.blueprint.masters()),
        instances: count(record.blueprint.members.len()),
        cluster_id: record.blueprint.cluster_id.to_string(),
        formed_unix_ms: record.formed_ms.unwrap_or(0),
        rotation: String::new(),
        roll: String::new(),
        rebuild: String::new(),
        protection: String::new(),
        quarantined: quarantined(record),
    }
}

/// Directories of earlier lives on hosts that were not there, which are not set aside yet and are awaited; by host and
/// port.
fn quarantined(record: &ClusterRecord) -> Vec<String> {
    let missing = |host: &HostName| record.rebuild.as_ref().is_none_or(|rebuild| rebuild.missing.contains(host));
    let awaited = |remnant: &&Remnant| !remnant.forgotten && missing(&remnant.host);
    let mut left: Vec<_> = record.remnants.iter().filter(awaited).collect();
    left.sort_by_key(|remnant| (&remnant.host, remnant.port, remnant.former.life));
    left.into_iter().map(Remnant::name).collect()
}

/// Every instance is to be stopped.
fn is_stopped(record: &ClusterRecord) -> bool {
    record.blueprint.members.iter().all(|member| stopped(record, member.node_id))
}

/// An operator wants it not to run.
fn stopped(record: &ClusterRecord, id: NodeId) -> bool {
    record.duties.get(&id).is_some_and(|duty| duty.stopped)
}

/// A cluster and its instances.
pub fn status(
    record: &ClusterRecord,
    operation: Option<OpState>,
    inventory: &Inventory,
    bars: &Bars,
) -> wire::GetStatusResponse {
    let hosts = record.blueprint.hosts();
    let instances: Vec<_> = record.blueprint.members.iter().map(|member| instance(record, member, inventory)).collect();
    let mut issues: Vec<_> = hosts.iter().filter_map(|name| silent(name, inventory, bars)).collect();
    let strange = hosts.iter().filter_map(|name| inventory.get(name)).filter(|host| host.estranged.is_some());
    issues.extend(strange.flat_map(|host| estranged::findings(host, &BTreeSet::new())));
    issues.extend(record.blueprint.members.iter().filter_map(|member| issue(record, member, inventory)));
    issues.sort();
    wire::GetStatusResponse {
        cluster: Some(cluster(record, operation)),
        instances,
        issues: issues.into_iter().map(wire::Finding::from).collect(),
        hosts: hosts.iter().filter_map(|name| inventory.get(name)).map(|found| host(inventory, found)).collect(),
    }
}

fn reported<'a>(member: &Member, inventory: &'a Inventory) -> Option<(&'a Host, &'a InstanceStatus)> {
    let host = inventory.get(&member.host)?;
    let status = host.report.as_ref()?.instances.iter().find(|status| status.node_id == member.node_id)?;
    Some((host, status))
}

fn instance(record: &ClusterRecord, member: &Member, inventory: &Inventory) -> wire::ClusterInstance {
    let planned = Some(wire::Member::from(member));
    let Some((host, status)) = reported(member, inventory) else {
        let age_ms = inventory.get(&member.host).map_or(0, |host| millis(host.heard.elapsed()));
        let status = wire::InstanceStatus {
            host: member.host.to_string(),
            address: member.address.to_string(),
            port: member.port.into(),
            cluster: record.blueprint.cluster.to_string(),
            state: wire::InstanceState::Unknown.into(),
            reason: "not reported in this life of the coordinator".into(),
            node_id: member.node_id.to_string(),
            life: record.blueprint.incarnation.0,
            ..Default::default()
        };
        return wire::ClusterInstance { status: Some(status), planned, age_ms };
    };
    let live = inventory.live(host);
    let mut shown = wire::InstanceStatus::from(status);
    if !live {
        // What was last heard is still shown, with its age; that it is still so is not claimed.
        shown.state = wire::InstanceState::Unknown.into();
        shown.reason = format!("{} when last heard of", status.state.word());
    }
    let age = if live { host.heard.elapsed() } else { host.heard.elapsed() + status.view_age };
    wire::ClusterInstance { status: Some(shown), planned, age_ms: millis(age) }
}

fn silent(name: &HostName, inventory: &Inventory, bars: &Bars) -> Option<Finding> {
    let host = inventory.get(name);
    if let Some(host) = host.filter(|host| inventory.live(host) && !bars.contains_key(name)) {
        let refusal = host.report.as_ref()?.refusal.clone()?;
        return Some(Finding::fatal("HOST_REFUSES", "agent", refusal).on(name).cure(
            "does an old coordinator run, or was its store put back from a backup? README, When something is lost",
        ));
    }
    let age = host.map_or(0, |host| host.heard.elapsed().as_secs());
    let why = format!("not heard of for {age} s; its redis-servers may well be running");
    Some(away(name, &why, bars))
}

fn issue(record: &ClusterRecord, member: &Member, inventory: &Inventory) -> Option<Finding> {
    let (host, status) = reported(member, inventory)?;
    if !inventory.live(host) {
        return None;
    }
    let subject = member.name();
    let on = |finding: Finding| Some(finding.on(&member.host));
    // Its phase says what is stopped and set aside on purpose.
    if record.rebuild.is_some() && matches!(status.state, InstanceState::Stopped | InstanceState::Stopping) {
        return None;
    }
    if status.state == InstanceState::Stopped {
        let cluster = &record.blueprint.cluster;
        return on(Finding::warning("STOPPED", &subject, "is stopped, as an operator asked")
            .cure(format!("muster start {cluster} --instance {subject}")));
    }
    if status.state != InstanceState::Running {
        let why = status.reason_behind();
        let next = status.account.next_try.map(|due| due.saturating_sub(host.heard.elapsed()));
        let next = next.map_or_else(String::new, |due| format!("; next try in {} s", due.as_secs()));
        let code = status.account.condition.map_or("INSTANCE_NOT_RUNNING", Condition::word);
        return on(Finding::fatal(code, subject, format!("{}{why}{next}", status.state.word())));
    }
    if status.account.condition == Some(Condition::Unscoped) {
        let message = format!("runs{}", status.reason_behind());
        return on(Finding::warning(Condition::Unscoped.word(), subject, message));
    }
    if let Some(condition) = status.account.condition {
        return on(Finding::fatal(condition.word(), subject, format!("runs{}", status.reason_behind())));
    }
    let view = status.view.as_ref()?;
    if !view.cluster_ok {
        return on(Finding::fatal("CLUSTER_STATE", subject, "says cluster_state:fail")
            .cure(format!("muster check {}", record.blueprint.cluster)));
    }
    // That one is away which is meant to be, everybody sees.
    let meant = |trouble: &&String| {
        let gone = record.blueprint.members.iter().filter(|other| stopped(record, other.node_id));
        gone.into_iter().any(|other| trouble.contains(&format!("({})", other.node_id.short())))
    };
    if let Some(trouble) = view.troubles.iter().find(|trouble| !meant(trouble)) {
        return on(Finding::warning("NODE_TROUBLE", subject, format!("thinks that {trouble}")));
    }
    if view.role.master().is_some() && !view.link_up {
        return on(Finding::warning("LINK_DOWN", subject, "its link to its master is not up"));
    }
    if record.formed_ms.is_some() && view.role.word() != member.role.word() {
        let message =
            format!("is a {} and was planned as a {}: Redis failed over", view.role.word(), member.role.word());
        return on(Finding::warning("ROLE_CHANGED", subject, message));
    }
    let age = millis(host.heard.elapsed() + status.view_age);
    if age > OLD_MS && status.view_age.as_millis() > u128::from(OLD_MS) {
        return on(Finding::warning("VIEW_OLD", subject, format!("its last answer is {} s old", age / 1000)));
    }
    None
}

#[cfg(test)]
mod tests;
