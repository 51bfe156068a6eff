//! The fuzz targets on any toolchain, in seconds: over their corpus, over seeded changes of it, and over texts that are
//! long in every way. `make fuzz` drives the same functions by coverage, for as long as wished.
//!
//! The seed is drawn, and printed with what fails; `FUZZ_SEED=1234 cargo test --test fuzz` replays it.
//! `FUZZ_SECONDS=60` gives each target a minute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

#[path = "../fuzz/src/lib.rs"]
mod muster_fuzz;
use muster_fuzz::{TARGETS, Target};

/// What a target gets unless `FUZZ_SECONDS` says otherwise.
const EACH: Duration = Duration::from_millis(700);
/// What a mutated input may grow to.
const LONG: usize = 16 << 10;
/// Long enough that what grows with the square of it takes seconds, even where each step is a few cycles.
const VERY_LONG: usize = 256 << 10;
/// What takes less is fast enough, however it grows.
const FAST: Duration = Duration::from_millis(500);
/// How much longer eight times the text may take: eight times if it is honest, and sixty-four if it is the square.
const GROWTH: u32 = 24;

/// Pieces that parsers look for.
const WORDS: [&str; 24] = [
    "\n",
    "\r\n",
    " ",
    "\t",
    "-",
    ",",
    ":",
    "@",
    "[",
    "]",
    "(",
    ")",
    "=",
    "\"",
    "'",
    "\0",
    "\u{9b}2J",
    "\u{1b}[2J",
    "0",
    "65536",
    "4294967296",
    "18446744073709551616",
    "myself,master",
    "\u{fffd}",
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs a target and says how long it took; if it fails, it leaves what it failed on where it can be looked at.
fn feed((name, target): Target, input: &[u8], whence: &str) -> Result<Duration, String> {
    let began = Instant::now();
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        fs::write(&kept, input).unwrap();
        return Err(format!("{name} fails on {whence}; the input is kept in {}", kept.display()));
    }
    Ok(began.elapsed())
}

/// Every target has its turn, also after one has failed.
fn each(try_one: impl Fn(Target, u64) -> Result<(), String>) {
    let failed: Vec<_> = (0..).zip(TARGETS).filter_map(|(nth, target)| try_one(target, nth).err()).collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(most.max(1)).unwrap()).unwrap()
    }

    fn piece(&mut self, of: &[u8]) -> Vec<u8> {
        let from = self.below(of.len());
        of[from..(from + 1 + self.below(64)).min(of.len()).max(from)].to_vec()
    }

    fn change(&mut self, input: &mut Vec<u8>, others: &[(PathBuf, Vec<u8>)]) {
        let at = self.below(input.len() + 1);
        let insert = |input: &mut Vec<u8>, piece: &[u8]| drop(input.splice(at..at, piece.iter().copied()));
        match self.below(7) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (self.0 % 8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = (self.0 >> 8) as u8),
            2 => insert(input, WORDS[self.below(WORDS.len())].as_bytes()),
            3 => insert(input, &[(self.0 >> 8) as u8]),
            4 => {
                let to = (at + 1 + self.below(32)).min(input.len());
                input.drain(at.min(to)..to);
            }
            5 => {
                let piece = self.piece(input);
                insert(input, &piece);
            }
            _ => {
                let other = self.below(others.len());
                let piece = self.piece(&others[other].1);
                insert(input, &piece);
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn no_target_fails_on_its_corpus() {
    each(|target, _| {
        let files = corpus(target.0);
        assert!(!files.is_empty(), "{}: nothing to begin with", target.0);
        files.iter().try_for_each(|(path, input)| feed(target, input, &path.display().to_string()).map(drop))
    });
}

#[test]
fn no_target_fails_on_changes_of_its_corpus() {
    let seed = number("FUZZ_SEED").unwrap_or_else(drawn);
    let long = number("FUZZ_SECONDS").map_or(EACH, Duration::from_secs);
    println!("FUZZ_SEED={seed}");
    each(|target, nth| {
        let files = corpus(target.0);
        let mut dice = Dice(seed ^ nth);
        let began = Instant::now();
        let mut runs = 0_u64;
        while began.elapsed() < long {
            let mut input = files[dice.below(files.len())].1.clone();
            for _ in 0..=dice.below(5) {
                dice.change(&mut input, &files);
            }
            input.truncate(LONG);
            feed(target, &input, &format!("run {runs} of FUZZ_SEED={seed}"))?;
            runs += 1;
        }
        println!("{}: {runs} runs", target.0);
        Ok(())
    });
}

fn drawn() -> u64 {
    u64::from_le_bytes(fs::read("/proc/sys/kernel/random/uuid").unwrap()[..8].try_into().unwrap())
}

/// Each sample again and again, as a whole, by its lines and by its words, and one byte again and again.
#[test]
fn time_grows_no_faster_than_the_text() {
    each(|target, _| {
        for shape in shapes(target.0) {
            let input: Vec<u8> = shape.iter().copied().cycle().take(VERY_LONG).collect();
            let shown = String::from_utf8_lossy(&shape[..shape.len().min(60)]).into_owned();
            let whence = format!("{shown:?} again and again");
            let whole = feed(target, &input, &whence)?;
            if whole > FAST && whole > GROWTH * feed(target, &input[..VERY_LONG / 8], &whence)? {
                return Err(format!("{}: {whole:?} for {} KiB of {whence}", target.0, VERY_LONG >> 10));
            }
        }
        Ok(())
    });
}

fn shapes(target: &str) -> BTreeSet<Vec<u8>> {
    let mut shapes: BTreeSet<Vec<u8>> = b"[({\"'# \n-=0a".iter().map(|byte| vec![*byte]).collect();
    for (_, sample) in corpus(target) {
        for separator in [b'\n', b' '] {
            let pieces = || sample.split_inclusive(|byte| *byte == separator);
            shapes.extend(pieces().next().map(<[u8]>::to_vec));
            shapes.extend(pieces().max_by_key(|piece| piece.len()).map(<[u8]>::to_vec));
        }
        shapes.insert(sample);
    }
    shapes
}

#[test]
fn every_target_is_driven_by_coverage_too() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let names = |list: &mut Vec<String>| list.sort();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut bins: Vec<_> = manifest
        .split("[[bin]]\n")
        .skip(1)
        .filter_map(|bin| Some(bin.strip_prefix("name = \"")?.split('"').next()?.to_owned()))
        .collect();
    let mut corpora: Vec<_> = fs::read_dir(fuzz.join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    [&mut targets, &mut bins, &mut corpora].into_iter().for_each(names);
    assert_eq!(targets, bins);
    assert_eq!(targets, corpora);
    for name in targets {
        let text = fs::read_to_string(fuzz.join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(text.contains(&format!("muster_fuzz::{name}(data)")), "{name} feeds another");
    }
}
