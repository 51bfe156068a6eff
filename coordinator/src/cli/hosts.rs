//! `muster hosts`.

use muster_proto::wire::ListHostsRequest;

use super::{
    Context, Verdict,
    connect::{QUICK, THOROUGH, call},
    error::CliError,
};
use crate::render::hosts::{HostsJson, all_good, facts_text, text};

pub async fn run(context: &mut Context, facts: bool) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let patience = if facts { THOROUGH } else { QUICK };
    let answer = call("listing hosts", patience, admin.list_hosts(ListHostsRequest { facts })).await?;
    let shown = || if facts { facts_text(&answer) } else { text(&answer) };
    context.show(shown, || HostsJson::from(&answer));
    Ok(Verdict::of(!facts || all_good(&answer)))
}
