//! `muster context`: coordinators by name, and how their authorities are followed.
//!
//! A context is kept only after the coordinator, signed by the authority that the access string pins, has taken the
//! access. From then on the fleet's authorities are believed, all of them. When the coordinator shows one that
//! is not known here, the list is asked for anew, over a connection that the known ones vouch for.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_proto::{
    Sha256,
    pki::{self, Believes, Identity, Key, Name},
    token::AccessString,
    wire::{CertifyUserRequest, ListAuthoritiesRequest, WhoAmIRequest, WhoAmIResponse},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    Context, Verdict,
    args::ContextCommand,
    connect::{self, Link, Login, QUICK, Who, call},
    contexts::{Access, ContextName, Contexts, ContextsError, Kept},
    endpoint::Endpoint,
    error::CliError,
    target::{Target, TargetError},
};
use crate::render::context::{ContextJson, ContextsJson, OneJson, list, one};

pub async fn run(context: &mut Context, command: ContextCommand) -> Result<Verdict, CliError> {
    match command {
        ContextCommand::Add { name, certificate } => return add(context, name, certificate).await,
        ContextCommand::Use { name } => {
            let kept = context.wish.store()?.change(|contexts| {
                let kept = known(contexts, &name)?.clone();
                contexts.current = Some(name.clone());
                Ok::<_, CliError>(kept)
            })?;
            show(context, &name, &kept, true);
        }
        ContextCommand::List => {
            let contexts = context.wish.store()?.read()?;
            let all: Vec<_> = contexts.kept.iter().map(|(name, kept)| json(name, kept, &contexts)).collect();
            let now = now_ms();
            context.show(|| list(&all, now), || ContextsJson::new(&all));
        }
        ContextCommand::Remove { name } => {
            let kept = context.wish.store()?.change(|contexts| {
                let kept = known(contexts, &name)?.clone();
                contexts.kept.remove(&name);
                contexts.current.take_if(|current| *current == name);
                Ok::<_, CliError>(kept)
            })?;
            show(context, &name, &kept, false);
            if let Some(access) = &kept.access {
                let user = &access.user;
                context
                    .console
                    .note(&format!("forgotten here; {user} is let in there until: muster user remove {user}"));
            }
        }
    }
    Ok(Verdict::Done)
}

async fn add(context: &mut Context, name: ContextName, certificate: bool) -> Result<Verdict, CliError> {
    let endpoint = context.wish.endpoint.clone().ok_or_else(|| CliError::Usage {
        what: "where the coordinator listens is not said".into(),
        hint: format!("muster context add {name} --endpoint https://HOST:PORT"),
    })?;
    // Found out before a secret is asked for, or spent on a certificate.
    let store = context.wish.store()?;
    store.read()?;
    let access = match endpoint {
        Endpoint::Https { .. } => Some(access(context, &endpoint, certificate).await?),
        Endpoint::Unix(_) | Endpoint::Http(_) => None,
    };
    let kept = Kept { endpoint, access };
    let (replaced, current) = store.change(|contexts| {
        let replaced = contexts.kept.insert(name.clone(), kept.clone()).is_some();
        Ok::<_, ContextsError>((replaced, *contexts.current.get_or_insert_with(|| name.clone()) == name))
    })?;
    show(context, &name, &kept, current);
    if replaced {
        context.console.note("it takes the place of the one before");
    }
    if !current {
        context.console.note(&format!("to use it from now on: muster context use {name}"));
    }
    Ok(Verdict::Done)
}

/// Reads the access string, and finds out what it is worth.
async fn access(context: &mut Context, endpoint: &Endpoint, certificate: bool) -> Result<Access, CliError> {
    let hint = || "an admin makes one: muster user add NAME --role ROLE".to_owned();
    let usage = |what: String| CliError::Usage { what, hint: hint() };
    let text = context.console.ask_secret("access string (not shown): ").await;
    let text = text.ok_or_else(|| usage("there is no access string on standard input".into()))?;
    let string: AccessString = text.expose().parse().map_err(|error| usage(format!("{error}")))?;
    let user = string.id().to_owned();
    let who = Who::Bearer { user: user.clone(), secret: string.secret().clone() };
    let login = Login { believes: Believes::Pinned(string.authority()), who };
    let link = connect::connect(endpoint, Some(&login)).await?;
    let WhoAmIResponse { expires_unix_ms, .. } =
        call("checking the access string", QUICK, link.trust().who_am_i(WhoAmIRequest {})).await?;
    let authorities = authorities(&link).await?;
    let who = match certificate {
        true => certify(context, &link, &user, Key::generate().map_err(CliError::Identity)?).await?,
        false => login.who,
    };
    Ok(Access { user, expires_unix_ms, authorities, who })
}

/// Has a certificate made for a key, which stays here.
async fn certify(context: &mut Context, link: &Link, user: &str, key: Key) -> Result<Who, CliError> {
    let csr = key.request(user).map_err(CliError::Identity)?;
    let doing = "asking for a certificate".to_owned();
    let mut trust = link.trust();
    let answer = context.change(&doing, trust.certify_user(CertifyUserRequest { csr })).await?;
    let about = pki::read_certificate(&answer.certificate).map_err(CliError::Identity)?;
    if about.name != Name::User(user.to_owned()) || about.key != key.sha256().map_err(CliError::Identity)? {
        return Err(CliError::Hollow { doing, missing: "certificate of ours" });
    }
    Ok(Who::Certificate(Identity { certificate: answer.certificate, key }))
}

/// The fleet's authorities, DER, once each has been read.
async fn authorities(link: &Link) -> Result<Vec<Vec<u8>>, CliError> {
    let doing = "asking for the fleet's authorities".to_owned();
    let mut trust = link.trust();
    let answer = call(&doing, QUICK, trust.list_authorities(ListAuthoritiesRequest {})).await?;
    let pem: String = answer.authorities.iter().map(|authority| authority.certificate_pem.as_str()).collect();
    let authorities = pki::from_pem(&pem).map_err(CliError::Identity)?;
    pki::roots(&authorities).map_err(CliError::Identity)?;
    if authorities.is_empty() {
        return Err(CliError::Hollow { doing, missing: "authorities" });
    }
    Ok(authorities)
}

/// Keeps the fleet's authorities up to date, when the coordinator has shown one that the context does not know. What
/// goes wrong with that is said, and is no reason to fail: this connection stands.
pub(super) async fn follow_authorities(context: &mut Context, target: &Target, link: &Link) {
    let Some(Login { believes: Believes::Authorities(known), .. }) = &target.login else { return };
    let Some(name) = target.context.as_ref().filter(|_| has_news(&link.shown(), known)) else { return };
    if let Err(error) = follow(context, name, link).await {
        let causes: String = error.causes().iter().map(|cause| format!("; {cause}")).collect();
        let note = format!("the fleet has a new authority, and context {name} could not take it over: {error}{causes}");
        context.console.note(&note);
    }
}

/// A client certificate is renewed too, for the same key: the older authority is about to be retired.
async fn follow(context: &mut Context, name: &ContextName, link: &Link) -> Result<(), CliError> {
    let new = authorities(link).await?;
    let store = context.wish.store()?;
    let access = store.read()?.kept.remove(name).and_then(|kept| kept.access);
    let renewed = match access {
        Some(Access { user, who: Who::Certificate(identity), .. }) => {
            Some(certify(context, link, &user, identity.key).await?)
        }
        _ => None,
    };
    store.change(|contexts| {
        if let Some(access) = contexts.kept.get_mut(name).and_then(|kept| kept.access.as_mut()) {
            access.authorities = new;
            access.who = renewed.unwrap_or_else(|| access.who.clone());
        }
        Ok::<_, CliError>(())
    })
}

/// Whether an authority was shown whose key is not among the known ones. An authority that two others vouch for has two
/// certificates and one key.
fn has_news(shown: &[Vec<u8>], known: &[Vec<u8>]) -> bool {
    let authority = |der: &Vec<u8>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        certificate.is_ca().then(|| Sha256::of(certificate.public_key().raw))
    };
    let known: Vec<_> = known.iter().filter_map(authority).collect();
    shown.iter().filter_map(authority).any(|key| !known.contains(&key))
}

fn known<'a>(contexts: &'a Contexts, name: &ContextName) -> Result<&'a Kept, TargetError> {
    let unknown = || TargetError::Unknown { name: name.clone(), known: contexts.kept.keys().cloned().collect() };
    contexts.kept.get(name).ok_or_else(unknown)
}

fn json(name: &ContextName, kept: &Kept, contexts: &Contexts) -> ContextJson {
    describe(name, kept, contexts.current.as_ref() == Some(name))
}

fn describe(name: &ContextName, kept: &Kept, current: bool) -> ContextJson {
    let access = kept.access.as_ref();
    ContextJson {
        name: name.to_string(),
        current,
        endpoint: kept.endpoint.to_string(),
        user: access.map(|access| access.user.clone()),
        how: access.map(|access| match access.who {
            Who::Bearer { .. } => "access-string",
            Who::Certificate(_) => "certificate",
        }),
        expires_unix_ms: access.map(|access| access.expires_unix_ms).filter(|expires| *expires > 0),
    }
}

fn show(context: &mut Context, name: &ContextName, kept: &Kept, current: bool) {
    let json = describe(name, kept, current);
    context.show(|| one(&json), || OneJson::new(&json));
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
