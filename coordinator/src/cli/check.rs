//! `muster check`.

use muster_proto::{ClusterName, wire::CheckRequest};

use super::{
    Context, Verdict,
    connect::{THOROUGH, call},
    error::CliError,
};
use crate::render::check::{CheckJson, ok, text};

pub async fn run(context: &mut Context, cluster: &ClusterName) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let request = CheckRequest { cluster: cluster.to_string() };
    let answer = call(&format!("checking {cluster}"), THOROUGH, admin.check(request)).await?;
    context.show(|| text(cluster.as_str(), &answer), || CheckJson::new(cluster.as_str(), &answer));
    Ok(Verdict::of(ok(&answer)))
}
