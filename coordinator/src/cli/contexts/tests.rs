//! The file: what is written is read, what is open is refused, what is wrong is said without its secrets.

use std::os::unix::fs::PermissionsExt as _;

use muster_proto::Secret;

use super::*;
use crate::cli::fake::fleet::Fleet;

fn full() -> Contexts {
    let fleet = Fleet::new();
    let authorities: Vec<_> = fleet
        .authorities()
        .iter()
        .flat_map(|authority| muster_proto::pki::from_pem(&authority.certificate_pem).unwrap())
        .collect();
    let access = |who| Access { user: "alice".into(), expires_unix_ms: 42, authorities: authorities.clone(), who };
    let bearer = Who::Bearer { user: "alice".into(), secret: Secret::new("hunter2") };
    let remote = |who| Kept { endpoint: "https://[fd00::1]:7700".parse().unwrap(), access: Some(access(who)) };
    let here = Kept { endpoint: "unix:/run/muster/admin.sock".parse().unwrap(), access: None };
    let all = [("here", here), ("prod", remote(bearer)), ("x", remote(Who::Certificate(fleet.identity("alice"))))];
    Contexts {
        current: "prod".parse().ok(),
        kept: all.into_iter().map(|(name, kept)| (name.parse().unwrap(), kept)).collect(),
    }
}

fn put(store: &Store, contexts: &Contexts) {
    let replace = |kept: &mut Contexts| {
        *kept = contexts.clone();
        Ok::<_, ContextsError>(())
    };
    store.change(replace).unwrap();
}

#[test]
fn what_is_written_is_read_again_and_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/muster/contexts.toml");
    let store = Store::find(Some(&path), |_| None).unwrap();
    assert_eq!(store.read().unwrap(), Contexts::default());
    let contexts = full();
    put(&store, &contexts);
    assert_eq!(store.read().unwrap(), contexts);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // The new file took the place of the old one: nothing else is left.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    let Access { who, .. } = contexts.kept.values().find_map(|kept| kept.access.clone()).unwrap();
    assert!(!format!("{contexts:?} {who:?}").contains("hunter2"));
    assert!(matches!(contexts.kept.values().nth(1).unwrap().access.as_ref().unwrap().login().believes,
        Believes::Authorities(all) if all.len() == 1));
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::find(Some(&dir.path().join("c.toml")), |_| None).unwrap();
    put(&store, &full());
    let before = store.read().unwrap();
    let fail = |contexts: &mut Contexts| {
        contexts.kept.clear();
        Err::<(), _>(ContextsError::Nowhere)
    };
    assert!(store.change(fail).is_err());
    assert_eq!(store.read().unwrap(), before);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let store = Store::find(Some(&path), |_| None).unwrap();
    put(&store, &full());
    for mode in [0o640, 0o604, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(store.read(), Err(ContextsError::Open { mode: found, .. }) if found == mode), "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(store.read().is_ok());
}

#[test]
fn what_is_wrong_is_said_without_what_stands_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let store = Store::find(Some(&path), |_| None).unwrap();
    put(&store, &full());
    let text = fs::read_to_string(&path).unwrap();
    let cases = [
        ("[contexts.prod]", "[contexts.PROD]", "is no name of a context"),
        ("current = \"prod\"", "current = \"nope\"", "there is no context nope"),
        ("https://[fd00::1]:7700", "https://[fd00::1]", "the port is missing"),
        ("secret = \"hunter2\"", "secret = 42", "a value of another type is needed"),
        ("secret = \"hunter2\"", "secret = \"hunter2", "line "),
        ("secret = \"hunter2\"", "hunter2 = \"hunter2\"", "unknown field"),
        ("secret = \"hunter2\"", "", "neither a secret, nor a certificate and its key"),
        ("BEGIN CERTIFICATE", "BEGIN HUNTER2", "authorities"),
    ];
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let error = store.read().unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
        assert!(to.starts_with("hunter2") || !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_file_is_where_the_environment_says() {
    let find = |path: Option<&str>, vars: &[(&str, &str)]| {
        let var = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Store::find(path.map(Path::new), var).ok().map(|store| store.0.display().to_string())
    };
    let all = [("XDG_CONFIG_HOME", "/xdg"), ("HOME", "/h")];
    assert_eq!(find(Some("/x.toml"), &all).as_deref(), Some("/x.toml"));
    assert_eq!(find(None, &all).as_deref(), Some("/xdg/muster/contexts.toml"));
    assert_eq!(find(None, &all[1..]).as_deref(), Some("/h/.config/muster/contexts.toml"));
    assert_eq!(
        find(None, &[("XDG_CONFIG_HOME", ""), ("HOME", "/h")]).as_deref(),
        Some("/h/.config/muster/contexts.toml")
    );
    assert_eq!(find(None, &[]), None);
}
