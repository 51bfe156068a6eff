//! Every parser of what comes from outside, as a function of bytes that panics when the parser breaks a promise.
//!
//! No panic is the least of the promises. What parses must survive the way out and in again; what does not must be
//! refused in words that a terminal can be trusted with, for many of these texts come from servers that anybody may
//! have broken into; and time must not grow faster than the text (whoever drives these functions measures it).
//!
//! Two drive them: cargo-fuzz by coverage (`make fuzz`), and `tests/tests/fuzz.rs` over the corpus and seeded changes
//! of it (`make test`).

mod messages;
mod text;

pub use messages::{assignment, disclosure, hello, ledger, pki, report, spec_message, stamp};
pub use text::{acl, agent_config, coordinator_config, info, nodes, ports, spec, token, verdict, version};

/// A target: what it is called, in the corpus too, and what it feeds.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 18] = [
    ("acl", acl),
    ("agent_config", agent_config),
    ("assignment", assignment),
    ("coordinator_config", coordinator_config),
    ("disclosure", disclosure),
    ("hello", hello),
    ("info", info),
    ("ledger", ledger),
    ("nodes", nodes),
    ("pki", pki),
    ("ports", ports),
    ("report", report),
    ("spec", spec),
    ("spec_message", spec_message),
    ("stamp", stamp),
    ("token", token),
    ("verdict", verdict),
    ("version", version),
];

/// Nothing in it moves a cursor, rings a bell or renames a window. Breaks between lines are allowed.
#[track_caller]
fn harmless(words: &str) {
    let bad = words.chars().find(|c| c.is_control() && *c != '\n');
    assert!(bad.is_none(), "a control character is shown to people: {words:?}");
}
