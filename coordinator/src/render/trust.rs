//! How far a host is believed: a part of `muster hosts`, and the answers of `muster host`.

use muster_proto::wire::{HostTrust, RemoveHostResponse, TrustState};
use serde::Serialize;

use super::{moment, some};

/// What is known of a host's identity, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct TrustJson {
    state: &'static str,
    reason: Option<String>,
    since_unix_ms: u64,
    key_sha256: Option<String>,
    certificate_expires_unix_ms: Option<u64>,
}

/// One host's, alone in a document.
#[derive(Debug, Clone, Serialize)]
pub struct OneJson {
    host: String,
    trust: TrustJson,
}

/// A host that is forgotten, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct RemovedJson {
    host: String,
    removed: bool,
    left_behind: Vec<String>,
}

impl From<&HostTrust> for TrustJson {
    fn from(trust: &HostTrust) -> Self {
        Self {
            state: state(trust),
            reason: some(&trust.reason),
            since_unix_ms: trust.since_unix_ms,
            key_sha256: some(&trust.key_sha256),
            certificate_expires_unix_ms: Some(trust.certificate_expires_unix_ms).filter(|expires| *expires > 0),
        }
    }
}

impl OneJson {
    /// Of that host.
    pub fn new(host: &str, trust: &HostTrust) -> Self {
        Self { host: host.to_owned(), trust: trust.into() }
    }
}

impl RemovedJson {
    /// That host.
    pub fn new(host: &str, answer: &RemoveHostResponse) -> Self {
        Self { host: host.to_owned(), removed: true, left_behind: answer.left_behind.clone() }
    }
}

/// A host that is forgotten, and what it may still have.
pub fn removed(host: &str, answer: &RemoveHostResponse) -> String {
    let left = match answer.left_behind.join(", ") {
        none if none.is_empty() => none,
        left => format!("a rebuild has left behind on it: {left}; none of that may run any more\n"),
    };
    format!("host {host} is forgotten\n{left}")
}

/// As people and scripts read it.
pub fn state(trust: &HostTrust) -> &'static str {
    match trust.state() {
        TrustState::Pending => "pending",
        TrustState::Approved => "approved",
        TrustState::Quarantined => "quarantined",
        TrustState::Revoked => "revoked",
        TrustState::Unspecified => "unknown",
    }
}

/// When the certificate ends.
pub fn expiry(trust: &HostTrust) -> String {
    some(&moment(trust.certificate_expires_unix_ms)).unwrap_or_else(|| "-".to_owned())
}

/// One host's, in a line.
pub fn one(host: &str, trust: &HostTrust) -> String {
    let reason = some(&trust.reason).map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("host {host} is {}{reason}\n", state(trust))
}

/// What is to be done about a host that does not take part; none when it does.
pub fn note(host: &str, trust: &HostTrust) -> Option<String> {
    let reason = some(&trust.reason).map(|reason| format!(" ({reason})")).unwrap_or_default();
    match trust.state() {
        TrustState::Pending => Some(format!("{host} waits for: muster host approve {host}")),
        TrustState::Quarantined => Some(format!(
            "{host} is quarantined{reason}; to let it back: muster host approve {host}, or where somebody else may \
                 have its key: muster host rejoin-token {host}"
        )),
        TrustState::Revoked => {
            Some(format!("{host} is revoked{reason}; with a new key: muster host rejoin-token {host}"))
        }
        TrustState::Approved | TrustState::Unspecified => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    pub(crate) fn trust(state: TrustState, reason: &str) -> HostTrust {
        HostTrust {
            host: "server1".into(),
            state: state.into(),
            reason: reason.into(),
            since_unix_ms: 1_795_384_800_000,
            key_sha256: "ab".repeat(32),
            certificate_expires_unix_ms: 1_795_989_600_000,
        }
    }

    #[test]
    fn what_keeps_a_host_out_says_how_it_comes_back() {
        use TrustState::{Approved, Pending, Quarantined, Revoked};
        let note = |state, reason| note("server1", &trust(state, reason)).unwrap_or_default();
        assert_eq!(note(Pending, ""), "server1 waits for: muster host approve server1");
        assert_eq!(
            note(Quarantined, "seen twice"),
            "server1 is quarantined (seen twice); to let it back: muster host approve server1, or where somebody else \
             may have its key: muster host rejoin-token server1"
        );
        assert_eq!(note(Revoked, ""), "server1 is revoked; with a new key: muster host rejoin-token server1");
        assert_eq!(note(Approved, "by user alice"), "");
        assert_eq!(expiry(&trust(Approved, "")), "2026-11-29T22:00:00Z");
        assert_eq!(expiry(&HostTrust::default()), "-");
    }

    #[test]
    fn a_hosts_identity_is_a_document() {
        expect![[r#"
            {
              "host": "server1",
              "trust": {
                "state": "revoked",
                "reason": "stolen (user alice)",
                "since_unix_ms": 1795384800000,
                "key_sha256": "abababababababababababababababababababababababababababababababab",
                "certificate_expires_unix_ms": 1795989600000
              }
            }
        "#]]
        .assert_eq(&document(&OneJson::new("server1", &trust(TrustState::Revoked, "stolen (user alice)"))));
    }
}
