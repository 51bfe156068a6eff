//! Commands that are refused, cut off, or asked of nobody.

use super::*;

#[tokio::test]
async fn a_coordinator_that_is_not_there_is_said_with_the_cure() {
    let mut world = World::new();
    world.endpoint = "unix:/nonexistent/admin.sock".into();
    check(
        &world.run("hosts").await,
        expect![[r#"
            --- stdout
            --- stderr
            error: cannot reach the coordinator at ENDPOINT
              because: No such file or directory (os error 2)
                 hint: is muster-coordinator running? systemctl status muster-coordinator; or pass --endpoint
            --- exit 2
        "#]],
    );
    check(
        &world.run("bootstrap FILE --yes").await,
        expect![[r#"
            --- stdout
            --- stderr
            error: cannot reach the coordinator at ENDPOINT
              because: No such file or directory (os error 2)
                 hint: is muster-coordinator running? systemctl status muster-coordinator; or pass --endpoint
            nothing was changed
            --- exit 2
        "#]],
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.endpoint = format!("http://{free}");
    check(
        &world.run("status").await,
        expect![[r#"
            --- stdout
            --- stderr
            error: cannot reach the coordinator at ENDPOINT
              because: tcp connect error
              because: Connection refused (os error 111)
                 hint: is muster-coordinator running? systemctl status muster-coordinator; or pass --endpoint
            --- exit 2
        "#]],
    );
}

#[tokio::test]
async fn something_else_that_listens_there_is_not_taken_for_a_coordinator() {
    let mut world = World::new();
    let path = world.dir.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    world.endpoint = format!("unix:{}", path.display());
    let ran = world.run("hosts").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
}

#[tokio::test]
async fn a_spec_that_is_not_right_is_bad_usage() {
    let world = World::new();
    std::fs::write(world.dir.path().join("cluster.toml"), SPEC.replace("hosts", "host")).unwrap();
    check(
        &world.run("plan FILE").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: the spec FILE is not right
          because: line 2: host: unknown key
             hint: did you mean `hosts`?
        --- exit 64
    "#]],
    );
    check(
        &world.run("bootstrap /nonexistent.toml --yes").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: cannot read the spec /nonexistent.toml
          because: No such file or directory (os error 2)
             hint: muster plan --help shows a whole spec
        nothing was changed
        --- exit 64
    "#]],
    );
}

#[tokio::test]
async fn refusals_carry_the_coordinators_hint() {
    let world = World::new();
    let refusal = Failure::new(Reason::UnknownOperation, "there is no operation 42").hint("muster ops");
    world.fake.script().operations = [Err(refusal.into())].into();
    check(
        &world.run("op cancel 42").await,
        expect![[r#"
        --- stdout
        --- stderr
        error: cancelling operation 42 was refused
          because: there is no operation 42
             hint: muster ops
        nothing was changed
        --- exit 1
    "#]],
    );
}

#[tokio::test]
async fn a_check_ends_with_its_verdict() {
    let world = World::new();
    world.fake.script().check = CheckResponse { answered: 6, instances: 6, ..CheckResponse::default() };
    assert_eq!(world.run("check orders").await.code, 0);
    world.fake.script().check.answered = 5;
    assert_eq!(world.run("check orders --output json").await.code, 1);
}

#[tokio::test]
async fn a_status_without_a_name_is_the_only_cluster_or_the_list() {
    let world = World::new();
    assert_eq!(world.run("status").await.out, "No clusters yet. Form one: muster bootstrap cluster.toml\n");
    assert_eq!(world.run("status --watch").await.code, 64);
    world.fake.script().clusters = vec![healthy().cluster.unwrap()];
    world.fake.script().status = Some(healthy());
    assert!(world.run("status").await.out.starts_with("Cluster orders: formed"));
    let json: serde_json::Value = serde_json::from_str(&world.run("status --output json").await.out).unwrap();
    assert_eq!(json["clusters"][0]["cluster"], "orders");
    world.fake.script().clusters.push(Default::default());
    assert!(world.run("status").await.out.starts_with("CLUSTER"));
}

#[tokio::test]
async fn a_watched_status_is_a_document_a_line() {
    let world = World::new();
    world.fake.script().status = Some(healthy());
    let (out, read) = (Page::default(), Page::default());
    let console = Console::to(Box::new(out.clone()), Box::new(read));
    let line = ["muster", "--endpoint", &world.endpoint, "status", "orders", "--watch", "--output", "json"];
    let two = async {
        while out.text().lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let code = drive(Args::try_parse_from(line).unwrap(), console, Duration::ZERO, two).await;
    let lines: Vec<serde_json::Value> = out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["instances"][0]["slots"], "0-5460");
    assert_eq!(code, 130);
}

#[tokio::test]
async fn a_reader_who_goes_away_is_no_error_and_a_full_disk_is() {
    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let world = World::new();
    for (kind, code) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 2)] {
        let args = Args::try_parse_from(["muster", "--endpoint", &world.endpoint, "hosts"]).unwrap();
        let console = Console::to(Box::new(Broken(kind)), Box::new(Page::default()));
        assert_eq!(drive(args, console, Duration::ZERO, std::future::pending()).await, code, "{kind}");
    }
}
