//! The judgement over every combination of what can be found, and in words.

use expect_test::{Expect, expect};

use super::*;

const NONCE: Uuid = Uuid::from_u128(1);
const HOME: Inode = (1, 2);
const PID: i32 = 17;

fn record() -> Record {
    let identity = Some(Identity { pid: PID, start_ticks: 5 });
    Record { nonce: NONCE, boot_id: "now".into(), identity, run: None, node_id: None }
}

fn sighting() -> Sighting {
    Sighting {
        comm: "redis-server".into(),
        state: 'S',
        start_ticks: 5,
        nonce: Ok(Some(NONCE.to_string())),
        cwd: Some(HOME),
    }
}

fn facts(written: Written, seen: Sighting) -> Facts {
    Facts { boot_id: "now".into(), home: Some(HOME), written, lock: Lock::Held(PID, Some(seen)), strangers: Vec::new() }
}

fn words(facts: &Facts) -> String {
    let Judgement { standing, clues } = judge(facts);
    let why = match &standing {
        Standing::Foreign(why) | Standing::Unknown(why) => format!(": {why}"),
        Standing::Ours(_) | Standing::Gone => String::new(),
    };
    let clues: String = clues.iter().map(|clue| format!("  {clue}\n")).collect();
    format!("{}{why}\n{clues}", standing.word())
}

fn says(facts: &Facts, expected: Expect) {
    expected.assert_eq(&words(facts));
}

#[test]
fn a_server_of_ours_is_known_by_everything_at_once() {
    says(
        &facts(Written::Record(record()), sighting()),
        expect![[r#"
        ours
          lock: held by pid 17
          state: alive
          record: of this boot
          identity: as written down
          nonce: as written down
          working directory: the instance's
    "#]],
    );
    says(
        &facts(Written::Nothing, Sighting { state: 'T', ..sighting() }),
        expect![[r#"
        ours
          lock: held by pid 17
          state: stopped by a signal
          record: lost
          nonce: one of ours
          working directory: the instance's
    "#]],
    );
}

#[test]
fn what_contradicts_is_named() {
    says(
        &facts(Written::Record(Record { boot_id: "before".into(), ..record() }), sighting()),
        expect![[r#"
        unknown: is held by pid 17 (redis-server), and its record is of another boot
          lock: held by pid 17
          state: alive
          record: of another boot (!)
          identity: as written down
          nonce: as written down
          working directory: the instance's
    "#]],
    );
    says(
        &facts(Written::Torn, Sighting { nonce: Ok(None), cwd: None, ..sighting() }),
        expect![[r#"
        unknown: is held by pid 17 (redis-server), and its nonce is missing
          lock: held by pid 17
          state: alive
          record: torn
          nonce: missing (!)
          working directory: another (!)
    "#]],
    );
    let lock = |lock| Facts { lock, ..facts(Written::Nothing, sighting()) };
    says(
        &lock(Lock::Hidden),
        expect![[r#"
        unknown: is held by a child of the server that took it, or in another pid namespace
          lock: held by a child of the server that took it, or in another pid namespace (!)
    "#]],
    );
    says(
        &lock(Lock::Held(PID, None)),
        expect![[r#"
        unknown: is held by a child of pid 17, which is gone
          lock: held by a child of pid 17, which is gone (!)
    "#]],
    );
}

#[test]
fn a_free_lock_is_nobodys_unless_a_stranger_is_there() {
    let free = Facts { lock: Lock::Free, ..facts(Written::Record(record()), sighting()) };
    says(
        &free,
        expect![[r#"
        gone
          lock: free
    "#]],
    );
    says(
        &Facts { strangers: vec!["pid 4 (nc -l) listens on 10.0.0.1:7000".into()], ..free },
        expect![[r#"
        foreign: pid 4 (nc -l) listens on 10.0.0.1:7000
          lock: free
          stranger: pid 4 (nc -l) listens on 10.0.0.1:7000 (!)
    "#]],
    );
}

/// Every combination of what can be written down and what can be seen.
#[test]
fn ours_is_only_what_nothing_speaks_against() {
    let identities = [None, Some(Identity { pid: PID, start_ticks: 5 }), Some(Identity { pid: PID, start_ticks: 6 })];
    let mut written = vec![Written::Nothing, Written::Torn];
    for boot in ["now", "before"] {
        written
            .extend(identities.map(|identity| Written::Record(Record { boot_id: boot.into(), identity, ..record() })));
    }
    let nonces = [
        Err("EACCES".to_owned()),
        Ok(None),
        Ok(Some(NONCE.to_string())),
        Ok(Some(Uuid::from_u128(2).to_string())),
        Ok(Some("garbage".to_owned())),
    ];
    let (mut ours, mut all) = (0, 0);
    for written in &written {
        for nonce in &nonces {
            for cwd in [None, Some(HOME), Some((1, 3))] {
                for state in ['S', 'T', 'Z'] {
                    let seen = Sighting { state, nonce: nonce.clone(), cwd, ..sighting() };
                    let judgement = judge(&facts(written.clone(), seen));
                    let trusted = state != 'Z' && cwd == Some(HOME) && believable(written, nonce);
                    assert_eq!(judgement.standing == Standing::Ours(PID), trusted, "{judgement:?}");
                    assert_eq!(judgement.clues.iter().any(|clue| clue.against), !trusted, "{judgement:?}");
                    (ours, all) = (ours + usize::from(trusted), all + 1);
                }
            }
        }
    }
    assert_eq!((ours, all), (14, 360));
}

/// Said once more, in another way.
fn believable(written: &Written, nonce: &Result<Option<String>, String>) -> bool {
    let seen = match nonce {
        Ok(seen) => seen.as_deref(),
        Err(_) => return false,
    };
    match written {
        Written::Nothing | Written::Torn => seen.is_some_and(|seen| seen != "garbage"),
        Written::Record(Record { boot_id, .. }) if boot_id != "now" => false,
        Written::Record(Record { identity: None, .. }) => seen == Some(&NONCE.to_string()),
        Written::Record(Record { identity: Some(identity), .. }) => {
            identity.start_ticks == 5 && (seen.is_none() || seen == Some(&NONCE.to_string()))
        }
    }
}

#[test]
fn a_record_is_before_a_run_if_it_is_of_an_earlier_one_or_of_another_node() {
    let id = |nth| muster_proto::NodeId([nth; 20]);
    let of = |node: Option<u8>, run| Written::Record(Record { node_id: node.map(id), run, ..record() });
    let cases = [
        (of(Some(1), Some(3)), false),
        (of(Some(1), Some(2)), true),
        (of(Some(2), Some(9)), true),
        (of(Some(2), None), true),
        (of(None, Some(3)), false),
        (of(None, Some(2)), true),
        (of(None, None), false),
        (Written::Torn, false),
        (Written::Nothing, false),
    ];
    for (written, expected) in cases {
        assert_eq!(written.is_before(id(1), 3), expected, "{written:?}");
    }
}
