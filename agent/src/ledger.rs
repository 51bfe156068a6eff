//! What the coordinator has told this host, kept across restarts, and the three rules of what is accepted.
//!
//! 1. A lower term comes from a stray old coordinator: refused.
//! 2. An older generation: refused.
//! 3. The same generation with other content: refused loudly. With equal content: accepted again.
//!
//! What was accepted is on the disk before it is acknowledged.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use muster_proto::{Generation, HostAssignment, HostName, Sha256, Term, convert::FieldError, wire};
use prost::Message as _;
use uuid::Uuid;

use crate::durable;

/// Why an offer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A stray coordinator.
    #[error(
        "term {offered} is lower than term {obeyed}, which this host has obeyed; an old coordinator is still running \
         somewhere"
    )]
    LowerTerm {
        /// What came.
        offered: Term,
        /// What was obeyed.
        obeyed: Term,
    },
    /// Out of date.
    #[error("generation {offered} is older than generation {accepted}, which this host has accepted")]
    OlderGeneration {
        /// What came.
        offered: Generation,
        /// What stands.
        accepted: Generation,
    },
    /// Two documents with one number.
    #[error("generation {0} came twice with different content; the coordinator's store was restored or tampered with")]
    OtherContent(Generation),
    /// Damaged on the way.
    #[error("the document does not have the hash that it came with")]
    Damaged,
    /// Not understood.
    #[error("the document is not understood: {0}")]
    Malformed(FieldError),
    /// Meant for another.
    #[error("the document is for host {0}")]
    OtherHost(HostName),
    /// The disk. It is tried again: the document was good.
    #[error("cannot write {}: {why}", path.display())]
    Disk {
        /// What.
        path: PathBuf,
        /// In the kernel's words.
        why: String,
    },
}

/// What this host has been told, as a value: the rules, without the disk.
#[derive(Debug, Clone)]
pub struct Orders {
    host: HostName,
    /// The last `Desired` that was accepted.
    kept: Option<wire::Desired>,
    assignment: HostAssignment,
}

impl Orders {
    /// Of a host that has kept this; one that was never told anything has an empty assignment of generation 0.
    pub fn new(host: &HostName, kept: Option<wire::Desired>) -> Result<Self, FieldError> {
        let assignment = match &kept {
            Some(desired) => HostAssignment::decode(&desired.document)?,
            None => HostAssignment::empty(host.clone()),
        };
        Ok(Self { host: host.clone(), kept, assignment })
    }

    /// What the host should be.
    pub fn assignment(&self) -> &HostAssignment {
        &self.assignment
    }

    /// The generation accepted last; 0 before the first.
    pub fn generation(&self) -> Generation {
        Generation(self.kept.as_ref().map_or(0, |kept| kept.generation))
    }

    /// The highest term obeyed; 0 before the first.
    pub fn term(&self) -> Term {
        Term(self.kept.as_ref().map_or(0, |kept| kept.term))
    }

    /// What the host has been told once this is accepted too, to be kept before it counts; none where that changes
    /// nothing.
    pub fn take(&self, desired: &wire::Desired) -> Result<Option<Self>, Refusal> {
        self.obey(Term(desired.term))?;
        if desired.sha256 != Sha256::of(&desired.document).0 {
            return Err(Refusal::Damaged);
        }
        let offered = Generation(desired.generation);
        if offered < self.generation() {
            return Err(Refusal::OlderGeneration { offered, accepted: self.generation() });
        }
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.generation == desired.generation) {
            return match (kept.sha256 == desired.sha256, kept.term == desired.term) {
                (false, _) => Err(Refusal::OtherContent(offered)),
                (true, true) => Ok(None),
                (true, false) => Ok(Some(Self { kept: Some(desired.clone()), ..self.clone() })),
            };
        }
        let assignment = HostAssignment::decode(&desired.document).map_err(Refusal::Malformed)?;
        if assignment.host != self.host {
            return Err(Refusal::OtherHost(assignment.host));
        }
        Ok(Some(Self { kept: Some(desired.clone()), assignment, ..self.clone() }))
    }

    /// Whether a coordinator of that term may give orders.
    pub fn obey(&self, term: Term) -> Result<(), Refusal> {
        if term < self.term() {
            return Err(Refusal::LowerTerm { offered: term, obeyed: self.term() });
        }
        Ok(())
    }
}

/// The orders, and the file that holds them.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    orders: Orders,
}

impl Ledger {
    /// Reads what is kept.
    pub fn open(path: PathBuf, host: &HostName) -> io::Result<Self> {
        let orders = Orders::new(host, kept(&path)?).map_err(io::Error::other)?;
        Ok(Self { path, orders })
    }

    /// What the host should be.
    pub fn assignment(&self) -> &HostAssignment {
        self.orders.assignment()
    }

    /// The generation accepted last; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.orders.generation()
    }

    /// The highest term obeyed; 0 before the first.
    pub fn term(&self) -> Term {
        self.orders.term()
    }

    /// Applies the rules. On success the document is on the disk.
    pub fn offer(&mut self, desired: &wire::Desired) -> Result<(), Refusal> {
        if let Some(next) = self.orders.take(desired)? {
            crash::point("agent.ledger.before");
            durable::write(&self.path, &desired.encode_to_vec(), 0o600)
                .map_err(|error| Refusal::Disk { path: self.path.clone(), why: error.to_string() })?;
            crash::point("agent.ledger.kept");
            self.orders = next;
        }
        Ok(())
    }

    /// Whether a coordinator of that term may give orders.
    pub fn obey(&self, term: Term) -> Result<(), Refusal> {
        self.orders.obey(term)
    }
}

/// What a ledger's file holds; none before the first document.
pub fn kept(path: &Path) -> io::Result<Option<wire::Desired>> {
    let desired = match fs::read(path) {
        Ok(bytes) => wire::Desired::decode(bytes.as_slice()).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if desired.sha256 != Sha256::of(&desired.document).0 {
        return Err(io::Error::other(format!("the ledger {} is damaged", path.display())));
    }
    Ok(Some(desired))
}

/// The identity of a base directory: drawn once, then read.
pub fn identity(path: &Path) -> io::Result<Uuid> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let drawn = Uuid::new_v4();
            durable::write(path, format!("{drawn}\n").as_bytes(), 0o600)?;
            Ok(drawn)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(term: u64, generation: u64, host: &str) -> wire::Desired {
        let (document, hash) = HostAssignment::empty(host.parse().unwrap()).encode();
        wire::Desired { term, generation, sha256: hash.0.to_vec(), document }
    }

    #[test]
    fn the_three_rules_hold_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ledger::open(dir.path().join("ledger.binpb"), &"a".parse().unwrap()).unwrap();
        assert_eq!(open().offer(&desired(3, 5, "a")), Ok(()));
        assert_eq!(open().offer(&desired(3, 5, "a")), Ok(()), "equal content is accepted again");
        assert_eq!(open().offer(&desired(4, 5, "a")), Ok(()), "also from a newer term");
        let lower = Refusal::LowerTerm { offered: Term(3), obeyed: Term(4) };
        assert_eq!(open().offer(&desired(3, 6, "a")), Err(lower));
        let older = Refusal::OlderGeneration { offered: Generation(4), accepted: Generation(5) };
        assert_eq!(open().offer(&desired(4, 4, "a")), Err(older));
        assert_eq!(open().offer(&desired(4, 6, "b")), Err(Refusal::OtherHost("b".parse().unwrap())));
        assert_eq!(open().offer(&desired(4, 5, "b")), Err(Refusal::OtherContent(Generation(5))));
        let damaged = wire::Desired { sha256: vec![0; 32], ..desired(4, 6, "a") };
        assert_eq!(open().offer(&damaged), Err(Refusal::Damaged));
        assert_eq!((open().generation(), open().term()), (Generation(5), Term(4)));
    }

    #[test]
    fn an_identity_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        assert_eq!(identity(&path).unwrap(), identity(&path).unwrap());
    }
}
