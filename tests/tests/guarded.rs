//! What keeps a cluster from being rebuilt: clients that write to it, and somebody who has said that it may not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use muster_proto::failure::Reason;
use muster_tests::{
    Before, Data, Output, Status, World,
    api::{anew, back, blindly},
    eventually, lives,
};
use redis::cluster::ClusterClientBuilder;

const SOON: Duration = Duration::from_secs(60);
/// Between two writes.
const PACE: Duration = Duration::from_millis(5);

/// An application: it writes, and goes on when a write fails.
struct Application {
    enough: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Application {
    fn begin(status: &Status) -> Self {
        let seeds: Vec<_> = status.endpoints().into_iter().map(|endpoint| format!("redis://{endpoint}")).collect();
        let (enough, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (enough.clone(), written.clone());
        let thread = thread::spawn(move || {
            let client = ClusterClientBuilder::new(seeds).retries(1).build().unwrap();
            let mut connection = None;
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(PACE);
                let Some(open) = &mut connection else {
                    connection = client.get_connection().ok();
                    continue;
                };
                let nth = count.load(Ordering::Relaxed);
                match redis::cmd("SET").arg(format!("application:{}", nth % 1000)).arg(nth).exec(open) {
                    Ok(()) => count.store(nth + 1, Ordering::Relaxed),
                    Err(_) => connection = None,
                }
            }
        });
        let application = Self { enough, written, thread };
        application.until_more();
        application
    }

    /// Waits until it has written more than it had.
    fn until_more(&self) {
        let wanted = self.written.load(Ordering::Relaxed) + 50;
        eventually(SOON, "the application writes", || match self.written.load(Ordering::Relaxed) {
            count if count >= wanted => Ok(()),
            count => Err(format!("{count} of {wanted}")),
        });
    }

    fn end(self) {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let said = format!("{}{}", output.stdout, output.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not said\n{output}");
    }
}

#[test]
fn a_cluster_that_clients_write_to_is_rebuilt_only_when_that_is_said() {
    let world = World::seed();
    world.bootstrap("orders");
    let formed = lives::standing(&world, "orders");
    let data = Data::write(&formed, "old", 100);
    let mut api = world.api();
    // Approved is what was looked at, and it is looked at again.
    let quiet = eventually(SOON, "a plan that nothing speaks against", || {
        let plan = api.plan_rebuild(anew("orders")).map_err(|failure| failure.message)?;
        let fatal: Vec<_> = plan.findings.iter().filter(|finding| finding.code == "CLIENTS_WRITE").collect();
        if fatal.is_empty() { Ok(plan) } else { Err(format!("{fatal:?}")) }
    });
    let application = Application::begin(&formed);
    let late = api.approve(&quiet.hash, "late", "orders").unwrap_err();
    assert!(late.is(Reason::ClientsWrite) && late.message.contains("nothing was changed"), "{late:?}");
    assert!(late.hint.as_ref().unwrap().contains("--even-if-serving"), "{late:?}");

    let busy = api.plan_rebuild(anew("orders")).unwrap();
    let failure = api.approve(&busy.hash, "busy", "orders").unwrap_err();
    assert!(failure.is(Reason::ClientsWrite), "{failure:?}");
    let refused = world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(1);
    let again = "muster rebuild orders --even-if-serving";
    says(&refused, &["CLIENTS_WRITE", "clients write to server", again, "nothing was changed"]);
    let shown = world.muster(&["rebuild", "orders", "--dry-run", "--output", "json"]).expect(1).json();
    let doomed = shown["plan"]["rebuild"]["doomed"].as_array().unwrap();
    let written: u64 = doomed.iter().map(|one| one["writes_millihertz"].as_u64().unwrap()).sum();
    let clients: u64 = doomed.iter().map(|one| one["clients"].as_u64().unwrap()).sum();
    assert!(written > 1000 && clients > 0, "{shown}");
    let now = lives::standing(&world, "orders");
    assert_eq!((now.incarnation, now.node_ids()), (1, formed.node_ids()));
    assert_eq!(lives::all_trash(&world), []);
    application.until_more();

    world.muster(&["rebuild", "orders", "--even-if-serving", "--confirm", "orders"]).expect(0);
    let after = lives::standing(&world, "orders");
    assert_eq!(after.incarnation, 2);
    // The application finds the new life under the old addresses, and nothing of the old one.
    application.until_more();
    let refused = world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(1);
    says(&refused, &["CLIENTS_WRITE", "muster rebuild orders --undo --even-if-serving"]);
    application.end();
    eventually(SOON, "nobody writes any more", || {
        let undone = world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]);
        if undone.code == 0 { Ok(()) } else { Err(undone.to_string()) }
    });
    let again = lives::standing(&world, "orders");
    assert_eq!(again.incarnation, 1);
    data.is_there(&again);
    // Without the other host there are too few masters; but it is there, and that is the word.
    let needless = world.muster(&["rebuild", "orders", "--fence-missing", "server2", "--confirm", "orders"]).expect(1);
    says(&needless, &["server2 is there", "nothing was changed", "leave out --fence-missing server2"]);
}

#[test]
fn a_protected_cluster_is_not_rebuilt_whatever_is_typed() {
    let mut world = World::seed();
    world.bootstrap("orders");
    lives::until_latched(&world);
    let formed = lives::standing(&world, "orders");
    world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    let second = lives::standing(&world, "orders");
    lives::until_latched(&world);
    let mut api = world.api();
    let planned = api.plan_rebuild(anew("orders")).unwrap().hash;
    let said = world.muster(&["protect", "orders", "--output", "json"]).expect(0).json();
    assert_eq!((&said["protected"], &said["already"]), (&true.into(), &false.into()));
    assert_eq!(api.protect("orders", true), Ok(true), "it was so already");
    let status = world.status("orders").unwrap();
    assert!(status.protection.as_ref().unwrap().starts_with("it may not be rebuilt, said "), "{status:?}");
    says(&world.muster(&["status", "orders"]), &["Protected", "it may not be rebuilt"]);

    let before = Before::of(&world);
    let spec = world.spec("orders", 0, "");
    let server2 = world.muster(&["hosts", "--output", "json"]).expect(0).json()["hosts"][1]["name"].clone();
    for more in [
        vec!["--confirm", "orders"],
        vec!["--dry-run"],
        vec!["--even-if-serving", "--confirm", "orders"],
        vec!["--undo", "--confirm", "orders"],
        vec!["--undo", "--even-if-serving", "--confirm", "orders"],
        vec!["--file", &spec, "--confirm", "orders"],
        vec!["--fence-missing", server2.as_str().unwrap(), "--even-if-serving", "--confirm", "orders"],
    ] {
        let refused = world.muster(&[&["rebuild", "orders"], &more[..]].concat()).expect(1);
        says(&refused, &["is protected", "muster unprotect orders", "nothing was changed"]);
    }
    for request in [anew("orders"), back("orders")] {
        let refused = api.plan_rebuild(request).unwrap_err();
        assert!(refused.is(Reason::Protected), "{refused:?}");
    }
    let refused = api.approve(&planned, "planned before", "orders").unwrap_err();
    assert!(refused.is(Reason::Protected), "{refused:?}");
    before.still(&world, "what protection refuses");
    // Whoever is restarted.
    world.coordinator().restart();
    world.until_host("server1", "live");
    world.until_host("server2", "live");
    assert!(world.api().plan_rebuild(anew("orders")).unwrap_err().is(Reason::Protected));
    assert_eq!(lives::standing(&world, "orders").node_ids(), second.node_ids());

    world.muster(&["unprotect", "orders"]).expect(0);
    assert_eq!(world.status("orders").unwrap().protection, None);
    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    assert_eq!(lives::standing(&world, "orders").node_ids(), formed.node_ids());
    let audit = world.muster(&["audit"]).expect(0);
    says(&audit, &["cluster orders may not be rebuilt", "cluster orders may be rebuilt again"]);
    world.muster(&["protect", "carts"]).expect(1);
}

/// Everything would be stopped, and nothing could be moved.
#[test]
fn where_nothing_can_be_set_aside_nothing_is_stopped() {
    let world = World::seed();
    world.bootstrap("orders");
    lives::until_latched(&world);
    let formed = lives::standing(&world, "orders");
    let data = Data::write(&formed, "old", 100);
    let mut api = world.api();
    let planned = api.plan_rebuild(blindly(anew("orders"))).unwrap().hash;
    let trash = world.base_dir("server2").join(".trash");
    fs::remove_dir(&trash).unwrap();
    fs::write(&trash, "what somebody has put there").unwrap();
    let refused = world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(1);
    says(&refused, &["TRASH_UNUSABLE", &trash.display().to_string(), "on server2", "nothing was changed"]);
    let late = api.approve(&planned, "late", "orders").unwrap_err();
    assert!(late.is(Reason::PreflightFailed) && late.message.contains("nothing was changed"), "{late:?}");
    assert_eq!(lives::standing(&world, "orders").node_ids(), formed.node_ids());
    data.is_there(&formed);
    // One that is missing is made: whoever tidies up does no harm.
    fs::remove_file(&trash).unwrap();
    world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    lives::are(&lives::of_life(&lives::all_trash(&world), 1), &formed);
}
