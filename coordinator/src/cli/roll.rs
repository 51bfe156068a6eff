//! `muster stop`, `start`, `restart`: look ahead, ask, begin, follow.

use muster_proto::wire::{Operation, RollKind, RollRequest, RollResponse};
use uuid::Uuid;

use super::{
    Context, Verdict,
    args::{Consent, Format, Restart, Start, Stop, Which},
    confirm::confirmed,
    connect::{Admin, THOROUGH, call},
    error::CliError,
    follow, start,
};
use crate::render::{
    operation::OneJson,
    roll::{OutlookJson, done, outlook, word},
};

pub async fn stop(context: &mut Context, stop: Stop) -> Result<Verdict, CliError> {
    run(context, RollKind::Stop, stop.which, stop.consent, false).await
}

pub async fn restart(context: &mut Context, restart: Restart) -> Result<Verdict, CliError> {
    run(context, RollKind::Restart, restart.which, restart.consent, restart.give_back).await
}

pub async fn start(context: &mut Context, wanted: Start) -> Result<Verdict, CliError> {
    match &wanted.which.instance {
        Some(instance) if wanted.even_if_empty => {
            start::run(context, &wanted.which.cluster, instance, wanted.confirm).await
        }
        // Whatever starts serves more than before.
        _ => run(context, RollKind::Start, wanted.which, Consent { yes: true, confirm: None }, false).await,
    }
}

async fn run(
    context: &mut Context,
    kind: RollKind,
    which: Which,
    consent: Consent,
    give_back: bool,
) -> Result<Verdict, CliError> {
    let (host, port) = match (&which.instance, &which.host) {
        (Some(place), _) => (place.host.to_string(), place.port.into()),
        (None, host) => (host.as_ref().map(ToString::to_string).unwrap_or_default(), 0),
    };
    let request = RollRequest {
        cluster: which.cluster.to_string(),
        kind: kind.into(),
        host,
        port,
        even_if_unserved: false,
        give_back,
        preview: true,
        request_id: String::new(),
    };
    let mut admin = context.connect().await?;
    let doing = format!("looking ahead at a {} of {}", word(kind), which.cluster);
    let ahead = call(&doing, THOROUGH, admin.roll(request.clone())).await?;
    if which.dry_run || ahead.steps.is_empty() {
        let shown = OutlookJson::new(&request, &ahead);
        context.show(|| outlook(&shown), || &shown);
        return Ok(Verdict::Done);
    }
    let even_if_unserved = agree(context, &request, &ahead, consent).await?;
    let request = RollRequest { even_if_unserved, preview: false, request_id: Uuid::new_v4().to_string(), ..request };
    match begin(context, &mut admin, &request).await? {
        Some(operation) => watch(context, &mut admin, &operation).await,
        // It was done meanwhile.
        None => {
            let shown = OutlookJson::new(&request, &RollResponse::default());
            context.show(|| outlook(&shown), || &shown);
            Ok(Verdict::Done)
        }
    }
}

/// Shows what it means, and asks: for a yes, or where slots are served by nobody, for the cluster's name. Returns
/// whether that was typed.
async fn agree(
    context: &mut Context,
    request: &RollRequest,
    ahead: &RollResponse,
    consent: Consent,
) -> Result<bool, CliError> {
    let shown = outlook(&OutlookJson::new(request, ahead));
    context.console.note(shown.trim_end());
    let (cluster, word) = (&request.cluster, word(request.kind()));
    let place = match (request.host.as_str(), request.port) {
        ("", _) => String::new(),
        (host, 0) => format!(" --host {host}"),
        (host, port) => format!(" --instance {host}:{port}"),
    };
    let again = format!("muster {word} {cluster}{place}");
    if ahead.unserved {
        let meaning = "Slots are served by nobody meanwhile.";
        confirmed(context, cluster, consent.confirm, meaning, &again).await?;
        return Ok(true);
    }
    if consent.yes || consent.confirm.as_deref() == Some(cluster) {
        return Ok(false);
    }
    if !context.console.asks {
        let what = "there is no terminal to ask for your `yes` on".into();
        return Err(CliError::Usage { what, hint: format!("{again} --yes") });
    }
    let answer = context.console.ask("Do that? (type 'yes' to accept): ").await;
    if answer.is_some_and(|answer| answer.trim() == "yes") { Ok(false) } else { Err(CliError::Declined) }
}

/// Begins it; the same request again if the answer is lost.
async fn begin(context: &mut Context, admin: &mut Admin, request: &RollRequest) -> Result<Option<Operation>, CliError> {
    let doing = format!("beginning a {} of {}", word(request.kind()), request.cluster);
    let send = || {
        let (mut admin, request, doing) = (admin.clone(), request.clone(), doing.clone());
        async move { call(&doing, THOROUGH, admin.roll(request)).await }
    };
    Ok(context.begin(send).await?.operation)
}

async fn watch(context: &mut Context, admin: &mut Admin, begun: &Operation) -> Result<Verdict, CliError> {
    let operation = follow::own(context, admin, &begun.id).await?;
    let verdict = follow::verdict(&operation);
    match (context.format, &verdict) {
        (Format::Json, _) => context.show(String::new, || OneJson::from(&operation)),
        (Format::Text, Ok(())) => context.console.data(&done(&operation)),
        (Format::Text, Err(_)) => {}
    }
    verdict.map(|()| Verdict::Done)
}
