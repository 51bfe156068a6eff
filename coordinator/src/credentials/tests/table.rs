//! Every cell of the table, and what may be said of the table as a whole.

use std::{collections::BTreeSet, fmt::Write as _};

use expect_test::expect;

use super::super::rotation::{Event, Kind, Next, Stage, next};

const KINDS: [Kind; 2] = [Kind::Passwords, Kind::Certificates];
const EVENTS: [Event; 3] = [Event::Converged, Event::Finish, Event::Cancel];

#[test]
fn every_cell() {
    let mut text = String::new();
    for kind in KINDS {
        for stage in Stage::ALL {
            let cells = EVENTS.map(|event| format!("{event:?}: {:?}", next(kind, stage, event)));
            writeln!(text, "{} {}: {}", kind.word(), stage.word(), cells.join(", ")).unwrap();
        }
    }
    expect![[r#"
        rotate-passwords ADD: Converged: To(Switch), Finish: TooEarly, Cancel: To(Withdraw)
        rotate-passwords SWITCH: Converged: To(Overlap), Finish: TooEarly, Cancel: TooLate
        rotate-passwords OVERLAP: Converged: Stay, Finish: To(Retire), Cancel: TooLate
        rotate-passwords RETIRE: Converged: Done, Finish: Stay, Cancel: TooLate
        rotate-passwords CANCEL: Converged: Undone, Finish: TooLate, Cancel: Stay
        rotate-certificates ADD: Converged: To(Overlap), Finish: TooEarly, Cancel: To(Withdraw)
        rotate-certificates SWITCH: Converged: To(Retire), Finish: Stay, Cancel: TooLate
        rotate-certificates OVERLAP: Converged: Stay, Finish: To(Switch), Cancel: To(Withdraw)
        rotate-certificates RETIRE: Converged: Done, Finish: Stay, Cancel: TooLate
        rotate-certificates CANCEL: Converged: Undone, Finish: TooLate, Cancel: Stay
    "#]]
    .assert_eq(&text);
}

/// All ways from the beginning, as stages with the events between them.
fn walks(kind: Kind, stage: Stage, walk: Vec<Stage>, ends: &mut Vec<(Vec<Stage>, Next)>) {
    assert!(walk.len() <= Stage::ALL.len(), "it turns in a circle: {walk:?}");
    for event in EVENTS {
        match next(kind, stage, event) {
            Next::To(to) => walks(kind, to, [walk.as_slice(), &[to]].concat(), ends),
            end @ (Next::Done | Next::Undone) => ends.push((walk.clone(), end)),
            Next::Stay | Next::TooEarly | Next::TooLate => {}
        }
    }
}

#[test]
fn every_stage_leads_to_an_end_and_the_new_is_never_left_once_it_is_used() {
    for kind in KINDS {
        let mut ends = Vec::new();
        walks(kind, Stage::Add, vec![Stage::Add], &mut ends);
        let seen: BTreeSet<_> = ends.iter().flat_map(|(walk, _)| walk).map(|stage| stage.word()).collect();
        assert_eq!(seen.len(), Stage::ALL.len(), "no stage is for nothing");
        for (walk, end) in ends {
            let used = walk.contains(&Stage::Switch);
            assert_eq!(end, if used { Next::Done } else { Next::Undone }, "{walk:?}");
            assert_eq!(walk.contains(&Stage::Overlap) || !used, true, "clients have moved: {walk:?}");
        }
    }
}
