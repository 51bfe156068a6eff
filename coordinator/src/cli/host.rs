//! `muster host`: how far a host is believed.

use muster_proto::{
    HostName,
    wire::{
        ApproveHostRequest, CreateTokenRequest, HostTrust, QuarantineHostRequest, RemoveHostRequest, RevokeHostRequest,
    },
};

use super::{Context, Verdict, args::HostCommand, confirm::confirmed, error::CliError, token};
use crate::render::trust::{OneJson, RemovedJson, one, removed};

pub async fn run(context: &mut Context, command: HostCommand) -> Result<Verdict, CliError> {
    match command {
        HostCommand::Approve { host } => {
            let mut trust = context.trust().await?;
            let request = ApproveHostRequest { host: host.to_string() };
            let answer = context.change(&format!("approving host {host}"), trust.approve_host(request)).await?;
            show(context, &host, answer.trust);
        }
        HostCommand::Quarantine { host, reason } => {
            let mut trust = context.trust().await?;
            let request = QuarantineHostRequest { host: host.to_string(), reason };
            let answer = context.change(&format!("quarantining host {host}"), trust.quarantine_host(request)).await?;
            show(context, &host, answer.trust);
        }
        HostCommand::Revoke { host, reason, confirm } => {
            let meaning = format!(
                "The key of {host} is refused for good, and the host is cut off at once. Its redis-servers go on, and \
                 nobody looks after them.\nTo come back it needs a new key and: muster host rejoin-token {host}"
            );
            confirmed(context, host.as_str(), confirm, &meaning, &format!("muster host revoke {host}")).await?;
            let mut trust = context.trust().await?;
            let request = RevokeHostRequest { host: host.to_string(), reason };
            let answer = context.change(&format!("revoking host {host}"), trust.revoke_host(request)).await?;
            show(context, &host, answer.trust);
        }
        HostCommand::Remove { host, confirm } => {
            let meaning = format!(
                "All that is known of {host} is forgotten, its identity too. It is refused while the host has \
                 instances.\nWhat a rebuild has left behind on it holds nothing up any more, and its bus ports are \
                 free for others: nothing of it may run any more, and an undo that needs it needs the host.\nTo come \
                 back it has to be enrolled like a new one (muster token create --host {host}); what was left behind \
                 is then stopped and set aside."
            );
            confirmed(context, host.as_str(), confirm, &meaning, &format!("muster host remove {host}")).await?;
            let mut trust = context.trust().await?;
            let request = RemoveHostRequest { host: host.to_string() };
            let answer = context.change(&format!("removing host {host}"), trust.remove_host(request)).await?;
            context.show(|| removed(host.as_str(), &answer), || RemovedJson::new(host.as_str(), &answer));
        }
        HostCommand::RejoinToken { host, ttl } => {
            let request = CreateTokenRequest {
                host: host.to_string(),
                ttl_s: ttl.seconds,
                uses: 1,
                rejoin: true,
                approve: false,
            };
            return token::create(context, request).await;
        }
    }
    Ok(Verdict::Done)
}

fn show(context: &mut Context, host: &HostName, trust: Option<HostTrust>) {
    let trust = trust.unwrap_or_default();
    context.show(|| one(host.as_str(), &trust), || OneJson::new(host.as_str(), &trust));
}
