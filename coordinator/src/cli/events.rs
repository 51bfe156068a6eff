//! `muster events`: what has happened on hosts, in their agents' own words.

use muster_proto::{ClusterName, HostName, wire::ListEventsRequest};

use super::{
    Context, Verdict,
    connect::{THOROUGH, call},
    error::CliError,
};
use crate::render::events::{EventsJson, text};

pub async fn run(
    context: &mut Context,
    cluster: Option<&ClusterName>,
    host: Option<&HostName>,
    last: u32,
) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let request = ListEventsRequest {
        cluster: cluster.map(ToString::to_string).unwrap_or_default(),
        host: host.map(ToString::to_string).unwrap_or_default(),
        most: last,
    };
    let answer = call("listing events", THOROUGH, admin.list_events(request)).await?;
    context.show(|| text(&answer), || EventsJson::from(&answer));
    Ok(Verdict::of(answer.silent.is_empty()))
}
