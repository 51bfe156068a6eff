//! `make simulate`: nights of a simulated fleet, one after the other, from as many seeds as wished (SEEDS=, from SEED=
//! on). What is simulated and what is judged stands in `tests/src/sim.rs`. Exit code 1 and the whole story of every
//! night in which something was not as it must be.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people")]

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use clap::Parser;
use muster_tests::sim::{self, Sabotage};

/// Nights of a simulated fleet.
#[derive(Parser)]
struct Args {
    /// The first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Tell the story even if all is well.
    #[arg(long)]
    story: bool,
    /// Only say which seeds fail, and why.
    #[arg(long)]
    brief: bool,
    /// Break each rule on purpose, and say how many of the nights show it.
    #[arg(long)]
    sabotage: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seeds = args.seed..args.seed.saturating_add(args.seeds);
    if args.sabotage {
        for sabotage in Sabotage::ALL {
            let found: Vec<_> =
                seeds.clone().filter_map(|seed| sim::sabotaged(seed, Some(sabotage)).sentence).collect();
            let first = found.first().map(String::as_str).unwrap_or("not found");
            println!("{sabotage:?}: {} of {} nights; {first}", found.len(), args.seeds);
        }
        return ExitCode::SUCCESS;
    }
    let (began, mut failed, mut counts) = (Instant::now(), 0, BTreeMap::<&str, usize>::new());
    for seed in seeds {
        let outcome = sim::run(seed);
        outcome.counts.iter().for_each(|(what, times)| *counts.entry(what).or_default() += times);
        match (outcome.complaint(), &outcome.sentence) {
            (Some(_), Some(sentence)) if args.brief => println!("seed {seed}: {sentence}"),
            (Some(complaint), _) => print!("{complaint}"),
            _ if args.story => print!("{}", outcome.story),
            _ => {}
        }
        failed += usize::from(outcome.sentence.is_some());
    }
    let counts: Vec<_> = counts.iter().map(|(what, times)| format!("{times} {what}")).collect();
    println!("{} nights in {:.1} s, {failed} failed; {}", args.seeds, began.elapsed().as_secs_f64(), counts.join(", "));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
