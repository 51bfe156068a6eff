//! `make bench`: how long Muster takes to form a cluster, beside the same done by hand as well as it can be, in one run
//! on one machine; and what an agent costs while nothing happens.
//!
//! Both sides start from nothing but directories and end when every node says cluster_state:ok and every replica is in
//! sync. The settings are the server's defaults but for what each side sets itself. Runs alternate, so that a busy
//! minute hits both. Reading order: [`muster`], [`by_hand`], [`cost`], [`report`].
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that meets what it does not expect ends, loudly"
)]

mod by_hand;
mod cost;
mod muster;
mod report;

use std::{fs, path::PathBuf};

use clap::Parser;
use muster_tests::processes;

use report::{Comparison, Report, Side};

/// Muster against the same by hand.
#[derive(Parser)]
struct Args {
    /// The biggest cluster: 6 and 30 instances are always formed, a bigger one besides.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(6..=120))]
    size: u32,
    /// How often each is done; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Where to write the figures.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
}

/// A size and the hosts that it is spread over.
#[derive(Debug, Clone, Copy)]
struct Shape {
    instances: u16,
    hosts: u16,
}

impl Shape {
    fn per_host(self) -> u16 {
        self.instances / self.hosts
    }
}

fn shapes(size: u32) -> Vec<Shape> {
    let mut shapes = vec![Shape { instances: 6, hosts: 2 }];
    if size >= 30 {
        shapes.push(Shape { instances: 30, hosts: 5 });
    }
    if size > 30 {
        // Whole hosts of ten, at least as many instances as asked for.
        let hosts = u16::try_from(size.div_ceil(10)).unwrap();
        shapes.push(Shape { instances: hosts * 10, hosts });
    }
    shapes
}

fn main() {
    let args = Args::parse();
    processes::become_init();
    let mut agent = None;
    let mut comparisons = Vec::new();
    for shape in shapes(args.size) {
        let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
        for run in 1..=args.runs {
            eprintln!("{} instances on {} hosts, run {run} of {} ...", shape.instances, shape.hosts, args.runs);
            by_hand.push(by_hand::run(shape));
            let (timed, mut world) = muster::run(shape);
            ours.push(timed);
            if agent.is_none() {
                agent = Some(cost::idle(&mut world, shape.hosts));
            }
        }
        let comparison = Comparison::new(shape.instances, shape.hosts, Side::median(by_hand), Side::median(ours));
        print!("{comparison}");
        comparisons.push(comparison);
    }
    let agent = agent.unwrap();
    print!("{agent}");
    let report = Report::new(args.runs, comparisons, agent);
    fs::write(&args.json, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();
    println!("written to {}", args.json.display());
}
