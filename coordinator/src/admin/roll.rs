//! Roll: instances are stopped, started or restarted. Here it is checked, said what it would mean, and begun; the loop
//! does it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use muster_proto::{
    AccessRole, HostName, InstanceState, InstanceStatus, Member, NodeId, OperationId, Sha256,
    access::Rule,
    failure::{Failure, Reason},
    wire,
};
use prost::Message as _;
use tokio::time::timeout;
use uuid::Uuid;

use super::operations::{self, Sign};
use crate::{
    blueprint::Blueprint,
    credentials::Stage,
    formation::Heard,
    gate::Visit,
    keeper::{Said, Shared, rolling::urge},
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, Write},
    rolling::{Kind, Outlook, Roll, outlook, summary, targets},
    safeguard::store_failed,
};

/// A host that is connected and has not taken in yet what it was told last is waited for, so long.
const TAKING_IN: Duration = Duration::from_secs(2);

/// Says what would be done, or begins it.
pub async fn roll(
    shared: &Arc<Shared>,
    visit: &Visit,
    request: &wire::RollRequest,
) -> Result<wire::RollResponse, Failure> {
    let blueprint = shared.cluster(&request.cluster)?.blueprint;
    // What is still not known then is said.
    let _ = timeout(TAKING_IN, settled(shared, &blueprint)).await;
    decide(shared, visit, request)
}

/// Ends when everybody who speaks has said how he is since he was told something last.
async fn settled(shared: &Shared, blueprint: &Blueprint) -> Result<(), LedgerError> {
    let mut changes = shared.changes.subscribe();
    loop {
        let bars = shared.bars()?;
        let unsettled = {
            let inventory = shared.inventory();
            let heard = inventory.heard(blueprint, &bars);
            let speaks = |host: &HostName| inventory.get(host).is_some_and(|host| inventory.speaks(host));
            let starts = |status: &InstanceStatus| status.state == InstanceState::Starting;
            heard.silent.keys().any(speaks) || heard.instances.values().any(starts)
        };
        if !unsettled || changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn decide(shared: &Arc<Shared>, visit: &Visit, request: &wire::RollRequest) -> Result<wire::RollResponse, Failure> {
    let kind = match request.kind() {
        wire::RollKind::Stop => Kind::Stop,
        wire::RollKind::Start => Kind::Start,
        wire::RollKind::Restart => Kind::Restart,
        wire::RollKind::Unspecified => return Err(Failure::invalid("kind: is none of stop, start and restart")),
    };
    if !request.preview && !(1..=64).contains(&request.request_id.len()) {
        return Err(Failure::invalid("request_id: is not 1-64 characters"));
    }
    let asked = Sha256::of(&request.encode_to_vec());
    let _sole = shared.decide();
    if !request.preview
        && let Some(answer) = answered(shared, &request.request_id, asked)?
    {
        return Ok(answer);
    }
    let record = shared.cluster(&request.cluster)?;
    let heard = shared.inventory().heard(&record.blueprint, &shared.bars().map_err(store_failed)?);
    let draft = draft(&record, request, kind, &heard)?;
    let outlook = outlook(&draft, &record.blueprint, &record.duties, &heard);
    let dark = if request.even_if_unserved { outlook.dark.clone() } else { BTreeSet::new() };
    let give_back = if request.give_back { outlook.masters.clone() } else { BTreeSet::new() };
    let roll = Roll { dark, give_back, ..draft };
    if let Some(open) = record.roll.as_ref().filter(|open| open.asks_for(&roll)) {
        let operation = operations::find(shared, &open.operation.to_string())?;
        let steps = vec![format!("operation {} does that already", operation.id)];
        let operation = Some(operations::wire_operation(&operation)).filter(|_| !request.preview);
        return Ok(wire::RollResponse { operation, steps, ..wire::RollResponse::default() });
    }
    if let Some(open) = record.roll.as_ref().filter(|_| kind == Kind::Start) {
        // What waits for its next try may be what that operation waits for.
        let steps = vec![format!("what waits is tried now, for operation {}: {}", open.operation, open.kind.word())];
        if !request.preview {
            urge(shared, &record, |member| is_meant(request, member));
        }
        let operation = operations::find(shared, &open.operation.to_string())?;
        let operation = Some(operations::wire_operation(&operation)).filter(|_| !request.preview);
        return Ok(wire::RollResponse { operation, steps, ..wire::RollResponse::default() });
    }
    free(&record, kind)?;
    let silent = record.blueprint.members.iter().filter(|member| is_meant(request, member));
    let silent = silent.filter_map(|member| Some((&member.host, heard.silent.get(&member.host)?))).next();
    if let Some((host, why)) = silent.filter(|_| kind == Kind::Start && outlook.idle) {
        let message = format!("{host}: {why}; what waits there is not known, and elsewhere there is nothing to start");
        return Err(Failure::new(Reason::HostSilent, message).hint("muster hosts"));
    }
    let answer = wire::RollResponse {
        operation: None,
        steps: outlook.steps.clone(),
        consequences: outlook.consequences.clone(),
        unserved: outlook.unserved,
    };
    if request.preview || outlook.idle {
        return Ok(answer);
    }
    allowed(shared, visit, &record, &roll, &outlook)?;
    let operation = begin(shared, visit, &record, roll, &request.request_id, asked)?;
    Ok(wire::RollResponse { operation: Some(operations::wire_operation(&operation)), ..answer })
}

/// What the same request was answered with before.
fn answered(shared: &Shared, id: &str, asked: Sha256) -> Result<Option<wire::RollResponse>, Failure> {
    let Some((before, operation)) = shared.ledger.request(id).map_err(store_failed)? else { return Ok(None) };
    if before != asked {
        return Err(Failure::new(Reason::RequestReused, "request_id: was used for another request")
            .hint("draw a fresh request id for every new request"));
    }
    let operation = operations::find(shared, &operation.to_string())?;
    let operation = Some(operations::wire_operation(&operation));
    Ok(Some(wire::RollResponse { operation, ..wire::RollResponse::default() }))
}

/// The instances that a request is about.
fn is_meant(request: &wire::RollRequest, member: &Member) -> bool {
    (request.host.is_empty() || member.host.as_str() == request.host)
        && (request.port == 0 || u32::from(member.port) == request.port)
}

/// The operation that is asked for.
fn draft(record: &ClusterRecord, request: &wire::RollRequest, kind: Kind, heard: &Heard) -> Result<Roll, Failure> {
    let is_meant = |member: &Member| is_meant(request, member);
    let cluster = &record.blueprint.cluster;
    if request.port != 0 && request.host.is_empty() {
        return Err(Failure::invalid("port: says nothing without a host"));
    }
    if !record.blueprint.members.iter().any(is_meant) {
        let port = if request.port == 0 { String::new() } else { format!(":{}", request.port) };
        let message = format!("cluster {cluster} has no instance on {}{port}", request.host);
        return Err(Failure::new(Reason::UnknownHost, message).hint(format!("muster status {cluster}")));
    }
    Ok(Roll {
        operation: OperationId(Uuid::now_v7()),
        kind,
        targets: targets(kind, is_meant, request.port != 0, &record.blueprint, &record.duties, heard),
        dark: BTreeSet::new(),
        give_back: BTreeSet::new(),
        errand: None,
        hand_overs: Vec::new(),
    })
}

/// One operation a cluster at a time; but a rotation that waits for clients is in nobody's way, and none in a start's.
fn free(record: &ClusterRecord, kind: Kind) -> Result<(), Failure> {
    let name = &record.blueprint.cluster;
    if record.formed_ms.is_none() {
        let message = format!("cluster {name} is not formed: operation {} has it", record.operation);
        return Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op watch {}", record.operation)));
    }
    let rotation = record.credentials.as_ref().and_then(|credentials| credentials.rotation);
    if let Some(rotation) = rotation.filter(|one| one.stage != Stage::Overlap && kind != Kind::Start) {
        return Err(crate::credentials::api::busy(name, rotation));
    }
    busy(record)
}

/// Refuses while instances of a cluster are stopped, started or restarted, or all of it is rebuilt.
pub(crate) fn busy(record: &ClusterRecord) -> Result<(), Failure> {
    if let Some(rebuild) = &record.rebuild {
        let (name, id, kind) = (&record.blueprint.cluster, rebuild.operation, crate::rebuild::kind(rebuild.undo));
        let message = format!("operation {id} has cluster {name}: {kind}");
        return Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op watch {id}")));
    }
    let Some(roll) = &record.roll else { return Ok(()) };
    let (name, id) = (&record.blueprint.cluster, roll.operation);
    let message = format!("operation {id} has cluster {name}: {}", roll.kind.word());
    Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op watch {id}")))
}

fn allowed(
    shared: &Shared,
    visit: &Visit,
    record: &ClusterRecord,
    roll: &Roll,
    outlook: &Outlook,
) -> Result<(), Failure> {
    if outlook.unserved && roll.dark.is_empty() {
        let name = &record.blueprint.cluster;
        let message = format!("{}; nothing was done", outlook.consequences.join("; "));
        return Err(Failure::new(Reason::WouldNotServe, message).hint(format!(
            "where that is meant: the same command with --confirm {name}; otherwise bring back a replica first: \
             muster status {name}"
        )));
    }
    if !outlook.loses {
        return Ok(());
    }
    if !visit.caller.may(Rule::AtLeast(AccessRole::Destroyer)) {
        let message = format!("{}; that takes the role destroyer", outlook.consequences.join("; "));
        return Err(Failure::new(Reason::RoleTooLow, message));
    }
    let what =
        format!("{} of cluster {}: {}", roll.kind.word(), record.blueprint.cluster, outlook.consequences.join("; "));
    shared.take_two(visit, &what)
}

fn begin(
    shared: &Shared,
    visit: &Visit,
    record: &ClusterRecord,
    roll: Roll,
    request_id: &str,
    asked: Sha256,
) -> Result<OperationRecord, Failure> {
    let (id, cluster) = (roll.operation, &record.blueprint.cluster);
    let of = record.blueprint.members.iter().filter(|member| roll.targets.contains_key(&member.node_id));
    let names = of.map(Member::name).collect::<Vec<_>>().join(", ");
    let (phase, message) = ("REPLICAS", summary(&roll, 0));
    let operation = OperationRecord::begin(id, roll.kind.word(), cluster, phase, message);
    let count = (0, roll.targets.len());
    let said = Said { operation: id, state: OpState::Running, phase, message: &operation.message, count };
    let after = ClusterRecord { roll: Some(roll.clone()), ..record.clone() };
    let unserved = if !roll.dark.is_empty() { ", even if slots are served by nobody" } else { "" };
    let detail = format!("{} of cluster {cluster}: {names}{unserved}; operation {id}", roll.kind.word());
    let begun = shared.commit(record, Some(after), &said, |write: &Write| {
        write.audit(&visit.caller, &visit.from, "Admin/Roll", &detail)?;
        write.operation(&operation)?;
        write.roll(cluster, &roll)?;
        write.request(request_id, &asked, id)
    });
    let last_seq = begun.map_err(store_failed)?;
    Ok(OperationRecord { last_seq, ..operation })
}

/// Ends it where it is. For whoever decides.
pub fn cancel(shared: &Shared, sign: Sign, record: &ClusterRecord, roll: &Roll) -> Result<(), Failure> {
    let cluster = &record.blueprint.cluster;
    let turned = |(id, run): &(&NodeId, &u64)| match record.duties.get(id) {
        Some(duty) if roll.kind == Kind::Stop => duty.stopped,
        Some(duty) => !duty.stopped && duty.run >= **run,
        None => false,
    };
    let done = roll.targets.iter().filter(turned).count();
    let undo = match roll.kind {
        Kind::Stop if done > 0 => format!("; they stay so: muster start {cluster}"),
        _ => String::new(),
    };
    let told = format!("{done} of {} instances were told", roll.targets.len());
    let message = format!("ended by an operator; {told}, and do as they were told{undo}");
    let count = (done, roll.targets.len());
    let said = Said { operation: roll.operation, state: OpState::Cancelled, phase: "CANCEL", message: &message, count };
    let after = ClusterRecord { roll: None, ..record.clone() };
    let ended = Roll { errand: None, ..roll.clone() };
    let change = |write: &Write| {
        sign(write)?;
        write.roll_ended(&ended)
    };
    shared.commit(record, Some(after), &said, change).map_err(store_failed)?;
    Ok(())
}
