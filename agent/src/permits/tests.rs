//! Every way in which a permit is none, and the one way in which it is one.

use muster_proto::Incarnation;

use super::*;
use crate::samples::{id, leaving, port, stamp};

const NOW: Duration = Duration::from_secs(1000);
const OBEYED: Term = Term(3);

fn nonce(nth: u128) -> Uuid {
    Uuid::from_u128(nth)
}

/// Asked for with nonce 1, on stream 1, now.
fn asked() -> Permits {
    let mut permits = Permits::default();
    permits.connected(1);
    let ask = permits.ask(port(7000), &leaving(), NOW, nonce(1)).unwrap();
    assert_eq!((ask.nonce, ask.node_id, ask.life), (nonce(1), stamp().node_id, stamp().life));
    permits
}

fn good() -> Permit {
    let Leaving { stamp, operation, new_life } = leaving();
    Permit {
        term: OBEYED,
        operation,
        cluster_id: stamp.cluster_id,
        port: port(7000),
        node_id: stamp.node_id,
        old_life: stamp.life,
        new_life,
        nonce: nonce(1),
    }
}

fn said(permit: &Permit) -> wire::Permit {
    wire::Permit {
        term: permit.term.0,
        operation: permit.operation.to_string(),
        cluster_id: permit.cluster_id.to_string(),
        port: permit.port.into(),
        node_id: permit.node_id.to_string(),
        old_life: permit.old_life.0,
        new_life: permit.new_life.0,
        nonce: permit.nonce.to_string(),
    }
}

#[test]
fn a_permit_that_fits_in_everything_is_the_right_to_one_wipe() {
    let mut permits = asked();
    assert_eq!(permits.granted(port(7000), NOW), None);
    let later = NOW + LIFETIME - Duration::from_millis(1);
    let higher = Permit { term: OBEYED.next(), ..good() };
    assert_eq!(permits.take_in(&higher, 1, OBEYED, later), Ok(port(7000)));
    assert_eq!(permits.granted(port(7000), later), Some(&leaving()));
    let wipe = permits.redeem(port(7000), &leaving(), later).unwrap();
    assert_eq!(wipe.leaving(), &leaving());
    assert_eq!(permits.redeem(port(7000), &leaving(), later), None, "once");
}

/// One of each variant, but those of time and of streams, which come below.
#[test]
fn a_permit_that_differs_in_anything_is_refused_and_the_right_one_is_still_taken() {
    let operation = OperationId(Uuid::max());
    let cases = [
        (Permit { term: Term(2), ..good() }, "it is of term 2, and term 3 has been obeyed"),
        (Permit { nonce: nonce(2), ..good() }, "nobody here has asked for it, or does still"),
        (Permit { port: port(7001), ..good() }, "it is for port 7001, and was asked for by port 7000"),
        (
            Permit { cluster_id: ClusterId(Uuid::max()), ..good() },
            "it is for cluster ffffffff-ffff-ffff-ffff-ffffffffffff, and the directory is of \
             00000000-0000-0000-0000-000000000000",
        ),
        (
            Permit { node_id: id(9), ..good() },
            "it is for the directory of node 09090909, and that of node 01010101 is there",
        ),
        (Permit { old_life: Life(9), ..good() }, "it ends life 9, and life 1 is there"),
        (Permit { new_life: Life(9), ..good() }, "it makes room for life 9, and life 2 is assigned"),
        (
            Permit { operation, ..good() },
            "it is for operation ffffffff-ffff-ffff-ffff-ffffffffffff, and operation \
             00000000-0000-0000-0000-000000000007 has ended this life",
        ),
    ];
    let mut permits = asked();
    for (permit, words) in cases {
        assert_eq!(permits.take_in(&permit, 1, OBEYED, NOW).unwrap_err().to_string(), words);
        assert_eq!(permits.granted(port(7000), NOW), None, "{words}");
    }
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Ok(port(7000)), "none of them used it up");
}

#[test]
fn a_permit_is_used_once() {
    let mut permits = asked();
    permits.take_in(&good(), 1, OBEYED, NOW).unwrap();
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::Used), "before the wipe");
    permits.redeem(port(7000), &leaving(), NOW).unwrap();
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::Used), "after the wipe");
    let again = permits.ask(port(7000), &leaving(), NOW, nonce(2)).unwrap();
    assert_eq!(again.nonce, nonce(2), "asked anew with another");
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::Used));
}

#[test]
fn a_nonce_is_good_for_a_minute_and_so_is_what_it_gave() {
    let over = NOW + LIFETIME;
    let mut permits = asked();
    assert_eq!(permits.take_in(&good(), 1, OBEYED, over), Err(Refused::Expired));
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::Expired), "for good");

    let mut permits = asked();
    let same = permits.ask(port(7000), &leaving(), over - Duration::from_millis(1), nonce(2)).unwrap();
    assert_eq!(same.nonce, nonce(1), "the same while it is good: a permit for it may be on its way");
    assert_eq!(permits.ask(port(7000), &leaving(), over, nonce(2)).unwrap().nonce, nonce(2));
    assert_eq!(permits.take_in(&good(), 1, OBEYED, over), Err(Refused::Expired));

    let mut permits = asked();
    permits.take_in(&good(), 1, OBEYED, NOW).unwrap();
    assert_eq!(permits.granted(port(7000), over), None);
    assert_eq!(permits.redeem(port(7000), &leaving(), over), None);
}

#[test]
fn the_lease_is_lost_with_the_stream() {
    type End = fn(&mut Permits);
    let ends: [End; 3] = [
        |permits| permits.parted(1),
        |permits| permits.connected(2),
        |permits| {
            permits.parted(1);
            permits.connected(2);
        },
    ];
    for end in ends {
        let mut permits = asked();
        end(&mut permits);
        for stream in [1, 2] {
            assert_eq!(permits.take_in(&good(), stream, OBEYED, NOW), Err(Refused::LostLease), "{stream}");
        }
        let mut permits = asked();
        permits.take_in(&good(), 1, OBEYED, NOW).unwrap();
        end(&mut permits);
        assert_eq!(permits.granted(port(7000), NOW), None, "nor is it of use when it was granted before");
        assert_eq!(permits.redeem(port(7000), &leaving(), NOW), None);
    }
    let mut permits = asked();
    permits.parted(0);
    permits.connected(1);
    assert_eq!(permits.take_in(&good(), 2, OBEYED, NOW), Err(Refused::LostLease), "one that is not on");
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Ok(port(7000)), "news of another stream changes nothing");
}

#[test]
fn nothing_is_asked_where_nobody_hears_it() {
    let mut permits = Permits::default();
    assert_eq!(permits.ask(port(7000), &leaving(), NOW, nonce(1)), None);
    permits.connected(1);
    assert!(permits.ask(port(7000), &leaving(), NOW, nonce(1)).is_some());
    permits.parted(1);
    assert_eq!(permits.ask(port(7000), &leaving(), NOW, nonce(2)), None);
}

#[test]
fn what_is_not_asked_any_more_is_refused() {
    let mut permits = asked();
    permits.withdraw(port(7000), NOW);
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::NotAsked));
    // Something else is there now, or was wanted since.
    let changes: [fn(&mut Leaving); 3] = [
        |leaving| leaving.new_life = Life(3),
        |leaving| leaving.operation = OperationId(Uuid::max()),
        |leaving| leaving.stamp.incarnation = Incarnation(9),
    ];
    for change in changes {
        let mut other = leaving();
        change(&mut other);
        let mut permits = asked();
        assert_eq!(permits.ask(port(7000), &other, NOW, nonce(2)).unwrap().nonce, nonce(2));
        assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::NotAsked));
        let mut permits = asked();
        permits.take_in(&good(), 1, OBEYED, NOW).unwrap();
        assert_eq!(permits.redeem(port(7000), &other, NOW), None, "a right is for what was asked");
        assert_eq!(permits.redeem(port(7000), &leaving(), NOW), None, "and gone by then");
    }
}

#[test]
fn what_is_not_remembered_is_refused_all_the_same() {
    let mut permits = asked();
    permits.take_in(&good(), 1, OBEYED, NOW).unwrap();
    for nth in 0..=REMEMBERED as u128 {
        permits.ask(port(7000), &leaving(), NOW, nonce(1000 + nth));
        permits.withdraw(port(7000), NOW);
    }
    assert_eq!(permits.over.len(), REMEMBERED);
    assert_eq!(permits.take_in(&good(), 1, OBEYED, NOW), Err(Refused::NotAsked));
}

#[test]
fn a_permit_is_read_field_by_field() {
    assert_eq!(Permit::try_from(said(&good())), Ok(good()));
    type Change = fn(&mut wire::Permit);
    let changes: [(&str, Change); 5] = [
        ("operation", |permit| permit.operation = "7".into()),
        ("cluster_id", |permit| permit.cluster_id = "orders".into()),
        ("port", |permit| permit.port = 0),
        ("node_id", |permit| permit.node_id = "0101".into()),
        ("nonce", |permit| permit.nonce = String::new()),
    ];
    for (field, change) in changes {
        let mut permit = said(&good());
        change(&mut permit);
        assert_eq!(Permit::try_from(permit), Err(Refused::Malformed(field)));
    }
}
