//! What is answered to whom, and certificates as a TLS library sees them.

use std::{sync::Arc, time::Duration};

use muster_proto::{
    Auth, Spec, Tls,
    failure::{Failure, Reason},
    pki::{self, Key},
    spec::SpecParts,
    wire,
};
use rustls::{
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
};

use super::{super::api, spec};
use crate::{
    ledger::unix_ms,
    samples::{
        blueprint,
        fleet::{Fleet, formed, owner},
        spec as open,
    },
};

fn get(fleet: &Fleet, user: &str) -> Result<wire::GetCredentialsResponse, Failure> {
    let request = wire::GetCredentialsRequest { cluster: "orders".into(), user: user.into() };
    api::get(&fleet.shared, &owner(), "unix socket", request)
}

fn fleet(spec: &Spec) -> Fleet {
    Fleet::new(&[formed(spec, blueprint())])
}

fn with(auth: Auth, tls: Tls) -> Spec {
    Spec::new(SpecParts { auth, tls, ..open().parts().clone() }).unwrap()
}

#[test]
fn clients_are_shown_what_they_need_and_no_more() {
    let fleet = fleet(&spec(Tls::Off));
    let shown = get(&fleet, "").unwrap();
    assert_eq!((shown.user.as_str(), shown.password.len(), shown.tls, shown.overlap), ("default", 43, false, false));
    assert_eq!(get(&fleet, "default").unwrap(), shown);
    assert_ne!(get(&fleet, "drawn").unwrap().password, shown.password);
    let given = get(&fleet, "given").unwrap_err();
    assert!(given.is(Reason::NoCredentials), "{given}");
    assert_eq!(
        given.message,
        "the spec of cluster orders gives the passwords of given as hashes; Muster knows no more"
    );
    for own in ["muster-admin", "muster-replica", "nobody"] {
        let refused = get(&fleet, own).unwrap_err();
        assert!(refused.is(Reason::UnknownUser), "{refused}");
        assert!(refused.message.ends_with("it has: default, drawn, given"), "{refused}");
    }
    assert_eq!(fleet.shared.ledger.audit(0, 10).unwrap().0.len(), 3, "refusals show nothing");
    let unknown = wire::GetCredentialsRequest { cluster: "carts".into(), user: String::new() };
    assert!(api::get(&fleet.shared, &owner(), "", unknown).unwrap_err().is(Reason::UnknownCluster));
}

#[test]
fn open_and_plain_clusters_have_nothing_to_show_or_to_rotate() {
    let rotate = |fleet: &Fleet, certificates| {
        let request = wire::RotateCredentialsRequest { cluster: "orders".into(), certificates };
        api::rotate(&fleet.shared, &owner(), "", request).map(|_| ())
    };
    let open = fleet(&with(Auth::None, Tls::Off));
    assert!(get(&open, "").unwrap_err().is(Reason::NoCredentials));
    assert!(rotate(&open, false).unwrap_err().is(Reason::NoCredentials));
    let finish = wire::FinishRotationRequest { cluster: "orders".into() };
    assert!(api::finish(&open.shared, &owner(), "", finish.clone()).unwrap_err().is(Reason::NoCredentials));
    let plain = fleet(&spec(Tls::Off));
    assert!(rotate(&plain, true).unwrap_err().is(Reason::NoCredentials));
    assert!(api::finish(&plain.shared, &owner(), "", finish).unwrap_err().is(Reason::UnknownOperation));
    let issued = fleet(&with(Auth::None, Tls::Issued));
    let shown = get(&issued, "").unwrap();
    assert_eq!((shown.user.as_str(), shown.password.as_str(), shown.tls), ("", "", true));
    assert_eq!(pki::from_pem(&shown.ca_pem).unwrap().len(), 1);
    assert!(get(&issued, "default").unwrap_err().is(Reason::NoCredentials));
    assert!(rotate(&issued, false).unwrap_err().is(Reason::NoCredentials));
    // One that is older than passwords.
    let mut old = formed(&spec(Tls::Off), blueprint());
    old.credentials = None;
    let old = Fleet::new(&[old]);
    let refused = get(&old, "").unwrap_err();
    assert!(refused.message.contains("made before Muster drew passwords"), "{refused}");
    // One that is being made: its bootstrap has it.
    let mut forming = formed(&spec(Tls::Off), blueprint());
    forming.formed_ms = None;
    let forming = Fleet::new(&[forming]);
    assert!(rotate(&forming, false).unwrap_err().is(Reason::OperationBusy));
    assert!(get(&forming, "").is_ok());
}

#[test]
fn a_certificate_is_for_the_hosts_address_and_believed_on_both_ends() {
    let fleet = fleet(&spec(Tls::Issued));
    let host = blueprint().hosts()[1].clone();
    let address = blueprint().members.iter().find(|member| member.host == host).unwrap().address;
    let key = Key::generate().unwrap();
    let csr = key.request("whoever").unwrap();
    let certify = |host: &str, cluster: &str, csr: &[u8]| {
        let request = wire::CertifyRequest { cluster: cluster.into(), csr: csr.to_vec(), host: String::new() };
        api::certify(&fleet.shared, &host.parse().unwrap(), request)
    };
    let leaf = CertificateDer::from(certify(host.as_str(), "orders", &csr).unwrap().certificate);
    let ca = pki::from_pem(&get(&fleet, "").unwrap().ca_pem).unwrap();
    let roots = Arc::new(pki::roots(&ca).unwrap());
    let provider = Arc::new(ring::default_provider());
    let server = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let client = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
    let at = |hours: u64| UnixTime::since_unix_epoch(Duration::from_secs(unix_ms() / 1000 + hours * 3600));
    let serves = |name: &str, at| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        server.verify_server_cert(&leaf, &[], &name, &[], at).is_ok()
    };
    assert!(serves(&address.to_string(), at(0)) && serves(host.as_str(), at(719)));
    assert!(!serves(&address.to_string(), at(721)), "30 days");
    assert!(!serves("10.9.9.9", at(0)) && !serves("whoever", at(0)) && !serves("server1", at(0)));
    assert!(client.verify_client_cert(&leaf, &[], at(0)).is_ok());
    let again = certify(host.as_str(), "orders", &csr).unwrap().certificate;
    assert_ne!(again, leaf.to_vec(), "a serial number is used once");

    assert!(certify("server9", "orders", &csr).unwrap_err().is(Reason::UnknownCluster));
    assert!(certify(host.as_str(), "carts", &csr).unwrap_err().is(Reason::UnknownCluster));
    let mut changed = csr.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(certify(host.as_str(), "orders", &changed).unwrap_err().is(Reason::InvalidArgument));
    assert!(certify(host.as_str(), "orders", b"").unwrap_err().is(Reason::InvalidArgument));
    let plain = self::fleet(&spec(Tls::Off));
    let request = wire::CertifyRequest { cluster: "orders".into(), csr, host: String::new() };
    assert!(api::certify(&plain.shared, &host, request).unwrap_err().is(Reason::NoCredentials));
}

#[test]
fn authorities_of_two_clusters_and_of_two_rotations_do_not_believe_each_other() {
    let certified = |fleet: &Fleet| {
        let host = blueprint().hosts()[0].clone();
        let csr = Key::generate().unwrap().request("").unwrap();
        let request = wire::CertifyRequest { cluster: "orders".into(), csr, host: String::new() };
        CertificateDer::from(api::certify(&fleet.shared, &host, request).unwrap().certificate)
    };
    let believes = |fleet: &Fleet, leaf: &CertificateDer| {
        let ca = pki::from_pem(&get(fleet, "").unwrap().ca_pem).unwrap();
        let roots = Arc::new(pki::roots(&ca).unwrap());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()));
        verifier.build().unwrap().verify_client_cert(leaf, &[], UnixTime::now()).is_ok()
    };
    let (one, other) = (fleet(&spec(Tls::Issued)), fleet(&spec(Tls::Issued)));
    assert!(believes(&one, &certified(&one)));
    assert!(!believes(&one, &certified(&other)));
}
