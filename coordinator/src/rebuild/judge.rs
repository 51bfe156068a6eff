//! Who holds up a fence, a wipe, or the way back.

use muster_proto::{InstanceState, InstanceStatus, Member};

use super::{Rebuild, Remnant, is_away};
use crate::{
    formation::{self, Culprit, Heard},
    ledger::ClusterRecord,
};

fn said(status: &InstanceStatus) -> (String, bool) {
    let why = if status.reason.is_empty() { status.state.word().to_owned() } else { status.reason.clone() };
    (why, status.state == InstanceState::Blocked)
}

/// Why an instance is not proved to be stopped. Somebody's own server in its directory, or at its port, is none of
/// ours, and would be in the way all the same.
fn unstopped(status: &InstanceStatus) -> Option<(String, bool)> {
    if status.state != InstanceState::Stopped {
        return Some(said(status));
    }
    (status.account.standing == "foreign").then(|| {
        let evidence = status.account.evidence.join("; ");
        (format!("a server that Muster has not started is in its directory or at its port: {evidence}"), true)
    })
}

/// Those whose processes are not proved to be gone. Hosts that it is done without are not waited for, unless they are
/// there again. An undo waits for the hosts that directories come back on, too.
pub(super) fn running(record: &ClusterRecord, rebuild: &Rebuild, heard: &Heard) -> Vec<Culprit> {
    let away = |host| rebuild.missing.contains(host) && heard.silent.contains_key(host);
    let waited = record.blueprint.members.iter().filter(|member| !away(&member.host));
    let running = waited.filter_map(|member| formation::culprit(member, heard, &|_, status| unstopped(status)));
    let back = rebuild.next.as_ref().filter(|_| rebuild.undo).map(|next| next.blueprint.hosts()).unwrap_or_default();
    let here = record.blueprint.hosts();
    let silent = back.iter().filter(|host| !here.contains(host)).filter_map(|host| {
        let why = heard.silent.get(host)?.clone();
        Some(Culprit { name: host.to_string(), why, stuck: false })
    });
    running.chain(silent).collect()
}

/// Those whose directory of an ended life is not proved to be out of the way.
pub(super) fn in_place(record: &ClusterRecord, rebuild: &Rebuild, heard: &Heard) -> Vec<Culprit> {
    let here = |remnant: &Remnant| {
        let at = |member: &&Member| member.host == remnant.host && member.port == remnant.port;
        record.blueprint.members.iter().find(at)
    };
    let unwiped = |remnant: &Remnant| match here(remnant) {
        Some(member) => formation::culprit(member, heard, &|_, status| lingers(status)),
        // What nobody takes the place of need not be gone before the rest goes on where its host is not there.
        None if is_away(record, rebuild, remnant) => None,
        None => leaves(remnant, heard),
    };
    record.remnants.iter().filter_map(unwiped).collect()
}

/// An instance whose directory is not free for the next life yet, nor of it.
fn lingers(status: &InstanceStatus) -> Option<(String, bool)> {
    use InstanceState::{Absent, Prepared, Running, Starting};
    let free = matches!(status.state, Absent | Prepared | Starting | Running) && status.asks.is_none();
    (!free).then(|| said(status))
}

fn leaves(remnant: &Remnant, heard: &Heard) -> Option<Culprit> {
    let culprit = |(why, stuck)| Culprit { name: remnant.name(), why, stuck };
    if let Some(why) = heard.silent.get(&remnant.host) {
        return Some(culprit((why.clone(), false)));
    }
    match heard.instances.values().find(|status| (&status.host, status.port) == (&remnant.host, remnant.port)) {
        None => Some(culprit(("not reported yet".to_owned(), false))),
        Some(status) if status.state == InstanceState::Absent && status.asks.is_none() => None,
        Some(status) => Some(culprit(said(status))),
    }
}

/// Those that ran before, and do not run again as one cluster yet.
pub(super) fn away(record: &ClusterRecord, heard: &Heard) -> Vec<Culprit> {
    let stands = |member: &Member| record.duties.get(&member.node_id).is_some_and(|duty| duty.stopped);
    let stand = record.blueprint.members.iter().any(stands);
    let meant = record.blueprint.members.iter().filter(|member| !stands(member));
    let down: Vec<_> =
        meant.filter_map(|member| formation::culprit(member, heard, &|_, it| formation::unanswering(it))).collect();
    // What others say of those that an operator has stopped is no reason to wait.
    if down.is_empty() && !stand { formation::disagreeing(&record.blueprint, heard) } else { down }
}
