//! A rebuild is approved: everything that its plan leans on is looked at again, the next life is drawn, and it begins.

use std::{collections::BTreeSet, sync::Arc};

use muster_proto::{
    AccessRole, HostName, Incarnation, OperationId, Sha256, Spec, Tls,
    access::Rule,
    failure::{Failure, Reason},
    wire,
};
use uuid::Uuid;

use super::{free, next_incarnation, planned::in_place, target};
use crate::{
    admin::{apply, operations, protection},
    blueprint::{Blueprint, Identity},
    credentials::{Authority, Credentials},
    doomed,
    gate::Visit,
    keeper::{Said, Shared},
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, unix_ms},
    placement, plan,
    rebuild::{self, LifeRecord, Order, offset_of},
    rolling::Duties,
    safeguard::store_failed,
    seal,
};

/// What is approved, and as what.
struct Approval<'a> {
    request: &'a wire::ApplyRequest,
    hash: Sha256,
    plan: &'a wire::Plan,
    rebuild: &'a wire::RebuildPlan,
    spec: Spec,
}

/// Approves the plan of a rebuild. The same request id again gets the same operation again.
pub async fn apply(
    shared: &Arc<Shared>,
    visit: &Visit,
    request: &wire::ApplyRequest,
    plan: &wire::Plan,
) -> Result<wire::Operation, Failure> {
    let hash: Sha256 = request.plan_hash.parse().map_err(|error| Failure::invalid(format!("plan_hash: {error}")))?;
    let rebuild = plan.rebuild.as_ref().ok_or_else(|| Failure::invalid("plan: is not of a rebuild"))?;
    if let Some(operation) = apply::answered(shared, &request.request_id, hash)? {
        return Ok(operation);
    }
    if !visit.caller.may(Rule::AtLeast(AccessRole::Destroyer)) {
        let message = "to set a cluster's directories aside takes the role destroyer";
        return Err(
            Failure::new(Reason::RoleTooLow, message).hint("an admin gives roles: muster user add NAME --role ROLE")
        );
    }
    let spec = Spec::try_from(plan.spec.clone().unwrap_or_default());
    let approval =
        Approval { request, hash, plan, rebuild, spec: spec.map_err(|error| Failure::invalid(error.to_string()))? };
    approval.is_typed()?;
    approval.is_fit()?;
    let record = shared.cluster(approval.spec.parts().name.as_str())?;
    let looked = approval.looked_at_again(shared, &record).await;
    let _sole = shared.decide();
    if let Some(operation) = apply::answered(shared, &request.request_id, hash)? {
        return Ok(operation);
    }
    // Whoever was faster stops the servers that do not answer now.
    approval.is_next(shared)?;
    looked?;
    approval.begin(shared, visit)
}

impl Approval<'_> {
    /// The command that this was planned with, as far as it is known here.
    fn command(&self) -> String {
        let fenced: String = self.rebuild.fenced.iter().map(|host| format!(" --fence-missing {host}")).collect();
        let leaves =
            |line: &&String| !self.rebuild.fenced.iter().any(|host| line.starts_with(&format!("{host} leaves")));
        let undo = if self.rebuild.undo { " --undo" } else { "" };
        let reshaped = !self.rebuild.undo && self.rebuild.changes.iter().any(|line| leaves(&line));
        let file = if reshaped { " --file SPEC" } else { "" };
        format!("muster rebuild {}{undo}{file}{fenced}", self.spec.parts().name)
    }

    fn again(&self) -> String {
        format!("plan again: {}", self.command())
    }

    fn stale(&self, why: impl std::fmt::Display) -> Failure {
        let message = format!("the plan does not hold any more: {why}; nothing was changed");
        Failure::new(Reason::PlanStale, message).hint(self.again())
    }

    /// Whoever means it has typed the name.
    fn is_typed(&self) -> Result<(), Failure> {
        let name = &self.spec.parts().name;
        if self.request.confirm == name.as_str() {
            return Ok(());
        }
        let message = format!(
            "confirm: is {:?}, and what would be set aside is cluster {name}; nothing was changed",
            muster_proto::printable(&self.request.confirm)
        );
        Err(Failure::new(Reason::ConfirmMismatch, message).hint(format!("type the cluster's name: {name}")))
    }

    fn is_fit(&self) -> Result<(), Failure> {
        if let Some(finding) = plan::refused(self.plan) {
            let reason = match finding.code.as_str() {
                "CLIENTS_WRITE" | "NOT_APPRAISED" => Reason::ClientsWrite,
                "TRASH_INCOMPLETE" => Reason::NothingToUndo,
                _ => Reason::PreflightFailed,
            };
            let message = format!("the plan has a fatal finding: {}", finding.message);
            return Err(Failure::new(reason, message).hint(finding.cure.clone()));
        }
        if unix_ms() > self.plan.expires_unix_ms {
            return Err(Failure::new(Reason::PlanExpired, "the plan is older than 15 minutes").hint(self.again()));
        }
        Ok(())
    }

    /// What the directories hold may be worth more, or less, than it was when the plan was made.
    async fn looked_at_again(&self, shared: &Arc<Shared>, record: &ClusterRecord) -> Result<(), Failure> {
        let now = shared.appraise(&record.blueprint).await;
        let (is_meant, command) = (self.rebuild.even_if_serving, self.command());
        if let Some(writes) = doomed::writes(&record.blueprint, &now).filter(|_| !is_meant) {
            return Err(Failure::new(Reason::ClientsWrite, format!("{writes}; nothing was changed"))
                .hint(format!("stop the writers, or say that you mean it: {command} --even-if-serving")));
        }
        let fenced = self.fenced()?;
        let unknown = doomed::may_be_written(&record.blueprint, &now, |host| fenced.contains(host));
        if let Some(unknown) = unknown.filter(|_| !is_meant) {
            return Err(Failure::new(Reason::ClientsWrite, format!("{unknown}; nothing was changed"))
                .hint(format!("plan again: {command}; or say that you mean it: {command} --even-if-serving")));
        }
        if let Some(finding) = doomed::no_trash(&now).into_iter().next() {
            let message = format!("{}: {}; nothing was changed", self.spec.parts().name, finding.message);
            return Err(Failure::new(Reason::PreflightFailed, message).hint(finding.cure));
        }
        if self.rebuild.undo {
            self.is_still_there(shared, record).await?;
        }
        match doomed::keeps_less(self.rebuild, &now) {
            Some(change) => Err(self.stale(change)),
            None => Ok(()),
        }
    }

    /// What comes back has not been deleted since.
    async fn is_still_there(&self, shared: &Arc<Shared>, record: &ClusterRecord) -> Result<(), Failure> {
        let lives = shared.ledger.lives(record.blueprint.cluster_id).map_err(store_failed)?;
        let Some(back) = target(record, &lives) else { return Err(self.stale("nothing would come back now")) };
        let blueprint = &back.life.blueprint;
        let trash = shared.rummage(blueprint.hosts(), Some(blueprint.cluster_id)).await;
        let in_place = in_place(record, blueprint.incarnation);
        let undo = doomed::Undo { blueprint, trash: &trash, in_place: &in_place };
        match doomed::incomplete(&undo) {
            None => Ok(()),
            Some(finding) => Err(Failure::new(Reason::NothingToUndo, finding.message).hint(finding.cure)),
        }
    }

    /// Nobody else has begun something with the cluster: the record, and what would give way to this. For whoever
    /// decides.
    fn is_next(&self, shared: &Shared) -> Result<(ClusterRecord, Option<OperationId>), Failure> {
        let record = shared.cluster(self.spec.parts().name.as_str())?;
        protection::refuse(shared, &record)?;
        let superseded = free(shared, &record)?;
        let (is, was) = (record.blueprint.incarnation.0, self.rebuild.incarnation);
        let same = record.blueprint.cluster_id.to_string() == self.rebuild.cluster_id;
        if !same || is != was {
            return Err(self.stale(format!("the cluster is in life {is} now, and was in life {was}")));
        }
        let open = superseded.map(|id| id.to_string()).unwrap_or_default();
        if open != self.rebuild.supersedes {
            return Err(self.stale("another operation has the cluster now"));
        }
        Ok((record, superseded))
    }

    /// For whoever decides.
    fn begin(&self, shared: &Arc<Shared>, visit: &Visit) -> Result<wire::Operation, Failure> {
        let (record, superseded) = self.is_next(shared)?;
        let bars = shared.bars().map_err(store_failed)?;
        let back = |host: &&HostName| shared.inventory().away(host, &bars).is_none();
        if let Some(host) = self.fenced()?.iter().find(back) {
            return Err(self.stale(format!("{host} is there again")));
        }
        let facts =
            |host: &str| host.parse::<HostName>().map(|host| shared.inventory().facts(&host)).unwrap_or_default();
        if let Some(change) = plan::stale(self.plan, facts) {
            return Err(self.stale(change));
        }
        let next = self.next(shared, &record)?;
        if let Some(clash) = apply::clash(shared, &next.blueprint)? {
            return Err(self.stale(clash));
        }
        shared.take_two(visit, &self.sentence())?;
        self.keep(shared, visit, &record, next, superseded)
    }

    /// What is done, in one sentence; the hash of its essence stands for the rest.
    fn sentence(&self) -> String {
        let (name, rebuild) = (&self.spec.parts().name, self.rebuild);
        let verb = if rebuild.undo { "undo the last rebuild of" } else { "rebuild" };
        let (directories, essence) = (rebuild.doomed.len(), plan::essence(self.plan).to_string());
        let (ends, begins) = (rebuild.incarnation, rebuild.becomes);
        let what = format!("life {ends} ends, {directories} directories are set aside, life {begins} follows");
        format!("{verb} cluster {name}: {what} (as {})", &essence[..12])
    }

    fn fenced(&self) -> Result<BTreeSet<HostName>, Failure> {
        let fenced = self.rebuild.fenced.iter().map(|host| host.parse()).collect::<Result<_, _>>();
        fenced.map_err(|error| Failure::invalid(format!("plan.rebuild.fenced: {error}")))
    }

    /// The life that will begin.
    fn next(&self, shared: &Shared, record: &ClusterRecord) -> Result<LifeRecord, Failure> {
        let lives = shared.ledger.lives(record.blueprint.cluster_id).map_err(store_failed)?;
        if self.rebuild.undo {
            let back =
                target(record, &lives).filter(|ended| ended.life.blueprint.incarnation.0 == self.rebuild.becomes);
            let back = back.ok_or_else(|| self.stale("another life would come back now"))?;
            // What clients have now they keep: what was withdrawn from them since does not come back.
            let credentials = Credentials::returning(back.life.credentials.as_ref(), record.credentials.as_ref());
            return Ok(LifeRecord { credentials, ..back.life.clone() });
        }
        // Placement is exact: the same spec and sites give the placement that was approved.
        let sites = shared.inventory().sites();
        let placement = placement::place(&self.spec, &sites).map_err(|refusal| self.stale(refusal))?;
        let incarnation = next_incarnation(record, &lives);
        if incarnation.0 != self.rebuild.becomes {
            return Err(self.stale("another life would begin now"));
        }
        let offset = muster_proto::BusOffset::CHOICE
            .into_iter()
            .find(|offset| u32::from(offset.get()) == self.rebuild.bus_offset)
            .unwrap_or_else(|| offset_of(&record.blueprint));
        let (cluster, cluster_id) = (record.blueprint.cluster.clone(), record.blueprint.cluster_id);
        let identity = Identity { cluster, cluster_id, incarnation };
        let blueprint = Blueprint::draw_at(identity, &placement, &self.spec, offset, apply::draw);
        let credentials = reborn(record, &self.spec, incarnation).map_err(store_failed)?;
        Ok(LifeRecord { spec: self.spec.clone(), blueprint, credentials, duties: Duties::new() })
    }

    fn keep(
        &self,
        shared: &Shared,
        visit: &Visit,
        record: &ClusterRecord,
        next: LifeRecord,
        superseded: Option<OperationId>,
    ) -> Result<wire::Operation, Failure> {
        let (id, undo) = (OperationId(Uuid::now_v7()), self.rebuild.undo);
        let cluster = &record.blueprint.cluster;
        let missing = self.fenced()?;
        let after = rebuild::begin(record, Order { operation: id, undo, missing, next });
        let message = format!("approved: {}", self.sentence());
        let operation = OperationRecord {
            plan_hash: Some(self.hash),
            ..OperationRecord::begin(id, rebuild::kind(undo), cluster, "FENCE", message)
        };
        let count = (0, record.blueprint.members.len());
        let said = Said { operation: id, state: OpState::Running, phase: "FENCE", message: &operation.message, count };
        let kept = after.clone();
        let gave_way = format!("has given way to operation {id}");
        let begun = shared.commit(record, Some(after), &said, |write| {
            if let Some(open) = superseded {
                write.gave_way(open, "CANCEL", &gave_way)?;
            }
            let detail = format!("{}; plan {}; operation {id}", self.sentence(), self.hash);
            write.audit(&visit.caller, &visit.from, "Admin/Apply", &detail)?;
            write.operation(&operation)?;
            write.rebuild(&kept)?;
            write.request(&self.request.request_id, &self.hash, id)
        });
        let last_seq = begun.map_err(store_failed)?;
        tracing::info!(operation = %id, %cluster, plan = %self.hash, "{} begins", rebuild::kind(undo));
        Ok(operations::wire_operation(&OperationRecord { last_seq, ..operation }))
    }
}

/// Clients keep their passwords, and everybody whom he believes; what is logged in with inside is drawn anew.
fn reborn(record: &ClusterRecord, spec: &Spec, incarnation: Incarnation) -> Result<Option<Credentials>, LedgerError> {
    let has = record.credentials.as_ref().is_some_and(|credentials| credentials.signing().is_some());
    let needs = matches!(spec.parts().tls, Tls::Issued);
    let made = || Authority::generate(record.blueprint.cluster.as_str(), unix_ms() / 1000);
    // One that is there already is kept; the one that is drawn in its place then is dropped.
    let authority = (needs && !has).then(made).transpose().map_err(LedgerError::Credentials)?;
    let random = || seal::random().map_err(LedgerError::Seal);
    Credentials::reborn(record.credentials.as_ref(), spec, incarnation, authority, random)
}
