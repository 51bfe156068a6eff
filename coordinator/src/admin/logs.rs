//! FollowLog: an instance's own log, read through its agent. The coordinator keeps nothing of it.

use std::sync::Arc;

use muster_proto::{
    failure::{Failure, Reason},
    wire,
};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{blueprint::Blueprint, keeper::Shared};

/// Lines in the first answer, unless the caller says.
const LINES: u32 = 100;
/// How long an agent waits for a line before it says that there is none: less than the patience for its answer.
const WAIT_MS: u32 = 8_000;

/// The member of a cluster that is called so.
pub fn member<'a>(blueprint: &'a Blueprint, host: &str, port: u32) -> Result<&'a muster_proto::Member, Failure> {
    let named = format!("{host}:{port}");
    blueprint.members.iter().find(|member| member.name() == named).ok_or_else(|| {
        let cluster = &blueprint.cluster;
        Failure::new(Reason::UnknownHost, format!("cluster {cluster} has no instance {named}"))
            .hint(format!("muster status {cluster}"))
    })
}

/// Reads until there is no more, or for as long as somebody listens.
pub async fn follow(
    shared: Arc<Shared>,
    request: wire::FollowLogRequest,
    say: mpsc::Sender<Result<wire::FollowLogResponse, Status>>,
) {
    let mut task = wire::ReadLog {
        cluster: request.cluster.clone(),
        port: request.port,
        from: None,
        lines: if request.lines == 0 { LINES } else { request.lines },
        wait_ms: WAIT_MS,
    };
    loop {
        let chunk = tokio::select! {
            () = say.closed() => return,
            () = shared.shutdown.cancelled() => return,
            chunk = read(&shared, &request.host, &task) => chunk,
        };
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(failure) => {
                let _ = say.send(Err(failure.into())).await;
                return;
            }
        };
        task.from = chunk.at;
        let empty = chunk.text.is_empty();
        if !empty && say.send(Ok(wire::FollowLogResponse { text: chunk.text })).await.is_err() {
            return;
        }
        if !request.follow {
            return;
        }
    }
}

async fn read(shared: &Shared, host: &str, task: &wire::ReadLog) -> Result<wire::LogChunk, Failure> {
    let silent = |why| Failure::new(Reason::HostSilent, format!("{host}: {why}")).hint("muster hosts");
    let host = host.parse().map_err(|error| Failure::invalid(format!("host: {error}")))?;
    shared.read_log(&host, task.clone()).await.map_err(silent)
}
