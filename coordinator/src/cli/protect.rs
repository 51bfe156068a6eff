//! `muster protect` and `muster unprotect`: whether a cluster may be rebuilt.

use muster_proto::{ClusterName, wire::SetProtectionRequest};

use super::{Context, Verdict, error::CliError};
use crate::render::protection::{ProtectionJson, text};

pub async fn run(context: &mut Context, cluster: &ClusterName, protected: bool) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let request = SetProtectionRequest { cluster: cluster.to_string(), protected };
    let doing = format!("{} {cluster}", if protected { "protecting" } else { "unprotecting" });
    let answer = context.change(&doing, admin.set_protection(request)).await?;
    let shown = ProtectionJson { cluster: cluster.to_string(), protected, already: answer.already };
    context.show(|| text(&shown), || &shown);
    Ok(Verdict::Done)
}
