//! The crash matrix (`muster_tests::crash`): whoever dies at whichever point of whatever is under way, it ends as if
//! nobody had died.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests say what they did"
)]

use std::{env, fs, process::Command, time::Duration};

use muster_tests::{
    crash::{
        Fate, Matrix, Scenario, Server, Tally,
        matrix::scenarios,
        oracle::{Expected, gone, judge},
    },
    eventually, processes,
};
use nix::sys::signal::Signal;

/// What `make test` has for it. What does not fit waits for another day: the order is another one every day.
const SHARE: Duration = Duration::from_secs(60);

#[track_caller]
fn clean(tally: &Tally) {
    eprintln!("crash matrix: {tally}");
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    assert!(tally.tried > 0, "no case was tried");
    assert!(tally.unmet.len() * 4 < tally.tried.max(4), "nobody died in too many cases: {tally}");
}

#[test]
fn whoever_dies_at_whichever_point_it_ends_the_same_on_a_fake_server() {
    let all = scenarios("");
    clean(&Matrix { scenarios: all, server: Server::Fake, only: String::new(), budget: Some(SHARE) }.run());
}

/// `make crash-matrix SERVER=real SCENARIO=bootstrap CASES=agent.start`
#[test]
#[ignore = "all cases on real servers take long; make crash-matrix runs it"]
fn every_case_on_the_server_that_is_asked_for() {
    let asked = |name: &str| env::var(name).unwrap_or_default();
    let server = match asked("MUSTER_CRASH_SERVER").as_str() {
        "" | "real" => Server::Real,
        "fake" => Server::Fake,
        other => panic!("there is no server {other}; there are real and fake"),
    };
    let scenarios = scenarios(&asked("MUSTER_CRASH_SCENARIO"));
    clean(&Matrix { scenarios, server, only: asked("MUSTER_CRASH_CASES"), budget: None }.run());
}

/// A guard has a test that shows it can refuse: a good cluster, and one thing after another that is wrong with it.
#[test]
fn the_judge_refuses_whatever_is_wrong() {
    let mut stage = Scenario::Bootstrap.play(Server::Fake, Fate::Listing).stage;
    // Nobody mends anything from here on.
    stage.world.coordinator().kill();
    ["server1", "server2"].iter().for_each(|host| stage.world.agent(host).kill());
    let places = stage.places();
    let formed = Expected { cluster: "orders".into(), life: 1, aside: Vec::new(), data: Vec::new() };
    let refuses = |expected: &Expected, words: &str| {
        let verdict = judge(&places, expected).unwrap_err();
        assert!(verdict.contains(words), "{verdict}");
    };
    judge(&places, &formed).unwrap();
    refuses(&Expected { life: 2, ..formed.clone() }, "incarnation is 1 and not 2");
    refuses(&Expected { aside: vec![1], ..formed.clone() }, "the trash of");
    refuses(&Expected { data: vec![("never written".into(), 1)], ..formed.clone() }, "is in []");

    let (base, dir) = (&places[0].base, places[0].base.join("7000"));
    let stamp = fs::read_to_string(dir.join("muster.json")).unwrap();
    fs::write(dir.join("muster.json"), stamp.replace("\"formed\": true", "\"formed\": false")).unwrap();
    refuses(&formed, "formed is false");
    let other = stamp.replacen("\"node_id\": \"", "\"node_id\": \"f", 1);
    fs::write(dir.join("muster.json"), other).unwrap();
    refuses(&formed, "calls itself");
    fs::write(dir.join("muster.json"), &stamp).unwrap();

    fs::create_dir(base.join(".staging/half-made")).unwrap();
    refuses(&formed, ".staging holds");
    fs::remove_dir(base.join(".staging/half-made")).unwrap();

    // A life that was set aside twice.
    let aside = base.join(".trash/twice");
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("muster.json"), &stamp).unwrap();
    refuses(&formed, "the trash of");
    fs::remove_dir_all(&aside).unwrap();

    let mut second = processes::spawn_owned(Command::new("sleep").arg("60").current_dir(&dir));
    refuses(&formed, "processes live in");
    processes::signal(second.id() as i32, Signal::SIGKILL);
    processes::wait_owned(&mut second);
    judge(&places, &formed).unwrap();
    assert!(gone(&places).unwrap_err().contains("processes live in"));

    let server = processes::living_in(&dir)[0];
    processes::signal(server, Signal::SIGKILL);
    eventually(Duration::from_secs(10), "a dead server is missed", || match judge(&places, &formed) {
        Ok(()) => Err("nothing is found".to_owned()),
        Err(_) => Ok(()),
    });

    // And where nothing is to be left.
    let left = |words: &str| {
        let verdict = gone(&places).unwrap_err();
        assert!(verdict.contains(words), "{verdict}");
    };
    let living = || places.iter().flat_map(|place| processes::living_in(&place.base)).collect::<Vec<_>>();
    living().iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
    eventually(Duration::from_secs(10), "all are dead", || match living().as_slice() {
        [] => Ok(()),
        alive => Err(format!("{alive:?}")),
    });
    left("is still there");
    for place in &places {
        place.ports.iter().for_each(|port| fs::remove_dir_all(place.base.join(port.to_string())).unwrap());
    }
    gone(&places).unwrap();
    let trash = |name: &str| {
        let aside = base.join(".trash").join(name);
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("muster.json"), &stamp).unwrap();
    };
    trash("once");
    gone(&places).unwrap();
    trash("twice");
    left("is the second of its port in the trash");
}
