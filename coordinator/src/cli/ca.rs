//! `muster ca`: the fleet's authorities.

use muster_proto::wire::{Authority, ListAuthoritiesRequest, RetireAuthorityRequest, RotateAuthorityRequest};

use super::{
    Context, Verdict,
    args::CaCommand,
    connect::{QUICK, call},
    error::CliError,
};
use crate::render::authority::{AuthoritiesJson, list};

const ROTATED: &str = "hosts follow by themselves, contexts when they are next used; \
    when the old one has signed for nobody any more: muster ca retire";

pub async fn run(context: &mut Context, command: CaCommand) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    match command {
        CaCommand::List => {
            let request = trust.list_authorities(ListAuthoritiesRequest {});
            let authorities = call("listing authorities", QUICK, request).await?.authorities;
            show(context, &authorities);
        }
        CaCommand::Rotate => {
            let request = trust.rotate_authority(RotateAuthorityRequest {});
            let authorities = context.change("rotating the authority", request).await?.authorities;
            show(context, &authorities);
            context.console.note(ROTATED);
        }
        CaCommand::Retire { force } => {
            let request = trust.retire_authority(RetireAuthorityRequest { force });
            let authorities = context.change("retiring the old authorities", request).await?.authorities;
            show(context, &authorities);
        }
    }
    Ok(Verdict::Done)
}

fn show(context: &mut Context, authorities: &[Authority]) {
    context.show(|| list(authorities), || AuthoritiesJson::from(authorities));
}
