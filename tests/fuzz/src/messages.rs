//! Bytes: messages of the wire, what is kept of them on disk, and certificates.

use std::{
    fmt,
    fs::File,
    io::{Seek as _, Write as _},
    os::fd::AsRawFd as _,
};

use muster_agent::{layout::Stamp, ledger::Ledger};
use muster_coordinator::recovery::{Standing, Testimony, rebuild};
use muster_proto::{
    Hello, HostAssignment, OperationId, Report, Secret, Sha256, Spec, Term, convert::FieldError, pki, wire,
};
use prost::Message;

use super::harmless;

/// A message that is understood is the same after a way out and in again; what is not names its field.
fn comes_back<W, T>(data: &[u8])
where
    W: Message + Default + for<'a> From<&'a T>,
    T: TryFrom<W, Error = FieldError> + PartialEq + fmt::Debug,
{
    let Ok(message) = W::decode(data) else { return };
    match T::try_from(message) {
        Ok(value) => {
            let bytes = W::from(&value).encode_to_vec();
            let again = W::decode(bytes.as_slice()).map(T::try_from);
            assert_eq!(again, Ok(Ok(value)));
        }
        Err(error) => {
            assert!(!error.field.is_empty());
            harmless(&error.to_string());
        }
    }
}

/// What an agent says first.
pub fn hello(data: &[u8]) {
    comes_back::<wire::Hello, Hello>(data);
}

/// What it says all the time.
pub fn report(data: &[u8]) {
    comes_back::<wire::Report, Report>(data);
}

/// What an operator's program asks for.
pub fn spec_message(data: &[u8]) {
    comes_back::<wire::Spec, Spec>(data);
}

/// The document that a host is told to be.
pub fn assignment(data: &[u8]) {
    comes_back::<wire::HostAssignment, HostAssignment>(data);
    if let Ok(assignment) = HostAssignment::decode(data) {
        let (document, _) = assignment.encode();
        assert_eq!(HostAssignment::decode(&document), Ok(assignment));
    }
}

/// What an agent tells a coordinator that has lost its store, and the store that is made of it. What is taken up was
/// told, and the host that told it is told no less.
pub fn disclosure(data: &[u8]) {
    let Ok(mut said) = wire::Disclosure::decode(data) else { return };
    // Chance does not find hashes.
    said.sha256 = Sha256::of(&said.document).0.to_vec();
    let told = HostAssignment::decode(&said.document).ok();
    let host = told.as_ref().map_or_else(|| "server1".to_owned(), |told| told.host.to_string());
    let hello = wire::Hello {
        protocol: 1,
        host,
        address: "10.0.0.1".into(),
        identity: "8f9b6c0e-0000-4000-8000-000000000000".into(),
        term: said.term,
        ..wire::Hello::default()
    };
    let Ok(hello) = Hello::try_from(hello) else { return };
    let name = hello.host.clone();
    let testimony = Testimony::of(hello, said);
    let held = testimony.told.clusters().len();
    let Ok(operation) = "01a214f6-c62e-7311-8c40-d5277b6ff3ed".parse::<OperationId>() else { return };
    let rebuilt = rebuild(&[(name.clone(), testimony)].into(), Term(1), 1, || operation);
    rebuilt.findings.iter().for_each(|finding| harmless(&finding.message));
    let left = rebuilt.hosts.get(&name).is_some_and(|host| host.standing == Standing::LeftAlone);
    assert!(left || rebuilt.clusters.len() == held, "{held} are held, {} taken up", rebuilt.clusters.len());
}

/// The agent's file of what it was told. What opens is what was written, whole.
pub fn ledger(data: &[u8]) {
    let memory = rustix::fs::memfd_create("ledger", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
    let Ok(mut file) = memory else { return };
    if file.write_all(data).and_then(|()| file.rewind()).is_err() {
        return;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(host) = "server1".parse() else { return };
    match Ledger::open(path.into(), &host) {
        Ok(ledger) => {
            let kept = wire::Desired::decode(data).unwrap_or_default();
            assert_eq!((ledger.generation().0, ledger.term().0), (kept.generation, kept.term));
            assert_eq!(HostAssignment::decode(&kept.document).as_ref(), Ok(ledger.assignment()));
        }
        Err(error) => harmless(&error.to_string()),
    }
}

/// The file that says whose a directory is.
pub fn stamp(data: &[u8]) {
    match Stamp::parse(data) {
        Ok(stamp) => {
            let again = serde_json::to_vec(&stamp).map(|bytes| Stamp::parse(&bytes));
            assert!(again.is_ok_and(|again| again.as_ref() == Ok(&stamp)), "{stamp:?}");
        }
        Err(error) => harmless(&error),
    }
}

/// Certificates, requests and keys.
pub fn pki(data: &[u8]) {
    let longer = || [data, b"x"].concat();
    match pki::read_certificate(data) {
        Ok(about) => {
            assert!(pki::read_certificate(&longer()).is_err(), "with something behind it");
            harmless(&about.name.to_string());
        }
        Err(error) => harmless(&error.to_string()),
    }
    match pki::read_request(data) {
        Ok(_) => assert!(pki::read_request(&longer()).is_err(), "with something behind it"),
        Err(error) => harmless(&error.to_string()),
    }
    let text = String::from_utf8_lossy(data);
    match pki::from_pem(&text) {
        Ok(certificates) => {
            assert!(pki::from_pem(&pki::to_pem(&certificates)).is_ok_and(|again| again == certificates))
        }
        Err(error) => harmless(&error.to_string()),
    }
    if let Ok(key) = pki::Key::from_pem(Secret::new(text)) {
        assert!(key.sha256().is_ok() && key.der().is_ok(), "what is taken for a key signs");
    }
}
