//! What is said of this host: verdicts and views as one report.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use muster_proto::{
    Account, ClusterAssignment, Generation, Hello, HostAssignment, InstanceAssignment, InstanceState, InstanceStatus,
    NodeView, PROTOCOL, Port, VERSION,
};
use uuid::Uuid;

use crate::{
    config::Config,
    inventory::{Instance, Inventory},
    ledger::Ledger,
    process,
    reconcile::{Answer, ProcessSeen, Seen, Verdict},
};

/// Who calls. What it holds is filled in anew at every call.
pub fn hello(config: &Config, identity: Uuid, ledger: &Ledger) -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent_version: VERSION.to_owned(),
        host: config.name.clone(),
        address: config.address,
        identity,
        boot_id: process::boot_id(),
        ports: config.ports.clone(),
        base_dir: config.base_dir.display().to_string(),
        rack: config.rack.clone(),
        zone: config.zone.clone(),
        term: ledger.term(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        generation: ledger.generation(),
        held: Vec::new(),
    }
}

/// How things are, in a line: `2 of 3 instances run; 7001: a crash loop`.
pub fn summary(config: &Config, verdicts: &BTreeMap<Port, Verdict>) -> String {
    let running = verdicts.values().filter(|verdict| verdict.state == InstanceState::Running).count();
    let line = format!("{}: {running} of {} instances run", config.name, verdicts.len());
    match verdicts.iter().find(|(_, verdict)| !verdict.reason.is_empty()) {
        Some((port, verdict)) => format!("{line}; {port}: {}", verdict.reason),
        None => line,
    }
}

/// An instance of which nothing is known yet.
pub fn blank(config: &Config, cluster: &ClusterAssignment, wanted: &InstanceAssignment) -> InstanceStatus {
    InstanceStatus {
        host: config.name.clone(),
        address: config.address,
        port: wanted.port,
        cluster: cluster.cluster.clone(),
        state: InstanceState::Unknown,
        reason: String::new(),
        pid: None,
        view: None,
        view_age: std::time::Duration::ZERO,
        starts: 0,
        life: wanted.life,
        node_id: wanted.node_id,
        account: Account::default(),
        run: 0,
        asks: None,
    }
}

/// Takes in a fresh answer.
pub fn answered(status: &mut InstanceStatus, answer: &Answer) {
    match answer {
        Answer::View(view) => {
            status.state = InstanceState::Running;
            status.view = Some(NodeView::clone(view));
        }
        Answer::Loading => status.reason = "loading its data set".into(),
        Answer::Silent(why) | Answer::Hung(why) => status.reason = format!("does not answer: {why}"),
        Answer::Frozen(state) => status.reason = format!("does not run (state {state})"),
    }
}

/// The instances of a host, by port.
pub fn instances(
    config: &Config,
    assignment: &HostAssignment,
    inventory: &Inventory,
    seen: &BTreeMap<Port, Seen>,
    verdicts: &BTreeMap<Port, Verdict>,
) -> Vec<InstanceStatus> {
    let one = |(port, (cluster, wanted)): (Port, (&ClusterAssignment, &InstanceAssignment))| {
        let (seen, verdict, instance) = (seen.get(&port)?, verdicts.get(&port)?, inventory.get(port)?);
        let account = account(verdict, instance, inventory.now());
        Some(InstanceStatus { account, ..status(blank(config, cluster, wanted), seen, verdict, instance) })
    };
    assignment.by_port().into_iter().filter_map(one).collect()
}

fn status(blank: InstanceStatus, seen: &Seen, verdict: &Verdict, instance: &Instance) -> InstanceStatus {
    let age = |(_, at): &(NodeView, Instant)| at.elapsed();
    InstanceStatus {
        state: verdict.state,
        reason: verdict.reason.clone(),
        pid: match seen.process {
            ProcessSeen::Ours { pid, .. } => Some(pid),
            ProcessSeen::None | ProcessSeen::Foreign(_) | ProcessSeen::Unknown(_) => None,
        },
        view: instance.view.as_ref().map(|(view, _)| view.clone()),
        view_age: instance.view.as_ref().map(age).unwrap_or_default(),
        starts: instance.starts,
        run: instance.process.as_ref().and_then(|process| process.run).unwrap_or(0),
        asks: instance.asks.clone(),
        ..blank
    }
}

fn account(verdict: &Verdict, instance: &Instance, now: Duration) -> Account {
    Account {
        condition: verdict.condition,
        since: instance.said.2.elapsed(),
        next_try: verdict.condition.filter(|it| it.is_tried()).and(verdict.wake).map(|due| due.saturating_sub(now)),
        standing: instance.standing().to_owned(),
        evidence: instance.clues.iter().map(ToString::to_string).collect(),
    }
}

/// The accepted generation, if every instance is what it asks for; otherwise the one that was true before.
pub fn converged(
    accepted: Generation,
    before: Generation,
    assignment: &HostAssignment,
    verdicts: &BTreeMap<Port, Verdict>,
) -> Generation {
    let all = assignment.by_port().into_keys().all(|port| verdicts.get(&port).is_some_and(Verdict::converged));
    if all { accepted } else { before }
}
