//! Good specs, and every way of getting one wrong.

mod access;
mod limits;

use std::fmt::Write as _;

use super::*;

const GOOD: &str = r#"name = "orders"
replicas = 1
[[hosts]]
name  = "server1"
ports = ["7000-7002"]
[[hosts]]
name  = "server2"
ports = ["7003-7005"]
[redis.config]
appendonly = "yes"
"#;

fn settings(lines: &str) -> String {
    match parse(&format!("{GOOD}{lines}")) {
        Ok(spec) => spec.parts().settings.iter().skip(1).fold(String::new(), |mut text, setting| {
            let _ = writeln!(text, "{} {}", setting.key, setting.value);
            text
        }),
        Err(wrong) => wrong.to_string(),
    }
}

#[test]
fn the_reference_is_a_spec() {
    let spec = parse(REFERENCE).unwrap();
    let parts = spec.parts();
    assert_eq!((parts.name.as_str(), parts.replicas, parts.masters, spec.instances()), ("orders", 1, Some(3), 6));
    assert_eq!(parts.settings.len(), 5);
    let top = ["name", "replicas", "masters", "allow_shared_host", "auth", "tls", "hosts", "ports", "redis.config"];
    let access = ["[acl]", "default =", "rules =", "password_sha256 =", "cert_file", "key_file", "ca_file"];
    for field in top.into_iter().chain(access) {
        assert!(REFERENCE.contains(field), "{field}");
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let spec = parse("name = \"a\"\nhosts = [{ name = \"h\", ports = [7000] }]\n").unwrap();
    let parts = spec.parts();
    assert_eq!((parts.replicas, parts.masters, parts.allow_shared_host), (1, None, false));
    assert!(parts.settings.is_empty());
}

#[test]
fn settings_become_lines_of_redis_conf_in_their_order() {
    assert_eq!(settings("maxclients = 100\nactivedefrag = false\n"), "maxclients 100\nactivedefrag no\n");
    assert_eq!(settings("save = [\"900 1\", \"300 10\"]\n"), "save 900 1\nsave 300 10\n");
    assert_eq!(settings("save = \"\"\n"), "save \"\"\n");
    assert_eq!(
        settings("client-output-buffer-limit = \"normal 0 0 0\"\n"),
        "client-output-buffer-limit normal 0 0 0\n"
    );
    assert_eq!(
        settings("active-expire = 1.5\n"),
        "line 11: redis.config.active-expire: a float is no redis.conf value"
    );
    assert_eq!(settings("save = [[1]]\n"), "line 11: redis.config.save: a list in a list is no redis.conf line");
    assert_eq!(settings("save = { a = 1 }\n"), "line 11: redis.config.save: a table is no redis.conf value");
}

#[test]
fn what_is_wrong_is_named_with_line_key_and_cure() {
    let swap = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    let cases = [
        (swap("replicas", "replica"), "line 2: replica: unknown key", "did you mean `replicas`?"),
        (
            swap("replicas", "allow-shared-hosts"),
            "line 2: allow-shared-hosts: unknown key",
            "did you mean `allow_shared_host`?",
        ),
        (swap("ports", "prots"), "line 5: prots: unknown key", "did you mean `ports`?"),
        (swap("ports", "rack"), "line 5: rack: unknown key", "known here: name, ports"),
        (swap("redis.config", "redis.confg"), "line 9: confg: unknown key", "did you mean `config`?"),
        (swap("= 1", "= \"1\""), "line 2: replicas: invalid type: string \"1\", expected u32", ""),
        (swap("= 1", "= -1"), "line 2: replicas: invalid value: integer `-1`, expected u32", ""),
        (swap("= 1", "= 17"), "line 2: replicas: 17 is more than 16", "write replicas = 1, or 2"),
        (
            swap("= 1", "= 1\nmasters = 2"),
            "line 3: masters: 2 is not 3-1000; fewer than three cannot elect a successor for a dead one",
            "write masters = 3 or more, or leave it out",
        ),
        (
            swap("orders", "Orders"),
            "line 1: name: \"Orders\" is not a cluster name: 1-63 of a-z, 0-9 and '-', starting with a letter or digit",
            "",
        ),
        (
            swap("server2", "server 2"),
            "line 7: hosts[1].name: \"server 2\" is not a host name: 1-63 of a-z, 0-9 and '-'._, starting with a letter or digit",
            "",
        ),
        (
            swap("server2", "server1"),
            "line 7: hosts[1].name: server1 is listed twice; give it one entry with all its ports",
            "keep one [[hosts]] entry for server1 and list all its ports there",
        ),
        (swap("\"7003-7005\"", ""), "line 8: hosts[1].ports: server2 has no ports", "write ports = [\"7000-7002\"]"),
        (
            swap("\"7003-7005\"", "60000"),
            "line 8: hosts[1].ports: port 60000 leaves no room for its bus port: use 1-55535 (the bus port is 10000 higher)",
            "",
        ),
        (swap("\"7003-7005\"", "7003, \"7003-7005\""), "line 8: hosts[1].ports: port 7003 is listed twice", ""),
        (
            swap("\"7003-7005\"", "-1"),
            "line 8: hosts[1].ports: \"-1\" is neither a port like 7000 nor a range like 7000-7005",
            "",
        ),
        (
            swap("\"7003-7005\"", "true"),
            "line 8: hosts[1].ports: true is neither a port like 7000 nor a range like \"7000-7005\"",
            "",
        ),
        (
            swap("appendonly", "port"),
            "line 10: redis.config.port: Muster owns this setting (it follows from the spec's `ports`); take it out of the spec",
            "delete the line port from [redis.config]",
        ),
        (
            swap("appendonly", "\"append only\""),
            "line 10: redis.config: \"append only\" is no redis.conf directive: use a-z, 0-9, '-' and '.'",
            "",
        ),
        (
            swap("\"yes\"", "\"yes\\nport 1\""),
            "line 10: redis.config.appendonly: a value is one line of redis.conf, without line breaks or control characters",
            "",
        ),
        (swap("name = \"orders\"\n", ""), "line 1: name: missing", "add a line name = ..."),
        (swap("name  = \"server1\"\n", ""), "line 3: name: missing", "add a line name = ..."),
        (
            "name = \"orders\"\n".to_owned(),
            "line 1: hosts: a cluster needs at least one host",
            "add a [[hosts]] entry with name and ports; `muster hosts` lists the names",
        ),
        (
            swap("name = \"orders\"", "name = "),
            "line 1: name: string values must be quoted, expected literal string",
            "",
        ),
        (swap("replicas = 1", "replicas = 1\nreplicas = 2"), "line 3: replicas: duplicate key", ""),
    ];
    for (text, said, cured) in cases {
        let wrong = parse(&text).unwrap_err();
        assert_eq!((wrong.to_string().as_str(), wrong.cure.as_deref().unwrap_or("")), (said, cured), "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = read(Path::new("/nonexistent/cluster.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the spec /nonexistent/cluster.toml");
}
