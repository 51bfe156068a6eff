//! `muster second`: agree with what somebody else is about to destroy.

use muster_proto::wire::SecondRequest;

use super::{Context, Verdict, error::CliError};
use crate::render::second::{SecondJson, text};

pub async fn run(context: &mut Context, id: &str) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    let request = trust.second(SecondRequest { id: id.to_owned() });
    let answer = context.change(&format!("agreeing with {id}"), request).await?;
    let json = SecondJson::new(id, &answer);
    context.show(|| text(&json), || &json);
    Ok(Verdict::Done)
}
