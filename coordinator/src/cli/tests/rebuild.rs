//! `muster rebuild`, `trash`, `protect`, `unprotect` against the fake.

use muster_proto::wire::{Plan, PurgeTrashResponse, SetProtectionResponse};

use super::*;
use crate::render::{
    rebuild::tests::{again, undo},
    trash::tests as trash,
};

/// A world in which that plan can be applied, and ends well.
fn world(plan: Plan) -> World {
    use OperationState::{Done, Running};
    let world = World::new();
    {
        let kind = if plan.rebuild.as_ref().is_some_and(|rebuild| rebuild.undo) { "undo" } else { "rebuild" };
        let running = Operation { kind: kind.into(), phase: "FENCE".into(), ..running() };
        let mut script = world.fake.script();
        script.rebuild = Some(Ok(PlanResponse { plan: Some(plan), existing: None }));
        script.apply = [Ok(running)].into();
        script.streams = [vec![
            event(1, "FENCE", Running, 4, "server2:7004 saves"),
            event(2, "WIPE", Running, 6, ""),
            event(3, "FORMED", Done, 6, "formed at incarnation 2"),
        ]]
        .into();
        script.operations = [Ok(Operation { kind: kind.into(), ..done() })].into();
    }
    world
}

/// Without the plan, which has goldens of its own.
fn tail(ran: Ran) -> Ran {
    let out = ran.out.split_once("sysctl -w net.core.somaxconn=1024\n").map(|(_, tail)| tail.to_owned());
    Ran { out: out.unwrap(), ..ran }
}

fn fatal(mut plan: Plan) -> Plan {
    plan.findings.push(Finding {
        severity: Severity::Fatal.into(),
        code: "CLIENTS_WRITE".into(),
        host: "server1".into(),
        subject: "port 7000".into(),
        message: "3 clients write 240 times a second".into(),
        cure: "stop them, or say --even-if-serving".into(),
    });
    plan
}

#[tokio::test]
async fn a_rebuild_is_shown_confirmed_and_followed() {
    let world = world(again());
    check(
        &tail(world.typed("rebuild orders", "orders\n").await),
        expect![[r#"
            --- stdout

            [OK] All nodes agree about slots configuration.
            [OK] All 16384 slots covered.
            [OK] Every master took a write, every replica is in sync.
            Cluster orders is formed: PREFLIGHT 0.12 s, CONFIGURE 0.06 s, START 0.19 s, VERIFY 2.04 s; 2.41 s in all.
            --- stderr
            Total: 6 directories, 7.2 GiB; 3600000 keys on 3 masters, 9 clients, 721 writes/s
            All 6 instances of orders are stopped, then their directories are renamed into .trash on their hosts, and a new, empty cluster is formed. Clients are cut off until it is formed.
            Until the first directory moves it can be called off (muster op cancel); afterwards it can be undone (muster rebuild orders --undo).
            Type orders to go on: operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
            FENCE 4/6: server2:7004 saves
            WIPE 6/6
            FORMED 6/6 [done]: formed at incarnation 2
            look at it: muster status orders; what was set aside: muster trash orders; have incarnation 1 back: muster rebuild orders --undo
            --- exit 0
        "#]],
    );
    let asked = world.asked();
    assert_eq!(
        asked[0],
        "PlanRebuildRequest { cluster: \"orders\", spec: None, fence_missing: [], undo: false, even_if_serving: false \
         } to None"
    );
    let apply: Vec<_> = asked[1].split(' ').collect();
    assert_eq!((apply[0], apply[1].len(), apply[3]), ("apply", 64, "orders"), "the name that was typed goes along");
    assert!(asked[2].starts_with("watch 0"));
}

#[tokio::test]
async fn a_script_confirms_on_the_line_and_reads_one_document() {
    let world = world(again());
    let ran = world.run("rebuild orders --confirm orders --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["operation"]["kind"]), (0, &"rebuild".into()));
    assert_eq!(document["plan"]["rebuild"]["doomed"][0]["path"], "/var/lib/muster/7000");
    assert!(ran.err.starts_with(">>> Rebuild of cluster orders"), "whoever watches sees it: {}", ran.err);
}

#[tokio::test]
async fn another_name_is_refused_and_nothing_was_changed() {
    let world = world(again());
    check(
        &world.run("rebuild orders --undo --confirm payments").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: --confirm says payments, and this is about orders
             hint: look at what would be done: muster rebuild orders --undo --dry-run
        nothing was changed
        --- exit 64
    "#]],
    );
    check(
        &world.run("rebuild orders --even-if-serving").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: there is no terminal to type orders on
             hint: look first (muster rebuild orders --even-if-serving --dry-run), then: muster rebuild orders --even-if-serving --confirm orders
        nothing was changed
        --- exit 64
    "#]],
    );
    std::fs::write(world.dir.path().join("cluster.toml"), SPEC.replace("orders", "payments")).unwrap();
    check(
        &world.run("rebuild orders --file FILE --confirm orders").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: the spec is of cluster payments, and this is about orders
             hint: a rebuild keeps the name; name the cluster that you mean, or its own spec
        nothing was changed
        --- exit 64
    "#]],
    );
    assert_eq!(world.asked(), Vec::<String>::new(), "nothing was asked of the coordinator");
    check(
        &tail(world.typed("rebuild orders", "yes\n").await),
        expect![[r#"
            --- stdout

            --- stderr
            Total: 6 directories, 7.2 GiB; 3600000 keys on 3 masters, 9 clients, 721 writes/s
            All 6 instances of orders are stopped, then their directories are renamed into .trash on their hosts, and a new, empty cluster is formed. Clients are cut off until it is formed.
            Until the first directory moves it can be called off (muster op cancel); afterwards it can be undone (muster rebuild orders --undo).
            Type orders to go on: error: the name of orders was not typed
            nothing was changed
            --- exit 1
        "#]],
    );
    assert!(world.asked().iter().all(|asked| !asked.starts_with("apply")));
    let ran = world.typed("rebuild orders --output json", "\n").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["operation"]), (1, &serde_json::Value::Null));
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let world = world(again());
    let ran = world.run("rebuild orders --fence-missing server3 --fence-missing server4 --dry-run").await;
    assert!(ran.out.contains("server1:7000  7000abcd  master"), "{}", ran.out);
    check(
        &tail(ran),
        expect![[r#"
        --- stdout
        --- stderr
        nothing was changed; to do it: muster rebuild orders --fence-missing server3 --fence-missing server4
        --- exit 0
    "#]],
    );
    let ran = world.run("rebuild orders --file FILE --dry-run --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&document["operation"], ran.code), (&serde_json::Value::Null, 0));
    assert_eq!(document["plan"]["rebuild"]["becomes"], 2);
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    let asked = world.asked();
    assert!(asked[0].contains("fence_missing: [\"server3\", \"server4\"]"), "{}", asked[0]);
    assert!(asked[1].ends_with("to Some(\"orders\")"), "{}", asked[1]);
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn fatal_findings_stop_a_rebuild_before_the_name_is_asked_for() {
    let world = world(fatal(again()));
    let ran = world.typed("rebuild orders", "orders\n").await;
    check(
        &Ran { out: String::new(), ..ran },
        expect![[r#"
        --- stdout
        --- stderr
        error: the plan for orders has 1 fatal finding
             hint: apply the cures above and run it again
        nothing was changed
        --- exit 1
    "#]],
    );
    let ran = world.run("rebuild orders --dry-run").await;
    assert!(ran.code == 1 && ran.out.contains("[FATAL] CLIENTS_WRITE: server1 port 7000"), "{}", ran.all());
    assert!(world.asked().iter().all(|asked| asked.starts_with("PlanRebuild")));
}

#[tokio::test]
async fn an_undo_goes_the_same_way() {
    let world = world(undo());
    let ran = world.typed("rebuild orders --undo", "orders\n").await;
    assert!(ran.out.starts_with(">>> Undo of the rebuild of orders: incarnation 2 ends, incarnation 1 comes back"));
    check(
        &tail(ran),
        expect![[r#"
            --- stdout

            [OK] All nodes agree about slots configuration.
            [OK] All 16384 slots covered.
            [OK] Every master took a write, every replica is in sync.
            Cluster orders is what it was before its rebuild: PREFLIGHT 0.12 s, CONFIGURE 0.06 s, START 0.19 s, VERIFY 2.04 s; 2.41 s in all.
            --- stderr
            Total: 2 directories, 2.4 GiB; 2400000 keys on 2 masters, 6 clients, 480 writes/s
            All 2 instances of orders are stopped, then their directories are renamed into .trash on their hosts, and incarnation 1 is put back with the data that it had. Clients are cut off until it is formed.
            Until the first directory moves it can be called off (muster op cancel); afterwards it can be undone (muster rebuild orders --undo).
            Type orders to go on: operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
            FENCE 4/6: server2:7004 saves
            WIPE 6/6
            FORMED 6/6 [done]: formed at incarnation 2
            look at it: muster status orders; what was set aside: muster trash orders; have incarnation 2 back: muster rebuild orders --undo
            --- exit 0
        "#]],
    );
    assert!(world.asked()[0].contains("undo: true"));
}

#[tokio::test]
async fn refusals_are_the_coordinators_and_say_what_to_type() {
    let world = world(again());
    let busy = Failure::new(Reason::OperationBusy, "operation 42 rebuilds orders").hint("muster op watch 42");
    world.fake.script().rebuild = Some(Err(busy.into()));
    check(
        &world.run("rebuild orders --confirm orders").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: looking ahead at rebuilding orders was refused
          because: operation 42 rebuilds orders
             hint: muster op watch 42
        nothing was changed
        --- exit 1
    "#]],
    );
    world.fake.script().rebuild = Some(Ok(PlanResponse { plan: Some(again()), existing: None }));
    let second = Failure::new(Reason::SecondPersonNeeded, "to rebuild orders takes a second person")
        .hint("somebody else with the role destroyer: muster second 4f7k2m; then repeat this");
    world.fake.script().apply = [Err(second.into())].into();
    check(
        &tail(world.run("rebuild orders --confirm orders").await),
        expect![[r#"
        --- stdout

        --- stderr
        error: rebuilding orders was refused
          because: to rebuild orders takes a second person
             hint: somebody else with the role destroyer: muster second 4f7k2m; then repeat this
        nothing was changed
        --- exit 1
    "#]],
    );
}

#[tokio::test]
async fn one_that_is_stuck_says_what_still_takes_it_back() {
    use OperationState::{Cancelled, NeedsOperator};
    let world = world(again());
    let stuck = |state: OperationState, phase: &str| Operation {
        kind: "rebuild".into(),
        state: state.into(),
        phase: phase.into(),
        message: "server2:7004: the lock is held".into(),
        ..done()
    };
    for (operation, expected) in [
        (
            stuck(NeedsOperator, "FENCE"),
            expect![[r#"
            --- stdout
            --- stderr
            operation 0199a2b4-0000-7000-8000-000000000001 needs an operator
              because: server2:7004: the lock is held
                 hint: put it right, then: muster op watch 0199a2b4-0000-7000-8000-000000000001; or: muster op cancel 0199a2b4-0000-7000-8000-000000000001
            --- exit 1
        "#]],
        ),
        (
            stuck(NeedsOperator, "CONFIGURE"),
            expect![[r#"
            --- stdout
            --- stderr
            operation 0199a2b4-0000-7000-8000-000000000001 needs an operator
              because: server2:7004: the lock is held
                 hint: put it right, then: muster op watch 0199a2b4-0000-7000-8000-000000000001; or: muster rebuild orders --undo
            --- exit 1
        "#]],
        ),
        (
            stuck(Cancelled, "RETURN"),
            expect![[r#"
            --- stdout
            --- stderr
            operation 0199a2b4-0000-7000-8000-000000000001 was cancelled
              because: server2:7004: the lock is held
                 hint: muster op show 0199a2b4-0000-7000-8000-000000000001
            --- exit 1
        "#]],
        ),
    ] {
        world.fake.script().operations = [Ok(operation)].into();
        let ran = world.run("rebuild orders --confirm orders").await;
        let err = ran.err.split_once("error: ").unwrap().1.to_owned();
        check(&Ran { out: String::new(), err, ..ran }, expected);
    }
}

#[tokio::test]
async fn an_interruption_of_a_rebuild_says_that_it_goes_on() {
    let world = world(again());
    world.fake.script().operations = [Ok(running())].into();
    world.fake.script().streams = [vec![event(1, "WIPE", OperationState::Running, 2, "")], vec![]].into();
    let ran = world.run_until("rebuild orders --confirm orders", world.until("watch", 3)).await;
    check(
        &tail(ran),
        expect![[r#"
        --- stdout

        --- stderr
        operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
        WIPE 2/6

        interrupted
        the operation goes on without this command; watch on with: muster op watch 0199a2b4-0000-7000-8000-000000000001
        --- exit 130
    "#]],
    );
}

#[tokio::test]
async fn the_trash_is_listed_with_who_was_not_heard() {
    let world = World::new();
    world.fake.script().trash = trash::two_lives();
    let ran = world.run("trash").await;
    assert!(ran.code == 0 && ran.out.contains("muster rebuild orders --undo"), "{}", ran.all());
    world.fake.script().trash.unknown = vec!["server3 does not answer".into()];
    let ran = world.run("trash orders --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["unknown"][0]), (1, &"server3 does not answer".into()));
    assert_eq!(document["entries"][1]["undoable"], true);
    assert_eq!(world.run("trash orders purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f").await.code, 64);
    assert_eq!(world.asked(), ["ListTrashRequest { cluster: \"\" }", "ListTrashRequest { cluster: \"orders\" }"]);
}

#[tokio::test]
async fn what_is_purged_is_shown_and_its_clusters_name_typed() {
    let world = World::new();
    let entries = trash::two_lives().entries;
    world.fake.script().purge = PurgeTrashResponse { purged: entries[1..2].to_vec(), errors: vec![] };
    world.fake.script().trash = trash::two_lives();
    let line = format!("trash purge --cluster-id {} --incarnation 2 --host server1", trash::ID);
    check(
        &world.run(&line).await,
        expect![[r#"
        --- stdout
        --- stderr
        error: there is no terminal to type the cluster's name on
             hint: look first (muster trash), then: muster trash purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f --incarnation 2 --host server1 --confirm CLUSTER
        nothing was changed
        --- exit 64
    "#]],
    );
    assert_eq!(world.asked(), Vec::<String>::new());
    check(
        &world.run(&format!("{line} --confirm payments")).await,
        expect![[r#"
            --- stdout
            INSTANCE      CLUSTER  INCARNATION  NODE      SIZE     SET ASIDE             UNTIL                 DIRECTORY
            server1:7000  orders   2            7000abcd  1.2 GiB  2026-11-22T22:00:07Z  2026-11-29T22:00:00Z  .trash/7000-orders-7000abcd-life2

            --- stderr
            error: --confirm says payments, and this is about orders
                 hint: muster trash purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f --incarnation 2 --host server1 --confirm orders
            nothing was changed
            --- exit 64
        "#]],
    );
    check(
        &world.typed(&line, "orders\n").await,
        expect![[r#"
            --- stdout
            INSTANCE      CLUSTER  INCARNATION  NODE      SIZE     SET ASIDE             UNTIL                 DIRECTORY
            server1:7000  orders   2            7000abcd  1.2 GiB  2026-11-22T22:00:07Z  2026-11-29T22:00:00Z  .trash/7000-orders-7000abcd-life2

            1 directory of 1.2 GiB deleted
            --- stderr
            This deletes 1 directory of 1.2 GiB for good; there is no way back. The last rebuild of this cluster cannot be undone any more then.
            Type orders to go on: --- exit 0
        "#]],
    );
    let purge = format!("PurgeTrashRequest {{ cluster_id: \"{}\", incarnation: 2, host: \"server1\" }}", trash::ID);
    assert_eq!(world.asked()[2..], [purge]);
    world.fake.script().purge.errors = vec!["server1: 7000-orders: Permission denied".into()];
    let ran = world.run(&format!("{line} --confirm orders --output json")).await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["purged"][0]["port"]), (1, &7000.into()));
}

#[tokio::test]
async fn nothing_to_purge_is_no_failure() {
    let world = World::new();
    check(
        &world.run(&format!("trash purge --cluster-id {} --confirm orders", trash::ID)).await,
        expect![[r#"
        --- stdout
        There is nothing like that in the trash.
        --- stderr
        nothing was changed
        --- exit 0
    "#]],
    );
    assert_eq!(world.asked(), ["ListTrashRequest { cluster: \"\" }"]);
}

#[tokio::test]
async fn a_cluster_is_protected_and_not() {
    let world = World::new();
    let mut said = String::new();
    for line in ["protect orders", "unprotect orders", "protect orders --output json"] {
        said += &world.run(line).await.all();
        world.fake.script().protection = SetProtectionResponse { already: line.starts_with("un") };
    }
    expect![[r#"
        --- stdout
        cluster orders is protected; to take that back: muster unprotect orders
        --- stderr
        --- exit 0
        --- stdout
        cluster orders is not protected any more; to protect it: muster protect orders
        --- stderr
        --- exit 0
        --- stdout
        {
          "cluster": "orders",
          "protected": true,
          "already": true
        }
        --- stderr
        --- exit 0
    "#]]
    .assert_eq(&said);
    assert_eq!(world.asked()[1], "SetProtectionRequest { cluster: \"orders\", protected: false }");
}
