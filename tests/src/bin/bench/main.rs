//! `make bench`: how long Muster takes to form a cluster, and to rebuild one that holds data, beside the same done by
//! hand as well as it can be, in one run on one machine; how soon a killed instance is back, beside other supervisors;
//! how soon an agent finds its instances again; and what an agent costs while nothing happens.
//!
//! Both sides begin to form from nothing but directories, and to rebuild with the approval, or with the script's first
//! act; they end when every node says cluster_state:ok and every replica is in sync. The settings are the server's
//! defaults but for what each side sets itself. Runs alternate, so that a busy minute hits both. Reading order:
//! [`muster`], [`by_hand`], [`rebuild`], [`revival`], [`adoption`], [`cost`], [`report`].
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that meets what it does not expect ends, loudly"
)]

mod adoption;
mod by_hand;
mod cost;
mod muster;
mod rebuild;
mod report;
mod revival;

use std::{fs, path::PathBuf};

use clap::Parser;
use muster_tests::processes;

use report::{Comparison, Deed, Report};

/// Muster against the same by hand.
#[derive(Parser)]
struct Args {
    /// The biggest cluster: 6 and 30 instances are always formed, a bigger one besides.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(6..=120))]
    size: u32,
    /// How often each is done; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Only this.
    #[arg(long)]
    only: Option<Part>,
    /// Where to write the figures.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Forming clusters, and what agents with three instances cost.
    Formation,
    /// Rebuilding clusters that hold data.
    Rebuild,
    /// Restarts, adoption, and what an agent with thirty instances costs.
    Supervision,
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

/// Instances of the one agent that is measured under load of its own.
const MANY: u16 = 30;

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
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let (mut idle, mut comparisons) = (Vec::new(), Vec::new());
    for shape in shapes(args.size).into_iter().filter(|_| wanted(Part::Formation)) {
        let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
        for run in 1..=args.runs {
            eprintln!("{} instances on {} hosts, run {run} of {} ...", shape.instances, shape.hosts, args.runs);
            by_hand.push(by_hand::run(shape));
            let (timed, mut world) = muster::run(shape);
            ours.push(timed);
            if idle.is_empty() {
                idle.push(cost::idle(&mut world, shape.hosts, shape.per_host()));
            }
        }
        let comparison = Comparison::new(Deed::Form, shape, by_hand, ours);
        print!("{comparison}");
        comparisons.push(comparison);
    }
    for shape in shapes(args.size).into_iter().filter(|_| wanted(Part::Rebuild)) {
        let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
        for run in 1..=args.runs {
            eprintln!(
                "rebuilding {} instances on {} hosts, run {run} of {} ...",
                shape.instances, shape.hosts, args.runs
            );
            by_hand.push(rebuild::by_hand(shape));
            ours.push(rebuild::run(shape));
        }
        let comparison = Comparison::new(Deed::Rebuild, shape, by_hand, ours);
        print!("{comparison}");
        comparisons.push(comparison);
    }
    let (mut revival, mut adoption) = (None, None);
    if wanted(Part::Supervision) {
        let mut world = muster::many(MANY);
        idle.push(cost::idle(&mut world, 1, MANY));
        let found = adoption::run(&mut world, MANY);
        print!("{found}");
        adoption = Some(found);
        let revived = revival::run(&mut world);
        print!("{revived}");
        revival = Some(revived);
    }
    idle.iter().for_each(|idle| print!("{idle}"));
    let report = Report::new(args.runs, comparisons, idle, revival, adoption);
    fs::write(&args.json, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();
    println!("written to {}", args.json.display());
}
