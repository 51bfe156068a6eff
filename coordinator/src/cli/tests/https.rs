//! Contexts against a coordinator behind real TLS: added, used, followed, and not believed.

use muster_proto::{pki, wire::WhoAmIResponse};

use super::*;
use crate::cli::{
    connect::Who,
    contexts::{Contexts, Store},
    fake::fleet::Fleet,
};

/// A coordinator behind TLS, and a file of contexts.
struct Tls {
    world: World,
    fleet: Arc<Fleet>,
    endpoint: String,
}

impl Tls {
    async fn new(fleet: Fleet) -> Self {
        let (world, fleet) = (World::new(), Arc::new(fleet));
        world.fake.script().trust.who_am_i =
            WhoAmIResponse { caller: "user alice".into(), role: 2, expires_unix_ms: 4_102_444_800_000 };
        let endpoint = world.fake.serve_tls(&fleet).await;
        Self { world, fleet, endpoint }
    }

    async fn run(&self, line: &str, input: &str) -> Ran {
        let config = self.world.dir.path().join("contexts.toml").display().to_string();
        let line = format!("muster --config {config} {line}").replace("HTTPS", &self.endpoint);
        let input = io::Cursor::new(input.to_owned().into_bytes());
        let sit = |console: Console| console.reading(Arc::new(Mutex::new(input)));
        let ran = self.world.whole(&line, sit, std::future::pending()).await;
        let clean = |text: String| text.replace(&self.endpoint, "HTTPS").replace(&config, "CONFIG");
        Ran { code: ran.code, out: clean(ran.out), err: clean(ran.err) }
    }

    /// A context of that user, as `muster context add` makes it.
    async fn add(&self, line: &str) -> Ran {
        self.run(line, self.fleet.access("alice").text().expose()).await
    }

    fn kept(&self) -> Contexts {
        Store::find(Some(&self.world.dir.path().join("contexts.toml")), |_| None).unwrap().read().unwrap()
    }

    /// Takes what was asked, with the secret named instead of shown.
    fn asked(&self) -> Vec<String> {
        let secret = self.fleet.access("alice").secret().clone();
        let asked = std::mem::take(&mut self.world.fake.script().asked);
        asked.into_iter().map(|asked| asked.replace(secret.expose(), "SECRET")).collect()
    }
}

#[tokio::test]
async fn a_context_is_checked_kept_and_used() {
    let tls = Tls::new(Fleet::new()).await;
    check(
        &tls.add("context add prod --endpoint HTTPS").await,
        expect![[r#"
        --- stdout
        context prod (current): HTTPS as alice, by access string, until 2100-01-01T00:00:00Z
        --- stderr
        --- exit 0
    "#]],
    );
    assert_eq!(tls.asked(), ["[Bearer alice:SECRET] WhoAmIRequest", "[Bearer alice:SECRET] ListAuthoritiesRequest"]);
    // It is the only one, and so the current one.
    check(
        &tls.run("whoami", "").await,
        expect![[r#"
        --- stdout
        caller    user alice
        role      operator
        until     2100-01-01T00:00:00Z
        endpoint  HTTPS
        context   prod
        --- stderr
        --- exit 0
    "#]],
    );
    check(
        &tls.run("context add here --endpoint unix:/run/muster/admin.sock", "").await,
        expect![[r#"
        --- stdout
        context here: unix:/run/muster/admin.sock
        --- stderr
        to use it from now on: muster context use here
        --- exit 0
    "#]],
    );
    let listed = tls.run("context list", "").await.out;
    let words: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["here", "unix:/run/muster/admin.sock", "-", "-", "-"]);
    assert_eq!(words[2], ["*", "prod", "HTTPS", "alice", "access", "string", "2100-01-01T00:00:00Z"]);
    assert_eq!(tls.run("hosts --endpoint HTTPS", "").await.code, 0);
    assert_eq!(tls.run("hosts --context prod", "").await.code, 0);
    check(
        &tls.run("context use nope", "").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: there is no context nope; there are: here, prod
             hint: muster context list; muster context add NAME --endpoint URL
        nothing was changed
        --- exit 64
    "#]],
    );
    assert_eq!(tls.run("context use here", "").await.code, 0);
    assert_eq!(tls.kept().current, "here".parse().ok());
    check(
        &tls.run("context remove prod", "").await,
        expect![[r#"
        --- stdout
        context prod: HTTPS as alice, by access string, until 2100-01-01T00:00:00Z
        --- stderr
        forgotten here; alice is let in there until: muster user remove alice
        --- exit 0
    "#]],
    );
    check(
        &tls.run("hosts --endpoint HTTPS", "").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: no context is for HTTPS: whom to believe there, and who you are, is not known
             hint: muster context add NAME --endpoint HTTPS
        --- exit 64
    "#]],
    );
    check(
        &tls.run("hosts --context prod", "").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: there is no context prod; there are: here
             hint: muster context list; muster context add NAME --endpoint URL
        --- exit 64
    "#]],
    );
}

#[tokio::test]
async fn an_access_string_is_traded_for_a_certificate_whose_key_stays_here() {
    let tls = Tls::new(Fleet::new()).await;
    let ran = tls.add("context add prod --endpoint HTTPS --certificate --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["context"]["how"]), (0, &"certificate".into()));
    let file = std::fs::read_to_string(tls.world.dir.path().join("contexts.toml")).unwrap();
    assert!(!file.contains(tls.fleet.access("alice").secret().expose()), "the access string is kept too");
    tls.asked();
    assert_eq!(tls.run("whoami", "").await.code, 0);
    assert_eq!(tls.asked(), ["[muster:user:alice] WhoAmIRequest"]);
    let Contexts { kept, .. } = tls.kept();
    assert!(matches!(kept.values().next().unwrap().access.as_ref().unwrap().who, Who::Certificate(_)));
}

#[tokio::test]
async fn an_access_string_that_is_none_or_is_not_taken_is_not_kept_and_not_shown() {
    let tls = Tls::new(Fleet::new()).await;
    let add = "context add prod --endpoint HTTPS";
    check(
        &tls.run(add, "").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: there is no access string on standard input
             hint: an admin makes one: muster user add NAME --role ROLE
        nothing was changed
        --- exit 64
    "#]],
    );
    check(
        &tls.run(add, "muster-access-1:alice:hunter2\n").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: this is no access string: it should look like muster-access-1:NAME:SECRET:HASH, on one line
             hint: an admin makes one: muster user add NAME --role ROLE
        nothing was changed
        --- exit 64
    "#]],
    );
    check(
        &tls.run("context add prod", "").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: where the coordinator listens is not said
             hint: muster context add prod --endpoint https://HOST:PORT
        nothing was changed
        --- exit 64
    "#]],
    );
    let refusal = Failure::new(Reason::Unauthenticated, "the access of user alice has expired");
    tls.world.fake.script().trust.refusal = Some(refusal.into());
    let ran = tls.add(add).await;
    assert!(!ran.all().contains(tls.fleet.access("alice").secret().expose()));
    check(
        &ran,
        expect![[r#"
        --- stdout
        --- stderr
        error: checking the access string was refused
          because: the access of user alice has expired
             hint: an admin lets you in (muster user add NAME --role ROLE), then: muster context add NAME
        nothing was changed
        --- exit 1
    "#]],
    );
    assert_eq!(tls.kept(), Contexts::default());
}

#[tokio::test]
async fn a_coordinator_of_another_fleet_is_not_believed_and_hears_no_secret() {
    let (ours, theirs) = (Tls::new(Fleet::new()).await, Tls::new(Fleet::new()).await);
    // With the pin of an access string, and with what is kept.
    let line = format!("context add prod --endpoint {}", theirs.endpoint);
    let ran = ours.add(&line).await;
    check(
        &ran,
        expect![[r#"
            --- stdout
            --- stderr
            error: whoever answers there is not the coordinator of this context's fleet
              because: it does not show the authority that the token names: not the right coordinator
                 hint: is it the right address? If the fleet has new authorities, ask an admin for a new access string and add the context again; if neither, somebody is in between
            nothing was changed
            --- exit 1
        "#]],
    );
    assert_eq!(ours.add("context add prod --endpoint HTTPS").await.code, 0);
    let again = ours.add("context add prod --endpoint HTTPS").await;
    assert_eq!(again.err, "it takes the place of the one before\n");
    let path = ours.world.dir.path().join("contexts.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace(&ours.endpoint, &theirs.endpoint);
    std::fs::write(&path, text).unwrap();
    check(
        &ours.run("hosts", "").await,
        expect![[r#"
            --- stdout
            --- stderr
            error: whoever answers there is not the coordinator of this context's fleet
              because: invalid peer certificate: UnknownIssuer
                 hint: is it the right address? If the fleet has new authorities, ask an admin for a new access string and add the context again; if neither, somebody is in between
            --- exit 1
        "#]],
    );
    assert_eq!(theirs.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn certificates_that_have_ended_or_are_not_taken_say_whose_they_are() {
    let mut fleet = Fleet::new();
    fleet.expired = true;
    let tls = Tls::new(fleet).await;
    let ran = tls.add("context add prod --endpoint HTTPS").await;
    assert!(ran.err.starts_with("error: the coordinator's certificate does not hold now\n"), "{}", ran.err);

    let (ours, theirs) = (Tls::new(Fleet::new()).await, Fleet::new());
    assert_eq!(ours.add("context add prod --endpoint HTTPS --certificate").await.code, 0);
    let swap = |contexts: &mut Contexts| {
        let access = contexts.kept.values_mut().next().unwrap().access.as_mut().unwrap();
        access.who = Who::Certificate(theirs.identity("alice"));
        Ok::<_, CliError>(())
    };
    Store::find(Some(&ours.world.dir.path().join("contexts.toml")), |_| None).unwrap().change(swap).unwrap();
    let ran = ours.run("hosts", "").await;
    assert!(ran.err.starts_with("error: the coordinator does not take this context's certificate\n"), "{}", ran.err);
    assert_eq!(ran.code, 1);
}

#[tokio::test]
async fn a_rotated_authority_is_followed_without_being_told() {
    let before = Tls::new(Fleet::new()).await;
    assert_eq!(before.add("context add prod --endpoint HTTPS").await.code, 0);
    let authorities = |tls: &Tls| tls.kept().kept.values().next().unwrap().access.clone().unwrap().authorities.len();
    assert_eq!(authorities(&before), 1);
    before.run("hosts", "").await;
    assert!(!before.asked().iter().skip(2).any(|asked| asked.contains("ListAuthorities")), "asked without need");

    let after = Tls::new(Fleet::rotated(&before.fleet)).await;
    let text = std::fs::read_to_string(before.world.dir.path().join("contexts.toml")).unwrap();
    let path = after.world.dir.path().join("contexts.toml");
    Store::find(Some(&path), |_| None).unwrap().change(|_| Ok::<_, CliError>(())).unwrap();
    std::fs::write(&path, text.replace(&before.endpoint, &after.endpoint)).unwrap();
    let ran = after.run("hosts", "").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(authorities(&after), 2);
    after.asked();
    assert_eq!(after.run("hosts", "").await.code, 0);
    assert_eq!(after.asked(), ["hosts"], "it is known now");
}

#[tokio::test]
async fn a_client_certificate_is_renewed_when_another_authority_signs() {
    let before = Tls::new(Fleet::new()).await;
    assert_eq!(before.add("context add prod --endpoint HTTPS --certificate").await.code, 0);
    let identity = |tls: &Tls| match tls.kept().kept.values().next().unwrap().access.clone().unwrap().who {
        Who::Certificate(identity) => identity,
        Who::Bearer { .. } => panic!("an access string was kept"),
    };
    let old = identity(&before);
    let after = Tls::new(Fleet::rotated(&before.fleet)).await;
    let text = std::fs::read_to_string(before.world.dir.path().join("contexts.toml")).unwrap();
    let path = after.world.dir.path().join("contexts.toml");
    Store::find(Some(&path), |_| None).unwrap().change(|_| Ok::<_, CliError>(())).unwrap();
    std::fs::write(&path, text.replace(&before.endpoint, &after.endpoint)).unwrap();
    after.world.fake.script().trust.fleet = Some(after.fleet.clone());
    let ran = after.run("hosts", "").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let new = identity(&after);
    assert_eq!(new.key, old.key, "other copies of the context go on");
    let signing = pki::from_pem(&after.fleet.authorities()[0].certificate_pem).unwrap().remove(0);
    assert!(pki::is_signed_by(&new.certificate, &signing) && !pki::is_signed_by(&old.certificate, &signing));
    assert_eq!(after.run("hosts", "").await.code, 0);
}

#[tokio::test]
async fn an_old_pin_still_leads_to_a_rotated_fleet() {
    let before = Arc::new(Fleet::new());
    let tls = Tls::new(Fleet::rotated(&before)).await;
    let old = before.access("alice").text();
    assert_eq!(tls.run("context add prod --endpoint HTTPS", old.expose()).await.err, "");
    assert_eq!(tls.run("whoami", "").await.code, 0);
}

#[tokio::test]
async fn a_file_that_is_open_to_others_is_refused_with_the_cure() {
    use std::os::unix::fs::PermissionsExt as _;
    let tls = Tls::new(Fleet::new()).await;
    assert_eq!(tls.add("context add prod --endpoint HTTPS").await.code, 0);
    let path = tls.world.dir.path().join("contexts.toml");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    check(
        &tls.run("hosts", "").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: CONFIG holds secrets and is open to others: its mode is 0644
             hint: chmod 600 CONFIG
        --- exit 64
    "#]],
    );
    let ran = tls.run(&format!("hosts --endpoint {}", tls.world.endpoint), "").await;
    assert_eq!(ran.code, 0, "the socket of this host needs no file");
}
