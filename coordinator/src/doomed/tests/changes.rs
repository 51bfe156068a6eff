//! Specs beside each other.

use muster_proto::{Auth, spec::SpecParts};

use super::*;

fn spec(text: &str) -> Spec {
    let hosts = if text.contains("[[hosts]]") || text.contains("hosts =") {
        ""
    } else {
        "hosts = [{ name = \"a\", ports = [\"7000-7002\"] }, { name = \"b\", ports = [\"7003-7005\"] }]\n"
    };
    crate::spec_file::parse(&format!("name = \"orders\"\n{hosts}{text}")).unwrap()
}

fn check(from: &str, to: &str, expected: Expect) {
    let (from, to) = (spec(from), spec(to));
    assert_eq!(changes(&from, &from), [""; 0]);
    expected.assert_eq(&changes(&from, &to).iter().map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn numbers_and_switches() {
    check(
        "replicas = 1",
        "replicas = 2\nmasters = 3\nallow_shared_host = true",
        expect![[r#"
        replicas: 1 becomes 2
        masters: as many as fit becomes 3
        allow_shared_host: false becomes true
    "#]],
    );
}

#[test]
fn hosts_and_their_ports() {
    let host = |name: &str, ports: &str| format!("[[hosts]]\nname = \"{name}\"\nports = [\"{ports}\"]\n");
    let (a, b, c) = (host("a", "7000-7002"), host("b", "7003-7005"), host("c", "7006-7008"));
    let more = host("a", "7000-7003");
    check(
        &format!("{a}{b}"),
        &format!("{more}{c}"),
        expect![[r#"
        b leaves: 7003-7005
        a: 7000-7002 becomes 7000-7003
        c joins: 7006-7008
    "#]],
    );
    check(
        &format!("{a}{b}"),
        &format!("{b}{a}"),
        expect![[r#"
        order of hosts: a, b becomes b, a
    "#]],
    );
}

#[test]
fn lines_of_redis_conf() {
    check(
        "[redis.config]\nmaxmemory = \"1gb\"\nsave = [\"900 1\", \"300 10\"]\nappendfsync = \"always\"",
        "[redis.config]\nmaxmemory = \"2gb\"\nsave = [\"900 1\"]\nlfu-decay-time = \"2\"",
        expect![[r#"
            appendfsync: always becomes unset
            maxmemory: 1gb becomes 2gb
            save: 900 1 and 300 10 becomes 900 1
            lfu-decay-time: unset becomes 2
        "#]],
    );
}

#[test]
fn limits() {
    check(
        "",
        "[limits]\nmemory = \"4GiB\"\ncpus = 1.5",
        expect![[r#"
        limits.memory: unset becomes 4GiB
        limits.cpus: unset becomes 1.5
    "#]],
    );
}

#[test]
fn who_may_log_in_is_said_without_passwords() {
    let (one, other) = ("ab".repeat(32), "cd".repeat(32));
    let user = |name: &str, rules: &str, hashes: &[&str]| {
        let hashes: Vec<_> = hashes.iter().map(|hash| format!("\"{hash}\"")).collect();
        format!("[[acl.users]]\nname = \"{name}\"\nrules = \"{rules}\"\npassword_sha256 = [{}]\n", hashes.join(", "))
    };
    let from = [
        user("goes", "+ping", &[]),
        user("ruled", "+ping", &[]),
        user("given", "+ping", &[]),
        user("drawn", "+ping", &[&one]),
        user("other", "+ping", &[&one]),
        user("same", "+ping", &[&one]),
    ];
    let to = [
        user("same", "+ping", &[&one]),
        user("other", "+ping", &[&other]),
        user("drawn", "+ping", &[]),
        user("given", "+ping", &[&one]),
        user("ruled", "+ping +get", &[]),
        user("comes", "~app:* +@read", &[&other]),
    ];
    let (from, to) = (from.concat(), format!("[acl]\ndefault = \"+@read\"\n{}", to.concat()));
    check(
        &from,
        &to,
        expect![[r#"
        acl.default: Muster's own rules becomes +@read
        user goes leaves
        user other: its given passwords change
        user drawn: its password is drawn from then on
        user given: its passwords are given from then on
        user ruled: +ping becomes +ping +get
        user comes joins: ~app:* +@read
    "#]],
    );
    let said = changes(&spec(&from), &spec(&to)).join("\n");
    assert!(!said.contains(&one) && !said.contains(&other), "{said}");
    check(
        "auth = \"none\"",
        &from,
        expect![[r#"
        auth: none becomes password
        user goes joins: +ping
        user ruled joins: +ping
        user given joins: +ping
        user drawn joins: +ping
        user other joins: +ping
        user same joins: +ping
    "#]],
    );
    let open = SpecParts { auth: Auth::None, ..spec(&from).parts().clone() };
    assert_eq!(changes(&spec(&from), &Spec::new(open).unwrap())[0], "auth: password becomes none");
}

#[test]
fn what_is_spoken() {
    let files = |cert: &str| format!("[tls]\ncert_file = \"/{cert}\"\nkey_file = \"/k\"\nca_file = \"/c\"");
    check(
        "",
        "tls = true",
        expect![[r#"
        tls: off becomes issued by Muster
    "#]],
    );
    check(
        "tls = true",
        &files("a"),
        expect![[r#"
        tls: issued by Muster becomes files of the operator
    "#]],
    );
    check(
        &files("a"),
        &files("b"),
        expect![[r#"
        tls.cert_file: /a becomes /b
    "#]],
    );
}
