//! The commands about who may do what, against the fake.

use muster_proto::wire::{
    Auth, CreateTokenResponse, CreateUserResponse, ListTokensResponse, ListUsersResponse, SecondResponse, TrustState,
    WhoAmIResponse,
};

use super::*;
use crate::render::{audit::tests::chain, authority, credentials, token, trust, user};

const ACCESS: &str = "muster-access-1:alice:SECRET:HASH";
const TOKEN: &str = "muster-join-1:k3v9x2:SECRET:HASH";

/// A world in which every command has an answer.
fn world() -> World {
    let world = World::new();
    let mut script = world.fake.script();
    let answers = &mut script.trust;
    answers.who_am_i = WhoAmIResponse { caller: "the owner of the socket (uid 0)".into(), role: 4, expires_unix_ms: 0 };
    answers.create_token = CreateTokenResponse { token: TOKEN.into(), about: Some(token::tests::token("server1")) };
    answers.list_tokens = ListTokensResponse { tokens: vec![token::tests::token("server1")] };
    answers.host = trust::tests::trust(TrustState::Approved, "by user alice");
    answers.create_user = CreateUserResponse { access: ACCESS.into(), user: Some(user::tests::alice()) };
    answers.list_users = ListUsersResponse { users: vec![user::tests::alice()] };
    answers.second = SecondResponse { what: "revoke host server1".into(), first: "user bob".into() };
    answers.authorities = authority::tests::two();
    answers.credentials = credentials::tests::answer();
    answers.operation_id = ID.into();
    answers.audit = chain(7);
    drop(script);
    world
}

fn refuse(world: &World, failure: Failure) {
    world.fake.script().trust.refusal = Some(failure.into());
}

/// Every command, what it writes, and what it has asked for.
#[tokio::test]
async fn each_command_asks_once_and_says_what_came_of_it() {
    let world = world();
    let lines = [
        "whoami",
        "token create --host server1 --ttl 2h",
        "token list",
        "token revoke k3v9x2",
        "host approve server1",
        "host quarantine server1 --reason noise",
        "host revoke server1 --reason stolen --confirm server1",
        "host remove server1 --confirm server1",
        "host rejoin-token server1",
        "user add alice --role operator --ttl 30d",
        "user list",
        "user remove alice",
        "second 4f7k2m",
        "ca list",
        "ca rotate",
        "ca retire --force",
    ];
    let mut said = String::new();
    for line in lines {
        let ran = world.run(line).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        let asked: Vec<_> = world.fake.script().asked.drain(..).collect();
        said += &format!("$ muster {line}\n{}{}  asked: {}\n", ran.out, ran.err, asked.join("; "));
    }
    expect![[r#"
        $ muster whoami
        caller    the owner of the socket (uid 0)
        role      admin
        until     for ever
        endpoint  ENDPOINT
        context   -
          asked: WhoAmIRequest
        $ muster token create --host server1 --ttl 2h
        muster-join-1:k3v9x2:SECRET:HASH
        token k3v9x2 lets server1 in, and approves it; it holds until 2026-11-22T22:30:00Z and is not shown again.
        It goes to the standard input of this, on server1, as root:
          muster-agent --config /etc/muster/agent.toml enrol
          asked: CreateTokenRequest { host: "server1", ttl_s: 7200, uses: 1, rejoin: false, approve: false }
        $ muster token list
        TOKEN   HOST     USES LEFT  EXPIRES               WHO USES IT
        k3v9x2  server1  1          2026-11-22T22:30:00Z  is approved
          asked: ListTokensRequest
        $ muster token revoke k3v9x2
        token k3v9x2 can no longer be used
          asked: RevokeTokenRequest { id: "k3v9x2" }
        $ muster host approve server1
        host server1 is approved: by user alice
          asked: ApproveHostRequest { host: "server1" }
        $ muster host quarantine server1 --reason noise
        host server1 is approved: by user alice
          asked: QuarantineHostRequest { host: "server1", reason: "noise" }
        $ muster host revoke server1 --reason stolen --confirm server1
        host server1 is approved: by user alice
          asked: RevokeHostRequest { host: "server1", reason: "stolen" }
        $ muster host remove server1 --confirm server1
        host server1 is forgotten
          asked: RemoveHostRequest { host: "server1" }
        $ muster host rejoin-token server1
        muster-join-1:k3v9x2:SECRET:HASH
        token k3v9x2 lets server1 in, and approves it; it holds until 2026-11-22T22:30:00Z and is not shown again.
        It goes to the standard input of this, on server1, as root:
          muster-agent --config /etc/muster/agent.toml enrol
          asked: CreateTokenRequest { host: "server1", ttl_s: 1800, uses: 1, rejoin: true, approve: false }
        $ muster user add alice --role operator --ttl 30d
        muster-access-1:alice:SECRET:HASH
        user alice is let in as operator until 2027-02-20T22:00:00Z; the access string is not shown again.
        Hand it over by a safe way. The other side keeps it, typed or on standard input, with:
          muster context add NAME --endpoint https://HOST:PORT
          asked: CreateUserRequest { name: "alice", role: Operator, ttl_s: 2592000 }
        $ muster user list
        USER   ROLE      SINCE                 UNTIL                 CERTIFICATE
        alice  operator  2026-11-22T22:00:00Z  2027-02-20T22:00:00Z  yes
          asked: ListUsersRequest
        $ muster user remove alice
        user alice is let in no more
          asked: RemoveUserRequest { name: "alice" }
        $ muster second 4f7k2m
        user bob may do this now, once, within 15 minutes: revoke host server1
          asked: SecondRequest { id: "4f7k2m" }
        $ muster ca list
        SHA256                                                            ROLE      EXPIRES               HAS SIGNED FOR
        cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd  signs     2036-11-19T22:00:00Z  -
        abababababababababababababababababababababababababababababababab  believed  2036-11-19T22:00:00Z  server1, server2, user alice
          asked: ListAuthoritiesRequest
        $ muster ca rotate
        SHA256                                                            ROLE      EXPIRES               HAS SIGNED FOR
        cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd  signs     2036-11-19T22:00:00Z  -
        abababababababababababababababababababababababababababababababab  believed  2036-11-19T22:00:00Z  server1, server2, user alice
        hosts follow by themselves, contexts when they are next used; when the old one has signed for nobody any more: muster ca retire
          asked: RotateAuthorityRequest
        $ muster ca retire --force
        SHA256                                                            ROLE      EXPIRES               HAS SIGNED FOR
        cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd  signs     2036-11-19T22:00:00Z  -
        abababababababababababababababababababababababababababababababab  believed  2036-11-19T22:00:00Z  server1, server2, user alice
          asked: RetireAuthorityRequest { force: true }
    "#]].assert_eq(&said);
}

#[tokio::test]
async fn every_document_is_one_and_names_what_it_is_about() {
    let world = world();
    let cases = [
        ("whoami", "role", "admin"),
        ("token create", "token", TOKEN),
        ("token create", "expires_unix_ms", "1795386600000"),
        ("token revoke k3v9x2", "id", "k3v9x2"),
        ("host approve server1", "host", "server1"),
        ("host remove server1 --confirm server1", "removed", "true"),
        ("host rejoin-token server1", "host", "server1"),
        ("user add alice --role viewer", "access", ACCESS),
        ("user remove alice", "user", "alice"),
        ("second 4f7k2m", "first", "user bob"),
        ("credentials orders", "password", "hunter2"),
        ("audit --verify", "holds", "true"),
    ];
    for (line, field, expected) in cases {
        let ran = world.run(&format!("{line} --output json")).await;
        let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let found = document[field].as_str().map_or_else(|| document[field].to_string(), str::to_owned);
        assert_eq!((found.as_str(), ran.code, ran.err.as_str()), (expected, 0, ""), "{line}");
    }
    for (line, field) in
        [("token list", "tokens"), ("user list", "users"), ("ca list", "authorities"), ("audit --last 2", "entries")]
    {
        let document: serde_json::Value =
            serde_json::from_str(&world.run(&format!("{line} --output json")).await.out).unwrap();
        assert!(document[field].as_array().is_some_and(|all| !all.is_empty()), "{line}");
    }
}

#[tokio::test]
async fn a_secret_is_told_where_somebody_looks_and_nowhere_else() {
    let world = world();
    let ran = world.run("token create --host server1").await;
    assert_eq!(ran.out, format!("{TOKEN}\n"));
    assert!(!ran.err.contains("SECRET"), "stderr may be a log: {}", ran.err);
    let line = format!("muster --endpoint {} token create --host server1", world.endpoint);
    let seen = |mut console: Console| {
        console.draws = true;
        console
    };
    let ran = world.whole(&line, seen, std::future::pending()).await;
    assert!(ran.err.contains(&format!("enrol <<< '{TOKEN}'")), "{}", ran.err);
    let ran = world.run("user add alice --role operator").await;
    assert_eq!(ran.out, format!("{ACCESS}\n"));
    assert!(!ran.err.contains("SECRET"), "{}", ran.err);
}

#[tokio::test]
async fn what_cannot_be_taken_back_wants_the_name_typed() {
    let world = world();
    check(
        &world.run("host revoke server1").await,
        expect![[r#"
            --- stdout
            --- stderr
            error: there is no terminal to type server1 on
                 hint: muster host revoke server1 --confirm server1
            nothing was changed
            --- exit 64
        "#]],
    );
    check(
        &world.run("host remove server1 --confirm server2").await,
        expect![[r#"
            --- stdout
            --- stderr
            error: --confirm says server2, and this is about server1
                 hint: muster host remove server1 --confirm server1
            nothing was changed
            --- exit 64
        "#]],
    );
    check(
        &world.typed("host revoke server1", "yes\n").await,
        expect![[r#"
            --- stdout
            --- stderr
            The key of server1 is refused for good, and the host is cut off at once. Its redis-servers go on, and nobody looks after them.
            To come back it needs a new key and: muster host rejoin-token server1
            Type server1 to go on: error: the name of server1 was not typed
            nothing was changed
            --- exit 1
        "#]],
    );
    assert_eq!(world.asked(), Vec::<String>::new(), "nothing was asked for without the name");
    check(
        &world.typed("host remove server1", "server1\n").await,
        expect![[r#"
            --- stdout
            host server1 is forgotten
            --- stderr
            All that is known of server1 is forgotten, its identity too. It is refused while the host has instances.
            What a rebuild has left behind on it holds nothing up any more, and its bus ports are free for others: nothing of it may run any more, and an undo that needs it needs the host.
            To come back it has to be enrolled like a new one (muster token create --host server1); what was left behind is then stopped and set aside.
            Type server1 to go on: --- exit 0
        "#]],
    );
    assert_eq!(world.asked(), ["RemoveHostRequest { host: \"server1\" }"]);
}

#[tokio::test]
async fn refusals_say_who_may_and_what_to_type() {
    let world = world();
    refuse(&world, Failure::new(Reason::RoleTooLow, "user ci is a viewer; admin may do this"));
    check(
        &world.run("token create").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: making a join token was refused
          because: user ci is a viewer; admin may do this
        nothing was changed
        --- exit 1
    "#]],
    );
    let second = Failure::new(Reason::SecondPersonNeeded, "destroying takes two here, and you are the first");
    refuse(&world, second.hint("somebody else with the role destroyer: muster second 4f7k2m"));
    check(
        &world.run("host revoke server1 --confirm server1").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: revoking host server1 was refused
          because: destroying takes two here, and you are the first
             hint: somebody else with the role destroyer: muster second 4f7k2m
        nothing was changed
        --- exit 1
    "#]],
    );
    refuse(&world, Failure::new(Reason::Unauthenticated, "the access of user alice has expired"));
    check(
        &world.run("whoami").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: asking who you are was refused
          because: the access of user alice has expired
             hint: an admin lets you in (muster user add NAME --role ROLE), then: muster context add NAME
        --- exit 1
    "#]],
    );
}

#[tokio::test]
async fn credentials_are_shown_whole_or_one_by_one() {
    let world = world();
    world.fake.script().status = Some(healthy());
    check(
        &world.run("credentials orders").await,
        expect![[r#"
        --- stdout
        user      default
        password  hunter2
        tls       yes, signed by the cluster's own authority

        muster credentials orders --only ca > orders-ca.pem
        REDISCLI_AUTH=$(muster credentials orders --only password) redis-cli -c -h 127.0.0.1 -p 7000 --user default --tls --cacert orders-ca.pem
        --- stderr
        --- exit 0
    "#]],
    );
    for (only, expected) in [("user", "default\n"), ("password", "hunter2\n"), ("ca", "-----BEGIN CERTIFICATE-----\n")]
    {
        assert_eq!(world.run(&format!("credentials orders --only {only}")).await.out, expected);
    }
    world.fake.script().asked.clear();
    world.run("credentials show rotate --user app --only user").await;
    world.run("credentials orders --user default --only user").await;
    assert_eq!(
        world.asked(),
        [
            "GetCredentialsRequest { cluster: \"rotate\", user: \"app\" }",
            "GetCredentialsRequest { cluster: \"orders\", user: \"\" }"
        ]
    );
    world.fake.script().trust.credentials.ca_pem.clear();
    let ran = world.run("credentials orders --only ca").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "an empty file would be taken for an authority");
    refuse(&world, Failure::new(Reason::NoCredentials, "the spec of orders says auth = \"none\""));
    check(
        &world.run("credentials orders").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: asking for the credentials of orders was refused
          because: the spec of orders says auth = "none"
        --- exit 1
    "#]],
    );
}

#[tokio::test]
async fn a_rotation_is_followed_and_says_what_comes_next() {
    use OperationState::{Done, Running};
    let world = world();
    {
        let mut script = world.fake.script();
        let begun = vec![event(1, "ADD", Running, 2, ""), event(2, "OVERLAP", Running, 6, "")];
        let finished = vec![event(3, "RETIRE", Running, 0, ""), event(4, "DONE", Done, 6, "")];
        let whole = begun.iter().chain(&finished).cloned().collect();
        script.streams = [begun, whole].into();
        script.operations = [Ok(Operation { kind: "rotate".into(), ..done() })].into();
    }
    check(
        &world.run("credentials rotate orders").await,
        expect![[r#"
        --- stdout
        Old and new passwords of orders are accepted. Move the clients to what this shows now:
          muster credentials orders --only password
        and when the last one has moved:
          muster credentials finish orders
        --- stderr
        operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
        ADD 2/6
        OVERLAP 6/6
        --- exit 0
    "#]],
    );
    check(
        &world.run("credentials finish orders").await,
        expect![[r#"
        --- stdout
        The old secrets of orders are no longer accepted.
        --- stderr
        operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
        RETIRE 0/6
        DONE 6/6 [done]
        --- exit 0
    "#]],
    );
    let ran = world.run("credentials rotate orders --certificates --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["operation"]["kind"], "rotate");
    let asked: Vec<_> = world.asked().into_iter().filter(|asked| asked.contains("Request")).collect();
    assert_eq!(
        asked,
        [
            "RotateCredentialsRequest { cluster: \"orders\", certificates: false }",
            "FinishRotationRequest { cluster: \"orders\" }",
            "RotateCredentialsRequest { cluster: \"orders\", certificates: true }"
        ]
    );
}

#[tokio::test]
async fn the_audit_is_walked_and_its_newest_are_shown() {
    let world = world();
    let ran = world.run("audit --last 2").await;
    let shown: Vec<_> = ran.out.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(shown, ["6", "7"]);
    assert!(world.asked().iter().all(|asked| !asked.contains("after_seq: 0")), "only the last ones are asked for");
    assert_eq!(world.run("audit").await.out.lines().count(), 8);
}

#[tokio::test]
async fn a_chain_that_was_tampered_with_is_named_and_fails() {
    let world = world();
    check(
        &world.run("audit --verify").await,
        expect![[r#"
        --- stdout
        [OK] 7 entries in one chain, none changed, none taken out, none cut off.
        The last one is 7, c4ce7fb3f5135efab2ee755401e4fe8078f2785637c2a38a28874a02623a8850; keep that elsewhere, and an older store put in its place shows too.
        --- stderr
        --- exit 0
    "#]],
    );
    // In the second page; and what was taken out lies between two pages.
    world.fake.script().trust.audit[4].detail = "nothing happened".into();
    check(
        &world.run("audit --verify").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: the audit does not hold
          because: entry 5 was changed: it does not have its own hash
             hint: keep the store as it is; entries up to the one named still hold (muster audit --output json)
        --- exit 1
    "#]],
    );
    let ran = world.run("audit --verify --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["holds"], &document["last_seq"]), (1, &false.into(), &4.into()));
    let mut cut = chain(7);
    cut.remove(3);
    world.fake.script().trust.audit = cut;
    let ran = world.run("audit --verify").await;
    assert!(ran.err.contains("entry 4 is missing; after it comes 5"), "{}", ran.err);
    // The beginning cannot be cut off either, nor the end.
    world.fake.script().trust.audit = chain(7).split_off(2);
    assert_eq!(world.run("audit --verify").await.code, 1);
    for left in [5, 0] {
        world.fake.script().trust.audit = chain(left);
        world.fake.script().trust.audit_end = chain(7).pop();
        let ran = world.run("audit --verify").await;
        let said = format!("entries are cut off after {left}: the last one that was made is 7");
        assert!(ran.code == 1 && ran.err.contains(&said), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_cluster_that_is_formed_says_how_clients_log_in_unless_it_is_open() {
    let world = world();
    {
        let mut script = world.fake.script();
        script.plan = planned();
        script.apply = [Ok(running())].into();
        script.operations = [Ok(done())].into();
    }
    let login = "Clients log in: muster credentials orders\n";
    assert!(world.run("bootstrap FILE --yes").await.err.ends_with(login));
    let mut plan = two_hosts();
    plan.spec.get_or_insert_default().auth = Some(Auth { none: true, ..Auth::default() });
    world.fake.script().plan = Some(Ok(PlanResponse { plan: Some(plan), existing: None }));
    let ran = world.run("bootstrap FILE --yes").await;
    assert!(ran.code == 0 && !ran.err.contains("Clients log in"), "{}", ran.err);
}

#[tokio::test]
async fn a_smoke_test_asks_for_credentials_and_goes_on_without_any() {
    let world = world();
    world.fake.script().status = Some(muster_proto::wire::GetStatusResponse::default());
    let ran = world.run("smoke orders").await;
    assert_eq!(world.asked()[1], "GetCredentialsRequest { cluster: \"orders\", user: \"\" }");
    assert!(!ran.all().contains("hunter2"));
    refuse(&world, Failure::new(Reason::NoCredentials, "auth = \"none\""));
    let plain = world.run("smoke orders").await;
    assert_eq!((plain.code, plain.out), (1, ran.out), "no master serves anything, and that alone is said");
    refuse(&world, Failure::new(Reason::RoleTooLow, "operator may do this"));
    assert!(world.run("smoke orders").await.err.contains("operator may do this"));
}
