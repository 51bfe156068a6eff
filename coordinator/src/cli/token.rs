//! `muster token`: join tokens, and the one command that a host needs.
//!
//! The token alone is data, so that it can be piped to where it is wanted without being seen. The command with the
//! token in it is shown to a person at a terminal only: what is not a terminal may be a log.

use muster_proto::{
    HostName, Secret,
    wire::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest},
};

use super::{
    Context, Verdict,
    args::{Format, TokenCommand},
    connect::{QUICK, call},
    error::CliError,
};
use crate::render::token::{CreatedJson, RevokedJson, TokensJson, created, list};

pub async fn run(context: &mut Context, command: TokenCommand) -> Result<Verdict, CliError> {
    match command {
        TokenCommand::Create { host, ttl, uses, approve } => {
            let host = host.as_ref().map(HostName::to_string).unwrap_or_default();
            create(context, CreateTokenRequest { host, ttl_s: ttl.seconds, uses, rejoin: false, approve }).await
        }
        TokenCommand::List => {
            let mut trust = context.trust().await?;
            let tokens = call("listing tokens", QUICK, trust.list_tokens(ListTokensRequest {})).await?.tokens;
            context.show(|| list(&tokens), || TokensJson::from(&*tokens));
            Ok(Verdict::Done)
        }
        TokenCommand::Revoke { id } => {
            let mut trust = context.trust().await?;
            let request = RevokeTokenRequest { id: id.clone() };
            context.change(&format!("revoking token {id}"), trust.revoke_token(request)).await?;
            context.show(|| format!("token {id} can no longer be used\n"), || RevokedJson::new(&id));
            Ok(Verdict::Done)
        }
    }
}

/// Has a token made, and shows it once.
pub(super) async fn create(context: &mut Context, request: CreateTokenRequest) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    let doing = "making a join token".to_owned();
    let answer = context.change(&doing, trust.create_token(request)).await?;
    let about = answer.about.clone().ok_or(CliError::Hollow { doing, missing: "token" })?;
    let token = Secret::new(answer.token);
    if context.format == Format::Json {
        context.show(String::new, || CreatedJson::new(&token, &about));
        return Ok(Verdict::Done);
    }
    context.console.data(&format!("{}\n", token.expose()));
    let seen = context.console.draws.then_some(&token);
    context.console.note(&created(&about, seen));
    Ok(Verdict::Done)
}
