//! What hosts are told at every stage, as goldens; then the table, a small world, and the store.

mod rpc;
mod table;
mod world;

use expect_test::{Expect, expect};
use muster_proto::{Auth, Sha256, Spec, Tls, spec::SpecParts};
use uuid::Uuid;

use super::*;
use crate::samples::spec as open;

/// The seed's spec, with users: one whose password is drawn, one whose is given.
pub(crate) fn spec(tls: Tls) -> Spec {
    let acl = crate::spec_file::parse(&format!(
        "name = \"orders\"\nhosts = [{{ name = \"h\", ports = [7000] }}]\n\
         [[acl.users]]\nname = \"drawn\"\nrules = \"~d:* +@read\"\n\
         [[acl.users]]\nname = \"given\"\nrules = \"+ping\"\npassword_sha256 = [\"{}\"]\n",
        "ab".repeat(32)
    ));
    let auth = acl.unwrap().parts().auth.clone();
    Spec::new(SpecParts { auth, tls, ..open().parts().clone() }).unwrap()
}

/// Dice that show 1, 2, 3 ...
pub(super) fn dice() -> impl FnMut() -> Result<[u8; 32], ()> {
    let mut thrown = 0;
    move || {
        thrown += 1;
        Ok([thrown; 32])
    }
}

pub(super) fn id(nth: u128) -> OperationId {
    OperationId(Uuid::from_u128(nth))
}

pub(super) fn drawn(spec: &Spec) -> Credentials {
    let issued = matches!(spec.parts().tls, Tls::Issued);
    let authority = issued.then(|| Authority::generate("orders", 1_700_000_000).unwrap());
    Credentials::draw(spec, Incarnation(1), authority, dice()).unwrap().unwrap()
}

/// A rotation of passwords, to the numbers from 11 on, that has just begun.
fn rotating(spec: &Spec) -> Credentials {
    let mut dice = dice();
    let ahead = move || dice().map(|[first, ..]| [first + 10; 32]);
    drawn(spec).rotate_passwords(id(1), ahead).unwrap().unwrap()
}

/// The passwords by the dice that they were drawn with.
fn told(credentials: &Credentials, spec: &Spec) -> String {
    let password = |nth: u8| Password::of(&[nth; 32]);
    let by_hash = |hash: &Sha256| {
        (1..40).find(|nth| password(*nth).hashes() == [*hash]).map_or("given".into(), |n| n.to_string())
    };
    let by_text = |text: &Secret| {
        (1..40).find(|nth| password(*nth).known() == Some(text)).map_or("?".into(), |nth| nth.to_string())
    };
    let users = credentials.users(spec).unwrap();
    let mut text = String::new();
    for user in &users.users {
        let accepted: Vec<_> = user.passwords.iter().map(by_hash).collect();
        text += &format!("{} [{}] {}\n", user.name, accepted.join(" "), user.rules);
    }
    let admin: Vec<_> =
        users.admin.iter().map(|login| format!("{} {}", login.user, by_text(&login.password))).collect();
    text += &format!("agents: {}\n", admin.join(", then "));
    text += &format!("replicas: {} {}\n", users.replica.user, by_text(&users.replica.password));
    let shown = |user| credentials.password(user).map_or("none".into(), by_text);
    text + &format!("shown: default {}, drawn {}, given {}\n", shown("default"), shown("drawn"), shown("given"))
}

fn check(credentials: &Credentials, spec: &Spec, expected: Expect) {
    expected.assert_eq(&told(credentials, spec).replace(DEFAULT_RULES, "DEFAULT_RULES"));
}

fn moved(credentials: &Credentials, stage: Stage) -> Credentials {
    credentials.at(credentials.rotation.unwrap(), stage)
}

#[test]
fn users_at_every_stage_of_a_rotation() {
    let spec = spec(Tls::Off);
    let steady = drawn(&spec);
    check(
        &steady,
        &spec,
        expect![[r#"
        default [1] DEFAULT_RULES
        drawn [2] ~d:* +@read
        given [given] +ping
        muster-admin [3] ~* &* +@all
        muster-replica [4] +psync +replconf +ping
        agents: muster-admin 3
        replicas: muster-replica 4
        shown: default 1, drawn 2, given none
    "#]],
    );
    let adding = rotating(&spec);
    check(
        &adding,
        &spec,
        expect![[r#"
        default [11 1] DEFAULT_RULES
        drawn [12 2] ~d:* +@read
        given [given] +ping
        muster-admin [13 3] ~* &* +@all
        muster-replica [14 4] +psync +replconf +ping
        agents: muster-admin 13, then muster-admin 3
        replicas: muster-replica 4
        shown: default 1, drawn 2, given none
    "#]],
    );
    let switched = moved(&adding, Stage::Switch);
    check(
        &switched,
        &spec,
        expect![[r#"
        default [11 1] DEFAULT_RULES
        drawn [12 2] ~d:* +@read
        given [given] +ping
        muster-admin [13 3] ~* &* +@all
        muster-replica [14 4] +psync +replconf +ping
        agents: muster-admin 13, then muster-admin 3
        replicas: muster-replica 14
        shown: default 11, drawn 12, given none
    "#]],
    );
    assert_eq!(told(&moved(&switched, Stage::Overlap), &spec), told(&switched, &spec));
    let retired = moved(&moved(&switched, Stage::Overlap), Stage::Retire);
    check(
        &retired,
        &spec,
        expect![[r#"
        default [11] DEFAULT_RULES
        drawn [12] ~d:* +@read
        given [given] +ping
        muster-admin [13] ~* &* +@all
        muster-replica [14] +psync +replconf +ping
        agents: muster-admin 13
        replicas: muster-replica 14
        shown: default 11, drawn 12, given none
    "#]],
    );
    assert_eq!(told(&retired.settled(), &spec), told(&retired, &spec));
    assert_eq!(moved(&adding, Stage::Withdraw).settled(), steady, "called off, it never was");
}

#[test]
fn authorities_at_every_stage_of_a_rotation() {
    let spec = spec(Tls::Issued);
    let steady = drawn(&spec);
    let old = steady.signing().unwrap().clone();
    let new = Authority::generate("orders", 1_700_000_000).unwrap();
    let adding = steady.rotate_authority(id(1), new.clone()).unwrap();
    let overlapping = moved(&adding, Stage::Overlap);
    let switched = moved(&overlapping, Stage::Switch);
    let retired = moved(&switched, Stage::Retire);
    let both = |first: &Authority, second: &Authority| first.pem() + &second.pem();
    let cases = [
        (&steady, old.pem(), &old),
        (&adding, both(&new, &old), &old),
        (&overlapping, both(&new, &old), &old),
        (&switched, both(&new, &old), &new),
        (&retired, new.pem(), &new),
    ];
    for (credentials, ca_pem, issuer) in cases {
        let expected = InstanceTls::Issued { ca_pem: ca_pem.clone(), issuer: issuer.sha256() };
        assert_eq!(credentials.tls(&spec), Some(expected));
        assert_eq!(credentials.ca_pem(), ca_pem);
        assert_eq!(credentials.users(&spec), steady.users(&spec), "passwords are left alone");
    }
    assert_eq!(moved(&overlapping, Stage::Withdraw).settled(), steady, "called off, it never was");
}

#[test]
fn an_open_and_plain_cluster_has_nothing_and_each_part_stands_alone() {
    let draw = |auth: Auth, tls: Tls| {
        let spec = Spec::new(SpecParts { auth, tls, ..open().parts().clone() }).unwrap();
        let authority = Authority::generate("orders", 0).unwrap();
        let authority = matches!(spec.parts().tls, Tls::Issued).then_some(authority);
        let credentials = Credentials::draw(&spec, Incarnation(1), authority, dice()).unwrap();
        credentials.map(|found| (found.users(&spec).is_some(), found.tls(&spec).is_some(), found.ca_pem().is_empty()))
    };
    let files = || Tls::Files(muster_proto::acl::TlsFiles { cert: "/c".into(), key: "/k".into(), ca: "/a".into() });
    assert_eq!(draw(Auth::None, Tls::Off), None);
    assert_eq!(draw(Auth::None, Tls::Issued), Some((false, true, false)));
    assert_eq!(draw(Auth::None, files()), Some((false, true, true)));
    assert_eq!(draw(Auth::default(), Tls::Off), Some((true, false, true)));
    assert_eq!(draw(Auth::default(), Tls::Issued), Some((true, true, false)));
}

#[test]
fn a_password_is_drawn_for_each_user_and_dice_that_fail_are_heard() {
    let spec = spec(Tls::Off);
    let mut thrown = 0;
    let counted = || {
        thrown += 1;
        if thrown < 4 { Ok([thrown; 32]) } else { Err("no more") }
    };
    assert_eq!(Credentials::draw(&spec, Incarnation(1), None, counted), Err("no more"));
    assert_eq!(drawn(&spec).password("drawn").unwrap().expose().len(), 43, "32 bytes in base64url");
    let open = Credentials { passwords: None, ..drawn(&spec) };
    assert!(open.rotate_passwords(id(1), dice()).unwrap().is_none());
    assert!(open.rotate_authority(id(1), Authority::generate("orders", 0).unwrap()).is_none());
}

#[test]
fn musters_own_rules_are_rules() {
    for rules in [DEFAULT_RULES, ADMIN_RULES, REPLICA_RULES] {
        assert_eq!(rules.parse::<AclRules>().unwrap().as_str(), rules);
    }
}

#[test]
fn they_are_read_as_they_were_written_and_never_shown() {
    let spec = spec(Tls::Issued);
    let next = Authority::generate("orders", 0).unwrap();
    for credentials in [drawn(&spec), rotating(&spec), drawn(&spec).rotate_authority(id(1), next).unwrap()] {
        let text = serde_json::to_string(&credentials).unwrap();
        assert_eq!(serde_json::from_str::<Credentials>(&text).unwrap(), credentials);
        let shown = format!("{credentials:?} {:?}", credentials.users(&spec));
        assert!(!shown.contains(credentials.password("default").unwrap().expose()));
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}
