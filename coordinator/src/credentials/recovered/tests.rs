//! What is put together from hosts in every pair of stages that two hosts can be in.

use muster_proto::Tls;

use super::*;
use crate::credentials::{
    rotation::{Event, Next, next},
    tests::{dice, drawn, id, spec},
};

fn of(spec: &Spec, told: &[&Credentials]) -> Recovered {
    let told: Vec<_> = told.iter().map(|one| (one.users(spec), one.tls(spec))).collect();
    let told: Vec<_> = told.iter().map(|(users, tls)| (users.as_ref(), tls.as_ref())).collect();
    recovered(spec, Incarnation(1), &told, id(9))
}

/// Every stage of a rotation of passwords, in order, the end included.
fn stages(kind: Kind, spec: &Spec) -> Vec<Credentials> {
    let steady = drawn(spec);
    let mut dice = dice();
    let fresh = move || dice().map(|[first, ..]| [first + 10; 32]);
    let first = match kind {
        Kind::Passwords => steady.rotate_passwords(id(1), fresh).unwrap().unwrap(),
        Kind::Certificates => steady.rotate_authority(id(1), Authority::generate("orders", 0).unwrap()).unwrap(),
    };
    let mut all = vec![steady, first];
    loop {
        let last = all.last().unwrap();
        let rotation = last.rotation.unwrap();
        let event = if rotation.stage == Stage::Overlap { Event::Finish } else { Event::Converged };
        match next(kind, rotation.stage, event) {
            Next::To(stage) => all.push(last.at(rotation, stage)),
            _ => {
                all.push(last.settled());
                return all;
            }
        }
    }
}

/// What a host accepts, by user.
fn accepted(credentials: &Credentials, spec: &Spec) -> BTreeMap<String, Vec<Sha256>> {
    let users = credentials.users(spec).unwrap().users;
    users.into_iter().map(|user| (user.name, user.passwords)).collect()
}

#[test]
fn from_hosts_that_agree_comes_what_they_were_told() {
    for tls in [Tls::Off, Tls::Issued] {
        let spec = spec(tls);
        let kept = drawn(&spec);
        let found = of(&spec, &[&kept, &kept]);
        let credentials = found.credentials.unwrap();
        assert_eq!(credentials.users(&spec), kept.users(&spec), "hosts are told the same again");
        assert_eq!(credentials.tls(&spec), kept.tls(&spec));
        assert_eq!((credentials.password("default"), credentials.password("drawn")), (None, None));
        assert!(credentials.forgot("default") && credentials.forgot("drawn") && !credentials.forgot("given"));
        assert_eq!(credentials.rotation, None);
        assert!(!credentials.signing().is_some_and(Authority::signs));
        let text = serde_json::to_string(&credentials).unwrap();
        assert_eq!(serde_json::from_str::<Credentials>(&text).unwrap(), credentials, "and the store keeps it");
    }
}

#[test]
fn of_neighbouring_stages_nothing_that_is_used_anywhere_is_refused_anywhere() {
    let spec = spec(Tls::Off);
    let stages = stages(Kind::Passwords, &spec);
    for (first, second) in stages.iter().zip(&stages).chain(stages.iter().zip(&stages[1..])) {
        for told in [[first, second], [second, first]] {
            let found = of(&spec, &told);
            let credentials = found.credentials.unwrap();
            let accepts = accepted(&credentials, &spec);
            assert!(!found.notes.iter().any(|note| note.contains("do not follow")), "{:?}", found.notes);
            for host in told {
                let used = host.users(&spec).unwrap();
                let hash = |secret: &Secret| Sha256::of(secret.expose().as_bytes());
                assert!(accepts[REPLICA].contains(&hash(&used.replica.password)), "{:?}", host.rotation);
                for user in ["default", "drawn"] {
                    let shown = hash(host.password(user).unwrap());
                    assert!(accepts[user].contains(&shown), "{user}, {:?} and {:?}", first.rotation, second.rotation);
                }
            }
            // Whatever agents log in with now is accepted by every server as it is now.
            let logins = credentials.users(&spec).unwrap().admin;
            for host in told {
                let there = &accepted(host, &spec)[ADMIN];
                let fits =
                    |login: &muster_proto::acl::Login| there.contains(&Sha256::of(login.password.expose().as_bytes()));
                assert!(logins.iter().any(fits));
            }
            let moving = credentials.rotation.map(|rotation| (rotation.operation, rotation.stage));
            assert!(moving.is_none_or(|moving| moving == (id(9), Stage::Switch)), "{moving:?}");
            // And a rotation after it shows clients a new one.
            let ended = credentials
                .rotation
                .map_or(credentials.clone(), |rotation| credentials.at(rotation, Stage::Retire).settled());
            let fresh = ended.rotate_passwords(id(2), dice()).unwrap().unwrap();
            let switched = fresh.at(fresh.rotation.unwrap(), Stage::Switch);
            assert!(switched.password("default").is_some());
        }
    }
}

#[test]
fn a_rotation_that_nobody_has_used_is_over_and_one_in_use_goes_on() {
    let spec = spec(Tls::Off);
    let stages = stages(Kind::Passwords, &spec);
    let [steady, adding, switching, overlapping, retiring, done] = &stages[..] else { panic!("{}", stages.len()) };
    let same = |told: &[&Credentials], as_told: &Credentials| {
        let credentials = of(&spec, told).credentials.unwrap();
        assert_eq!(accepted(&credentials, &spec), accepted(as_told, &spec));
        credentials.rotation.is_some()
    };
    assert!(!same(&[steady, adding], steady), "just begun");
    assert!(!same(&[adding, adding], steady), "what was drawn for clients can be shown to nobody any more");
    assert!(same(&[adding, switching], overlapping));
    assert!(same(&[overlapping, overlapping], overlapping));
    assert!(!same(&[overlapping, retiring], done));
    assert!(!same(&[retiring, done], done));
    let notes = of(&spec, &[steady, done]).notes;
    assert!(notes.iter().any(|note| note.contains("do not follow from one another")), "{notes:?}");
}

#[test]
fn an_authority_is_believed_as_long_as_anybody_shows_its_certificates() {
    let spec = spec(Tls::Issued);
    let stages = stages(Kind::Certificates, &spec);
    let [steady, adding, overlapping, switching, retiring, done] = &stages[..] else { panic!("{}", stages.len()) };
    let believed = |told: &[&Credentials]| of(&spec, told).credentials.unwrap().ca_pem();
    assert_eq!(believed(&[steady, adding]), steady.ca_pem());
    assert_eq!(believed(&[overlapping, overlapping]), steady.ca_pem(), "called off: nobody shows the new one");
    assert_eq!(believed(&[overlapping, switching]), switching.ca_pem(), "both");
    assert_eq!(believed(&[switching, retiring]), done.ca_pem());
    let both = of(&spec, &[switching, switching]).credentials.unwrap();
    let next = Authority::generate("orders", 1).unwrap();
    let again = both.rotate_authority(id(3), next.clone()).unwrap();
    assert_eq!(again.ca_pem(), next.pem() + &switching.ca_pem(), "it can be exchanged again");
    let text = serde_json::to_string(&both).unwrap();
    assert_eq!(serde_json::from_str::<Credentials>(&text).unwrap(), both);
}
