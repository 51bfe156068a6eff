//! Muster's side: from `muster bootstrap --yes` to the CLI's exit, agents and coordinator being there already.
//!
//! That it was formed when it said so is looked up at the servers themselves, at once and not waited for.

use std::time::Instant;

use muster_tests::{World, redis};

use crate::{
    Shape,
    report::{Phase, Run},
};

/// One run, and the world that it left, formed.
pub fn run(shape: Shape) -> (Run, World) {
    let world = up(shape);
    let spec = world.spec("bench", 1, "");
    let began = Instant::now();
    let output = world.muster(&["bootstrap", &spec, "--yes", "--output", "json"]);
    let total_ms = began.elapsed().as_secs_f64() * 1000.0;
    let output = output.expect(0);
    prove(&world, shape);
    let ended = output.json();
    let preflight = phase("preflight", &ended["plan"]["preflight_micros"]);
    let phases = preflight.into_iter().chain(journaled(&ended["operation"])).collect();
    (Run { total_ms, phases: with_the_rest(phases, total_ms) }, world)
}

/// A world with a formed cluster of that shape; nobody has timed it.
pub fn formed(shape: Shape) -> World {
    let world = up(shape);
    let spec = world.spec("bench", 1, "");
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    world
}

fn up(shape: Shape) -> World {
    let names: Vec<String> = (1..=shape.hosts).map(|nth| format!("server{nth}")).collect();
    let ports = format!("7000-{}", 7000 + shape.per_host() - 1);
    let hosts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), ports.as_str())).collect();
    World::up(&hosts)
}

fn phase(name: &str, micros: &serde_json::Value) -> Option<Phase> {
    micros.as_f64().map(|micros| Phase { name: name.to_lowercase(), ms: micros / 1000.0 })
}

/// The phases of an operation, as it has journaled them.
pub fn journaled(operation: &serde_json::Value) -> Vec<Phase> {
    let phases = operation["phases"].as_array().into_iter().flatten();
    phases.filter_map(|one| phase(one["phase"].as_str()?, &one["micros"])).collect()
}

/// And what no phase names: what lies between them, and, where that counts, the CLI's own start and its calls.
pub fn with_the_rest(mut phases: Vec<Phase>, total_ms: f64) -> Vec<Phase> {
    let named: f64 = phases.iter().map(|phase| phase.ms).sum();
    phases.push(Phase { name: "the rest".to_owned(), ms: (total_ms - named).max(0.0) });
    phases
}

/// One host with so many masters that keep nothing and have no replicas, formed: any of them is safe to start again.
pub fn many(instances: u16) -> World {
    let ports = format!("7000-{}", 7000 + instances - 1);
    let world = World::up(&[("server1", ports.as_str())]);
    let spec = world.spec("bench", 0, "appendonly = \"no\"\nsave = \"\"");
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    world
}

/// That it was formed when it said so.
pub fn prove(world: &World, shape: Shape) {
    let endpoints = world.status("bench").unwrap_or_else(|error| panic!("{error}")).endpoints();
    let topology = redis::agreement(&endpoints).unwrap_or_else(|error| panic!("it said formed, and: {error}"));
    redis::in_sync(&endpoints).unwrap_or_else(|error| panic!("it said formed, and: {error}"));
    assert_eq!(topology.nodes().len(), usize::from(shape.instances));
}
