//! `muster-agent enrol` as it is typed: where the token comes from and never shows, and what is said when it does not
//! come to an enrolment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use muster_proto::{Sha256, token::JoinToken};
use muster_tests::{Output, binaries, eventually};
use tempfile::TempDir;

fn token() -> String {
    JoinToken::new("t1", [0x5a; 32], Sha256([7; 32])).text().expose().to_owned()
}

/// A host with its config, and an address where nobody listens.
fn host(coordinator: Option<&str>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let coordinator = coordinator.map_or(format!("https://{free}"), str::to_owned);
    let config = dir.path().join("agent.toml");
    let base = dir.path().join("base");
    let text = format!(
        "name = \"server1\"\naddress = \"127.0.0.1\"\ncoordinator = \"{coordinator}\"\nports = [\"7000\"]\n\
         base_dir = \"{}\"\n",
        base.display()
    );
    fs::write(&config, text).unwrap();
    (dir, config)
}

fn start(program: &Path, before: &[&str], config: &Path) -> Child {
    let mut words = before.iter().map(Path::new).chain([program]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg("--config").arg(config).arg("enrol");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn enrol(config: &Path, typed: &str) -> Output {
    let mut child = start(&binaries::path("muster-agent"), &[], config);
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output: Output = child.wait_with_output().unwrap().into();
    let secret = typed.split(':').nth(2).unwrap_or(typed);
    assert!(secret.is_empty() || !output.to_string().contains(secret), "the token is shown: {output}");
    output
}

#[test]
fn what_is_no_token_is_not_shown_and_where_to_get_one_is_said() {
    let (dir, config) = host(None);
    for typed in ["hunter2", "", "muster-join-1:t1:short:short", "muster-access-1:a:b:c"] {
        let said = enrol(&config, typed).expect(64);
        assert!(said.stderr.starts_with("error: this is no join token: it should look like muster-join-1:"), "{said}");
        assert!(said.stderr.contains("muster token create --host server1"), "{said}");
    }
    assert!(!dir.path().join("base").exists(), "nothing was changed");
}

#[test]
fn a_coordinator_that_does_not_answer_costs_nothing_and_the_key_stays() {
    let (dir, config) = host(None);
    let said = enrol(&config, &token()).expect(2);
    assert!(said.stderr.starts_with("error: cannot enrol at https://127.0.0.1:"), "{said}");
    assert!(said.stderr.contains("onnection refused") && said.stderr.contains("hint: "), "{said}");
    let path = dir.path().join("base/agent/host.key");
    let key = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(dir.path().join("base/agent")).unwrap().permissions().mode() & 0o7777, 0o700);
    enrol(&config, &token()).expect(2);
    assert_eq!(fs::read(&path).unwrap(), key, "the same key is used again");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let said = enrol(&config, &token()).expect(2);
    assert!(said.stderr.contains(&format!("chmod 600 {}", path.display())), "{said}");
}

#[test]
fn nobody_enrols_over_plain_http() {
    let (_dir, config) = host(Some("http://127.0.0.1:7700"));
    let said = enrol(&config, &token()).expect(2);
    assert!(said.stderr.contains("only https://HOST:PORT is for enrolled hosts"), "{said}");
}

/// While it waits for the token, and as a user of its own: in what others can read there is no place where a token could
/// be, and what it will read is closed even to that user's other processes.
#[test]
fn its_words_hold_no_token_and_its_memory_is_its_own() {
    let (dir, config) = host(None);
    let program = dir.path().join("muster-agent");
    fs::copy(binaries::path("muster-agent"), &program).unwrap();
    for path in [dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut child = start(&program, &words, &config);
    let of = |file: &str| format!("/proc/{}/{file}", child.id());
    eventually(Duration::from_secs(10), "it is closed to its own user", || {
        let words = fs::read_to_string(of("cmdline")).unwrap();
        let owner = fs::metadata(of("environ")).unwrap().uid();
        // Before its exec the child still is this test, or setpriv.
        if words.starts_with(&program.display().to_string()) && owner == 0 {
            Ok(())
        } else {
            Err(format!("{words:?} of uid {owner}"))
        }
    });
    let limits = fs::read_to_string(of("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().skip(4).take(2).all(|limit| limit == "0"), "{core}");
    let words = fs::read_to_string(of("cmdline")).unwrap().replace('\0', " ");
    assert_eq!(words.trim(), format!("{} --config {} enrol", program.display(), config.display()));

    child.stdin.take().unwrap().write_all(b"no token\n").unwrap();
    let output: Output = child.wait_with_output().unwrap().into();
    output.expect(64);
}
