//! Bytes: messages of the wire, what is kept of them on disk, and certificates.

use std::{
    fmt,
    fs::File,
    io::{Seek as _, Write as _},
    os::fd::AsRawFd as _,
};

use muster_agent::{layout::Stamp, ledger::Ledger};
use muster_proto::{Hello, HostAssignment, Report, Secret, Spec, convert::FieldError, pki, wire};
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
