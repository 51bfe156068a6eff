//! The client against real redis-servers that want a password and speak TLS alone.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use muster_proto::{pki, pki::Key, wire::GetCredentialsResponse};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};

use super::*;

const ADDRESS: &str = "127.0.41.1";
const HALVES: [(u16, u16); 2] = [(0, 8191), (8192, 16_383)];

/// A process that goes when the test goes.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((ADDRESS, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Writes an authority, and a certificate of that address and its key.
fn certificates(dir: &Path) -> String {
    let (authority, key) = (Key::generate().unwrap(), Key::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&authority.pair().unwrap()).unwrap().der().to_vec();
    let issuer = Issuer::new(params, authority.pair().unwrap());
    let leaf = CertificateParams::new(vec![ADDRESS.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key.pair().unwrap(), &issuer).unwrap().der().to_vec();
    let ca = pki::to_pem(&[ca]);
    fs::write(dir.join("ca.pem"), &ca).unwrap();
    fs::write(dir.join("cert.pem"), pki::to_pem(&[leaf])).unwrap();
    fs::write(dir.join("key.pem"), key.pem().expose()).unwrap();
    ca
}

/// Two masters that know each other from the start, each with half of the slots.
fn start(dir: &Path, ports: [u16; 2], buses: [u16; 2]) -> Vec<Server> {
    let line = |nth: usize, myself: usize| {
        let flags = if nth == myself { "myself,master" } else { "master" };
        let (first, last) = HALVES[nth];
        let id = char::from_digit(nth as u32 + 10, 16).unwrap().to_string().repeat(40);
        let (port, bus, epoch) = (ports[nth], buses[nth], nth + 1);
        format!("{id} {ADDRESS}:{port}@{bus} {flags} - 0 0 {epoch} connected {first}-{last}\n")
    };
    let one = |nth: usize| {
        let home = dir.join(nth.to_string());
        fs::create_dir(&home).unwrap();
        let nodes = line(0, nth) + &line(1, nth) + "vars currentEpoch 2 lastVoteEpoch 0\n";
        fs::write(home.join("nodes.conf"), nodes).unwrap();
        let (port, bus) = (ports[nth], buses[nth]);
        let conf = format!(
            "port 0\ntls-port {port}\ncluster-port {bus}\nbind {ADDRESS}\nbind-source-addr {ADDRESS}\n\
             cluster-announce-ip {ADDRESS}\ntls-cluster yes\ntls-replication yes\ntls-auth-clients no\n\
             tls-cert-file ../cert.pem\ntls-key-file ../key.pem\ntls-ca-cert-file ../ca.pem\n\
             cluster-enabled yes\nsave \"\"\nrequirepass hunter2\n"
        );
        fs::write(home.join("redis.conf"), conf).unwrap();
        let mut server = Command::new("redis-server");
        let server = server.arg("redis.conf").current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null());
        Server(server.spawn().unwrap())
    };
    (0..2).map(one).collect()
}

fn access(password: &str, tls: bool, ca_pem: &str) -> Access {
    Access::from(GetCredentialsResponse {
        user: "default".into(),
        password: password.into(),
        tls,
        ca_pem: ca_pem.into(),
        overlap: false,
    })
}

/// Until both serve: CLUSTER_WRITABLE_DELAY is 2 s.
async fn serving(access: &Access, ports: [u16; 2]) {
    let deadline = Instant::now() + Duration::from_secs(15);
    for port in ports {
        let mut last = String::new();
        while !last.contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "{port} does not serve: {last}");
            let client = access.node(ADDRESS, port).unwrap();
            last = match client.get_multiplexed_async_connection().await {
                Ok(mut connection) => {
                    let info = cmd("CLUSTER").arg("INFO").query_async::<String>(&mut connection).await;
                    info.unwrap_or_else(|error| error.to_string())
                }
                Err(error) => error.to_string(),
            };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_cluster_that_wants_tls_and_a_password_is_written_through_with_both_and_not_without_either() {
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path());
    let [first, second, bus, other] = free_ports();
    let ports = [first, second];
    let servers = start(dir.path(), ports, [bus, other]);
    let good = access("hunter2", true, &ca);
    serving(&good, ports).await;
    let master = |nth: usize| {
        let slots = vec![muster_proto::SlotRange::new(HALVES[nth].0, HALVES[nth].1).unwrap()];
        Master { address: ADDRESS.into(), port: ports[nth], slots }
    };
    let masters = [master(0), master(1)];
    let steps = visit(&masters, &good).await;
    for (nth, step) in steps.iter().enumerate() {
        assert_eq!(step.error, "");
        // The redirect is seen over TLS too.
        assert_eq!((&step.asked, &step.answered), (&name(&masters[1 - nth]), &name(&masters[nth])));
    }
    let stranger = tempfile::tempdir().unwrap();
    let bad = [
        access("wrong-secret", true, &ca),
        access("hunter2", false, ""),
        access("hunter2", true, &certificates(stranger.path())),
    ];
    for access in bad {
        for step in visit(&masters, &access).await {
            assert_ne!(step.error, "", "{access:?}");
            assert!(!step.error.contains("hunter2") && !step.error.contains("wrong-secret"), "{}", step.error);
        }
    }
    drop(servers);
}
