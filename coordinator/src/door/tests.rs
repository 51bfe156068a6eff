//! The real server behind the real door: who comes in, who may call what, and that a flood keeps nobody out.

use std::{net::SocketAddr, path::Path, time::Duration};

use muster_proto::{
    AccessRole,
    access::RULES,
    failure::{Failure, Reason},
    pki::{self, Believes, Identity, Key},
    token::{AccessString, JoinToken, enrol_mac},
    wire::{self, enrolment_client::EnrolmentClient, trust_client::TrustClient},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use crate::{config::Config, ledger::unix_ms};

const SOON: Duration = Duration::from_secs(20);

/// A coordinator that runs, and its directory.
struct World {
    dir: tempfile::TempDir,
    address: SocketAddr,
    shutdown: CancellationToken,
    run: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl World {
    async fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, extra).await
    }

    async fn start_in(dir: tempfile::TempDir, extra: &str) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let home = dir.path().display();
        let text = format!(
            "state_dir = \"{home}/state\"\nadmin_socket = \"{home}/admin.sock\"\nlisten = \"https://{address}\"\n{extra}"
        );
        let config = Config::parse(&text, Path::new("coordinator.toml")).unwrap();
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(crate::run(config, shutdown.clone()));
        let world = Self { dir, address, shutdown, run };
        world.eventually(|| async { world.owner().await.who_am_i(wire::WhoAmIRequest {}).await.is_ok() }).await;
        world
    }

    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.run.await.unwrap().unwrap();
        self.dir
    }

    async fn eventually<F: Future<Output = bool>>(&self, look: impl Fn() -> F) {
        let began = std::time::Instant::now();
        while !look().await {
            assert!(began.elapsed() < SOON, "waited {SOON:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn unix(&self) -> Channel {
        let path = self.dir.path().join("admin.sock");
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        Endpoint::from_static("http://muster").connect_with_connector_lazy(connect)
    }

    async fn owner(&self) -> TrustClient<Channel> {
        TrustClient::new(self.unix().await)
    }

    async fn tls(&self, believes: &Believes, identity: Option<&Identity>) -> Result<Channel, String> {
        let config = pki::client(believes, identity).unwrap();
        let address = self.address;
        let connect = tower::service_fn(move |_| {
            let connector = tokio_rustls::TlsConnector::from(config.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = pki::COORDINATOR.try_into().unwrap();
                connector.connect(name, stream).await.map(hyper_util::rt::TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://muster").connect_timeout(Duration::from_secs(15));
        let channel = endpoint.connect_with_connector(connect).await;
        channel.map_err(|error| format!("{error:?}"))
    }

    /// A join token, as `muster token create` gets it.
    async fn token(&self, request: wire::CreateTokenRequest) -> JoinToken {
        self.owner().await.create_token(request).await.unwrap().into_inner().token.parse().unwrap()
    }

    async fn token_for(&self, host: &str) -> JoinToken {
        self.token(wire::CreateTokenRequest { host: host.into(), ..Default::default() }).await
    }

    /// Enrols with a key; the certificate and the authorities.
    async fn enrol(&self, token: &JoinToken, host: &str, key: &Key) -> Result<wire::EnrolResponse, Failure> {
        let channel = self.tls(&Believes::Pinned(token.authority()), None).await.unwrap();
        let csr = key.request(host).unwrap();
        let mac = enrol_mac(token.secret(), &host.parse().unwrap(), &csr);
        let request = wire::EnrolRequest { token_id: token.id().into(), host: host.into(), csr, mac };
        let answer = EnrolmentClient::new(channel).enrol(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }

    /// A host that is enrolled and approved.
    async fn host(&self, host: &str) -> (Identity, Believes) {
        let (token, key) = (self.token_for(host).await, Key::generate().unwrap());
        let enrolled = self.enrol(&token, host, &key).await.unwrap();
        assert!(enrolled.approved);
        (Identity { certificate: enrolled.certificate, key }, Believes::Authorities(enrolled.authorities))
    }

    async fn renew(&self, identity: &Identity, believes: &Believes) -> Result<wire::RenewResponse, Failure> {
        let channel = self.tls(believes, None).await.unwrap();
        let csr = identity.key.request("x").unwrap();
        let request = wire::RenewRequest { csr, certificate: identity.certificate.clone() };
        let answer = EnrolmentClient::new(channel).renew(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }

    async fn user(&self, name: &str, role: AccessRole) -> AccessString {
        let request = wire::CreateUserRequest { name: name.into(), role: role.wire().into(), ttl_s: 3600 };
        self.owner().await.create_user(request).await.unwrap().into_inner().access.parse().unwrap()
    }
}

fn failure(status: &Status) -> Failure {
    Failure::from_status(status).unwrap_or_else(|| panic!("not Muster's own answer: {status:?}"))
}

/// Calls an RPC with an empty message, and says what the gate thinks: it lets through, or its reason.
async fn knock(channel: &Channel, path: &str, bearer: Option<&str>) -> Option<String> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(());
    if let Some(bearer) = bearer {
        request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path: PathAndQuery = path.parse().unwrap();
    let answer = client.unary(request, path, codec).await;
    let refused = [Reason::Unauthenticated, Reason::RoleTooLow];
    let said = answer.err().and_then(|status| Failure::from_status(&status))?;
    refused.iter().any(|reason| said.is(*reason)).then_some(said.reason)
}

#[tokio::test]
async fn every_rpc_is_open_to_whom_its_rule_names_and_to_nobody_else() {
    let world = World::start("").await;
    let (identity, believes) = world.host("server1").await;
    let stranger = world.tls(&believes, None).await.unwrap();
    let host = world.tls(&believes, Some(&identity)).await.unwrap();
    let mut users = Vec::new();
    for role in AccessRole::ALL {
        let access = world.user(role.word(), role).await;
        users.push((role, format!("{}:{}", access.id(), access.secret().expose())));
    }
    let ours = RULES.iter().filter(|(path, _)| path.starts_with("/muster."));
    for (path, rule) in ours {
        let may = |caller: &crate::caller::Caller| caller.may(*rule);
        let nobody = knock(&stranger, path, None).await;
        assert_eq!(nobody.is_none(), may(&crate::caller::Caller::Nobody), "nobody, {path}: {nobody:?}");
        let caller =
            crate::caller::Caller::Host { name: "server1".parse().unwrap(), key: identity.key.sha256().unwrap() };
        let agent = knock(&host, path, None).await;
        assert_eq!(agent.is_none(), may(&caller), "host, {path}: {agent:?}");
        for (role, bearer) in &users {
            // What would end the other users is left to the end of this test.
            let caller = crate::caller::Caller::User { name: role.word().into(), role: *role, expires_ms: 0 };
            let said = knock(&stranger, path, Some(bearer)).await;
            let certify = path.ends_with("/Certify") && said.as_deref() == Some("UNAUTHENTICATED");
            assert_eq!(said.is_none(), may(&caller) || certify, "{role}, {path}: {said:?}");
        }
    }
    assert_eq!(knock(&stranger, "/muster.v1.Admin/Nonsense", Some(&users[3].1)).await.as_deref(), Some("ROLE_TOO_LOW"));
    for wrong in ["admin:guess", "nobody:guess", "admin", ""] {
        let said = knock(&stranger, "/muster.v1.Trust/WhoAmI", Some(wrong)).await;
        assert_eq!(said.as_deref(), Some("UNAUTHENTICATED"), "{wrong}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_host_enrols_once_and_again_with_the_same_key_and_another_key_does_not() {
    let world = World::start("").await;
    let (token, key) = (world.token_for("server1").await, Key::generate().unwrap());
    let first = world.enrol(&token, "server1", &key).await.unwrap();
    let again = world.enrol(&token, "server1", &key).await.unwrap();
    for answer in [&first, &again] {
        let about = pki::read_certificate(&answer.certificate).unwrap();
        assert_eq!((about.name, about.key), (pki::Name::Host("server1".parse().unwrap()), key.sha256().unwrap()));
    }
    let other = Key::generate().unwrap();
    assert!(world.enrol(&token, "server1", &other).await.unwrap_err().is(Reason::TokenRefused));
    assert!(world.enrol(&token, "server2", &other).await.unwrap_err().is(Reason::TokenRefused));
    let open = world.token(wire::CreateTokenRequest { uses: 5, approve: true, ..Default::default() }).await;
    assert!(world.enrol(&open, "server1", &other).await.unwrap_err().is(Reason::HostEnrolled));
    // Not this fleet's coordinator.
    let strange = JoinToken::new(token.id(), [1; 32], muster_proto::Sha256([9; 32]));
    let refused = world.tls(&Believes::Pinned(strange.authority()), None).await.unwrap_err();
    assert!(refused.contains("not the right coordinator"), "{refused}");
    // Across a restart, with the same authority.
    let world = World::start_in(world.stop().await, "").await;
    assert!(world.enrol(&token, "server1", &key).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_until_its_grace_is_over() {
    let world = World::start("rejoin_grace_days = 1").await;
    let (identity, believes) = world.host("server1").await;
    assert!(world.renew(&identity, &believes).await.is_ok());
    let other = Identity { key: Key::generate().unwrap(), ..identity.clone() };
    assert!(world.renew(&other, &believes).await.unwrap_err().is(Reason::CertificateRefused));
    // As the authority would have signed it then; its key is in the store.
    let dir = world.stop().await;
    let state = dir.path().join("state");
    let seal = crate::seal::Seal::open(&state.join("store.key"), false).unwrap();
    let ledger = crate::ledger::Ledger::open(&state.join("store.db"), seal).unwrap();
    let authority = ledger.authorities().unwrap().remove(0);
    drop(ledger);
    let aged = |hours: u64| {
        let until_ms = unix_ms() - hours * 3_600_000;
        let span = crate::authority::Span { from_ms: until_ms - 3_600_000, until_ms };
        let host = "server1".parse().unwrap();
        let csr = identity.key.request("x").unwrap();
        let certificate = authority.sign(&csr, &crate::authority::Subject::Host(&host), span).unwrap();
        Identity { certificate, key: identity.key.clone() }
    };
    let world = World::start_in(dir, "rejoin_grace_days = 1").await;
    let expired = world.tls(&believes, Some(&aged(2))).await;
    let opened = match expired {
        // TLS 1.3 tells the client of a refused certificate after the handshake.
        Ok(channel) => TrustClient::new(channel).who_am_i(wire::WhoAmIRequest {}).await.is_ok(),
        Err(_) => false,
    };
    assert!(!opened, "an expired certificate opens nothing");
    let renewed = world.renew(&aged(2), &believes).await.unwrap();
    let identity = Identity { certificate: renewed.certificate, key: identity.key.clone() };
    assert!(world.tls(&believes, Some(&identity)).await.is_ok());
    assert!(world.renew(&aged(25), &believes).await.unwrap_err().is(Reason::CertificateRefused));
    let owner = &mut world.owner().await;
    owner.revoke_host(wire::RevokeHostRequest { host: "server1".into(), reason: String::new() }).await.unwrap();
    assert!(world.renew(&identity, &believes).await.unwrap_err().is(Reason::HostRevoked));
    world.stop().await;
}

#[tokio::test]
async fn who_is_thrown_out_is_cut_off_in_the_middle_of_a_call() {
    let world = World::start("").await;
    let (identity, believes) = world.host("server1").await;
    let channel = world.tls(&believes, Some(&identity)).await.unwrap();
    let mut link = wire::agent_link_client::AgentLinkClient::new(channel);
    let hello = wire::Hello {
        protocol: 1,
        agent_version: "0.1.0".into(),
        host: "server1".into(),
        address: "127.0.0.1".into(),
        identity: uuid::Uuid::new_v4().to_string(),
        boot_id: "b".into(),
        ports: vec![7000],
        base_dir: "/x".into(),
        pid: 1,
        ..Default::default()
    };
    let say = |hello: wire::Hello| {
        let body = Some(wire::from_agent::Body::Hello(hello));
        tokio_stream::StreamExt::chain(tokio_stream::iter([wire::FromAgent { body }]), tokio_stream::pending())
    };
    // It may not speak for another.
    let other = wire::Hello { host: "server2".into(), ..hello.clone() };
    assert!(failure(&link.session(say(other)).await.unwrap_err()).is(Reason::Unauthenticated));
    let mut heard = link.session(say(hello.clone())).await.unwrap().into_inner();
    let Some(wire::ToAgent { body: Some(wire::to_agent::Body::Welcome(welcome)) }) = heard.message().await.unwrap()
    else {
        panic!("no welcome")
    };
    assert_eq!(Believes::Authorities(welcome.authorities), believes);
    world
        .owner()
        .await
        .quarantine_host(wire::QuarantineHostRequest { host: "server1".into(), reason: "odd".into() })
        .await
        .unwrap();
    let ended = tokio::time::timeout(SOON, heard.message()).await.expect("it is cut off");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    let channel = world.tls(&believes, Some(&identity)).await.unwrap();
    let mut link = wire::agent_link_client::AgentLinkClient::new(channel);
    let barred = failure(&link.session(say(hello)).await.unwrap_err());
    assert!(barred.is(Reason::HostQuarantined) && barred.message.contains("odd"), "{barred:?}");
    // And over loopback or the socket it is not let in either.
    let mut link = wire::agent_link_client::AgentLinkClient::new(world.unix().await);
    let hello = wire::Hello { host: "server1".into(), protocol: 1, ..wire::Hello::default() };
    assert!(link.session(say(hello)).await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn the_authority_is_exchanged_and_old_agents_still_know_the_coordinator() {
    let world = World::start("").await;
    let (identity, believes) = world.host("server1").await;
    let owner = &mut world.owner().await;
    owner.rotate_authority(wire::RotateAuthorityRequest {}).await.unwrap();
    // Who knows only the old one.
    assert!(world.tls(&believes, Some(&identity)).await.is_ok());
    let refused = owner.retire_authority(wire::RetireAuthorityRequest { force: false }).await.unwrap_err();
    let refused = failure(&refused);
    assert!(refused.is(Reason::AuthorityInUse) && refused.message.contains("server1"), "{refused:?}");
    let renewed = world.renew(&identity, &believes).await.unwrap();
    assert_eq!(renewed.authorities.len(), 2);
    owner.retire_authority(wire::RetireAuthorityRequest { force: false }).await.unwrap();
    let fresh = Identity { certificate: renewed.certificate, key: identity.key };
    let believes = Believes::Authorities(renewed.authorities);
    let channel = world.tls(&believes, Some(&fresh)).await.unwrap();
    // A host may not ask who it is, but that it is one is known.
    assert_eq!(knock(&channel, "/muster.v1.Trust/WhoAmI", None).await.as_deref(), Some("ROLE_TOO_LOW"));
    let world = World::start_in(world.stop().await, "").await;
    assert!(world.tls(&believes, Some(&fresh)).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn a_flood_of_half_open_garbage_and_idle_connections_keeps_nobody_out() {
    let world = World::start("").await;
    let (identity, believes) = world.host("server1").await;
    let token = world.token_for("server2").await;
    let mut flood = Vec::new();
    for nth in 0..700 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        if nth % 3 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        } else if nth % 3 == 1 {
            // The beginning of a handshake that never goes on.
            let _ = stream.write_all(&[22, 3, 1, 2, 0]).await;
        }
        flood.push(stream);
    }
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(world.tls(&believes, None).await.unwrap());
    }
    let began = std::time::Instant::now();
    assert!(world.tls(&believes, Some(&identity)).await.is_ok());
    assert!(world.enrol(&token, "server2", &Key::generate().unwrap()).await.unwrap().approved);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    // Those who never went on are sent away.
    let mut said = Vec::new();
    let last = flood.last_mut().unwrap().read_to_end(&mut said);
    let _ = tokio::time::timeout(SOON, last).await.expect("a half-open one is sent away");
    world.stop().await;
}

#[tokio::test]
async fn users_are_certified_sent_away_and_count_as_two() {
    let world = World::start("two_persons = true").await;
    let (_, believes) = world.host("server1").await;
    let access = world.user("dora", AccessRole::Destroyer).await;
    let bearer = format!("{}:{}", access.id(), access.secret().expose());
    let channel = world.tls(&Believes::Pinned(access.authority()), None).await.unwrap();
    let with = |mut request: Request<wire::CertifyUserRequest>| {
        request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        request
    };
    let key = Key::generate().unwrap();
    let request = with(Request::new(wire::CertifyUserRequest { csr: key.request("dora").unwrap() }));
    let certified = TrustClient::new(channel).certify_user(request).await.unwrap().into_inner();
    let dora = Identity { certificate: certified.certificate, key };
    let mut dora = TrustClient::new(world.tls(&believes, Some(&dora)).await.unwrap());
    assert_eq!(dora.who_am_i(wire::WhoAmIRequest {}).await.unwrap().into_inner().caller, "user dora");
    let owner = &mut world.owner().await;
    let revoke = || wire::RevokeHostRequest { host: "server1".into(), reason: String::new() };
    let wanted = failure(&owner.revoke_host(revoke()).await.unwrap_err());
    assert!(wanted.is(Reason::SecondPersonNeeded), "{wanted:?}");
    let hint = wanted.hint.unwrap();
    let id = hint.split("muster second ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let mine = failure(&owner.second(wire::SecondRequest { id: id.clone() }).await.unwrap_err());
    assert!(mine.is(Reason::RoleTooLow), "{mine:?}");
    assert_eq!(dora.second(wire::SecondRequest { id }).await.unwrap().into_inner().what, "revoke host server1");
    owner.revoke_host(revoke()).await.unwrap();
    assert!(failure(&owner.revoke_host(revoke()).await.unwrap_err()).is(Reason::SecondPersonNeeded), "once");
    owner.remove_user(wire::RemoveUserRequest { name: "dora".into() }).await.unwrap();
    assert!(dora.who_am_i(wire::WhoAmIRequest {}).await.is_err());
    let audit = owner.list_audit(wire::ListAuditRequest::default()).await.unwrap().into_inner().entries;
    muster_proto::audit::verify(muster_proto::Sha256([0; 32]), &audit).unwrap();
    for action in ["Trust/CreateUser", "Trust/CertifyUser", "Trust/Second", "Trust/RevokeHost", "Trust/RemoveUser"] {
        assert!(audit.iter().any(|entry| entry.action == action), "{action}");
    }
    world.stop().await;
}
