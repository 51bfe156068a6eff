//! Real servers: secrets are exchanged under a client that goes on, and what is retired opens nothing any more.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use muster_proto::{ClusterAssignment, InstanceTls, Secret, Sha256, Users, pki::Key};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType};

use super::*;
use crate::{
    certify::Certified,
    conf::{ConfFile, access},
    samples::{self, layout, port, stamp},
};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn version() -> ServerVersion {
    "redis 7.0.15".parse().unwrap()
}

fn login(user: &str, password: &str) -> Login {
    Login { user: user.into(), password: Secret::new(password) }
}

/// Users whose passwords are these; the first of each is the one that is used.
fn users(default: &[&str], own: &[&str]) -> Users {
    let hashes = |words: &[&str]| words.iter().map(|word| Sha256::of(word.as_bytes())).collect::<Vec<_>>();
    let user = |name: &str, rules: &str, words: &[&str]| RedisUser {
        name: name.into(),
        rules: rules.parse().unwrap(),
        passwords: hashes(words),
    };
    Users {
        users: vec![
            user("default", "~* &* +@all -@admin", default),
            user("muster-admin", "~* &* +@all", own),
            user("muster-replica", "+psync +replconf +ping", own),
        ],
        admin: own.iter().map(|word| login("muster-admin", word)).collect(),
        replica: login("muster-replica", own[0]),
    }
}

struct Server {
    child: Child,
    dir: InstanceDir,
    address: SocketAddr,
    _base: tempfile::TempDir,
}

impl Server {
    fn start(files: &[ConfFile], lines: &str, tls: bool) -> Self {
        let (base, layout) = layout();
        let dir = layout.instance(port(7000));
        let number = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let path = dir.path();
        let ports = if tls { format!("port 0\ntls-port {number}\n") } else { format!("port {number}\n") };
        let conf = format!(
            "{ports}bind 127.0.0.1\nunixsocket {0}/redis.sock\ndir {0}\nsave \"\"\nlogfile {0}/redis.log\n{lines}",
            path.display()
        );
        let conf = conf.replace("DIR", path.to_str().unwrap());
        let files: Vec<_> = files.iter().cloned().chain([ConfFile::read_only("redis.conf", conf)]).collect();
        dir.establish(&stamp(), &files).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(path.join("redis.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        Self { child, dir, address: SocketAddr::new(LOCALHOST, number), _base: base }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    async fn up(&self, logins: &[Login]) {
        let began = std::time::Instant::now();
        while let Err(error) = Talk::connect(&self.dir.socket(), self.pid(), logins).await {
            let log = fs::read_to_string(self.dir.log()).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(10), "{error}\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn client(&self, user: &str, password: &str) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://{}", self.address))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let () = cmd("AUTH").arg(user).arg(password).query_async(&mut connection).await?;
        Ok(connection)
    }

    async fn adjust(&self, cluster: &ClusterAssignment, certified: Option<&Certified>, logins: &[Login]) {
        let (files, live) = access(version(), cluster, &self.dir.path(), certified).unwrap();
        for _ in 0..2 {
            self.dir.write_files(&files).unwrap();
            let target = Target { pid: self.pid(), logins: logins.to_vec(), address: self.address };
            adjust(&self.dir, live.as_ref().unwrap(), &target).await.unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cluster(users: Option<Users>, tls: Option<InstanceTls>) -> ClusterAssignment {
    ClusterAssignment { users, tls, ..samples::cluster(muster_proto::Want::Running, true) }
}

#[tokio::test]
async fn passwords_are_exchanged_under_a_client_that_never_notices() {
    let first = cluster(Some(users(&["old"], &["own1"])), None);
    let (files, _) = access(version(), &first, std::path::Path::new("/x"), None).unwrap();
    let server = Server::start(&files, "aclfile DIR/users.acl\nmasteruser muster-replica\nmasterauth own1\n", false);
    let own = [login("muster-admin", "own2"), login("muster-admin", "own1")];
    server.up(&own).await;
    assert!(server.client("default", "guess").await.is_err());
    assert!(server.client("default", "").await.is_err());

    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writer = server.client("default", "old").await.unwrap();
    let (ended, written) = (stop.clone(), count.clone());
    let writing = tokio::spawn(async move {
        while !ended.load(Ordering::Relaxed) {
            let () = cmd("SET").arg("key").arg(1).query_async(&mut writer).await?;
            written.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, redis::RedisError>(())
    });
    // One of another user goes on as well: a reload of the file would cut it off.
    let mut replica = server.client("muster-replica", "own1").await.unwrap();

    let both = cluster(Some(users(&["new", "old"], &["own2", "own1"])), None);
    server.adjust(&both, None, &own).await;
    for password in ["old", "new"] {
        assert!(server.client("default", password).await.is_ok(), "{password}");
    }
    let only = cluster(Some(users(&["new"], &["own2"])), None);
    server.adjust(&only, None, &own).await;
    assert!(server.client("default", "old").await.is_err());
    assert!(server.client("muster-admin", "own1").await.is_err());
    let mut talk = Talk::connect(&server.dir.socket(), server.pid(), &own).await.unwrap();
    let auth: Vec<String> = talk.ask(cmd("CONFIG").arg("GET").arg("masterauth")).await.unwrap();
    assert_eq!(auth[1], "own2");
    // What is on disk is what runs.
    let text = fs::read_to_string(server.dir.path().join("users.acl")).unwrap();
    assert!(text.contains(&Sha256::of(b"new").to_string()) && !text.contains(&Sha256::of(b"old").to_string()));

    let () = cmd("PING").query_async(&mut replica).await.unwrap();
    let before = count.load(Ordering::Relaxed);
    let began = std::time::Instant::now();
    while count.load(Ordering::Relaxed) < before + 10 {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_user_that_somebody_has_added_or_changed_is_put_right() {
    let first = cluster(Some(users(&["p"], &["own"])), None);
    let (files, _) = access(version(), &first, std::path::Path::new("/x"), None).unwrap();
    let server = Server::start(&files, "aclfile DIR/users.acl\n", false);
    let own = [login("muster-admin", "own")];
    server.up(&own).await;
    let mut talk = Talk::connect(&server.dir.socket(), server.pid(), &own).await.unwrap();
    talk.tell(cmd("ACL").arg("SETUSER").arg("mallory").arg("on").arg(">m").arg("~*").arg("+@all")).await.unwrap();
    talk.tell(cmd("ACL").arg("SETUSER").arg("default").arg("on").arg("nopass")).await.unwrap();
    server.adjust(&first, None, &own).await;
    assert!(server.client("mallory", "m").await.is_err());
    assert!(server.client("default", "anything").await.is_err());
    assert!(server.client("default", "p").await.is_ok());
}

struct Authority(CertificateParams, KeyPair);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(params, KeyPair::generate().unwrap())
    }

    fn issue(&self, key: &Key) -> Certified {
        let csr = key.request("x").unwrap();
        let mut request = CertificateSigningRequestParams::from_der(&csr.as_slice().into()).unwrap();
        request.params.subject_alt_names = vec![SanType::IpAddress(LOCALHOST)];
        let signed = request.signed_by(&Issuer::from_params(&self.0, &self.1)).unwrap();
        Certified::of(signed.pem(), key, "")
    }
}

#[tokio::test]
async fn certificates_are_exchanged_without_a_restart_and_proved_by_a_handshake() {
    let (old, new, key) = (Authority::new(), Authority::new(), Key::generate().unwrap());
    let pem = |authority: &Authority| authority.0.self_signed(&authority.1).unwrap().pem();
    let (old_pem, new_pem) = (pem(&old), pem(&new));
    let tls = |ca_pem: String| Some(InstanceTls::Issued { ca_pem, issuer: Sha256([0; 32]) });
    let users = || Some(users(&["p"], &["own"]));
    let first = cluster(users(), tls(old_pem.clone()));
    let (files, _) = access(version(), &first, std::path::Path::new("/x"), Some(&old.issue(&key))).unwrap();
    let lines =
        "aclfile DIR/users.acl\ntls-cert-file DIR/tls.crt\ntls-key-file DIR/tls.key\ntls-ca-cert-file DIR/ca.crt\n";
    let server = Server::start(&files, lines, true);
    let own = [login("muster-admin", "own")];
    server.up(&own).await;
    let pid = server.child.id();
    server.adjust(&cluster(users(), tls(old_pem.clone() + &new_pem)), Some(&old.issue(&key)), &own).await;
    server.adjust(&cluster(users(), tls(old_pem + &new_pem)), Some(&new.issue(&key)), &own).await;
    server.adjust(&cluster(users(), tls(new_pem.clone())), Some(&new.issue(&key)), &own).await;
    assert_eq!(server.child.id(), pid);
    // Another than the one that is shown is not taken for it.
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let (cert, ca) = (write("c", &new.issue(&key).pem), write("a", &new_pem));
    assert_eq!(prove(&cert, &ca, server.address).await.unwrap_err(), "it shows another one");
    let strange = write("s", &pem(&old));
    assert!(prove(&cert, &strange, server.address).await.is_err());
}
