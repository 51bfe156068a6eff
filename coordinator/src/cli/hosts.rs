//! `muster hosts`.

use muster_proto::wire::ListHostsRequest;

use super::{
    Context, Verdict,
    connect::{QUICK, call},
    error::CliError,
};
use crate::render::hosts::{HostsJson, text};

pub async fn run(context: &mut Context) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let answer = call("listing hosts", QUICK, admin.list_hosts(ListHostsRequest {})).await?;
    context.show(|| text(&answer), || HostsJson::from(&answer));
    Ok(Verdict::Done)
}
