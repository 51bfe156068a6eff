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
    /// A second coordinator may have the term of the first; it is told apart by nobody.
    #[arg(long)]
    rivals: bool,
    /// Break each rule on purpose, and say how many of the nights show it.
    #[arg(long)]
    sabotage: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seeds = args.seed..args.seed.saturating_add(args.seeds);
    if args.sabotage {
        for sabotage in Sabotage::ALL {
            let outcomes = sim::nights(seeds.clone(), Some(sabotage));
            let found: Vec<_> = outcomes.iter().filter_map(|it| Some((it.seed, it.sentence.as_ref()?))).collect();
            let first = found.first().map_or("not found".to_owned(), |(seed, what)| format!("first in {seed}: {what}"));
            println!("{sabotage:?}: found in {} of {} nights; {first}", found.len(), args.seeds);
        }
        return ExitCode::SUCCESS;
    }
    let (began, mut counts) = (Instant::now(), BTreeMap::<&str, usize>::new());
    let outcomes = match (args.rivals, args.story) {
        (true, _) => seeds.map(sim::rivalled).collect(),
        (false, true) => seeds.map(sim::run).collect(),
        (false, false) => sim::nights(seeds, None),
    };
    for outcome in &outcomes {
        outcome.counts.iter().for_each(|(what, times)| *counts.entry(what).or_default() += times);
        match (outcome.complaint(), &outcome.sentence) {
            (Some(_), Some(sentence)) if args.brief => println!("seed {}: {sentence}", outcome.seed),
            (Some(complaint), _) => print!("{complaint}"),
            (None, _) if args.story => print!("{}", outcome.story),
            (None, _) => {}
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.sentence.is_some()).count();
    let counts: Vec<_> = counts.iter().map(|(what, times)| format!("{times} {what}")).collect();
    let took = began.elapsed().as_secs_f64();
    println!(
        "seeds {} to {}: {took:.1} s, {failed} failed; {}",
        args.seed,
        args.seed + args.seeds - 1,
        counts.join(", ")
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
