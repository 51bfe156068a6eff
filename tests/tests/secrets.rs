//! Secrets stay secret: known ones are put everywhere they belong, everything is run with the most verbose logs, and
//! then all places are searched where they do not belong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use muster_tests::{Fleet, processes};

const HOSTS: [(&str, &str); 2] = [("server1", "7000-7002"), ("server2", "7003-7005")];

/// Every secret that was drawn, by what it is.
type Secrets = BTreeMap<String, String>;

/// The middle of a PEM file, which is the secret itself.
fn body(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("-----") && line.len() > 30).collect();
    lines[lines.len() / 2].to_owned()
}

fn argument(conf: &str, key: &str) -> String {
    let line = conf.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{key} is not in {conf}")).trim_matches('"').to_owned()
}

/// All files below a directory, and what is in them.
fn files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

#[test]
fn secrets_are_where_they_belong_and_nowhere_else() {
    let mut fleet = Fleet::new(&HOSTS, "log = \"trace\"");
    for (host, _) in HOSTS {
        let config = fleet.world.agent(host).config() + "log = \"trace\"\n";
        fleet.world.agent(host).configure(&config);
    }
    fleet.start_coordinator();
    let mut secrets = Secrets::new();
    let mut said = Vec::new();
    for (host, _) in HOSTS {
        let token = fleet.token(&["--host", host]);
        secrets.insert(format!("join token of {host}"), token.split(':').nth(2).unwrap().to_owned());
        said.push(fleet.enrol_with(host, &token, &[]).expect(0).to_string());
    }
    fleet.world.start();
    let made = fleet.world.muster(&["user", "add", "vera", "--role", "operator", "--output", "json"]).expect(0).json();
    let access = made["access"].as_str().unwrap().to_owned();
    secrets.insert("access string".into(), access.split(':').nth(2).unwrap().to_owned());
    let url = fleet.url();
    said.push(fleet.muster_on("server1", "vera", &["context", "add", "x", "--endpoint", &url], &access).to_string());
    said.push(fleet.muster_on("server1", "vera", &["whoami"], "").expect(0).to_string());

    let spec = fleet.spec("orders", "tls = true", &HOSTS, "cluster-node-timeout = 2000");
    said.push(fleet.world.muster(&["bootstrap", &spec, "--yes"]).expect(0).to_string());
    let before = fleet.credentials("orders").password;
    secrets.insert("password of clients".into(), before);
    let keep = |secrets: &mut Secrets, when: &str| {
        let conf = fleet.world.base_dir("server1").join("7000/redis.conf");
        let conf = fs::read_to_string(conf).unwrap();
        secrets.insert(format!("password of replicas, {when}"), argument(&conf, "masterauth"));
    };
    keep(&mut secrets, "at first");
    said.push(fleet.world.muster(&["credentials", "rotate", "orders"]).expect(0).to_string());
    secrets.insert("new password of clients".into(), fleet.credentials("orders").password);
    said.push(fleet.world.muster(&["credentials", "finish", "orders"]).expect(0).to_string());
    keep(&mut secrets, "in the end");
    for (host, port) in [("server1", "7000"), ("server2", "7003")] {
        let base = fleet.world.base_dir(host);
        secrets.insert(format!("key of {host}"), body(&base.join("agent/host.key")));
        secrets.insert(format!("key of {host}'s instances"), body(&base.join(port).join("tls.key")));
    }
    let key = fs::read_to_string(fleet.world.dir().join("coordinator/store.key")).unwrap();
    secrets.insert("key of the store".into(), key.trim().to_owned());
    for (what, secret) in &secrets {
        assert!(secret.len() >= 30, "{what} is no secret: {secret:?}");
    }

    // What people and scripts are shown.
    for args in [
        vec!["status", "orders", "--output", "json"],
        vec!["check", "orders"],
        vec!["smoke", "orders", "--from", "server1"],
        vec!["hosts", "--output", "json"],
        vec!["token", "list", "--output", "json"],
        vec!["user", "list", "--output", "json"],
        vec!["ca", "list", "--output", "json"],
        vec!["audit", "--output", "json"],
        vec!["ops", "--output", "json"],
    ] {
        said.push(fleet.world.muster(&args).to_string());
    }
    let ops = fleet.world.muster(&["ops", "--output", "json"]).json();
    for operation in ops["operations"].as_array().unwrap() {
        said.push(fleet.world.muster(&["op", "watch", operation["id"].as_str().unwrap()]).to_string());
    }
    for (what, secret) in &secrets {
        for text in &said {
            assert!(!text.contains(secret.as_str()), "the {what} was said:\n{text}");
        }
    }

    // What processes show of themselves, and what a crash would leave.
    let pids = processes::living_in(fleet.world.dir());
    assert!(pids.len() >= 9, "{pids:?}");
    for pid in &pids {
        for place in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{place}")).unwrap();
            for (what, secret) in &secrets {
                assert!(!holds(&bytes, secret), "the {what} is in /proc/{pid}/{place}");
            }
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert!(core.split_whitespace().nth(4) == Some("0"), "pid {pid} may leave a core: {core}");
    }

    // What lies on disks. A secret belongs to few files, which are closed to others.
    let mut found = Vec::new();
    files(fleet.world.dir(), &mut found);
    let mut looked = 0;
    for path in found {
        let Ok(bytes) = fs::read(&path) else { continue };
        looked += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        // The ledger and the keys of an agent, what its servers read, the context of an operator, and the store's key.
        let belongs = ["redis.conf", "ledger.binpb", "host.key", "tls.key", "store.key", "vera"].contains(&name)
            || path.parent().is_some_and(|parent| parent.ends_with("agent/tls"));
        for (what, secret) in secrets.iter().filter(|(_, secret)| holds(&bytes, secret)) {
            assert!(belongs, "the {what} is in {}", path.display());
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o027, 0, "the {what} is in {}, which is open: {mode:o} ({secret})", path.display());
        }
    }
    assert!(looked > 30, "only {looked} files were looked at");
}
