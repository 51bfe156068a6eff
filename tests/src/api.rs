//! The Admin service as automation calls it: typed requests over the admin socket, without the CLI in between.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use muster_proto::{
    failure::Failure,
    wire::{self, admin_client::AdminClient},
};
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// A client that waits.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    client: AdminClient<Channel>,
}

impl Api {
    /// Connects to an admin socket.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://muster");
        let channel = runtime.block_on(endpoint.connect_with_connector(connector)).unwrap();
        Self { runtime, client: AdminClient::new(channel) }
    }

    /// Plans the bootstrap of a spec file.
    ///
    /// # Panics
    /// When the file is no spec.
    pub fn plan(&mut self, spec: &str) -> Result<wire::PlanResponse, Failure> {
        let spec = muster_coordinator::spec_file::read(Path::new(spec)).unwrap();
        let request = wire::PlanRequest { spec: Some(wire::Spec::from(&spec)) };
        let answer = self.runtime.block_on(self.client.plan(request));
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }

    /// Applies a plan; the operation's id.
    pub fn apply(&mut self, plan_hash: &str, request_id: &str) -> Result<String, Failure> {
        let request = wire::ApplyRequest {
            plan_hash: plan_hash.to_owned(),
            request_id: request_id.to_owned(),
            confirm: String::new(),
        };
        let answer = self.runtime.block_on(self.client.apply(request));
        let operation = answer.map_err(|status| failure(&status))?.into_inner().operation;
        Ok(operation.expect("an apply that succeeds has an operation").id)
    }

    /// Plans a rebuild, or its undoing.
    pub fn plan_rebuild(&mut self, request: wire::PlanRebuildRequest) -> Result<wire::Plan, Failure> {
        let answer = self.runtime.block_on(self.client.plan_rebuild(request));
        let plan = answer.map_err(|status| failure(&status))?.into_inner().plan;
        Ok(plan.expect("an answer to PlanRebuild has a plan"))
    }

    /// Applies the plan of a rebuild, with a name that somebody has typed; the operation's id.
    pub fn approve(&mut self, plan_hash: &str, request_id: &str, confirm: &str) -> Result<String, Failure> {
        let request = wire::ApplyRequest {
            plan_hash: plan_hash.to_owned(),
            request_id: request_id.to_owned(),
            confirm: confirm.to_owned(),
        };
        let answer = self.runtime.block_on(self.client.apply(request));
        let operation = answer.map_err(|status| failure(&status))?.into_inner().operation;
        Ok(operation.expect("an apply that succeeds has an operation").id)
    }

    /// Plans and approves a rebuild; the operation's id.
    pub fn rebuild(&mut self, request: wire::PlanRebuildRequest) -> Result<String, Failure> {
        let cluster = request.cluster.clone();
        let hash = self.plan_rebuild(request)?.hash;
        self.approve(&hash, &hash[..16], &cluster)
    }

    /// Stops, starts or restarts; the operation's id.
    pub fn roll(&mut self, request: wire::RollRequest) -> Result<String, Failure> {
        let answer = self.runtime.block_on(self.client.roll(request));
        let operation = answer.map_err(|status| failure(&status))?.into_inner().operation;
        Ok(operation.expect("there was something to do").id)
    }

    /// Says that a cluster may not be rebuilt, or that it may again.
    pub fn protect(&mut self, cluster: &str, protected: bool) -> Result<bool, Failure> {
        let request = wire::SetProtectionRequest { cluster: cluster.to_owned(), protected };
        let answer = self.runtime.block_on(self.client.set_protection(request));
        answer.map(|answer| answer.into_inner().already).map_err(|status| failure(&status))
    }

    /// Deletes from the trash: what is gone, and what is not and why.
    pub fn purge(&mut self, request: wire::PurgeTrashRequest) -> Result<wire::PurgeTrashResponse, Failure> {
        let answer = self.runtime.block_on(self.client.purge_trash(request));
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }

    /// Calls an operation off.
    pub fn cancel(&mut self, id: &str) -> Result<(), Failure> {
        let request = wire::CancelOperationRequest { id: id.to_owned() };
        let answer = self.runtime.block_on(self.client.cancel_operation(request));
        answer.map(|_| ()).map_err(|status| failure(&status))
    }

    /// Pauses one.
    pub fn pause(&mut self, id: &str) -> Result<(), Failure> {
        let request = wire::PauseOperationRequest { id: id.to_owned() };
        let answer = self.runtime.block_on(self.client.pause_operation(request));
        answer.map(|_| ()).map_err(|status| failure(&status))
    }
}

fn failure(status: &Status) -> Failure {
    Failure::from_status(status).unwrap_or_else(|| panic!("not Muster's own answer: {status}"))
}

/// A rebuild to what a cluster is.
pub fn anew(cluster: &str) -> wire::PlanRebuildRequest {
    wire::PlanRebuildRequest { cluster: cluster.to_owned(), ..wire::PlanRebuildRequest::default() }
}

/// Whoever may write to it: of a cluster whose servers do not answer that is not known.
pub fn blindly(request: wire::PlanRebuildRequest) -> wire::PlanRebuildRequest {
    wire::PlanRebuildRequest { even_if_serving: true, ..request }
}

/// A rebuild without hosts that are not there.
pub fn without(cluster: &str, hosts: &[&str]) -> wire::PlanRebuildRequest {
    let fence_missing = hosts.iter().map(|host| (*host).to_owned()).collect();
    wire::PlanRebuildRequest { fence_missing, ..anew(cluster) }
}

/// The undoing of one.
pub fn back(cluster: &str) -> wire::PlanRebuildRequest {
    wire::PlanRebuildRequest { undo: true, ..anew(cluster) }
}
