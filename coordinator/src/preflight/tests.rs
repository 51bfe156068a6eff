//! What is judged, case by case; the facts are made up here, and found on real hosts in the whole-system tests.

mod facts;
mod own;

use expect_test::{Expect, expect};
use muster_proto::{Auth, Limits, Tls, ports::DEFAULT_BUS_OFFSET, spec::SpecParts};

use super::*;

/// Two hosts with one port each, and what the first has to say.
fn check(reach: Result<Vec<wire::Unreached>, String>, survey: Result<wire::SurveyResult, String>, expected: Expect) {
    let host = |name: &str| SpecHost {
        name: name.parse().unwrap(),
        ports: muster_proto::PortSet::parse(&["7000".to_owned()]).unwrap(),
    };
    let hosts = vec![host("a"), host("b")];
    let parts = SpecParts {
        name: "orders".parse().unwrap(),
        replicas: 0,
        masters: None,
        settings: Vec::new(),
        allow_shared_host: false,
        auth: Auth::None,
        tls: Tls::Off,
        limits: Limits::default(),
        hosts: hosts.clone(),
    };
    let well = Answer { survey: Ok(well()), skew_ms: 0, reach: Ok(Vec::new()), address: "10.0.0.2".into() };
    let answer = Answer { survey, reach, address: "10.0.0.1".into(), ..well.clone() };
    let answers = BTreeMap::from([("a".parse().unwrap(), answer), ("b".parse().unwrap(), well)]);
    let offered = hosts.iter().map(|host| (host.name.clone(), host.ports.iter().collect())).collect();
    let findings = judge(&Spec::new(parts).unwrap(), &answers, &offered, &Bars::new(), DEFAULT_BUS_OFFSET);
    let line = |found: &Finding| {
        let host = found.host.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{:?} {} {host} [{}]: {}\n", found.severity, found.code, found.subject, found.message)
    };
    expected.assert_eq(&findings.iter().map(line).collect::<String>());
}

/// A host with nothing to complain of.
fn well() -> wire::SurveyResult {
    let free = wire::PortFact { port: 7000, directory: wire::Directory::Free.into(), ..Default::default() };
    let server = wire::Server { path: "/redis-server".into(), flavour: "redis".into(), version: "7.0.15".into() };
    wire::SurveyResult { server: Some(server), ports: vec![free], disk_free_bytes: u64::MAX, ..Default::default() }
}

fn unreached(port: u32, error: &str) -> wire::Unreached {
    let target = wire::Target { host: "b".into(), address: "10.0.0.2".into(), port, bus: port > 10_000 };
    wire::Unreached { target: Some(target), error: error.into() }
}

#[test]
fn hosts_that_reach_each_other_have_no_findings() {
    check(Ok(Vec::new()), Ok(well()), expect![[""]]);
}

#[test]
fn ports_that_fail_in_one_way_are_one_finding() {
    let dials = vec![
        unreached(7000, "no route to host"),
        unreached(17000, "no route to host"),
        unreached(17001, "timed out after 3s"),
    ];
    check(
        Ok(dials),
        Ok(well()),
        expect![[r#"
        Fatal UNREACHABLE a [10.0.0.2:17001]: a 10.0.0.1 cannot reach 10.0.0.2:17001 (bus port of b): timed out after 3s
        Fatal UNREACHABLE a [10.0.0.2:7000]: a 10.0.0.1 cannot reach 10.0.0.2:7000 (client port of b), nor 17000: no route to host
    "#]],
    );
}

#[test]
fn whom_a_silent_host_reaches_is_not_known_and_stops_the_plan() {
    check(
        Err("its stream has ended".into()),
        Ok(well()),
        expect![[r#"
        Fatal HOST_SILENT a [agent]: the agent did not answer: its stream has ended
    "#]],
    );
    check(
        Err("not asked".into()),
        Err("no answer within 8 s".into()),
        expect![[r#"
        Fatal HOST_SILENT a [agent]: the agent did not answer: no answer within 8 s
    "#]],
    );
}

#[test]
fn an_address_of_another_machine_is_said_once() {
    let error = "cannot assign requested address".to_owned();
    let fact = wire::PortFact { client_error: error.clone(), bus_error: error.clone(), ..well().ports[0].clone() };
    let survey = wire::SurveyResult { ports: vec![fact.clone(), fact], ..well() };
    check(
        Ok(vec![unreached(7000, &error)]),
        Ok(survey),
        expect![[r#"
        Fatal ADDRESS_NOT_LOCAL a [address]: 10.0.0.1 is not on this machine: cannot assign requested address
    "#]],
    );
}
