//! A cluster that holds data, rebuilt: by Muster, from the approval to formed, and by the seed's procedure done well.
//!
//! Neither side is measured while it looks ahead or is made to hold data; the servers have settled before the clock
//! starts: one that writes its first append-only file cannot be ended.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use muster_tests::{World, eventually, processes, redis as servers};
use redis::cluster::ClusterClientBuilder;

use crate::{Shape, by_hand, muster, report::Run};

/// Of 100 bytes, for each instance.
const KEYS: usize = 1000;
/// Most that servers may take to settle.
const CALM: Duration = Duration::from_secs(60);

/// Writes the data into a cluster, and waits until every replica has it and nobody is busy with a file.
fn fill(endpoints: &[String]) {
    let seeds = endpoints.iter().map(|endpoint| format!("redis://{endpoint}"));
    let client = ClusterClientBuilder::new(seeds).build().unwrap();
    let mut connection = client.get_connection().unwrap();
    let value = "v".repeat(100);
    for nth in 0..KEYS * endpoints.len() {
        redis::cmd("SET").arg(format!("bench:{nth}")).arg(&value).exec(&mut connection).unwrap();
    }
    for endpoint in endpoints {
        eventually(CALM, "the servers have settled", || {
            let (files, links) = (servers::info(endpoint, "persistence")?, servers::info(endpoint, "replication")?);
            let busy = ["aof_rewrite_in_progress", "rdb_bgsave_in_progress"].into_iter().any(|key| files[key] != "0");
            let linked = links["role"] == "master" || links["master_link_status"] == "up";
            if linked && !busy { Ok(()) } else { Err(endpoint.clone()) }
        });
    }
}

/// One run of Muster's.
pub fn run(shape: Shape) -> Run {
    let world = muster::formed(shape);
    fill(&world.status("bench").unwrap().endpoints());
    let began = Instant::now();
    // The data was written a moment ago, and whoever looks then sees somebody who writes.
    let line = ["rebuild", "bench", "--even-if-serving", "--confirm", "bench", "--output", "json"];
    let output = world.muster(&line);
    let command = began.elapsed();
    let output = output.expect(0);
    muster::prove(&world, shape);
    is_empty(&world);
    let operation = output.json()["operation"].clone();
    let time = |key: &str| operation[key].as_f64().unwrap();
    let total_ms = time("ended_unix_ms") - time("started_unix_ms");
    eprintln!("the whole command, with plan and preflight: {:.0} ms", command.as_secs_f64() * 1000.0);
    Run { total_ms, phases: muster::with_the_rest(muster::journaled(&operation), total_ms) }
}

fn is_empty(world: &World) {
    for endpoint in world.status("bench").unwrap().endpoints() {
        assert_eq!(servers::cli(&endpoint, &["dbsize"]), Ok("0".into()), "{endpoint} holds what was set aside");
    }
}

/// One run of the script's.
pub fn by_hand(shape: Shape) -> Run {
    let script = by_hand::Script::of(shape);
    let mut command = script.command(&["--rebuild"]);
    let mut child = processes::spawn_owned(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "formed", "by hand");
    fill(&script.nodes);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    processes::wait_owned(&mut child);
    by_hand::read(&text)
}
