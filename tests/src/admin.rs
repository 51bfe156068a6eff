//! The Admin service as any automation calls it: generated client, no knowledge of the CLI.

use std::{future::Future, path::PathBuf, time::Duration};

use muster_proto::{
    failure::Failure,
    wire::{
        ApplyRequest, GetOperationRequest, Operation, OperationEvent, WatchOperationRequest, admin_client::AdminClient,
    },
};
use tokio::{net::UnixStream, runtime::Runtime, task::JoinHandle};
use tonic::{
    Status,
    transport::{Channel, Uri},
};

use crate::World;

/// Most that an operation may take, restarts of daemons on a busy machine included.
const OPERATION: Duration = Duration::from_secs(60);

/// A connection to a world's admin socket, and the runtime that it lives on.
#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    channel: Channel,
}

impl Admin {
    /// To a world's coordinator. The connection is made when it is used, and made again when it broke.
    pub fn of(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let channel = {
            let _inside = runtime.enter();
            unix(world.dir().join("admin.sock"))
        };
        Self { runtime, channel }
    }

    /// The connection, for another service on the same socket.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Begins a call, to be looked at from time to time.
    pub fn begin<F>(&self, call: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(call)
    }

    /// The client, to be used inside [`run`](Self::run).
    pub fn client(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// Runs a call to its end.
    pub fn run<F: Future>(&self, call: F) -> F::Output {
        self.runtime.block_on(call)
    }

    /// Applies a plan.
    pub fn apply(&self, plan_hash: &str, request_id: &str) -> Result<Operation, Status> {
        let request =
            ApplyRequest { plan_hash: plan_hash.to_owned(), request_id: request_id.to_owned(), confirm: String::new() };
        let answer = self.run(self.client().apply(request))?.into_inner();
        Ok(answer.operation.expect("an answer to Apply has an operation"))
    }

    /// An operation as it is.
    pub fn operation(&self, id: &str) -> Result<Operation, Status> {
        let answer = self.run(self.client().get_operation(GetOperationRequest { id: id.to_owned() }))?.into_inner();
        Ok(answer.operation.expect("an answer to GetOperation has an operation"))
    }

    /// Its events after a sequence number, until the stream ends or there are `most`.
    pub fn events(&self, id: &str, after_seq: u64, most: usize) -> Result<Vec<OperationEvent>, Status> {
        self.run(async {
            let request = WatchOperationRequest { id: id.to_owned(), after_seq };
            let mut stream = self.client().watch_operation(request).await?.into_inner();
            let mut events = Vec::new();
            while events.len() < most
                && let Some(event) = stream.message().await?
            {
                events.push(event);
            }
            Ok(events)
        })
    }

    /// Waits until an operation is done, across restarts of the coordinator.
    #[track_caller]
    pub fn until_done(&self, id: &str) -> Operation {
        crate::eventually(OPERATION, &format!("operation {id} is done"), || match self.operation(id) {
            Ok(operation) if operation.ended_unix_ms > 0 => Ok(operation),
            Ok(operation) => Err(format!("{:?} {}: {}", operation.state(), operation.phase, operation.message)),
            Err(status) => Err(status.to_string()),
        })
    }
}

/// The stable machine code of an error.
///
/// # Panics
/// When it carries none.
#[track_caller]
pub fn reason(status: &Status) -> String {
    Failure::from_status(status).unwrap_or_else(|| panic!("no ErrorInfo in {status:?}")).reason
}

fn unix(path: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    Channel::from_static("http://coordinator.local").connect_with_connector_lazy(connect)
}
