//! A coordinator for tests: the Admin and the Trust service on a unix socket, which answer from a script and remember
//! what they were asked.

pub mod fleet;
pub mod trust;

use std::{
    collections::VecDeque,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use muster_proto::wire::{admin_server::Admin, admin_server::AdminServer, trust_server::TrustServer, *};
use tokio::net::UnixListener;
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, transport::Server};

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What it answers with, and what it was asked.
#[derive(Default)]
pub struct Script {
    pub plan: Option<Result<PlanResponse, Status>>,
    /// One for each try; the last one again.
    pub apply: VecDeque<Result<Operation, Status>>,
    /// What each WatchOperation sends before it ends, the last one again; a status breaks the stream.
    pub streams: VecDeque<Vec<Result<OperationEvent, Status>>>,
    /// What each GetOperation answers; the last one again.
    pub operations: VecDeque<Result<Operation, Status>>,
    /// One for each Roll; the last one again.
    pub roll: VecDeque<Result<RollResponse, Status>>,
    pub rebuild: Option<Result<PlanResponse, Status>>,
    pub trash: ListTrashResponse,
    pub purge: PurgeTrashResponse,
    pub protection: SetProtectionResponse,
    pub clusters: Vec<Cluster>,
    pub status: Option<GetStatusResponse>,
    pub check: CheckResponse,
    pub hosts: ListHostsResponse,
    pub trust: trust::Answers,
    /// "plan orders", "apply HASH REQUEST", "watch AFTER", in order.
    pub asked: Vec<String>,
}

/// The service.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Script>>);

impl Fake {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// Serves until the test's runtime ends; returns the endpoint to give to `--endpoint`.
    pub fn serve(&self, dir: &tempfile::TempDir) -> String {
        let path: PathBuf = dir.path().join("admin.sock");
        let listener = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let server =
            Server::builder().add_service(AdminServer::new(self.clone())).add_service(TrustServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(listener));
        format!("unix:{}", path.display())
    }

    fn asked(&self, what: String) -> MutexGuard<'_, Script> {
        let mut script = self.script();
        script.asked.push(what);
        script
    }

    fn operation(&self, what: String) -> Result<Operation, Status> {
        next(&mut self.asked(what).operations).unwrap_or_else(|| Err(Status::unimplemented("not in the script")))
    }
}

/// The next of a list, or its last for ever.
fn next<T: Clone>(list: &mut VecDeque<T>) -> Option<T> {
    if list.len() > 1 { list.pop_front() } else { list.front().cloned() }
}

#[tonic::async_trait]
impl Admin for Fake {
    type WatchOperationStream = Events<OperationEvent>;
    type FollowLogStream = Events<FollowLogResponse>;
    type WatchStatusStream = Events<GetStatusResponse>;

    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Result<Response<ListHostsResponse>, Status> {
        Ok(Response::new(self.asked("hosts".into()).hosts.clone()))
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanResponse>, Status> {
        let name = request.into_inner().spec.unwrap_or_default().name;
        let plan = self.asked(format!("plan {name}")).plan.clone();
        plan.unwrap_or_else(|| Err(Status::unimplemented("not in the script"))).map(Response::new)
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let ApplyRequest { plan_hash, request_id, confirm } = request.into_inner();
        let mut script = self.asked(format!("apply {plan_hash} {request_id} {confirm}").trim_end().to_owned());
        let answer = next(&mut script.apply).unwrap_or_else(|| Err(Status::unimplemented("not in the script")));
        answer.map(|operation| Response::new(ApplyResponse { operation: Some(operation) }))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let script = self.asked(format!("ops {}", request.into_inner().cluster));
        let operations = script.operations.iter().filter_map(|operation| operation.clone().ok()).collect();
        Ok(Response::new(ListOperationsResponse { operations }))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        let operation = self.operation(format!("get {}", request.into_inner().id))?;
        Ok(Response::new(GetOperationResponse { operation: Some(operation) }))
    }

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let after = request.into_inner().after_seq;
        let events = next(&mut self.asked(format!("watch {after}")).streams).unwrap_or_default();
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }

    async fn pause_operation(
        &self,
        request: Request<PauseOperationRequest>,
    ) -> Result<Response<PauseOperationResponse>, Status> {
        let operation = self.operation(format!("pause {}", request.into_inner().id))?;
        Ok(Response::new(PauseOperationResponse { operation: Some(operation) }))
    }

    async fn resume_operation(
        &self,
        request: Request<ResumeOperationRequest>,
    ) -> Result<Response<ResumeOperationResponse>, Status> {
        let operation = self.operation(format!("resume {}", request.into_inner().id))?;
        Ok(Response::new(ResumeOperationResponse { operation: Some(operation) }))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        let operation = self.operation(format!("cancel {}", request.into_inner().id))?;
        Ok(Response::new(CancelOperationResponse { operation: Some(operation) }))
    }

    async fn list_clusters(&self, _: Request<ListClustersRequest>) -> Result<Response<ListClustersResponse>, Status> {
        Ok(Response::new(ListClustersResponse { clusters: self.asked("clusters".into()).clusters.clone() }))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let status = self.asked(format!("status {}", request.into_inner().cluster)).status.clone();
        status.map(Response::new).ok_or_else(|| Status::unimplemented("not in the script"))
    }

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let status = self.asked(format!("watch-status {}", request.into_inner().cluster)).status.clone();
        // Two answers, and then the stream stays open.
        let answers = tokio_stream::iter(status.into_iter().flat_map(|status| [Ok(status.clone()), Ok(status)]));
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(answers, tokio_stream::pending()))))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.asked(format!("check {}", request.into_inner().cluster)).check.clone()))
    }

    async fn follow_log(&self, _: Request<FollowLogRequest>) -> Result<Response<Self::FollowLogStream>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn list_events(&self, _: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn start_instance(
        &self,
        request: Request<StartInstanceRequest>,
    ) -> Result<Response<StartInstanceResponse>, Status> {
        drop(self.asked(format!("{:?}", request.into_inner())));
        Ok(Response::new(StartInstanceResponse { running: false }))
    }

    async fn roll(&self, request: Request<RollRequest>) -> Result<Response<RollResponse>, Status> {
        let mut script = self.asked(format!("{:?}", request.into_inner()));
        let answer = if script.roll.len() > 1 { script.roll.pop_front() } else { script.roll.front().cloned() };
        answer.unwrap_or_else(|| Err(Status::unimplemented("not in the script"))).map(Response::new)
    }

    async fn plan_rebuild(&self, request: Request<PlanRebuildRequest>) -> Result<Response<PlanResponse>, Status> {
        let request = request.into_inner();
        // A spec is long; its name tells it from none.
        let spec = request.spec.as_ref().map(|spec| spec.name.clone());
        let request = PlanRebuildRequest { spec: None, ..request };
        let answer = self.asked(format!("{request:?} to {spec:?}")).rebuild.clone();
        answer.unwrap_or_else(|| Err(Status::unimplemented("not in the script"))).map(Response::new)
    }

    async fn list_trash(&self, request: Request<ListTrashRequest>) -> Result<Response<ListTrashResponse>, Status> {
        Ok(Response::new(self.asked(format!("{:?}", request.into_inner())).trash.clone()))
    }

    async fn purge_trash(&self, request: Request<PurgeTrashRequest>) -> Result<Response<PurgeTrashResponse>, Status> {
        Ok(Response::new(self.asked(format!("{:?}", request.into_inner())).purge.clone()))
    }

    async fn set_protection(
        &self,
        request: Request<SetProtectionRequest>,
    ) -> Result<Response<SetProtectionResponse>, Status> {
        Ok(Response::new(self.asked(format!("{:?}", request.into_inner())).protection))
    }

    async fn smoke_test(&self, _: Request<SmokeTestRequest>) -> Result<Response<SmokeTestResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}
