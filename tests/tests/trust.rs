//! From bare hosts to a cluster with passwords and TLS, across a network, the way the README tells it; then every secret
//! is exchanged under a client that never stops writing, and hosts come, go and are thrown out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, net::SocketAddr, time::Duration};

use muster_coordinator::{
    authority::{Span, Subject},
    credentials::Authority,
    ledger::{Ledger, unix_ms},
    seal::Seal,
};
use muster_proto::{
    Secret,
    pki::{self, Key},
};
use muster_tests::{Before, Credentials, Fleet, Status, Writer, eventually, fleet::CONTROL};

/// Most that something may take that is a matter of a round trip or of a heartbeat.
const SOON: Duration = Duration::from_secs(30);
const TWO: [(&str, &str); 2] = [("server1", "7000-7002"), ("server2", "7003-7005")];
const SETTINGS: &str = "cluster-node-timeout = 2000";

fn seeds(status: &Status) -> Vec<SocketAddr> {
    status.instances.iter().map(|instance| instance.endpoint().parse().unwrap()).collect()
}

fn pids(status: &Status) -> Vec<Option<i32>> {
    status.instances.iter().map(|instance| instance.pid).collect()
}

/// The serial number of the certificate that an instance shows to clients.
fn served(fleet: &Fleet, with: &Credentials, endpoint: &str) -> String {
    let mut command = fleet.network.on(CONTROL, "openssl");
    command.args(["s_client", "-connect", endpoint, "-CAfile"]).arg(&with.ca_file).args(["-verify_return_error"]);
    let shown = muster_tests::fleet::fed(&mut command, "");
    let (_, rest) = shown.stdout.split_once("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{shown}"));
    rest.split_once("-----END").unwrap().0.to_owned()
}

fn all_served(fleet: &Fleet, with: &Credentials, status: &Status) -> Vec<String> {
    status.instances.iter().map(|instance| served(fleet, with, &instance.endpoint())).collect()
}

#[test]
fn two_bare_hosts_become_a_cluster_with_passwords_and_tls_and_every_secret_is_exchanged_under_a_client() {
    let mut fleet = Fleet::new(&TWO, "");
    fleet.start_coordinator();
    // An agent that was not enrolled says what to type, and is nobody.
    fleet.world.agent("server1").start();
    eventually(SOON, "the agent says what to type", || {
        let log = fleet.world.agent("server1").log();
        if log.contains("muster-agent enrol") || log.contains("muster token create") { Ok(()) } else { Err(log) }
    });
    assert_eq!(fleet.world.muster(&["hosts", "--output", "json"]).json()["hosts"].as_array().unwrap().len(), 0);

    // It need not be started anew when it is.
    let said = fleet.enrol("server1").expect(0);
    assert!(said.stdout.contains("server1") || said.stderr.contains("server1"), "{said}");
    fleet.enrol("server2").expect(0);
    fleet.world.start();

    let spec = fleet.spec("orders", "tls = true", &TWO, SETTINGS);
    fleet.world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let formed = fleet.world.status("orders").unwrap();
    formed.well().unwrap();
    fleet.world.muster(&["check", "orders"]).expect(0);
    fleet.world.muster(&["smoke", "orders", "--from", "server1"]).expect(0);

    // The judge that we did not write, over TLS, with the password; and nobody without.
    let first = fleet.credentials("orders");
    let endpoint = formed.instances[0].endpoint();
    let (host, port) = endpoint.rsplit_once(':').unwrap();
    let verdict = fleet.redis_cli("server2", &first, &["--cluster", "check", &endpoint]).unwrap();
    assert!(verdict.contains("[OK] All 16384 slots covered."), "{verdict}");
    fleet.redis_cli(CONTROL, &first, &["-c", "-h", host, "-p", port, "set", "key", "val"]).unwrap();
    assert_eq!(fleet.redis_cli(CONTROL, &first, &["-c", "-h", host, "-p", port, "get", "key"]), Ok("val".into()));
    let wrong = Credentials { password: "guess".into(), ..first.clone() };
    let refused = fleet.redis_cli(CONTROL, &wrong, &["-h", host, "-p", port, "get", "key"]).unwrap_err();
    assert!(refused.contains("NOAUTH") || refused.contains("WRONGPASS"), "{refused}");
    // An application's user cannot take the place of the operator.
    let refused =
        fleet.redis_cli(CONTROL, &first, &["-h", host, "-p", port, "config", "get", "masterauth"]).unwrap_err();
    assert!(refused.contains("NOPERM"), "{refused}");

    let writer = Writer::begin(&fleet.network.namespace(CONTROL), seeds(&formed), first.clone());
    writer.until_more(100);

    // Passwords.
    fleet.world.muster(&["credentials", "rotate", "orders"]).expect(0);
    let second = fleet.credentials("orders");
    assert_ne!(second.password, first.password);
    writer.until_more(100);
    writer.log_in(second.clone());
    writer.until_more(100);
    assert_eq!(
        fleet.redis_cli(CONTROL, &first, &["-h", host, "-p", port, "ping"]),
        Ok("PONG".into()),
        "both are taken"
    );
    fleet.world.muster(&["credentials", "finish", "orders"]).expect(0);
    for instance in &formed.instances {
        let endpoint = instance.endpoint();
        let (host, port) = endpoint.rsplit_once(':').unwrap();
        let refused = fleet.redis_cli(CONTROL, &first, &["-h", host, "-p", port, "ping"]).unwrap_err();
        assert!(refused.contains("NOAUTH") || refused.contains("WRONGPASS"), "{refused}");
        assert_eq!(fleet.redis_cli(CONTROL, &second, &["-h", host, "-p", port, "ping"]), Ok("PONG".into()));
    }
    writer.until_more(100);

    // Certificates, and the authority behind them.
    let before = all_served(&fleet, &second, &formed);
    fleet.world.muster(&["credentials", "rotate", "orders", "--certificates"]).expect(0);
    let third = fleet.credentials("orders");
    assert_ne!(third.ca, second.ca);
    assert_eq!(third.password, second.password);
    writer.log_in(third.clone());
    writer.until_more(100);
    fleet.world.muster(&["credentials", "finish", "orders"]).expect(0);
    let newest = fleet.credentials("orders");
    let after = all_served(&fleet, &newest, &formed);
    assert!(before.iter().all(|old| !after.contains(old)), "an old certificate is still shown");
    writer.log_in(newest);
    writer.until_more(100);

    let tally = writer.end();
    assert_eq!(tally.errors, [""; 0], "after {} writes", tally.written);
    let status = fleet.world.status("orders").unwrap();
    status.well().unwrap();
    assert_eq!(pids(&status), pids(&formed), "no server was started anew for that");

    // A hand-over is measured by a client like any other: it logs in, and speaks TLS.
    let restart = ["restart", "orders", "--host", "server2", "--yes", "--output", "json"];
    let done = fleet.world.muster(&restart).expect(0).json()["operation"].clone();
    let gaps: Vec<_> = done["hand_overs"].as_array().unwrap().iter().map(|one| one["gap_micros"].as_u64()).collect();
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.is_some_and(|gap| gap > 0)), "{done}");

    // Thrown out: cut off at once, told nothing, and its servers go on.
    fleet.world.muster(&["host", "revoke", "server2", "--reason", "stolen", "--confirm", "server2"]).expect(0);
    fleet.world.until_host("server2", "unknown");
    eventually(SOON, "the agent says that it was thrown out", || {
        let log = fleet.world.agent("server2").log();
        if log.contains("stolen") || log.contains("revoked") {
            Ok(())
        } else {
            Err(fleet.world.agent("server2").log_end())
        }
    });
    let servers = fleet.world.redis_pids("server2");
    assert_eq!(servers.len(), 3);
    fleet.world.muster(&["audit", "--verify"]).expect(0);
    let audit = fleet.world.muster(&["audit", "--output", "json"]).expect(0);
    for action in ["Trust/CreateToken", "Enrolment/Enrol", "Admin/Apply", "Trust/GetCredentials", "Trust/RevokeHost"] {
        assert!(audit.stdout.contains(action), "{action} is not in the audit\n{audit}");
    }
}

/// Certificates that an operator has made himself, for both hosts, under the same path on each.
fn own_certificates(fleet: &Fleet, authority: &Authority) -> Credentials {
    let now_s = unix_ms() / 1000;
    let key = Key::generate().unwrap();
    let addresses = TWO.iter().map(|(host, _)| fleet.address(host).into()).collect();
    let (host, holds) = ("server1".parse().unwrap(), Duration::from_secs(3600));
    let subject = muster_coordinator::credentials::authority::Subject {
        host: &host,
        addresses,
        now_s,
        holds,
        serial: unix_ms().to_be_bytes().repeat(2).try_into().unwrap(),
    };
    let signed = authority.sign(&key.request("redis").unwrap(), &subject).unwrap();
    fleet.world.write("own.key", key.pem().expose());
    fleet.world.write("own.crt", &pki::to_pem(&[signed]));
    let ca_file = fleet.world.write("own-ca.pem", &authority.pem()).into();
    Credentials { user: String::new(), password: String::new(), ca: authority.pem(), ca_file }
}

#[test]
fn an_operators_own_certificates_are_used_and_loaded_anew_when_he_exchanges_them() {
    let fleet = Fleet::up(&TWO, "");
    let authority = Authority::generate("own", unix_ms() / 1000).unwrap();
    let dir = fleet.world.dir().display();
    let tls =
        format!("[tls]\ncert_file = \"{dir}/own.crt\"\nkey_file = \"{dir}/own.key\"\nca_file = \"{dir}/own-ca.pem\"");
    let spec = fleet.spec("orders", &tls, &TWO, SETTINGS);
    let refused = fleet.world.muster(&["bootstrap", &spec, "--yes"]).expect(1);
    assert!(refused.stdout.contains("TLS_UNSUPPORTED") && refused.stdout.contains("own.crt"), "{refused}");
    let own = own_certificates(&fleet, &authority);
    fleet.world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let formed = fleet.world.status("orders").unwrap();
    formed.well().unwrap();
    fleet.world.muster(&["smoke", "orders", "--from", "server1"]).expect(0);
    let before = all_served(&fleet, &own, &formed);
    let own = own_certificates(&fleet, &authority);
    eventually(SOON, "the new one is shown", || {
        let after = all_served(&fleet, &own, &formed);
        if after.iter().any(|one| before.contains(one)) { Err("an old one is shown".into()) } else { Ok(()) }
    });
    let status = fleet.world.status("orders").unwrap();
    status.well().unwrap();
    assert_eq!(pids(&status), pids(&formed), "no server was started anew for that");
}

#[test]
fn a_host_that_was_installed_anew_comes_back_with_a_rejoin_token_and_not_without() {
    let mut fleet = Fleet::up(&[("server1", "7000-7002")], "");
    fleet.world.agent("server1").stop();
    fs::remove_dir_all(fleet.world.base_dir("server1")).unwrap();
    fs::create_dir(fleet.world.base_dir("server1")).unwrap();
    // A token for a name that is taken is not even made.
    let refused = fleet.world.muster(&["token", "create", "--host", "server1"]).expect(1);
    assert!(refused.stderr.contains("muster host rejoin-token server1"), "{refused}");
    let any = fleet.token(&["--approve"]);
    let refused = fleet.enrol_with("server1", &any, &[]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("muster host rejoin-token server1"), "{refused}");

    let made = fleet.world.muster(&["host", "rejoin-token", "server1", "--output", "json"]).expect(0).json();
    fleet.enrol_with("server1", made["token"].as_str().unwrap(), &[]).expect(0);
    fleet.world.start();
    // Used up.
    let again = fleet.enrol_with("server1", made["token"].as_str().unwrap(), &["--again"]);
    again.expect(0);
}

#[test]
fn a_token_without_a_host_leaves_it_to_an_operator() {
    let mut fleet = Fleet::new(&[("server1", "7000-7002")], "");
    fleet.start_coordinator();
    let token = fleet.token(&[]);
    let said = fleet.enrol_with("server1", &token, &[]).expect(0);
    assert!(format!("{said}").contains("muster host approve server1"), "{said}");
    fleet.world.agent("server1").start();
    eventually(SOON, "it waits", || {
        let log = fleet.world.agent("server1").log();
        if log.contains("muster host approve server1") { Ok(()) } else { Err(log) }
    });
    fleet.world.muster(&["host", "approve", "server1"]).expect(0);
    fleet.world.until_host("server1", "live");
    fleet.world.muster(&["host", "quarantine", "server1", "--reason", "odd"]).expect(0);
    fleet.world.until_host("server1", "unknown");
    fleet.world.muster(&["host", "approve", "server1"]).expect(0);
    fleet.world.until_host("server1", "live");
}

#[test]
fn a_cloned_disk_is_found_and_both_machines_are_cut_off() {
    let mut fleet = Fleet::up(&[("server1", "7000-7002"), ("spare", "7000-7002")], "");
    fleet.world.agent("spare").stop();
    // The clone: another machine with everything of the first one's.
    let (original, clone) = (fleet.world.base_dir("server1"), fleet.world.base_dir("spare"));
    fs::remove_dir_all(&clone).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(&original).arg(&clone).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let config = fleet.world.agent("server1").config();
    let config = config.replace(original.to_str().unwrap(), clone.to_str().unwrap());
    fleet.world.agent("spare").configure(&config);
    fleet.world.agent("spare").start();
    eventually(SOON, "both are cut off", || {
        let hosts = fleet.world.muster(&["hosts", "--output", "json"]).json();
        let host = hosts["hosts"].as_array().unwrap().iter().find(|host| host["name"] == "server1").unwrap().clone();
        if host["trust"]["state"] == "quarantined" && host["state"] == "unknown" {
            Ok(())
        } else {
            Err(host.to_string())
        }
    });
    for agent in ["server1", "spare"] {
        eventually(SOON, &format!("{agent} is told so"), || {
            let log = fleet.world.agent(agent).log();
            if log.contains("quarantined") { Ok(()) } else { Err(log) }
        });
    }
    // The genuine one gets a new key; the clone has none that counts.
    fleet.world.agent("spare").stop();
    // A refusal leaves it the key that it has.
    let key = fleet.world.base_dir("server1").join("agent/host.key");
    let before = fs::read(&key).unwrap();
    let other = fleet.token(&["--approve"]);
    fleet.enrol_with("server1", &other, &["--new-key"]).expect(1);
    assert_eq!(fs::read(&key).unwrap(), before);
    // The printed command is the one that works.
    let made = fleet.world.muster(&["host", "rejoin-token", "server1", "--output", "json"]).expect(0).json();
    assert!(made["command"].as_str().unwrap().contains(" enrol --new-key <<< "), "{made}");
    fleet.enrol_with("server1", made["token"].as_str().unwrap(), &["--new-key"]).expect(0);
    assert_ne!(fs::read(&key).unwrap(), before);
    fleet.world.until_host("server1", "live");
}

#[test]
fn operators_elsewhere_come_with_a_context_and_may_what_their_role_says() {
    let fleet = Fleet::up(&TWO, "");
    fleet.let_in("server2", "vera", "viewer", &[]);
    fleet.let_in("server2", "otto", "operator", &["--certificate"]);
    let spec = fleet.spec("orders", "", &TWO, SETTINGS);
    let before = Before::of(&fleet.world);
    for (who, args, code) in [
        ("vera", vec!["hosts"], 0),
        ("vera", vec!["bootstrap", &*spec, "--yes"], 1),
        ("vera", vec!["token", "create"], 1),
        ("otto", vec!["plan", &*spec], 0),
        ("otto", vec!["host", "revoke", "server1", "--confirm", "server1"], 1),
        ("otto", vec!["user", "list"], 1),
    ] {
        let said = fleet.muster_on("server2", who, &args, "");
        assert_eq!(said.code, code, "{who} {args:?}\n{said}");
        assert!(code == 0 || said.stderr.contains("may not") || said.stderr.contains("role"), "{who} {args:?}\n{said}");
    }
    before.still(&fleet.world, "what a role refuses");
    fleet.muster_on("server2", "otto", &["bootstrap", &spec, "--yes"], "").expect(0);
    // Taken away: at once.
    fleet.world.muster(&["user", "remove", "otto"]).expect(0);
    let refused = fleet.muster_on("server2", "otto", &["hosts"], "");
    assert_ne!(refused.code, 0, "{refused}");
    // Nobody is nobody.
    let refused = fleet.muster_on("server2", "nobody", &["hosts", "--endpoint", &fleet.url()], "");
    assert!(refused.stderr.contains("muster context add"), "{refused}");
}

#[test]
fn destroying_takes_two_where_the_config_says_so() {
    let fleet = Fleet::up(&[("server1", "7000-7002")], "two_persons = true");
    let refused = fleet.world.muster(&["host", "revoke", "server1", "--confirm", "server1"]).expect(1);
    let hint = refused.stderr.lines().find_map(|line| line.split_once("muster second ")).map(|(_, id)| id.to_owned());
    let id = hint.unwrap_or_else(|| panic!("{refused}"));
    let id = id.split_whitespace().next().unwrap().trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    // Not the same person twice.
    fleet.world.muster(&["second", id]).expect(1);
    fleet.let_in("server1", "dora", "destroyer", &[]);
    fleet.world.until_host("server1", "live");
    fleet.muster_on("server1", "dora", &["second", id], "").expect(0);
    fleet.world.muster(&["host", "revoke", "server1", "--confirm", "server1"]).expect(0);
    fleet.world.until_host("server1", "unknown");
}

#[test]
fn the_fleets_authority_is_exchanged_and_nobody_is_locked_out() {
    let mut fleet = Fleet::up(&TWO, "");
    fleet.let_in("server1", "vera", "viewer", &[]);
    fleet.let_in("server1", "otto", "operator", &["--certificate"]);
    // One sleeps through it.
    fleet.world.agent("server2").stop();
    fleet.world.muster(&["ca", "rotate"]).expect(0);
    fleet.world.agent("server1").restart();
    fleet.world.until_host("server1", "live");
    let refused = fleet.world.muster(&["ca", "retire"]).expect(1);
    assert!(refused.stderr.contains("host server2"), "who would be locked out is named\n{refused}");
    assert!(refused.stderr.contains("user otto") && !refused.stderr.contains("vera"), "people too\n{refused}");
    fleet.muster_on("server1", "otto", &["hosts"], "").expect(0);
    fleet.world.agent("server2").start();
    fleet.world.until_host("server2", "live");
    // It has renewed by itself, though its certificate had days to go: the old authority is about to be retired.
    eventually(SOON, "nobody needs the old authority any more", || {
        let retired = fleet.world.muster(&["ca", "retire"]);
        if retired.code == 0 { Ok(()) } else { Err(retired.to_string()) }
    });
    for host in ["server1", "server2"] {
        fleet.world.agent(host).restart();
        fleet.world.until_host(host, "live");
    }
    for user in ["otto", "vera"] {
        fleet.muster_on("server1", user, &["hosts"], "").expect(0);
    }
}

#[test]
fn a_host_that_slept_past_its_certificate_comes_back_by_itself() {
    let mut fleet = Fleet::up(&[("server1", "7000-7002")], "");
    fleet.world.agent("server1").stop();
    fleet.world.coordinator().stop();
    // As the authority signed it last month: its key is in the store, for whoever has the store's.
    let state = fleet.world.dir().join("coordinator");
    let seal = Seal::open(&state.join("store.key"), true).unwrap();
    let authority = Ledger::open(&state.join("store.db"), seal).unwrap().authorities().unwrap().remove(0);
    let papers = fleet.world.base_dir("server1").join("agent");
    let key = fs::read_to_string(papers.join("host.key")).unwrap();
    let csr = Key::from_pem(Secret::new(key)).unwrap().request("server1").unwrap();
    let until_ms = unix_ms() - 30 * 86_400_000;
    let span = Span { from_ms: until_ms - 7 * 86_400_000, until_ms };
    let aged = authority.sign(&csr, &Subject::Host(&"server1".parse().unwrap()), span).unwrap();
    fs::write(papers.join("host.pem"), pki::to_pem(&[aged])).unwrap();
    fleet.start_coordinator();
    fleet.world.agent("server1").start();
    fleet.world.until_host("server1", "live");
    assert!(fleet.world.agent("server1").log().contains("has ended; renewing it"));
}
