//! Whole commands against a coordinator of a test, and against none.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser as _;
use expect_test::{Expect, expect};
use muster_proto::{
    failure::{Failure, Reason},
    wire::{
        CheckResponse, ExistingCluster, Finding, Operation, OperationEvent, OperationState, PlanResponse, Severity,
    },
};
use tonic::Status;

use super::{fake::Fake, *};
use crate::render::{
    operation::tests::{ID, done},
    plan::tests::two_hosts,
    status::tests::healthy,
};

mod errors;
mod https;
mod rebuild;
mod trust;

const SPEC: &str = "name = \"orders\"\n[[hosts]]\nname = \"server1\"\nports = [\"7000-7005\"]\n";

/// A writer that a test can read.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        anstream::adapter::strip_str(&String::from_utf8_lossy(&self.0.lock().unwrap())).to_string()
    }
}

struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    fn all(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}--- exit {}\n", self.out, self.err, self.code)
    }
}

struct World {
    fake: Fake,
    dir: tempfile::TempDir,
    endpoint: String,
}

impl World {
    fn new() -> Self {
        let (fake, dir) = (Fake::default(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("cluster.toml"), SPEC).unwrap();
        let endpoint = fake.serve(&dir);
        Self { fake, dir, endpoint }
    }

    async fn run(&self, line: &str) -> Ran {
        self.run_until(line, std::future::pending()).await
    }

    /// `FILE` stands for the spec.
    async fn run_until(&self, line: &str, interrupt: impl Future<Output = ()>) -> Ran {
        let line = format!("muster --endpoint {} {line}", self.endpoint);
        self.whole(&line, |console| console, interrupt).await
    }

    /// Somebody sits there and types that.
    async fn typed(&self, line: &str, input: &'static str) -> Ran {
        let line = format!("muster --endpoint {} {line}", self.endpoint);
        let sit = |mut console: Console| {
            console.asks = true;
            console.reading(Arc::new(Mutex::new(input.as_bytes())))
        };
        self.whole(&line, sit, std::future::pending()).await
    }

    /// The whole line.
    async fn whole(
        &self,
        line: &str,
        sit: impl FnOnce(Console) -> Console,
        interrupt: impl Future<Output = ()>,
    ) -> Ran {
        let file = self.dir.path().join("cluster.toml").display().to_string();
        let args = Args::try_parse_from(line.replace("FILE", &file).split_whitespace()).unwrap();
        let (out, err) = (Page::default(), Page::default());
        let console = sit(Console::to(Box::new(out.clone()), Box::new(err.clone())));
        let code = drive(args, console, Duration::from_secs(1), interrupt).await;
        let clean = |page: &Page| page.text().replace(&file, "FILE").replace(&self.endpoint, "ENDPOINT");
        Ran { code, out: clean(&out), err: clean(&err) }
    }

    /// Until that was asked so many times.
    async fn until(&self, what: &str, times: usize) {
        while self.asked().iter().filter(|asked| asked.starts_with(what)).count() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn asked(&self) -> Vec<String> {
        self.fake.script().asked.clone()
    }
}

fn event(seq: u64, phase: &str, state: OperationState, done: u32, message: &str) -> Result<OperationEvent, Status> {
    Ok(OperationEvent {
        seq,
        operation_id: ID.into(),
        unix_ms: 1_795_384_800_000 + seq,
        phase: phase.into(),
        state: state.into(),
        message: message.into(),
        done,
        total: 6,
    })
}

fn running() -> Operation {
    Operation { state: OperationState::Running.into(), phases: vec![], ended_unix_ms: 0, ..done() }
}

fn planned() -> Option<Result<PlanResponse, Status>> {
    Some(Ok(PlanResponse { plan: Some(two_hosts()), existing: None }))
}

fn check(ran: &Ran, expected: Expect) {
    expected.assert_eq(&ran.all());
}

#[tokio::test]
async fn a_bootstrap_survives_a_lost_answer_and_a_broken_stream() {
    use OperationState::{Done, Running};
    let world = World::new();
    {
        let mut script = world.fake.script();
        script.plan = planned();
        script.apply = [Err(Status::unavailable("connection reset")), Ok(running())].into();
        script.streams = [
            vec![
                event(1, "CONFIGURE", Running, 0, ""),
                event(2, "START", Running, 4, "server2:7004 is starting"),
                Err(Status::unknown("h2 protocol error")),
            ],
            vec![
                event(2, "START", Running, 4, "server2:7004 is starting"),
                event(3, "VERIFY", Running, 6, ""),
                event(4, "FORMED", Done, 6, "formed at incarnation 1"),
            ],
        ]
        .into();
        script.operations = [Err(Status::unavailable("restarting")), Ok(done())].into();
    }
    let ran = world.run("bootstrap FILE --yes").await;
    let tail = Ran { out: ran.out.split_once("[WARN]").map(|(_, tail)| tail.to_owned()).unwrap_or_default(), ..ran };
    check(
        &tail,
        expect![[r#"
            --- stdout
              SOMAXCONN: server1 net.core.somaxconn: it is 128, below the backlog of 511
                    cure: sysctl -w net.core.somaxconn=1024

            [OK] All nodes agree about slots configuration.
            [OK] All 16384 slots covered.
            [OK] Every master took a write, every replica is in sync.
            Cluster orders is formed: PREFLIGHT 0.12 s, CONFIGURE 0.06 s, START 0.19 s, VERIFY 2.04 s; 2.41 s in all.
            --- stderr
            operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
            CONFIGURE 0/6
            START 4/6: server2:7004 is starting
            the coordinator does not answer; its operation is on disk and goes on when it returns; waiting
            VERIFY 6/6
            FORMED 6/6 [done]: formed at incarnation 1
            look at it: muster status orders; try it: muster smoke orders
            Clients log in: muster credentials orders
            --- exit 0
        "#]],
    );
    let asked = world.asked();
    let applies: Vec<_> = asked.iter().filter(|asked| asked.starts_with("apply")).collect();
    assert_eq!(applies.len(), 2);
    assert_eq!(applies[0], applies[1], "the same request, with the same id");
    let watches: Vec<_> = asked.iter().filter(|asked| asked.starts_with("watch")).collect();
    assert_eq!(watches, ["watch 0", "watch 2"]);
}

#[tokio::test]
async fn a_bootstrap_is_one_document() {
    let world = World::new();
    {
        let mut script = world.fake.script();
        script.plan = planned();
        script.apply = [Ok(running())].into();
        script.operations = [Ok(done())].into();
    }
    let ran = world.run("bootstrap FILE --yes --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.code, 0);
    assert_eq!(document["operation"]["state"], "done");
    assert_eq!(document["operation"]["phases"][0]["phase"], "CONFIGURE");
    assert_eq!(document["plan"]["masters"], 3);
}

#[tokio::test]
async fn without_a_terminal_a_yes_is_needed_before_anything_is_asked() {
    let world = World::new();
    check(
        &world.run("bootstrap FILE").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: there is no terminal to ask for your `yes` on
             hint: look at the plan first (muster plan FILE), then: muster bootstrap FILE --yes
        nothing was changed
        --- exit 64
    "#]],
    );
    assert_eq!(world.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn fatal_findings_stop_a_bootstrap_before_it_is_applied() {
    let world = World::new();
    let finding = Finding {
        severity: Severity::Fatal.into(),
        code: "PORT_TAKEN".into(),
        host: "server1".into(),
        subject: "port 7000".into(),
        message: "pid 4711 (nginx)\u{1b}[31m has it".into(),
        cure: "stop it, or choose other ports".into(),
    };
    let plan = muster_proto::wire::Plan { shards: vec![], losses: vec![], findings: vec![finding], ..two_hosts() };
    world.fake.script().plan = Some(Ok(PlanResponse { plan: Some(plan), existing: None }));
    check(
        &world.run("bootstrap FILE --yes").await,
        expect![[r#"
            --- stdout
            >>> Plan for cluster orders: nothing can be placed; preflight took 0.12 s

            Advice: to survive the loss of any one host, add one host with at least 2 ports

            [FATAL] PORT_TAKEN: server1 port 7000: pid 4711 (nginx)?[31m has it
                    cure: stop it, or choose other ports

            --- stderr
            error: the plan for orders has 1 fatal finding
                 hint: apply the cures above and run it again
            nothing was changed
            --- exit 1
        "#]],
    );
    let ran = world.run("bootstrap FILE --yes --output json").await;
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["operation"]), (1, &serde_json::Value::Null));
    assert_eq!(document["plan"]["findings"][0]["code"], "PORT_TAKEN");
    assert_eq!(world.run("plan FILE").await.code, 1);
    assert!(world.asked().iter().all(|asked| asked == "plan orders"));
}

#[tokio::test]
async fn a_spec_that_is_formed_already_is_no_failure() {
    let world = World::new();
    let existing = ExistingCluster { name: "orders".into(), formed: true, operation_id: ID.into() };
    world.fake.script().plan = Some(Ok(PlanResponse { plan: None, existing: Some(existing) }));
    check(
        &world.run("bootstrap FILE --yes").await,
        expect![[r#"
        --- stdout
        cluster orders is already formed from this spec; nothing was changed
        --- stderr
        --- exit 0
    "#]],
    );
}

#[tokio::test]
async fn a_spec_that_is_being_formed_is_watched() {
    let world = World::new();
    {
        let mut script = world.fake.script();
        let existing = ExistingCluster { name: "orders".into(), formed: false, operation_id: ID.into() };
        script.plan = Some(Ok(PlanResponse { plan: None, existing: Some(existing) }));
        script.streams = [vec![event(4, "FORMED", OperationState::Done, 6, "")]].into();
        script.operations = [Ok(done())].into();
    }
    check(
        &world.run("bootstrap FILE --yes").await,
        expect![[r#"
            --- stdout
            [OK] All nodes agree about slots configuration.
            [OK] All 16384 slots covered.
            [OK] Every master took a write, every replica is in sync.
            Cluster orders is formed: CONFIGURE 0.06 s, START 0.19 s, VERIFY 2.04 s; 2.29 s in all.
            --- stderr
            cluster orders is being formed from this spec by operation 0199a2b4-0000-7000-8000-000000000001; watching it
            operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
            FORMED 6/6 [done]
            look at it: muster status orders; try it: muster smoke orders
            Clients log in: muster credentials orders
            --- exit 0
        "#]],
    );
}

#[tokio::test]
async fn a_stale_plan_is_refused_and_nothing_was_changed() {
    let world = World::new();
    {
        let mut script = world.fake.script();
        script.plan = planned();
        script.apply = [Err(Failure::new(Reason::PlanStale, "server1: port 7000 was free and is taken").into())].into();
    }
    let ran = world.run("bootstrap FILE --yes").await;
    check(
        &Ran { out: String::new(), ..ran },
        expect![[r#"
        --- stdout
        --- stderr
        error: forming cluster orders was refused
          because: server1: port 7000 was free and is taken
             hint: plan anew by running the same command again
        nothing was changed
        --- exit 1
    "#]],
    );
}

#[tokio::test]
async fn an_operation_that_needs_an_operator_says_what_to_type() {
    use OperationState::{NeedsOperator, Running};
    let world = World::new();
    let stuck = Operation {
        state: NeedsOperator.into(),
        message: "server2:7004: redis.conf: Bad directive".into(),
        ..running()
    };
    {
        let mut script = world.fake.script();
        // An old stop that was resolved is passed over; the one that holds ends the watching.
        script.streams = [
            vec![event(1, "START", Running, 0, ""), event(2, "START", NeedsOperator, 5, "an old stop")],
            vec![event(3, "START", Running, 5, "resumed"), event(4, "START", NeedsOperator, 5, "Bad directive")],
        ]
        .into();
        script.operations = [Ok(running()), Ok(running()), Ok(stuck)].into();
    }
    check(
        &world.run(&format!("op watch {ID}")).await,
        expect![[r#"
            --- stdout
            START 0/6
            START 5/6 [needs_operator]: an old stop
            START 5/6: resumed
            START 5/6 [needs_operator]: Bad directive
            --- stderr
            error: operation 0199a2b4-0000-7000-8000-000000000001 needs an operator
              because: server2:7004: redis.conf: Bad directive
                 hint: put it right, then: muster op watch 0199a2b4-0000-7000-8000-000000000001; or: muster op cancel 0199a2b4-0000-7000-8000-000000000001
            --- exit 1
        "#]],
    );
}

#[tokio::test]
async fn an_interruption_ends_the_watching_and_not_the_work() {
    let world = World::new();
    {
        let mut script = world.fake.script();
        script.plan = planned();
        script.apply = [Ok(running())].into();
        script.streams = [vec![event(1, "CONFIGURE", OperationState::Running, 0, "")], vec![]].into();
        script.operations = [Ok(running())].into();
    }
    // The stream ends and comes back empty until the interruption.
    let ran = world.run_until("bootstrap FILE --yes", world.until("watch", 3)).await;
    check(
        &Ran { out: String::new(), ..ran },
        expect![[r#"
            --- stdout
            --- stderr
            operation 0199a2b4-0000-7000-8000-000000000001 (Ctrl-C stops watching, not the work)
            CONFIGURE 0/6

            interrupted
            the operation goes on without this command; watch on with: muster op watch 0199a2b4-0000-7000-8000-000000000001
            --- exit 130
        "#]],
    );
}

#[tokio::test]
async fn an_interruption_before_anything_was_asked_changes_nothing() {
    let world = World::new();
    check(
        &world.run_until("bootstrap FILE --yes", std::future::ready(())).await,
        expect![[r#"
        --- stdout
        --- stderr

        interrupted
        nothing was changed
        --- exit 130
    "#]],
    );
    check(
        &world.run_until("hosts", std::future::ready(())).await,
        expect![[r#"
        --- stdout
        --- stderr

        interrupted
        --- exit 130
    "#]],
    );
}

#[tokio::test]
async fn a_coordinator_that_stays_away_is_given_up() {
    let world = World::new();
    {
        let mut script = world.fake.script();
        script.streams = [vec![Err(Status::unavailable("restarting"))]].into();
        script.operations = [Ok(running()), Err(Status::unavailable("restarting"))].into();
    }
    check(
        &world.run(&format!("op watch {ID}")).await,
        expect![[r#"
            --- stdout
            --- stderr
            the coordinator does not answer; waiting for it
            error: the coordinator has been gone for 1 s
                 hint: is muster-coordinator running? systemctl status muster-coordinator; or pass --endpoint
            the operation goes on without this command; watch on with: muster op watch 0199a2b4-0000-7000-8000-000000000001
            --- exit 2
        "#]],
    );
}
