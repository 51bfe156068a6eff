//! `muster logs`: an instance's own log.

use muster_proto::{ClusterName, wire::FollowLogRequest};

use super::{
    Context, Verdict,
    args::{Format, Place},
    connect::{THOROUGH, call},
    error::CliError,
};
use crate::render::logs::lines;

pub async fn run(
    context: &mut Context,
    cluster: &ClusterName,
    instance: &Place,
    number: u32,
    follow: bool,
) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let request = FollowLogRequest {
        cluster: cluster.to_string(),
        host: instance.host.to_string(),
        port: instance.port.into(),
        lines: number,
        follow,
    };
    let doing = format!("reading the log of {instance}");
    let mut pieces = call(&doing, THOROUGH, admin.follow_log(request)).await?;
    loop {
        match pieces.message().await {
            Ok(Some(piece)) if context.format == Format::Json => context.console.data(&lines(&piece.text)),
            Ok(Some(piece)) => context.console.data(&piece.text),
            Ok(None) => return Ok(Verdict::Done),
            Err(status) => return Err(CliError::from_status(&doing, status)),
        }
        if context.console.is_broken() {
            return Ok(Verdict::Done);
        }
    }
}
