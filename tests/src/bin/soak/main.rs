//! `make soak`: Muster under random faults for as long as wished (SEED=, MINUTES=). What is done, what is proved and how
//! losses are told apart stands in `tests/src/soak.rs`. Exit code 1 and the whole story when something is not as it must
//! be.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people")]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use muster_tests::soak::{self, Plan};

/// Kills and freezes at random, under clients that write.
#[derive(Parser)]
struct Args {
    /// What the faults are drawn from.
    #[arg(long)]
    seed: u64,
    /// For how long there are faults, in minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Tell the whole story even if all is well.
    #[arg(long)]
    story: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    eprintln!("seed {}, {} minutes ...", args.seed, args.minutes);
    let outcome = soak::run(Plan { seed: args.seed, duration: Duration::from_secs_f64(args.minutes * 60.0) });
    let complaint = outcome.complaint();
    if let Some(told) = complaint.as_ref().or(args.story.then_some(&outcome.story)) {
        print!("{told}");
    }
    println!("seed {}: {}", args.seed, outcome.summary());
    if complaint.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
