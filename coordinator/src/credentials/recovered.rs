//! What hosts still know of a cluster's credentials when the store is lost: a function of what they were told.
//!
//! Of the users that agents and replicas are they know the passwords; of clients' passwords only the hashes; of the
//! authority its certificate. Nothing that is accepted or used anywhere is taken away by putting this together.
//!
//! A rotation may have been under way. Hosts are then in two neighbouring stages of it at most
//! ([`rotation`](super::rotation)), and what they were told says which. One whose new secrets nobody used yet is over:
//! what was drawn for clients can be shown to nobody any more. One whose new secrets are in use goes forward.

use std::collections::BTreeMap;

use muster_proto::{Auth, Incarnation, InstanceTls, OperationId, Secret, Sha256, Spec, Users, pki};

use super::{ADMIN, Authority, Credentials, DEFAULT, History, Kind, Password, Passwords, REPLICA, Rotation, Stage};

/// What was put together, and what an operator should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// None for a cluster that is open and plain.
    pub credentials: Option<Credentials>,
    /// In sentences.
    pub notes: Vec<&'static str>,
}

/// Puts it together. `told` is what each host was told, in their order; `operation` is the one that goes on with a
/// rotation.
pub fn recovered(
    spec: &Spec,
    incarnation: Incarnation,
    told: &[(Option<&Users>, Option<&InstanceTls>)],
    operation: OperationId,
) -> Recovered {
    let mut notes = Vec::new();
    let users: Vec<_> = told.iter().filter_map(|(users, _)| *users).collect();
    let passwords = passwords(spec, incarnation, &users, &mut notes);
    let tls: Vec<_> = told.iter().filter_map(|(_, tls)| *tls).collect();
    let authority = authority(&tls, &mut notes);
    let files = tls.iter().any(|tls| matches!(tls, InstanceTls::Files(_)));
    let moving = passwords.as_ref().is_some_and(|passwords| passwords.admin.in_motion());
    let rotation = moving.then_some(Rotation { operation, kind: Kind::Passwords, stage: Stage::Switch });
    let any = passwords.is_some() || authority.is_some() || files;
    Recovered { credentials: any.then_some(Credentials { passwords, authority, rotation }), notes }
}

/// Where one host is in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Steady,
    Adding,
    Overlapping,
}

fn passwords(
    spec: &Spec,
    incarnation: Incarnation,
    told: &[&Users],
    notes: &mut Vec<&'static str>,
) -> Option<Passwords> {
    let Auth::Passwords(acl) = &spec.parts().auth else { return None };
    let mut agreed = true;
    let mut of = |name: &str| {
        let states = told.iter().filter_map(|users| state(users, name)).collect();
        let (settled, same) = settle(states)?;
        agreed &= same;
        Some(settled)
    };
    // What clients have is accepted until a rotation that shows them a new one has ended.
    let clients = |settled: History<Password>| match settled {
        History::Overlapping { current, previous } => {
            History::new(Password::Hashed([current.hashes(), previous.hashes()].concat()))
        }
        History::Steady { current } | History::Adding { current, .. } => History::new(current),
    };
    let (admin, replica) = (of(ADMIN)?, of(REPLICA)?);
    let default = clients(of(DEFAULT)?);
    let drawn = acl.users.iter().filter(|user| user.passwords.is_empty()).map(|user| user.name.to_string());
    let users: BTreeMap<_, _> = drawn.filter_map(|name| Some((name.clone(), clients(of(&name)?)))).collect();
    if !agreed {
        notes.push("hosts were told passwords that do not follow from one another; those of the first host are kept");
    }
    if admin.in_motion() {
        notes.push("a rotation of its passwords was under way; it goes on, and waits for: muster credentials finish");
    }
    Some(Passwords { default, users, incarnation, admin, replica })
}

/// A user as one host was told: what is accepted stands newest first ([`History::accepted`]), and what replicas log in
/// with says which of two is used. Itself a password is known where somebody here logs in with it.
fn state(users: &Users, name: &str) -> Option<History<Password>> {
    let accepted = |name: &str| users.users.iter().find(|user| user.name == name).map(|user| &user.passwords);
    let hash = |secret: &Secret| Sha256::of(secret.expose().as_bytes());
    let at = match accepted(REPLICA)?.as_slice() {
        [newest, _, ..] if *newest == hash(&users.replica.password) => At::Overlapping,
        [_, _, ..] => At::Adding,
        _ => At::Steady,
    };
    let logins = [&users.replica].into_iter().chain(&users.admin).filter(|login| login.user == name);
    let known: Vec<&Secret> = logins.map(|login| &login.password).collect();
    let password = |wanted: &Sha256| {
        let found = known.iter().find(|secret| hash(secret) == *wanted);
        found.map_or_else(|| Password::Hashed(vec![*wanted]), |secret| Password::Known((*secret).clone()))
    };
    history(at, accepted(name)?.iter().map(password).collect())
}

/// What is accepted, the newest first, as a history.
fn history<T>(at: At, accepted: Vec<T>) -> Option<History<T>> {
    let mut accepted = accepted.into_iter();
    let newest = accepted.next()?;
    Some(match (at, accepted.next()) {
        (At::Overlapping, Some(previous)) => History::Overlapping { current: newest, previous },
        (At::Adding, Some(current)) => History::Adding { current, next: newest },
        (_, _) => History::Steady { current: newest },
    })
}

/// What all hosts go on with, and whether what they were told follows from one another. Nobody uses what is only added;
/// what all use already needs no previous one beside it.
fn settle<T: Same + Clone>(states: Vec<History<T>>) -> Option<(History<T>, bool)> {
    let steady = states.iter().find_map(|state| match state {
        History::Steady { current } => Some(current),
        History::Adding { .. } | History::Overlapping { .. } => None,
    });
    let overlapping = states.iter().find(|state| matches!(state, History::Overlapping { .. }));
    let settled = match (steady, overlapping) {
        (Some(current), _) => History::Steady { current: current.clone() },
        (None, Some(overlapping)) => overlapping.clone(),
        (None, None) => states.first()?.settle(),
    };
    let follows = |state: &History<T>| match (&settled, state) {
        (History::Steady { current: kept }, History::Steady { current } | History::Adding { current, .. }) => {
            kept.same(current)
        }
        (History::Steady { current: kept }, History::Overlapping { current, .. }) => kept.same(current),
        (
            History::Overlapping { current: kept, previous: older },
            History::Overlapping { current: newer, previous: before }
            | History::Adding { next: newer, current: before },
        ) => kept.same(newer) && older.same(before),
        (_, _) => false,
    };
    let agreed = states.iter().all(follows);
    Some((settled, agreed))
}

/// Equal as far as is known.
trait Same {
    fn same(&self, other: &Self) -> bool;
}

impl Same for Password {
    fn same(&self, other: &Self) -> bool {
        self.hashes() == other.hashes()
    }
}

impl Same for Authority {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The authority, without its key. One that is about to be exchanged stays alone; where instances exchange their
/// certificates already, both are believed, until a new rotation has ended.
fn authority(told: &[&InstanceTls], notes: &mut Vec<&'static str>) -> Option<History<Authority>> {
    let state = |tls: &&InstanceTls| {
        let InstanceTls::Issued { ca_pem, issuer } = tls else { return None };
        let known: Vec<_> = pki::from_pem(ca_pem).ok()?.into_iter().map(Authority::without_key).collect();
        let at = match known.first() {
            Some(newest) if newest.sha256() == *issuer => At::Overlapping,
            _ => At::Adding,
        };
        history(if known.len() > 1 { at } else { At::Steady }, known)
    };
    let (settled, agreed) = settle(told.iter().filter_map(state).collect())?;
    notes.push("the key of its authority is lost: its certificates hold, and are not renewed before it is exchanged");
    if !agreed {
        notes.push("hosts were told authorities that do not follow from one another; those of the first host are kept");
    }
    Some(match settled {
        History::Overlapping { current, previous } => {
            notes.push("a rotation of its certificates was under way: instances that have not exchanged theirs cannot");
            History::new(current.beside(&previous))
        }
        History::Steady { .. } | History::Adding { .. } => settled,
    })
}

#[cfg(test)]
mod tests;
