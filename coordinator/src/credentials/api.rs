//! What operators and agents ask of a cluster's credentials. Every answer with a password in it is in the audit
//! before it is given.
//!
//! A handler checks, changes the store and answers; the loop ([`keeper`](crate::keeper)) takes a rotation from stage to
//! stage.

use std::{collections::BTreeSet, sync::Arc};

use muster_proto::{
    Auth, ClusterName, HostName, OperationId, Tls,
    failure::{Failure, Reason},
    wire,
};
use uuid::Uuid;

use super::{
    Authority, Credentials, CredentialsError, DEFAULT, Kind, Rotation, Stage,
    authority::Subject,
    rotation::{Event, Next},
    step::{Step, line, step},
};
use crate::{
    admin::{operations::Sign, roll},
    caller::Caller,
    keeper::{Said, Shared},
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, Write, unix_ms},
    safeguard::store_failed,
    seal,
};

/// What clients log in with, and believe.
pub fn get(
    shared: &Shared,
    caller: &Caller,
    from: &str,
    request: wire::GetCredentialsRequest,
) -> Result<wire::GetCredentialsResponse, Failure> {
    let record = shared.cluster(&request.cluster)?;
    let name = &record.blueprint.cluster;
    let credentials = record.credentials.as_ref().ok_or_else(|| none(&record))?;
    let mut answer = wire::GetCredentialsResponse {
        tls: !matches!(record.spec.parts().tls, Tls::Off),
        ca_pem: credentials.ca_pem(),
        overlap: credentials.overlaps(),
        ..wire::GetCredentialsResponse::default()
    };
    let user = Some(request.user.as_str()).filter(|user| !user.is_empty());
    if credentials.has_passwords() || user.is_some() {
        let user = user.unwrap_or(DEFAULT);
        let unknown = || if credentials.forgot(user) { forgotten(&record, user) } else { not_drawn(&record, user) };
        let password = credentials.password(user).ok_or_else(unknown)?;
        user.clone_into(&mut answer.user);
        password.expose().clone_into(&mut answer.password);
    }
    let whose = if answer.user.is_empty() { "its authority".into() } else { format!("user {}", answer.user) };
    let shown = format!("cluster {name}, {whose}");
    let audit = |write: &Write| write.audit(caller, from, "Trust/GetCredentials", &shown);
    shared.ledger.write(audit).map_err(store_failed)?;
    Ok(answer)
}

/// Begins a rotation.
pub fn rotate(
    shared: &Arc<Shared>,
    caller: &Caller,
    from: &str,
    request: wire::RotateCredentialsRequest,
) -> Result<wire::RotateCredentialsResponse, Failure> {
    let _sole = shared.decide();
    let record = shared.cluster(&request.cluster)?;
    let name = &record.blueprint.cluster;
    let kind = if request.certificates { Kind::Certificates } else { Kind::Passwords };
    if record.formed_ms.is_none() {
        let message = format!("cluster {name} is not formed: operation {} has it", record.operation);
        return Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op watch {}", record.operation)));
    }
    let credentials = record.credentials.as_ref().ok_or_else(|| none(&record))?;
    if let Some(rotation) = credentials.rotation {
        return Err(busy(name, rotation));
    }
    roll::busy(&record)?;
    let id = OperationId(Uuid::now_v7());
    let next = begin(&record, credentials, kind, id)?;
    let Some(rotation) = next.rotation else { return Err(none(&record)) };
    let message = line(name, rotation, &[]);
    let phase = rotation.stage.word();
    let operation = OperationRecord::begin(id, kind.word(), name, phase, message);
    let (message, count) = (operation.message.as_str(), (0, record.blueprint.members.len()));
    let said = Said { operation: id, state: OpState::Running, phase, message, count };
    let after = ClusterRecord { credentials: Some(next.clone()), ..record.clone() };
    let detail = format!("cluster {name}, {}: operation {id}", kind.word());
    let begun = shared.commit(&record, Some(after), &said, |write| {
        write.audit(caller, from, "Trust/RotateCredentials", &detail)?;
        write.operation(&operation)?;
        write.credentials(name, &next)
    });
    begun.map_err(store_failed)?;
    Ok(wire::RotateCredentialsResponse { operation_id: id.to_string() })
}

/// Clients have moved. Said again, it is answered again.
pub fn finish(
    shared: &Arc<Shared>,
    caller: &Caller,
    from: &str,
    request: wire::FinishRotationRequest,
) -> Result<wire::FinishRotationResponse, Failure> {
    let _sole = shared.decide();
    let record = shared.cluster(&request.cluster)?;
    let name = &record.blueprint.cluster;
    let answer = |id: OperationId| wire::FinishRotationResponse { operation_id: id.to_string() };
    let credentials = record.credentials.as_ref().ok_or_else(|| none(&record))?;
    let Some(rotation) = credentials.rotation else {
        let last = shared.ledger.operations(Some(name.as_str())).map_err(store_failed)?;
        let last = last.iter().find(|one| one.kind.starts_with("rotate-")).filter(|one| one.state == OpState::Done);
        let missing = || {
            Failure::new(Reason::UnknownOperation, format!("no rotation of cluster {name} is under way"))
                .hint(format!("muster credentials rotate {name}"))
        };
        return last.map(|one| answer(one.id)).ok_or_else(missing);
    };
    let id = rotation.operation;
    match step(name, credentials, Event::Finish) {
        Ok(next) => {
            let operation = shared.ledger.operation(id).map_err(store_failed)?;
            if operation.is_some_and(|operation| operation.state == OpState::Paused) {
                let message = format!("operation {id} is paused");
                return Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op resume {id}")));
            }
            let detail = format!("cluster {name}: operation {id}");
            take(shared, &record, id, next, |write| write.audit(caller, from, "Trust/FinishRotation", &detail))?;
            Ok(answer(id))
        }
        Err(Next::TooEarly | Next::TooLate) => Err(busy(name, rotation)),
        Err(_) => Ok(answer(id)),
    }
}

/// Calls the rotation of a cluster off. For whoever decides.
pub fn cancel(shared: &Shared, sign: Sign, record: &ClusterRecord) -> Result<(), Failure> {
    let name = &record.blueprint.cluster;
    let credentials = record.credentials.as_ref();
    let Some((credentials, rotation)) = credentials.and_then(|found| Some((found, found.rotation?))) else {
        return Ok(());
    };
    match step(name, credentials, Event::Cancel) {
        Ok(next) => take(shared, record, rotation.operation, next, sign),
        Err(Next::TooLate) => {
            let what = rotation.kind.what();
            let message = format!("the new {what} of cluster {name} are in use; the rotation only goes forward");
            let id = rotation.operation;
            Err(Failure::new(Reason::PastNoReturn, message).hint(format!("muster op watch {id}")))
        }
        Err(_) => Ok(()),
    }
}

/// The rotation of a cluster that an operation does.
pub fn rotation_of(record: &ClusterRecord, operation: OperationId) -> Option<Rotation> {
    record.credentials.as_ref()?.rotation.filter(|rotation| rotation.operation == operation)
}

/// A certificate for the redis-servers of one cluster on the calling host.
pub fn certify(
    shared: &Shared,
    host: &HostName,
    request: wire::CertifyRequest,
) -> Result<wire::CertifyResponse, Failure> {
    let record = shared.cluster(&request.cluster)?;
    let name = &record.blueprint.cluster;
    let here = record.blueprint.members.iter().filter(|member| member.host == *host);
    // From the blueprint, and not from what the host says of itself now: it gets a certificate for what was approved.
    let addresses: BTreeSet<_> = here.map(|member| member.address).collect();
    if addresses.is_empty() {
        return Err(Failure::new(Reason::UnknownCluster, format!("cluster {name} has no instances on {host}")));
    }
    let authority = record.credentials.as_ref().and_then(Credentials::signing);
    let authority = authority.ok_or_else(|| {
        Failure::new(Reason::NoCredentials, format!("cluster {name} does not have its certificates from Muster"))
    })?;
    let subject = Subject {
        host,
        addresses: addresses.into_iter().collect(),
        now_s: unix_ms() / 1000,
        holds: shared.config.redis_certificate,
        serial: seal::random().map_err(|error| store_failed(LedgerError::Seal(error)))?,
    };
    let certificate = authority.sign(&request.csr, &subject).map_err(|error| match error {
        CredentialsError::Request(why) => Failure::invalid(format!("csr: {why}")),
        CredentialsError::KeyLost => {
            let message = format!("the key of cluster {name}'s authority went with the store that was lost");
            Failure::new(Reason::NoCredentials, message)
                .hint(format!("muster credentials rotate {name} --certificates"))
        }
        error => store_failed(LedgerError::Credentials(error)),
    })?;
    tracing::info!(%host, cluster = %name, "has a certificate for its redis-servers");
    Ok(wire::CertifyResponse { certificate })
}

/// Takes a step that somebody asks for.
fn take(
    shared: &Shared,
    record: &ClusterRecord,
    operation: OperationId,
    step: Step,
    also: impl Fn(&Write) -> Result<(), LedgerError>,
) -> Result<(), Failure> {
    let Step { credentials, state, phase, message } = step;
    let said = Said { operation, state, phase, message: &message, count: (0, record.blueprint.members.len()) };
    let after = ClusterRecord { credentials: Some(credentials.clone()), ..record.clone() };
    let taken = shared.commit(record, Some(after), &said, |write| {
        also(write)?;
        write.credentials(&record.blueprint.cluster, &credentials)
    });
    taken.map(|_| ()).map_err(store_failed)
}

/// The credentials with the new ones beside the old.
fn begin(
    record: &ClusterRecord,
    credentials: &Credentials,
    kind: Kind,
    operation: OperationId,
) -> Result<Credentials, Failure> {
    let name = &record.blueprint.cluster;
    let begun = match kind {
        Kind::Passwords => {
            let random = || seal::random().map_err(LedgerError::Seal);
            credentials.rotate_passwords(operation, random).map_err(store_failed)?
        }
        // Drawn only where there is one to be exchanged.
        Kind::Certificates => match credentials.signing() {
            Some(_) => {
                let next = Authority::generate(name.as_str(), unix_ms() / 1000);
                let next = next.map_err(|error| store_failed(LedgerError::Credentials(error)))?;
                credentials.rotate_authority(operation, next)
            }
            None => None,
        },
    };
    begun.ok_or_else(|| match (kind, &record.spec.parts().tls) {
        (Kind::Certificates, Tls::Files(files)) => {
            let message = format!(
                "cluster {name} uses your own certificates: exchange {} and {} on every host",
                files.cert.display(),
                files.key.display()
            );
            Failure::new(Reason::NoCredentials, message)
        }
        (Kind::Certificates, _) => {
            Failure::new(Reason::NoCredentials, format!("cluster {name} speaks plain TCP: it has no certificates"))
        }
        (Kind::Passwords, _) => none(record),
    })
}

/// There are no passwords.
fn none(record: &ClusterRecord) -> Failure {
    let name = &record.blueprint.cluster;
    let why = match record.spec.parts().auth {
        Auth::None => "its spec says auth = \"none\": whoever reaches its ports needs no password",
        Auth::Passwords(_) => "it was made before Muster drew passwords, and stays open",
    };
    Failure::new(Reason::NoCredentials, format!("cluster {name} has no passwords: {why}"))
}

/// A user whose password went with a store that was lost.
fn forgotten(record: &ClusterRecord, user: &str) -> Failure {
    let name = &record.blueprint.cluster;
    let message = format!(
        "the password of user {user} of cluster {name} is accepted as before, and only its hash is known: the store \
         that had it was lost, and agents know no more"
    );
    Failure::new(Reason::NoCredentials, message)
        .hint(format!("muster credentials rotate {name}, which draws a new one"))
}

/// A user whose password Muster does not have.
fn not_drawn(record: &ClusterRecord, user: &str) -> Failure {
    let name = &record.blueprint.cluster;
    let Auth::Passwords(acl) = &record.spec.parts().auth else { return none(record) };
    if acl.users.iter().any(|known| known.name.as_str() == user) {
        let message =
            format!("the spec of cluster {name} gives the passwords of {user} as hashes; Muster knows no more");
        return Failure::new(Reason::NoCredentials, message);
    }
    let known: Vec<_> = [DEFAULT].into_iter().chain(acl.users.iter().map(|user| user.name.as_str())).collect();
    let message = format!("cluster {name} has no user {user:?} for clients; it has: {}", known.join(", "));
    Failure::new(Reason::UnknownUser, message)
}

/// It rotates.
pub fn busy(name: &ClusterName, rotation: Rotation) -> Failure {
    let id = rotation.operation;
    let message = format!("cluster {name} rotates, in operation {id}: {rotation}");
    let hint = match rotation.stage {
        Stage::Overlap => format!("when clients have moved: muster credentials finish {name}"),
        _ => format!("muster op watch {id}"),
    };
    Failure::new(Reason::RotationBusy, message).hint(hint)
}
