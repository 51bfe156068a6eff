//! The Admin service: what operators' tools and automation call.
//!
//! A handler checks, changes the store, rings the bell and answers; the loop does the work.

mod apply;
mod events;
mod logs;
pub(crate) mod operations;
mod planning;
pub(crate) mod protection;
mod rebuild;
pub(crate) mod roll;
mod start;
pub(crate) mod trash;

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use muster_proto::{
    HostName, InstanceStatus, SlotRange, VERSION,
    failure::{Failure, Reason},
    wire::{self, admin_server},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    check, estranged, facts,
    gate::visit,
    keeper::Shared,
    ledger::{ClusterRecord, OpState},
    plan,
    safeguard::{store_failed, unknown_host},
    status,
    trust::HostRecord,
};

/// A watched status is sent at least this often, so that ages stay true, and at most ten times as often.
const REFRESH: Duration = Duration::from_secs(1);

/// The service.
pub struct Admin {
    shared: Arc<Shared>,
}

type Answer<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Admin {
    /// Over what is shared.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn state_of(&self, record: &ClusterRecord) -> Result<Option<OpState>, Failure> {
        let operation = self.shared.ledger.operation(record.operation).map_err(store_failed)?;
        Ok(operation.map(|operation| operation.state))
    }

    /// The cluster with what has it: a rotation, a stop, start or restart, a rebuild, each with what it does or waits
    /// for.
    fn with_operations(&self, record: &ClusterRecord, cluster: wire::Cluster) -> Result<wire::Cluster, Failure> {
        let in_words = |id| {
            let operation = self.shared.ledger.operation(id).map_err(store_failed)?;
            Ok::<_, Failure>(operation.map(|found| operations::in_words(&found)).unwrap_or_default())
        };
        let rotation = record.credentials.as_ref().and_then(|credentials| credentials.rotation);
        let rotation = rotation.map(|rotation| in_words(rotation.operation)).transpose()?.unwrap_or_default();
        let roll = record.roll.as_ref().map(|roll| in_words(roll.operation)).transpose()?.unwrap_or_default();
        let rebuild = record.rebuild.as_ref().map(|rebuild| in_words(rebuild.operation)).transpose()?;
        let protection = protection::shown(&self.shared, record)?;
        Ok(wire::Cluster { rotation, roll, rebuild: rebuild.unwrap_or_default(), protection, ..cluster })
    }

    fn status(&self, name: &str) -> Result<wire::GetStatusResponse, Failure> {
        let record = self.shared.cluster(name)?;
        let state = self.state_of(&record)?;
        let bars = self.shared.bars().map_err(store_failed)?;
        let answer = status::status(&record, state, &self.shared.inventory(), &bars);
        let cluster = answer.cluster.map(|cluster| self.with_operations(&record, cluster)).transpose()?;
        Ok(wire::GetStatusResponse { cluster, ..answer })
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    type WatchOperationStream = Events<wire::OperationEvent>;
    type WatchStatusStream = Events<wire::GetStatusResponse>;
    type FollowLogStream = Events<wire::FollowLogResponse>;

    async fn list_hosts(&self, request: Request<wire::ListHostsRequest>) -> Answer<wire::ListHostsResponse> {
        let known = self.shared.ledger.hosts_trust().map_err(store_failed)?;
        let wanted = request.into_inner().facts;
        let names = self.shared.inventory().hosts().keys().filter(|_| wanted).cloned().collect();
        let facts = self.shared.facts(names).await;
        let clusters = self.shared.ledger.clusters().map_err(store_failed)?;
        let clusters = clusters.into_iter().map(|record| record.blueprint.cluster).collect();
        let inventory = self.shared.inventory();
        let one = |host| {
            let findings = estranged::findings(host, &clusters).into_iter().map(wire::Finding::from).collect();
            wire::Host { findings, ..status::host(&inventory, host) }
        };
        let mut hosts: Vec<_> = inventory.hosts().values().map(one).collect();
        // One that is enrolled and never spoke is a host too.
        for record in &known {
            let name = record.host.as_str();
            if !hosts.iter().any(|host| host.name == name) {
                let state = wire::HostState::Unknown.into();
                hosts.push(wire::Host { name: name.to_owned(), state, ..wire::Host::default() });
            }
        }
        for host in &mut hosts {
            host.trust = known.iter().find(|record| record.host.as_str() == host.name).map(HostRecord::wire);
            match facts.iter().find(|(name, _)| name.as_str() == host.name) {
                Some((name, Ok((seen, skew_ms)))) => {
                    host.facts = facts::all(name, seen, *skew_ms).into_iter().map(wire::Fact::from).collect();
                }
                Some((_, Err(why))) => host.facts_error.clone_from(why),
                None => {}
            }
        }
        hosts.sort_by(|one, other| one.name.cmp(&other.name));
        let term = self.shared.ledger.term().0;
        Ok(Response::new(wire::ListHostsResponse { hosts, coordinator_version: VERSION.to_owned(), term }))
    }

    async fn plan(&self, request: Request<wire::PlanRequest>) -> Answer<wire::PlanResponse> {
        Ok(Response::new(planning::plan(&self.shared, request.into_inner()).await?))
    }

    async fn apply(&self, request: Request<wire::ApplyRequest>) -> Answer<wire::ApplyResponse> {
        let visit = visit(&request)?;
        let request = request.into_inner();
        let known = self.shared.ledger.plan(&request.plan_hash).map_err(store_failed)?;
        if let Some(plan) = known.filter(|plan| plan.rebuild.is_some()) {
            let operation = rebuild::apply(&self.shared, &visit, &request, &plan).await?;
            return Ok(Response::new(wire::ApplyResponse { operation: Some(operation) }));
        }
        let operation = apply::apply(&self.shared, &request)?;
        let detail = format!("plan {}, cluster {}, operation {}", request.plan_hash, operation.cluster, operation.id);
        self.shared.audit(&visit, "Admin/Apply", &detail)?;
        Ok(Response::new(wire::ApplyResponse { operation: Some(operation) }))
    }

    async fn list_operations(
        &self,
        request: Request<wire::ListOperationsRequest>,
    ) -> Answer<wire::ListOperationsResponse> {
        let of = Some(request.into_inner().cluster).filter(|name| !name.is_empty());
        let records = self.shared.ledger.operations(of.as_deref()).map_err(store_failed)?;
        let operations = records.iter().map(operations::wire_operation).collect();
        Ok(Response::new(wire::ListOperationsResponse { operations }))
    }

    async fn get_operation(&self, request: Request<wire::GetOperationRequest>) -> Answer<wire::GetOperationResponse> {
        let record = operations::find(&self.shared, &request.into_inner().id)?;
        Ok(Response::new(wire::GetOperationResponse { operation: Some(operations::wire_operation(&record)) }))
    }

    async fn watch_operation(
        &self,
        request: Request<wire::WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        let request = request.into_inner();
        let record = operations::find(&self.shared, &request.id)?;
        let (say, said) = mpsc::channel(64);
        tokio::spawn(operations::watch(self.shared.clone(), record.id, request.after_seq, say));
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn pause_operation(
        &self,
        request: Request<wire::PauseOperationRequest>,
    ) -> Answer<wire::PauseOperationResponse> {
        let visit = visit(&request)?;
        let operation = Some(operations::pause(&self.shared, &visit, &request.into_inner().id)?);
        Ok(Response::new(wire::PauseOperationResponse { operation }))
    }

    async fn resume_operation(
        &self,
        request: Request<wire::ResumeOperationRequest>,
    ) -> Answer<wire::ResumeOperationResponse> {
        let visit = visit(&request)?;
        let operation = Some(operations::resume(&self.shared, &visit, &request.into_inner().id)?);
        Ok(Response::new(wire::ResumeOperationResponse { operation }))
    }

    async fn cancel_operation(
        &self,
        request: Request<wire::CancelOperationRequest>,
    ) -> Answer<wire::CancelOperationResponse> {
        let visit = visit(&request)?;
        let operation = Some(operations::cancel(&self.shared, &visit, &request.into_inner().id)?);
        Ok(Response::new(wire::CancelOperationResponse { operation }))
    }

    async fn list_clusters(&self, _: Request<wire::ListClustersRequest>) -> Answer<wire::ListClustersResponse> {
        let records = self.shared.ledger.clusters().map_err(store_failed)?;
        let one =
            |record: &ClusterRecord| self.with_operations(record, status::cluster(record, self.state_of(record)?));
        let clusters = records.iter().map(one).collect::<Result<_, Failure>>()?;
        Ok(Response::new(wire::ListClustersResponse { clusters }))
    }

    async fn get_status(&self, request: Request<wire::GetStatusRequest>) -> Answer<wire::GetStatusResponse> {
        Ok(Response::new(self.status(&request.into_inner().cluster)?))
    }

    async fn watch_status(&self, request: Request<wire::WatchStatusRequest>) -> Answer<Self::WatchStatusStream> {
        let name = request.into_inner().cluster;
        let first = self.status(&name)?;
        let (say, said) = mpsc::channel(4);
        let admin = Self::new(self.shared.clone());
        tokio::spawn(async move {
            let mut changes = admin.shared.changes.subscribe();
            let mut next = Ok(first);
            while say.send(next.map_err(Status::from)).await.is_ok() {
                tokio::time::sleep(REFRESH / 10).await;
                tokio::select! {
                    () = admin.shared.shutdown.cancelled() => return,
                    () = say.closed() => return,
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(REFRESH) => {}
                }
                next = admin.status(&name);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn check(&self, request: Request<wire::CheckRequest>) -> Answer<wire::CheckResponse> {
        let record = self.shared.cluster(&request.into_inner().cluster)?;
        let probed = self.shared.probe(&record.blueprint).await;
        let read = |answers: Vec<wire::InstanceStatus>| {
            let parsed = answers.into_iter().map(InstanceStatus::try_from).collect::<Result<Vec<_>, _>>();
            parsed.map_err(|error| error.to_string())
        };
        let answers = probed.into_iter().map(|(host, answer)| (host, answer.and_then(read))).collect();
        let bars = self.shared.bars().map_err(store_failed)?;
        let stopped = record.duties.iter().filter(|(_, duty)| duty.stopped).map(|(id, _)| *id).collect::<BTreeSet<_>>();
        let verdict = check::judge(&record.blueprint, plan::asked(&record.spec), &answers, &bars, &stopped);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(wire::CheckResponse {
            findings: verdict.findings.into_iter().map(wire::Finding::from).collect(),
            answered: count(verdict.answered),
            instances: count(record.blueprint.members.len() - stopped.len()),
            passed: verdict.passed,
        }))
    }

    async fn list_events(&self, request: Request<wire::ListEventsRequest>) -> Answer<wire::ListEventsResponse> {
        Ok(Response::new(events::list(&self.shared, &request.into_inner()).await?))
    }

    async fn follow_log(&self, request: Request<wire::FollowLogRequest>) -> Answer<Self::FollowLogStream> {
        let request = request.into_inner();
        let record = self.shared.cluster(&request.cluster)?;
        logs::member(&record.blueprint, &request.host, request.port)?;
        let (say, said) = mpsc::channel(4);
        tokio::spawn(logs::follow(self.shared.clone(), request, say));
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn start_instance(
        &self,
        request: Request<wire::StartInstanceRequest>,
    ) -> Answer<wire::StartInstanceResponse> {
        let visit = visit(&request)?;
        let request = request.into_inner();
        Ok(Response::new(start::start(&self.shared, &visit, &request).await?))
    }

    async fn roll(&self, request: Request<wire::RollRequest>) -> Answer<wire::RollResponse> {
        let visit = visit(&request)?;
        Ok(Response::new(roll::roll(&self.shared, &visit, &request.into_inner()).await?))
    }

    async fn plan_rebuild(&self, request: Request<wire::PlanRebuildRequest>) -> Answer<wire::PlanResponse> {
        Ok(Response::new(rebuild::plan(&self.shared, request.into_inner()).await?))
    }

    async fn list_trash(&self, request: Request<wire::ListTrashRequest>) -> Answer<wire::ListTrashResponse> {
        let lives = rebuild::undoable(&self.shared)?;
        Ok(Response::new(trash::list(&self.shared, &request.into_inner(), &lives).await?))
    }

    async fn purge_trash(&self, request: Request<wire::PurgeTrashRequest>) -> Answer<wire::PurgeTrashResponse> {
        let visit = visit(&request)?;
        let request = request.into_inner();
        let undoing = |id, life| rebuild::under_way(&self.shared, id, life);
        Ok(Response::new(trash::purge(&self.shared, &visit, &request, undoing).await?))
    }

    async fn set_protection(
        &self,
        request: Request<wire::SetProtectionRequest>,
    ) -> Answer<wire::SetProtectionResponse> {
        let visit = visit(&request)?;
        let request = request.into_inner();
        let open = |record: &ClusterRecord| record.rebuild.as_ref().map(|rebuild| rebuild.operation);
        Ok(Response::new(protection::set(&self.shared, &visit, &request, open)?))
    }

    async fn smoke_test(&self, request: Request<wire::SmokeTestRequest>) -> Answer<wire::SmokeTestResponse> {
        let request = request.into_inner();
        let record = self.shared.cluster(&request.cluster)?;
        let from: HostName =
            request.from_host.parse().map_err(|error| Failure::invalid(format!("from_host: {error}")))?;
        if !self.shared.knows(&from)? {
            return Err(unknown_host(from.as_str()).into());
        }
        let members = &record.blueprint.members;
        let seeds = members.iter().map(|member| wire::Target {
            host: member.host.to_string(),
            address: member.address.to_string(),
            port: member.port.into(),
            bus: false,
        });
        let masters: Vec<SlotRange> =
            members.iter().filter_map(|member| member.role.slots().first().copied()).collect();
        let name = &record.blueprint.cluster;
        let steps = self.shared.smoke(&from, name, seeds.collect(), masters).await;
        let silent = |why| Failure::new(Reason::HostSilent, format!("{from}: {why}")).hint("muster hosts");
        Ok(Response::new(wire::SmokeTestResponse { steps: steps.map_err(silent)? }))
    }
}
