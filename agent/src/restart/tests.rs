//! The table in the module's documentation, and that it holds for everything that can be.

use std::fmt::Write as _;

use expect_test::expect_file;

use super::*;

const NOW: Duration = Duration::from_secs(1000);
/// Nothing is at stake.
const SAFE: Stake =
    Stake { formed: true, leads: false, load: Load::Log, replaced: false, overruled: false, word: Word::Given };
const CONF: &str = "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***";

fn past(exits: usize, words: Option<&str>) -> Past {
    let exit = Exit { at: NOW, ending: Ending::Signal(9), jitter: 0 };
    Past { exits: vec![exit; exits], stillborn: words.map(str::to_owned), urged: false }
}

fn every_stake() -> Vec<Stake> {
    let mut all = Vec::new();
    for bits in 0..16_u8 {
        let bit = |nth: u8| bits & (1 << nth) != 0;
        for load in [Load::Log, Load::Snapshot, Load::Nothing] {
            for word in [Word::Given, Word::AwaitedBriefly, Word::Awaited, Word::Refused] {
                let (formed, leads, replaced, overruled) = (bit(0), bit(1), bit(2), bit(3));
                all.push(Stake { formed, leads, load, replaced, overruled, word });
            }
        }
    }
    all
}

/// The line of the table that is about it.
fn line(stake: Stake) -> &'static str {
    match stake {
        Stake { word: Word::Refused, .. } => "it was gone when the agent began, and the coordinator bars this host",
        Stake { word: Word::Awaited, .. } => "the machine has booted, and the coordinator was not heard yet",
        Stake { word: Word::AwaitedBriefly, .. } => {
            "it ended in this boot, was gone when the agent began, and the coordinator was not heard yet"
        }
        Stake { formed: false, .. } | Stake { leads: false, .. } => {
            "it was no master with replicas of a formed cluster"
        }
        Stake { replaced: true, .. } => "another node has its slots",
        Stake { overruled: true, .. } => "an operator has overruled the guard by its name",
        Stake { load: Load::Nothing, .. } => "a master with replicas, with nothing to load",
        Stake { load: Load::Snapshot, .. } => "a master with replicas, with a snapshot to load",
        Stake { load: Load::Log, .. } => "a master with replicas, with its log to load",
    }
}

fn outcomes(stake: Stake) -> [String; 7] {
    let asks = [Word::Awaited, Word::AwaitedBriefly].contains(&stake.word);
    let now = if asks { Duration::ZERO } else { NOW };
    [past(0, None), past(1, None), past(2, None), past(3, None), past(4, None), past(5, None), past(1, Some(CONF))].map(
        |past| match decide(&past, stake, now) {
            Restart::Now => "at once".into(),
            Restart::At(due, Condition::Booting, _) => format!("asks, at most {} s", due.as_secs()),
            Restart::At(due, Condition::Guarded, _) => format!("waits for a successor, {} s", (due - NOW).as_secs()),
            Restart::At(due, condition, _) => format!("after {} s, `{}`", (due - NOW).as_secs(), condition.word()),
            Restart::Held(Condition::Guarded, _) => "only after a successor".into(),
            Restart::Held(condition, _) => format!("not, `{}`", condition.word()),
        },
    )
}

#[test]
fn the_table_is_the_code() {
    let mut text = String::from(
        "\n| | no end seen | 1st end in 300 s | 2nd | 3rd | 4th | 5th and more | it refuses its conf |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut lines: Vec<(&str, [String; 7])> = Vec::new();
    for stake in every_stake().into_iter().rev() {
        match lines.iter().find(|(known, _)| *known == line(stake)) {
            Some((known, before)) => assert_eq!(*before, outcomes(stake), "{known}: {stake:?}"),
            None => lines.push((line(stake), outcomes(stake))),
        }
    }
    for (line, outcomes) in &lines {
        writeln!(text, "| {line} | {} |", outcomes.join(" | ")).unwrap();
    }
    expect_file!["table.md"].assert_eq(&text);
}

#[test]
fn an_empty_master_waits_for_its_successor_however_long() {
    let empty = Stake { leads: true, load: Load::Nothing, ..SAFE };
    for exits in 0..10 {
        let held = decide(&past(exits, None), empty, NOW + Duration::from_secs(3600));
        assert!(matches!(held, Restart::Held(Condition::Guarded, _)), "{held:?}");
    }
    let snapshot = Stake { load: Load::Snapshot, ..empty };
    assert_eq!(decide(&past(1, None), snapshot, NOW + SUCCESSOR), Restart::Now, "nobody was elected");
    assert_eq!(decide(&past(0, None), snapshot, NOW), Restart::Now, "after a boot");
}

#[test]
fn after_a_boot_the_coordinator_is_asked_but_not_for_ever() {
    let booted = Stake { word: Word::Awaited, ..SAFE };
    let at = |now| decide(&past(0, None), booted, Duration::from_secs(now));
    assert!(matches!(at(19), Restart::At(ASKING, Condition::Booting, _)));
    assert_eq!(at(20), Restart::Now);
}

#[test]
fn what_ended_without_an_agent_is_asked_about_briefly_and_then_started_as_ever() {
    let began = Stake { word: Word::AwaitedBriefly, ..SAFE };
    let at = |now| decide(&past(0, None), began, Duration::from_millis(now));
    assert!(matches!(at(1999), Restart::At(ASKING_BRIEFLY, Condition::Booting, _)));
    assert_eq!(at(2000), Restart::Now);
    let empty = Stake { leads: true, load: Load::Nothing, ..began };
    assert!(matches!(decide(&past(0, None), empty, NOW), Restart::Held(Condition::Guarded, _)));
}

#[test]
fn pauses_have_jitter_and_old_ends_are_forgiven() {
    let mut past = past(4, None);
    past.exits[3].jitter = 255;
    let Restart::At(due, ..) = decide(&past, SAFE, NOW) else { panic!("at once") };
    assert_eq!(due - NOW, Duration::from_millis(4800), "a fifth more at most");
    let later = Exit { at: NOW + LOOP_SPAN, ending: Ending::Code(1), jitter: 0 };
    past.ended(later, None);
    assert_eq!(past.exits.len(), 1);
    assert_eq!(decide(&past, SAFE, NOW + LOOP_SPAN), Restart::Now);
}

#[test]
fn an_operators_wish_ends_a_pause_and_not_the_guard() {
    let urged = |words| Past { urged: true, ..past(5, words) };
    assert_eq!(decide(&urged(None), SAFE, NOW), Restart::Now);
    assert_eq!(decide(&urged(Some(CONF)), SAFE, NOW), Restart::Now);
    let empty = Stake { leads: true, load: Load::Nothing, ..SAFE };
    assert!(matches!(decide(&urged(None), empty, NOW), Restart::Held(Condition::Guarded, _)));
    assert_eq!(decide(&urged(None), Stake { overruled: true, ..empty }, NOW), Restart::Now);
}

#[test]
fn how_it_ended_is_said() {
    let mut past = past(5, Some("out of ideas"));
    past.exits[4].ending = Ending::OutOfMemory(None);
    let Restart::At(_, Condition::CrashLoop, why) = decide(&past, SAFE, NOW) else { panic!("no crash loop") };
    assert_eq!(
        why,
        "a crash loop: 5 ends in 300 s, the last: killed by the kernel, which was short of memory; its last words: out \
         of ideas"
    );
}
