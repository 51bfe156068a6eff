//! What our own servers explain, and what they must not.

use super::*;
use crate::{
    preflight::own::{Listens, Ours, Own, Side, explain, listens, ours},
    samples::{absent, blueprint, running},
};

const HELD: &str = "address already in use";

fn taken(port: u32) -> wire::PortFact {
    let (error, holder) = (HELD.to_owned(), "pid 4711 (redis-server *:7000)".to_owned());
    wire::PortFact {
        port,
        client_error: error.clone(),
        client_holder: holder.clone(),
        bus_error: error,
        bus_holder: holder,
        directory: wire::Directory::Stamped.into(),
        directory_note: "orders".into(),
        ..Default::default()
    }
}

/// One host, whose instance at 7000 has its bus port at 17000.
fn own(listens: Listens) -> Ours {
    let own = Own { bus: 17_000, listens };
    [("a".parse().unwrap(), [(Port::try_from(7000).unwrap(), own)].into())].into()
}

fn check_own(fact: wire::PortFact, ours: &Ours, bus_offset: u16, expected: Expect) {
    let survey = wire::SurveyResult { ports: vec![fact], ..well() };
    let answer = Answer { survey: Ok(survey), skew_ms: 0, reach: Ok(Vec::new()), address: "10.0.0.1".into() };
    let answers = explain([("a".parse().unwrap(), answer)].into(), &"orders".parse().unwrap(), ours, bus_offset);
    let facts = &answers.values().next().unwrap().survey.as_ref().unwrap().ports;
    let findings = facts.iter().flat_map(|fact| port_findings(&"a".parse().unwrap(), fact, bus_offset));
    let line = |found: Finding| format!("{} [{}]: {}\n", found.code, found.subject, found.message);
    expected.assert_eq(&findings.map(line).collect::<String>());
}

#[test]
fn a_cluster_is_not_in_its_own_way() {
    check_own(taken(7000), &own(Listens::Process(4711)), 10_000, expect![[""]]);
    // Who listens cannot be seen by an agent that is not root.
    let fact = wire::PortFact { client_holder: String::new(), bus_holder: String::new(), ..taken(7000) };
    check_own(fact, &own(Listens::Process(4711)), 10_000, expect![[""]]);
    // One that crashes again and again has another pid each time.
    check_own(taken(7000), &own(Listens::Unsure), 10_000, expect![[""]]);
}

#[test]
fn a_stranger_on_our_port_is_in_the_way() {
    for listens in [Listens::Process(471), Listens::Nobody] {
        let said = expect![[r#"
        PORT_TAKEN [port 7000]: client port 7000 cannot be bound: address already in use, held by pid 4711 (redis-server *:7000)
        BUS_PORT_TAKEN [port 17000]: bus port 17000 cannot be bound: address already in use, held by pid 4711 (redis-server *:7000)
    "#]];
        check_own(taken(7000), &own(listens), 10_000, said);
    }
}

#[test]
fn a_changed_bus_port_that_is_taken_is_found_under_its_own_number() {
    check_own(
        taken(7000),
        &own(Listens::Process(4711)),
        11_000,
        expect![[r#"
            BUS_PORT_TAKEN [port 18000]: bus port 18000 cannot be bound: address already in use, held by pid 4711 (redis-server *:7000)
        "#]],
    );
}

#[test]
fn the_bus_port_of_one_of_ours_may_become_anothers() {
    let port = |number: u32| Port::try_from(number).unwrap();
    let other = Own { bus: 18_000, listens: Listens::Process(4711) };
    let mut both = own(Listens::Process(4711));
    both.values_mut().next().unwrap().insert(port(8000), other);
    check_own(taken(7000), &both, 11_000, expect![[""]]);
}

#[test]
fn a_new_port_that_is_taken_is_found() {
    check_own(
        taken(7001),
        &own(Listens::Process(4711)),
        10_000,
        expect![[r#"
            PORT_TAKEN [port 7001]: client port 7001 cannot be bound: address already in use, held by pid 4711 (redis-server *:7000)
            BUS_PORT_TAKEN [port 17001]: bus port 17001 cannot be bound: address already in use, held by pid 4711 (redis-server *:7000)
            DIRECTORY_TAKEN []:  belongs to cluster orders
        "#]],
    );
}

#[test]
fn a_directory_of_others_is_found_at_our_own_port() {
    let ours = own(Listens::Process(4711));
    let fact = wire::PortFact { directory_note: "carts".into(), path: "/b/7000".into(), ..taken(7000) };
    check_own(
        fact.clone(),
        &ours,
        10_000,
        expect![[r#"
            DIRECTORY_TAKEN [/b/7000]: /b/7000 belongs to cluster carts
        "#]],
    );
    let foreign =
        wire::PortFact { directory: wire::Directory::Foreign.into(), directory_note: "orders".into(), ..fact };
    check_own(
        foreign,
        &ours,
        10_000,
        expect![[r#"
            DIRECTORY_FOREIGN [/b/7000]: /b/7000 is not ours (orders); it is never touched
        "#]],
    );
}

#[test]
fn an_address_that_is_not_here_is_explained_by_nobody() {
    let error = "cannot assign requested address".to_owned();
    let fact = wire::PortFact { client_error: error.clone(), ..taken(7000) };
    let survey = wire::SurveyResult { ports: vec![fact], ..well() };
    let answer = Answer { survey: Ok(survey), skew_ms: 0, reach: Ok(Vec::new()), address: "10.0.0.1".into() };
    let answers = [("a".parse().unwrap(), answer)].into();
    let answers = explain(answers, &"orders".parse().unwrap(), &own(Listens::Process(4711)), 10_000);
    assert_eq!(answers.values().next().unwrap().survey.as_ref().unwrap().ports[0].client_error, error);
}

#[test]
fn only_a_server_that_certainly_listens_is_dialled() {
    let (host, held) = ("a".parse().unwrap(), "pid 4711 (redis-server *:7000)");
    let at = |port, holder| Side { port, error: HELD, holder };
    let process = own(Listens::Process(4711));
    assert!(listens(&process, &host, &at(7000, held)) && listens(&process, &host, &at(17_000, held)));
    assert!(!listens(&process, &host, &at(18_000, held)), "nobody of ours is there");
    assert!(!listens(&process, &host, &at(7000, "pid 47 (nc -l 7000)")));
    assert!(!listens(&process, &"b".parse().unwrap(), &at(7000, held)));
    assert!(!listens(&own(Listens::Unsure), &host, &at(7000, held)));
    assert!(!listens(&own(Listens::Nobody), &host, &at(7000, held)));
}

#[test]
fn who_listens_is_what_the_agents_said_last() {
    let blueprint = blueprint();
    let [first, second, third] = &blueprint.members[..3] else { panic!() };
    let there = [(first.node_id, running(&blueprint, first)), (second.node_id, absent(&blueprint, second))].into();
    let ours = ours(&blueprint, &there);
    let at = |member: &muster_proto::Member| ours[&member.host][&member.port];
    assert_eq!(at(first), Own { bus: first.bus_port, listens: Listens::Process(4711) });
    assert_eq!(at(second).listens, Listens::Nobody);
    assert_eq!(at(third).listens, Listens::Unsure);
}
