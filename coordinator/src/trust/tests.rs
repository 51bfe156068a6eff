//! Every way to come in, and every way to be turned away.

use muster_proto::token::enrol_mac;

use super::*;

const NOW: u64 = 1_000;

fn token() -> TokenRecord {
    TokenRecord {
        id: "abc".into(),
        secret: Secret::new("s"),
        host: Some("a".parse().unwrap()),
        uses: 1,
        expires_ms: NOW + 1,
        rejoin: false,
        approve: false,
    }
}

fn known(state: TrustState, key: u8, token: &str) -> HostRecord {
    HostRecord {
        host: "a".parse().unwrap(),
        state,
        key: Sha256([key; 32]),
        reason: "because".into(),
        since_ms: 0,
        certificate_ms: 0,
        issuer: Sha256([0; 32]),
        token: token.into(),
    }
}

/// `state`, with `+` when the token is spent; the machine code otherwise.
fn outcome(token: Option<&TokenRecord>, known: Option<&HostRecord>, secret: &str) -> String {
    let host = "a".parse().unwrap();
    let mac = enrol_mac(&Secret::new(secret), &host, b"csr");
    let applicant = Applicant { host: &host, key: Sha256([1; 32]), csr: b"csr", mac: &mac };
    match admit(&applicant, token, known, NOW) {
        Ok(admission) => format!("{}{}", admission.state.word(), if admission.spends { "+" } else { "" }),
        Err(failure) => {
            assert!(failure.hint.is_some(), "{failure:?}");
            failure.reason
        }
    }
}

#[test]
fn a_token_lets_in_whom_it_is_for_while_it_holds() {
    let with = |spoil: fn(&mut TokenRecord)| {
        let mut token = token();
        spoil(&mut token);
        outcome(Some(&token), None, "s")
    };
    assert_eq!(with(|_| {}), "approved+");
    assert_eq!(with(|token| token.host = None), "pending+");
    assert_eq!(with(|token| (token.host, token.approve) = (None, true)), "approved+");
    assert_eq!(with(|token| token.host = "b".parse().ok()), "TOKEN_REFUSED");
    assert_eq!(with(|token| token.uses = 0), "TOKEN_REFUSED");
    assert_eq!(with(|token| token.expires_ms = NOW), "TOKEN_REFUSED");
    assert_eq!(with(|token| token.rejoin = true), "TOKEN_REFUSED");
    assert_eq!(outcome(Some(&token()), None, "guess"), "TOKEN_REFUSED");
    assert_eq!(outcome(None, None, "s"), "TOKEN_REFUSED");
}

#[test]
fn a_lost_reply_costs_nothing_and_a_name_has_one_key() {
    use TrustState::{Approved, Pending, Quarantined, Revoked};
    let spent = TokenRecord { uses: 0, expires_ms: 0, ..token() };
    let rejoin = TokenRecord { rejoin: true, ..token() };
    let open = TokenRecord { host: None, ..token() };
    let table = [
        // The same key with the same token, which is used up by that.
        (&spent, known(Approved, 1, "abc"), "approved"),
        (&spent, known(Pending, 1, "abc"), "pending"),
        (&spent, known(Quarantined, 1, "abc"), "HOST_QUARANTINED"),
        (&spent, known(Revoked, 1, "abc"), "HOST_REVOKED"),
        // The same key with another token.
        (&token(), known(Approved, 1, "x"), "approved+"),
        (&open, known(Pending, 1, "x"), "pending+"),
        (&spent, known(Approved, 1, "x"), "TOKEN_REFUSED"),
        (&token(), known(Quarantined, 1, "x"), "HOST_QUARANTINED"),
        (&token(), known(Revoked, 1, "x"), "HOST_REVOKED"),
        // Another key.
        (&token(), known(Approved, 2, "abc"), "HOST_ENROLLED"),
        (&open, known(Pending, 2, "x"), "HOST_ENROLLED"),
        (&token(), known(Revoked, 2, "x"), "HOST_ENROLLED"),
        (&rejoin, known(Approved, 2, "x"), "approved+"),
        (&rejoin, known(Quarantined, 2, "x"), "approved+"),
        (&rejoin, known(Quarantined, 1, "x"), "HOST_QUARANTINED"),
        (&rejoin, known(Revoked, 1, "x"), "HOST_REVOKED"),
        (&rejoin, known(Approved, 1, "x"), "approved+"),
        (&rejoin, known(Revoked, 2, "x"), "approved+"),
        (&TokenRecord { host: None, ..rejoin.clone() }, known(Approved, 2, "x"), "HOST_ENROLLED"),
        (&TokenRecord { uses: 0, ..rejoin.clone() }, known(Approved, 2, "x"), "TOKEN_REFUSED"),
    ];
    for (nth, (token, known, expected)) in table.iter().enumerate() {
        assert_eq!(outcome(Some(token), Some(known), "s"), *expected, "row {nth}");
    }
}

#[test]
fn what_is_wrong_with_a_token_is_told_in_the_same_words() {
    let host = "a".parse().unwrap();
    let said = |token: Option<TokenRecord>, secret: &str| {
        let mac = enrol_mac(&Secret::new(secret), &host, b"csr");
        let applicant = Applicant { host: &host, key: Sha256([1; 32]), csr: b"csr", mac: &mac };
        admit(&applicant, token.as_ref(), None, NOW).unwrap_err()
    };
    let unknown = said(None, "s");
    assert_eq!(said(Some(token()), "guess"), unknown);
    assert_eq!(said(Some(TokenRecord { uses: 0, ..token() }), "s"), unknown);
    assert_eq!(said(Some(TokenRecord { expires_ms: 0, ..token() }), "s"), unknown);
}

#[test]
fn a_second_person_is_another_person() {
    let request = |second: Option<&str>, expires_ms| SecondRecord {
        id: "1".into(),
        first: "user alice".into(),
        what: "revoke a".into(),
        second: second.map(Into::into),
        expires_ms,
    };
    let judge = |request: &SecondRecord, first: &str| seconded(Some(request), first, NOW);
    assert_eq!(seconded(None, "user alice", NOW), Seconded::Wait);
    assert_eq!(judge(&request(None, NOW + 1), "user alice"), Seconded::Wait);
    assert_eq!(judge(&request(Some("user alice"), NOW + 1), "user alice"), Seconded::Wait);
    assert_eq!(judge(&request(Some("user bob"), NOW + 1), "user alice"), Seconded::Go);
    assert_eq!(judge(&request(Some("user bob"), NOW + 1), "user carol"), Seconded::Wait);
    assert_eq!(judge(&request(Some("user bob"), NOW), "user alice"), Seconded::Wait);
}
