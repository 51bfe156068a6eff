//! All cases of some scenarios, in lanes side by side.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Death, Fate, Killed, Scenario, Server, Who};

/// Worlds that are up at once: a case mostly waits for disks and for others.
const LANES: usize = 3;

/// What is to be tried.
#[derive(Debug)]
pub struct Matrix {
    /// Of these scenarios.
    pub scenarios: Vec<Scenario>,
    /// On this server.
    pub server: Server,
    /// Only cases with this in their name.
    pub only: String,
    /// What does not fit is left for another day.
    pub budget: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cases that there are.
    pub cases: usize,
    /// Those that were tried.
    pub tried: usize,
    /// Of these: whose point was not passed this time, so that nobody died.
    pub unmet: Vec<String>,
    /// What went wrong, with the story.
    pub failures: Vec<String>,
    /// What the order of cases was drawn from.
    pub seed: u64,
    took: Duration,
}

impl Matrix {
    /// Finds the points, and tries every case.
    pub fn run(&self) -> Tally {
        let began = Instant::now();
        let mut tally = Tally { seed: seed(), ..Tally::default() };
        let mut cases = Vec::new();
        let listings: Vec<_> = thread::scope(|scope| {
            let begun: Vec<_> =
                self.scenarios.iter().map(|scenario| scope.spawn(|| (*scenario, self.points(*scenario)))).collect();
            begun.into_iter().map(|listing| listing.join().expect("a panic is caught inside")).collect()
        });
        for (scenario, points) in listings {
            match points {
                Ok(points) => cases.extend(fates(&points).map(|fate| (scenario, fate))),
                Err(story) => tally.failures.push(story),
            }
        }
        cases.retain(|(scenario, fate)| name(*scenario, fate).contains(&self.only));
        tally.cases = cases.len();
        shuffle(&mut cases, tally.seed);
        // What is the same for all goes first.
        cases.sort_by_key(|(_, fate)| matches!(fate, Fate::Death(_)));
        let (queue, shared) = (Mutex::new(VecDeque::from(cases)), Mutex::new(tally));
        thread::scope(|scope| {
            for _ in 0..LANES {
                scope.spawn(|| {
                    while self.budget.is_none_or(|budget| began.elapsed() < budget) {
                        let Some((scenario, fate)) = held(&queue).pop_front() else { break };
                        let outcome = self.try_one(scenario, fate.clone());
                        let mut tally = held(&shared);
                        tally.tried += 1;
                        match outcome {
                            Ok(true) => {}
                            Ok(false) => tally.unmet.push(name(scenario, &fate)),
                            Err(story) => {
                                eprintln!("{story}");
                                tally.failures.push(story);
                            }
                        }
                    }
                });
            }
        });
        let mut tally = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        tally.took = began.elapsed();
        tally
    }

    /// The points that a scenario passes, and who passes each; of two agents, the first.
    fn points(&self, scenario: Scenario) -> Result<BTreeMap<String, Who>, String> {
        let title = name(scenario, &Fate::Listing);
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut outcome = scenario.play(self.server, Fate::Listing);
            outcome.verdict.map_err(|why| format!("{title}: {why}\n{}", outcome.stage.story()))?;
            let mut points = BTreeMap::new();
            for (who, point) in outcome.stage.passed() {
                points.entry(point).or_insert(who);
            }
            Ok(points)
        }));
        played.unwrap_or_else(|panic| Err(format!("{title}: {}", words(&*panic))))
    }

    /// Whether the point was passed; the story of what went wrong.
    fn try_one(&self, scenario: Scenario, fate: Fate) -> Result<bool, String> {
        let title = name(scenario, &fate);
        let dies = matches!(fate, Fate::Death(_));
        let began = Instant::now();
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut outcome = scenario.play(self.server, fate);
            let story = |outcome: &mut super::scenario::Outcome| outcome.stage.story();
            match std::mem::replace(&mut outcome.verdict, Ok(())) {
                Ok(()) => Ok(outcome.stage.fired() || !dies),
                Err(why) => Err(format!("--- {title}: {why}\n{}", story(&mut outcome))),
            }
        }));
        if std::env::var_os("MUSTER_CRASH_TALK").is_some() {
            eprintln!("{:>6} ms {title}", began.elapsed().as_millis());
        }
        played.unwrap_or_else(|panic| Err(format!("--- {title}: {}", words(&*panic))))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, tried, unmet, failures, seed, took } = self;
        let seconds = took.as_secs();
        write!(f, "{tried} of {cases} cases tried in {seconds} s (seed {seed}), {} failed", failures.len())?;
        if !unmet.is_empty() {
            write!(f, "; not met this time: {}", unmet.join("; "))?;
        }
        Ok(())
    }
}

fn fates(points: &BTreeMap<String, Who>) -> impl Iterator<Item = Fate> {
    let deaths = points.iter().flat_map(|(point, who)| {
        let death = |killed| Death { who: who.clone(), point: point.clone(), killed };
        Killed::EACH.into_iter().map(death).map(Fate::Death)
    });
    [Fate::Twice].into_iter().chain(deaths.collect::<Vec<_>>())
}

fn name(scenario: Scenario, fate: &Fate) -> String {
    format!("{}: {fate}", scenario.word())
}

/// Another order every day, the same one all day; or the one that is asked for.
fn seed() -> u64 {
    let asked = std::env::var("MUSTER_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400)
}

/// Fisher and Yates, with the dice of xorshift.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for last in (1..items.len()).rev() {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        items.swap(last, usize::try_from(dice % (last as u64 + 1)).unwrap_or(0));
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// Scenarios by name; all for an empty one.
pub fn scenarios(name: &str) -> Vec<Scenario> {
    let found: BTreeSet<Scenario> =
        Scenario::EACH.into_iter().filter(|scenario| name.is_empty() || scenario.word() == name).collect();
    assert!(!found.is_empty(), "there is no scenario {name}");
    found.into_iter().collect()
}
