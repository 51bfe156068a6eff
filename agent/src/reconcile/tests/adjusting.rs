//! A server that runs, and what it is given meanwhile.

use muster_proto::{Secret, Sha256, Users, acl::RedisUser};

use super::*;

#[test]
fn a_server_that_runs_is_given_new_users_once_and_again_when_they_change() {
    let users = |word: &str| {
        let login = |user: &str| muster_proto::acl::Login { user: user.into(), password: Secret::new(word) };
        let passwords = vec![Sha256::of(word.as_bytes())];
        let default = RedisUser { name: "default".into(), rules: "~* +@all".parse().unwrap(), passwords };
        Users { users: vec![default], admin: vec![login("muster-admin")], replica: login("muster-replica") }
    };
    let judge = |word: &str, applied: Option<Sha256>, answer: Answer| {
        let mut assignment = assignment(Want::Running, true);
        assignment.clusters[0].users = Some(users(word));
        let mut world = world(Want::Running, true, "latched", "ours");
        world.answer = ("", answer);
        let seen = BTreeMap::from([(port(7000), Seen { applied, ..world.seen() })]);
        plan(&assignment, &seen, &rules(), NOW).remove(&port(7000)).unwrap()
    };
    let answers = || Answer::View(Box::new(view()));
    // Found again, so that nothing is known: told, which does no harm.
    let verdict = judge("one", None, answers());
    assert!(!verdict.converged() && verdict.state == InstanceState::Running, "{verdict:?}");
    let Some(Step::Adjust { live, files, target }) = verdict.step else { panic!("no step") };
    assert_eq!((target.pid, target.logins.len()), (4711, 1));
    assert!(files.iter().any(|file| file.name == "users.acl"));
    let verdict = judge("one", Some(live.fingerprint), answers());
    assert!(verdict.converged(), "{verdict:?}");
    assert!(matches!(judge("two", Some(live.fingerprint), answers()).step, Some(Step::Adjust { .. })));
    // One that does not answer cannot be told.
    assert_eq!(judge("two", Some(live.fingerprint), Answer::Silent("no".into())).step, None);
    assert_eq!(judge("two", Some(live.fingerprint), Answer::Loading).step, None);
}
