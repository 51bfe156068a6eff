//! Every cell of the table, and what may be said of the table as a whole.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use expect_test::expect;

use super::{
    super::{
        rotation::{Event, Kind, Next, Rotation, Stage, next},
        step::{line, needs_operator},
    },
    id,
};
use crate::formation::Culprit;

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
            assert!(walk.contains(&Stage::Overlap) || !used, "clients have moved: {walk:?}");
        }
    }
}

fn culprit(name: &str, stuck: bool) -> Culprit {
    Culprit { name: name.into(), why: "has not been heard of for 60 s".into(), stuck }
}

#[test]
fn what_it_waits_for_is_said_at_every_stage() {
    let (one, two) = ([culprit("server1", false)], [culprit("server1", false), culprit("server2", false)]);
    let mut text = String::new();
    for kind in KINDS {
        for stage in Stage::ALL {
            let rotation = Rotation { operation: id(1), kind, stage };
            writeln!(text, "{}", line(&"orders".parse().unwrap(), rotation, &[])).unwrap();
        }
    }
    let rotation = Rotation { operation: id(1), kind: Kind::Passwords, stage: Stage::Add };
    for behind in [one.as_slice(), &two] {
        writeln!(text, "{}", line(&"orders".parse().unwrap(), rotation, behind)).unwrap();
    }
    expect![[r#"
        every instance accepts the new passwords beside the old ones
        agents and replicas use the new passwords
        old and new passwords are accepted; clients move now (muster credentials orders shows the new one), then: muster credentials finish orders
        the old passwords are accepted no longer
        the new passwords are taken back
        every instance believes the new authority beside the old one
        every instance exchanges its certificate
        every instance believes both authorities; clients move now (muster credentials orders shows what to believe), then: muster credentials finish orders
        the old authority is believed no longer
        the new authority is taken back
        every instance accepts the new passwords beside the old ones; waiting for server1: has not been heard of for 60 s
        every instance accepts the new passwords beside the old ones; waiting for server1: has not been heard of for 60 s (and 1 more)
    "#]].assert_eq(&text);
}

#[test]
fn a_person_is_needed_when_nothing_moves_or_somebody_is_stuck_and_is_told_the_way_out_that_there_is() {
    let patience = Duration::from_secs(60);
    let needs = |kind, stage, behind: &[Culprit], still| {
        let rotation = Rotation { operation: id(1), kind, stage };
        needs_operator(rotation, behind, Duration::from_secs(still), patience)
    };
    let (slow, stuck) = ([culprit("server1", false)], [culprit("server1", false), culprit("server2", true)]);
    for kind in KINDS {
        for stage in Stage::ALL {
            assert_eq!(needs(kind, stage, &[], 999), None, "nobody is behind");
            let waits = stage != Stage::Overlap;
            assert_eq!(needs(kind, stage, &slow, 59), None);
            assert_eq!(needs(kind, stage, &slow, 60).is_some(), waits, "{stage:?}");
            assert_eq!(needs(kind, stage, &stuck, 0).is_some(), waits, "{stage:?}");
        }
    }
    let said = [
        needs(Kind::Passwords, Stage::Add, &slow, 60),
        needs(Kind::Passwords, Stage::Retire, &slow, 130),
        needs(Kind::Certificates, Stage::Switch, &stuck, 0),
    ];
    expect![[r#"
        every instance accepts the new passwords beside the old ones; nothing has moved for 60 s; server1: has not been heard of for 60 s; mend it and it goes on by itself, or call it off: muster op cancel 00000000-0000-0000-0000-000000000001
        the old passwords are accepted no longer; nothing has moved for 120 s; server1: has not been heard of for 60 s; mend it and it goes on by itself
        every instance exchanges its certificate; server2: has not been heard of for 60 s; mend it and it goes on by itself
    "#]].assert_eq(&said.map(|why| why.unwrap() + "\n").concat());
}
