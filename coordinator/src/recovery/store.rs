//! The rebuilt store, written as one transaction: all of it on the disk, or nothing.

use muster_proto::{ClusterName, HostName, OperationId, wire};

use super::{Cluster, Evidence, Rebuilt, Standing, Told, list};
use crate::{
    caller::Caller,
    credentials::step::line,
    ledger::{Ledger, LedgerError, OpState, OperationRecord, Write},
    reconcile::{self, Told as Wish},
};

/// What it stands in the audit as.
const ACTION: &str = "recover --from-agents";

/// Writes it. The store has no clusters; whoever calls has seen to that, and holds its lock.
pub fn write(ledger: &Ledger, evidence: &Evidence, rebuilt: &Rebuilt, caller: &Caller) -> Result<(), LedgerError> {
    let records: Vec<_> = rebuilt.clusters.iter().map(|cluster| cluster.record.clone()).collect();
    let wishes: Vec<_> = records.iter().map(Wish::from).collect();
    ledger.write(|write| {
        write.surpass(rebuilt.term)?;
        for cluster in &rebuilt.clusters {
            write.cluster(&cluster.record)?;
            operations(write, cluster)?;
        }
        for (name, testimony) in evidence {
            write.host(name, &wire::Hello::from(&testimony.hello))?;
            let standing = rebuilt.hosts.get(name).map(|host| &host.standing);
            if !matches!(standing, Some(Standing::Same | Standing::Anew)) {
                continue;
            }
            if let Told::Orders { desired, .. } = &testimony.told {
                write.go_on_from(name, desired)?;
            }
            for (host, wish) in reconcile::assignments([name], &wishes) {
                write.tell(&host, &wish)?;
            }
        }
        write.audit(caller, "muster-coordinator recover", ACTION, &detail(evidence, rebuilt))
    })
}

fn detail(evidence: &Evidence, rebuilt: &Rebuilt) -> String {
    let name = |cluster: &Cluster| cluster.record.blueprint.cluster.clone();
    let clusters: Vec<ClusterName> = rebuilt.clusters.iter().map(name).collect();
    let clusters: Vec<_> = clusters.iter().map(ClusterName::as_str).collect();
    let missing: Vec<&HostName> =
        rebuilt.hosts.iter().filter(|(_, host)| host.standing == Standing::Missing).map(|(name, _)| name).collect();
    let missing = if missing.is_empty() { String::new() } else { format!("; missing: {}", list(missing)) };
    format!("clusters {}, by {}{missing}; term {}", clusters.join(", "), list(evidence.keys()), rebuilt.term)
}

/// What made the cluster is forgotten; what goes on with it is this: its rebuilding, or the rest of its bootstrap, and
/// a rotation that was under way.
fn operations(write: &Write, cluster: &Cluster) -> Result<(), LedgerError> {
    let record = &cluster.record;
    let name = &record.blueprint.cluster;
    let members = u32::try_from(record.blueprint.members.len()).unwrap_or(u32::MAX);
    let begin = |id: OperationId, kind: &str, state: OpState, phase: &str, message: String, done: u32| {
        let operation = OperationRecord { state, ..OperationRecord::begin(id, kind, name, phase, message.clone()) };
        write.operation(&operation)?;
        write.event(id, state, phase, &message, (done, members)).map(drop)
    };
    let by = format!("rebuilt from what the agents of {} hold", list(&cluster.by));
    match record.formed_ms {
        Some(_) => begin(record.operation, "recover", OpState::Done, "FORMED", by, members)?,
        None => {
            let (state, phase) = match record.goal {
                crate::formation::Goal::SetAside => (OpState::Cancelling, "CANCEL"),
                crate::formation::Goal::Prepared => (OpState::Running, "CONFIGURE"),
                crate::formation::Goal::Running => (OpState::Running, "START"),
            };
            begin(record.operation, "bootstrap", state, phase, format!("{by}; going on with it"), 0)?;
        }
    }
    let rotation = record.credentials.as_ref().and_then(|credentials| credentials.rotation);
    match rotation {
        Some(rotation) => {
            let message = line(name, rotation, &[]);
            begin(rotation.operation, rotation.kind.word(), OpState::Running, rotation.stage.word(), message, 0)
        }
        None => Ok(()),
    }
}
