//! `muster whoami`.

use muster_proto::wire::WhoAmIRequest;

use super::{
    Context, Verdict,
    connect::{QUICK, call},
    error::CliError,
};
use crate::render::whoami::{WhoamiJson, text};

pub async fn run(context: &mut Context) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    let answer = call("asking who you are", QUICK, trust.who_am_i(WhoAmIRequest {})).await?;
    let target = context.target.as_ref();
    let endpoint = target.map(|target| target.endpoint.to_string()).unwrap_or_default();
    let name = target.and_then(|target| target.context.as_ref()).map(ToString::to_string);
    let json = WhoamiJson::new(&answer, endpoint, name);
    context.show(|| text(&json), || &json);
    Ok(Verdict::Done)
}
