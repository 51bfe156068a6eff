//! What is counted, line by line, and what a real server's numbers come to.

use muster_proto::Want;

use super::*;
use crate::{
    process::Process,
    samples::{self, alone, files, layout, port, stamp},
};

#[test]
fn writes_are_counted_over_saves() {
    let rate = |looks: &[(u64, u64, u64)]| {
        let mut writes = Writes::default();
        looks.iter().for_each(|(ms, changes, saved)| writes.see(Duration::from_millis(*ms), *changes, *saved));
        writes.millihertz()
    };
    assert_eq!(rate(&[]), 0);
    assert_eq!(rate(&[(0, 7, 1)]), 0);
    assert_eq!(rate(&[(0, 7, 1), (1000, 7, 1)]), 0);
    assert_eq!(rate(&[(0, 7, 1), (500, 8, 1)]), 2000);
    assert_eq!(rate(&[(0, 7, 1), (500, 8, 1), (1000, 10, 1)]), 3000);
    assert_eq!(rate(&[(0, 100, 1), (500, 105, 1), (1000, 2, 9), (1500, 7, 9)]), 10_000, "a save takes its piece out");
    assert_eq!(rate(&[(0, 1, 1), (500, 9, 2)]), 0, "also where more was written since");
    assert_eq!(rate(&[(0, 9, 1), (500, 0, 1)]), 0, "two saves in one second");
}

#[test]
fn clients_are_those_that_are_not_musters() {
    let line =
        |flags: &str, user: &str| format!("id=7 addr=127.0.0.1:1 name= flags={flags} db=0 user={user} cmd=get\n");
    let list = |clients: &[(&str, &str)]| clients.iter().map(|(flags, user)| line(flags, user)).collect::<String>();
    let admin = Login { user: "muster-admin".into(), password: muster_proto::Secret::new("x") };
    let others = |list: &str| others(list, std::slice::from_ref(&admin));
    assert_eq!(others(""), 0);
    assert_eq!(others("\n"), 0);
    assert_eq!(others(&list(&[("N", "default"), ("b", "app"), ("P", "default"), ("x", "default")])), 4);
    assert_eq!(others(&list(&[("S", "muster-replica"), ("M", "default"), ("MU", "x"), ("U", "default")])), 0);
    assert_eq!(others(&list(&[("N", "muster-admin"), ("N", "muster-admins")])), 1);
    assert_eq!(others("id=7 flags=N cmd=get\n"), 1, "before there were users (6.0)");
}

#[test]
fn keys_of_all_databases_count() {
    let keys = |text: &str| keys(&Info(text.into()));
    assert_eq!(keys("# Keyspace\r\ndb0:keys=12,expires=1,avg_ttl=0\r\ndb3:keys=30,expires=0\r\n"), 42);
    assert_eq!(keys("# Keyspace\r\n"), 0);
    assert_eq!(keys("dbx:keys=1\r\ndb0:other=1\r\n"), 0);
}

#[test]
fn what_is_kept_is_what_the_next_server_finds_again() {
    let cases = [
        (Keeps::Log, true, false, "append-only file"),
        (Keeps::Log, true, true, "append-only file"),
        (Keeps::Log, false, true, "nothing"),
        (Keeps::Log, false, false, "nothing"),
        (Keeps::Snapshots, false, true, "snapshots"),
        (Keeps::Snapshots, true, true, "snapshots"),
        (Keeps::Snapshots, false, false, "nothing"),
        (Keeps::Snapshots, true, false, "nothing"),
        (Keeps::Nothing, false, false, "nothing"),
        (Keeps::Nothing, true, false, "nothing"),
        (Keeps::Nothing, false, true, "snapshots"),
    ];
    for (settings, appends, saves, expected) in cases {
        assert_eq!(kept(settings, appends, saves), expected, "{settings:?} {appends} {saves}");
    }
}

/// One real server of two instances; the other has a directory and does not run.
#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test a runtime: nobody else waits for the lock there")]
async fn a_real_server_is_appraised_while_a_client_writes() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = layout.instance(port(7000));
    let conf = format!(
        "port 0\nunixsocket {0}/redis.sock\ndir {0}\nlogfile {0}/redis.log\nappendonly yes\nsave \"3600 1\"\n",
        dir.path().display()
    );
    dir.establish(&stamp(), &files(&conf, "")).unwrap();
    let stopped = muster_proto::ClusterAssignment::clone(&samples::cluster(Want::Stopped, true));
    let stamp = crate::reconcile::stamp_of(&stopped, &stopped.instances[1]);
    layout.instance(port(7001)).establish(&stamp, &files("12345", "678")).unwrap();
    let mut process = Process::spawn(&dir, std::path::Path::new("redis-server"), None, 1).unwrap();
    let began = Instant::now();
    let mut writer = loop {
        match Talk::connect(&dir.socket(), process.pid(), &[]).await {
            Ok(talk) => break talk,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for key in ["one", "two", "three"] {
        writer.tell(cmd("SET").arg(key).arg("x")).await.unwrap();
    }
    let writing = tokio::spawn(async move {
        while writer.tell(cmd("SET").arg("one").arg("y")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let cluster = samples::cluster(Want::Running, true);
    let appraisal = appraise(&layout, &cluster, Duration::from_millis(300)).await;
    let [running, down] = &appraisal.instances[..] else { panic!("{appraisal:?}") };
    assert_eq!((running.port, running.error.as_str(), running.keys), (7000, "", 3), "{running:?}");
    assert_eq!((running.role(), running.keeps.as_str()), (wire::Role::Master, "append-only file"));
    assert_eq!(running.clients, 0, "through the unix socket come only we");
    assert!(running.writes_millihertz > 1000 && running.writes_millihertz < 1_000_000, "{running:?}");
    assert_eq!(running.last_save_unix_ms, 0, "that it was started is no save");
    assert!(running.bytes > u64::try_from(conf.len()).unwrap() && appraisal.trash_error.is_empty(), "{appraisal:?}");
    assert_eq!(running.path, dir.path().display().to_string());
    assert_eq!((down.port, down.error.as_str(), down.keeps.as_str()), (7001, "no server runs there", ""));
    assert!(down.bytes > 8 && down.keys == 0);
    assert!(running.runs && !down.runs, "nobody writes to what does not run");
    Talk::connect(&dir.socket(), process.pid(), &[]).await.unwrap().tell(&cmd("SAVE")).await.unwrap();
    let saved = appraise(&layout, &cluster, Duration::from_millis(100)).await;
    assert!(saved.instances[0].last_save_unix_ms > 1_600_000_000_000, "{saved:?}");
    process.kill().unwrap();
    writing.await.unwrap();
    while process.reap().is_none() {
        tokio::task::yield_now().await;
    }
    std::fs::remove_dir_all(layout.instance(port(7001)).path()).unwrap();
    let gone = appraise(&layout, &cluster, Duration::from_millis(100)).await;
    assert_eq!(
        gone.instances[1].error,
        "its files cannot be counted: No such file or directory (os error 2); no server runs there"
    );
}
