//! Every small world: the whole table to read, and what must hold in all of it.

use expect_test::{expect, expect_file};
use muster_proto::{Former, Incarnation, Life, OperationId};

use super::*;
use crate::restart::{Load, Word};
use crate::samples::{assignment, id, port, stamp, view};

mod adjusting;

pub(super) const NOW: Duration = Duration::from_secs(1000);
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// One world, in words, and all that the judgement depends on.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) want: Want,
    pub(super) formed: bool,
    pub(super) directory: (&'static str, Directory),
    pub(super) process: (&'static str, ProcessSeen),
    pub(super) answer: (&'static str, Answer),
    pub(super) beside: Beside,
}

/// What else may be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nothing.
    Plain,
    /// There is a permit for the former life.
    Permitted,
    /// The directory is to be put back, and is in the trash.
    Restore,
    /// The directory is to be put back, and is not in the trash.
    Missing,
}

const BESIDE: [Beside; 4] = [Beside::Plain, Beside::Permitted, Beside::Restore, Beside::Missing];

/// A life that an operation has ended; it is node 7's.
pub(super) fn former() -> Former {
    let operation = OperationId(uuid::Uuid::from_u128(7));
    Former { operation, incarnation: Incarnation(7), life: Life(7), node_id: id(7) }
}

/// Its directory.
pub(super) fn leaving() -> Leaving {
    let Former { operation, incarnation, life, node_id } = former();
    Leaving { stamp: Stamp { incarnation, life, node_id, formed: true, ..stamp() }, operation, new_life: Life(1) }
}

impl World {
    pub(super) fn seen(&self) -> Seen {
        let stake = Stake {
            formed: self.formed,
            leads: true,
            load: Load::Log,
            replaced: false,
            overruled: false,
            word: Word::Given,
        };
        Seen {
            directory: self.directory.1.clone(),
            path: "/base/7000".into(),
            socket: "/base/7000/redis.sock".into(),
            process: self.process.1.clone(),
            answer: self.answer.1.clone(),
            past: Past::default(),
            stake,
            failed: None,
            saving: false,
            silent: Duration::MAX,
            unwilling: None,
            outside: None,
            applied: None,
            granted: (self.beside == Beside::Permitted).then(leaving),
            trashed: if self.beside == Beside::Restore { Ok(()) } else { Err("it is not in the trash".into()) },
        }
    }

    pub(super) fn judge(&self) -> Verdict {
        self.judge_seen(self.seen(), &rules())
    }

    pub(super) fn judge_seen(&self, seen: Seen, rules: &Rules) -> Verdict {
        self.judge_changed(seen, rules, |_| {})
    }

    pub(super) fn judge_changed(
        &self,
        seen: Seen,
        rules: &Rules,
        change: impl FnOnce(&mut InstanceAssignment),
    ) -> Verdict {
        let seen = BTreeMap::from([(port(7000), seen)]);
        let mut assignment = assignment(self.want, self.formed);
        let instance = &mut assignment.clusters[0].instances[0];
        instance.formers =
            vec![Former { operation: OperationId(uuid::Uuid::max()), life: Life(8), ..former() }, former()];
        instance.restore = [Beside::Restore, Beside::Missing].contains(&self.beside);
        change(instance);
        plan(&assignment, &seen, rules, NOW).remove(&port(7000)).unwrap()
    }
}

pub(super) fn rules() -> Rules {
    Rules { server: Ok("redis 7.0.15".parse().unwrap()), stop_patience: PATIENCE, certificates: Arc::default() }
}

fn directories() -> Vec<(&'static str, Directory)> {
    let latched = Stamp { formed: true, ..stamp() };
    let other_life = Stamp { life: Life(2), ..stamp() };
    let other_node = Stamp { node_id: id(9), formed: true, ..stamp() };
    vec![
        ("free", Directory::Free),
        ("ours", Directory::Stamped(stamp())),
        ("latched", Directory::Stamped(latched)),
        ("other life", Directory::Stamped(other_life)),
        ("other node", Directory::Stamped(other_node)),
        ("former", Directory::Stamped(leaving().stamp)),
        ("foreign", Directory::Foreign("a file".into())),
        ("unreadable", Directory::Unreadable("input/output error".into())),
    ]
}

fn processes() -> Vec<(&'static str, ProcessSeen)> {
    let ours = |stopping| ProcessSeen::Ours { pid: 4711, stopping, outdated: false };
    vec![
        ("none", ProcessSeen::None),
        ("ours", ours(None)),
        ("asked to stop", ours(Some(Duration::from_secs(5)))),
        ("does not stop", ours(Some(PATIENCE))),
        ("earlier run", ProcessSeen::Ours { pid: 4711, stopping: None, outdated: true }),
        ("foreign", ProcessSeen::Foreign("pid 1 listens there".into())),
        ("unknown", ProcessSeen::Unknown("the lock is held by pid 1".into())),
    ]
}

fn answers() -> Vec<(&'static str, Answer)> {
    vec![
        ("silent", Answer::Silent("connection refused".into())),
        ("hung", Answer::Hung("no answer within 5 s".into())),
        ("frozen", Answer::Frozen('T')),
        ("loading", Answer::Loading),
        ("answers", Answer::View(Box::new(view()))),
    ]
}

/// Those that differ only in what is beside stand together, and in those those that differ only in the answer.
fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for want in [Want::Prepared, Want::Running, Want::Stopped, Want::SetAside, Want::Retired] {
        for formed in [false, true] {
            for directory in directories() {
                for process in processes() {
                    for beside in BESIDE {
                        for answer in answers() {
                            let (directory, process) = (directory.clone(), process.clone());
                            worlds.push(World { want, formed, directory, process, answer, beside });
                        }
                    }
                }
            }
        }
    }
    worlds
}

pub(super) fn name(step: &Step) -> &'static str {
    match step {
        Step::Prepare { .. } => "PREPARE",
        Step::Start { .. } => "START",
        Step::Adjust { .. } => "ADJUST",
        Step::Stop => "STOP",
        Step::Kill => "KILL",
        Step::Latch { .. } => "LATCH",
        Step::SetAside { .. } => "SET ASIDE",
        Step::Wipe { .. } => "WIPE",
        Step::Restore { .. } => "RESTORE",
    }
}

#[test]
fn a_server_out_of_its_scope_runs_and_is_said_to_be_so() {
    let outside = |answer| {
        let world = World {
            want: Want::Running,
            formed: true,
            directory: ("ours", Directory::Stamped(Stamp { formed: true, ..stamp() })),
            process: ("ours", ProcessSeen::Ours { pid: 7, stopping: None, outdated: false }),
            answer: ("", answer),
            beside: Beside::Plain,
        };
        world.judge_seen(Seen { outside: Some("no D-Bus".into()), ..world.seen() }, &rules())
    };
    let running = outside(Answer::View(Box::new(view())));
    assert_eq!(running.condition, Some(Condition::Unscoped));
    assert_eq!((running.state, running.reason.as_str(), &running.step), (InstanceState::Running, "no D-Bus", &None));
    assert!(running.converged(), "what was assigned is so: limits are no reason to hold up a rotation");
    let loading = outside(Answer::Loading);
    assert_eq!((loading.condition, loading.reason.as_str()), (Some(Condition::Loading), "loading its data set"));
}

/// Worlds that differ only in the answer, and are judged alike, share a line; those that something is beside stand
/// there only where that makes a difference.
#[test]
fn the_whole_table() {
    let mut text = String::new();
    for alike_but in worlds().chunks(BESIDE.len() * answers().len()) {
        let groups = alike_but.chunks(answers().len());
        let judged: Vec<Vec<_>> = groups.clone().map(|group| group.iter().map(World::judge).collect()).collect();
        for (group, verdicts) in groups.zip(&judged) {
            if group[0].beside == Beside::Plain || *verdicts != judged[0] {
                text.push_str(&lines(group, verdicts));
            }
        }
    }
    expect_file!["./table.txt"].assert_eq(&text);
}

fn lines(group: &[World], verdicts: &[Verdict]) -> String {
    let alike = verdicts.windows(2).all(|pair| pair[0] == pair[1]);
    let shown = if alike { 1 } else { group.len() };
    let line = |(world, verdict): (&World, &Verdict)| {
        let beside = [String::new(), format!(" ({:?})", world.beside)];
        let line = format!(
            "{:8} {:8} {:10} {:13} {:7} => {:8} {:9} {} {}{}{}",
            format!("{:?}", world.want),
            if world.formed { "formed" } else { "-" },
            world.directory.0,
            world.process.0,
            if alike { "*" } else { world.answer.0 },
            verdict.state.word(),
            verdict.step.as_ref().map_or("-", name),
            verdict.wake.map_or_else(|| "-".to_owned(), |wake| format!("+{}s", (wake - NOW).as_secs())),
            verdict.reason,
            if verdict.asks.is_some() { " (asks)" } else { "" },
            beside[usize::from(world.beside != Beside::Plain)],
        );
        format!("{}\n", line.trim_end())
    };
    group.iter().zip(verdicts).take(shown).map(line).collect()
}

// --- in every world
// ---------------------------------------------------------------------------------------------------

pub(super) fn everywhere(holds: impl Fn(&World, &Verdict) -> bool) {
    for world in worlds() {
        let verdict = world.judge();
        assert!(holds(&world, &verdict), "{world:#?}\n{verdict:#?}");
    }
}

pub(super) fn step(verdict: &Verdict) -> &'static str {
    verdict.step.as_ref().map_or("-", name)
}

#[test]
fn nothing_is_started_but_where_certainly_nothing_runs() {
    everywhere(|world, verdict| step(verdict) != "START" || world.process.1 == ProcessSeen::None);
}

#[test]
fn a_directory_is_made_only_where_there_is_none_nor_ever_was_one_with_data() {
    everywhere(|world, verdict| {
        let free = world.directory.1 == Directory::Free && world.process.1 == ProcessSeen::None;
        let made = [Want::Prepared, Want::Running].contains(&world.want);
        let restored = [Beside::Restore, Beside::Missing].contains(&world.beside);
        step(verdict) != "PREPARE" || (free && !world.formed && made && !restored)
    });
}

#[test]
fn only_a_directory_of_this_very_life_that_never_formed_is_set_aside() {
    everywhere(|world, verdict| {
        let mine = matches!(&world.directory.1, Directory::Stamped(found) if *found == stamp());
        let dead = matches!(world.process.1, ProcessSeen::None | ProcessSeen::Foreign(_));
        step(verdict) != "SET ASIDE" || (mine && dead && !world.formed && world.want == Want::SetAside)
    });
}

#[test]
fn only_a_server_of_ours_in_its_own_directory_is_stopped_and_only_where_somebody_wants_that() {
    everywhere(|world, verdict| {
        let ours = matches!(world.process.1, ProcessSeen::Ours { .. });
        let former = world.directory.0 == "former";
        let wanted = match world.want {
            Want::Retired => former,
            Want::SetAside => !world.formed && world.directory.0 == "ours",
            Want::Stopped => true,
            // Another run is wanted, or it was asked to stop already.
            Want::Running => world.process.0 != "ours",
            Want::Prepared => ["asked to stop", "does not stop"].contains(&world.process.0),
        };
        let stops = ["STOP", "KILL"].contains(&step(verdict));
        let leaves = former && world.want != Want::SetAside;
        // Asked it is wherever it stands, where nothing is to run.
        let bereft = ["free", "foreign", "unreadable"].contains(&world.directory.0);
        let asked = world.want == Want::Stopped && bereft && step(verdict) == "STOP";
        !stops || (ours && (asked || leaves || (wanted && ["ours", "latched"].contains(&world.directory.0))))
    });
}

#[test]
fn what_is_to_be_stopped_is_never_started_and_is_stopped_only_when_its_lock_is_free() {
    everywhere(|world, verdict| {
        let free = matches!(world.process.1, ProcessSeen::None | ProcessSeen::Foreign(_));
        world.want != Want::Stopped || (step(verdict) != "START" && (verdict.state == InstanceState::Stopped) == free)
    });
}

#[test]
fn a_server_that_saves_or_waits_for_its_replicas_is_not_killed_for_that() {
    let world = world(Want::Running, true, "latched", "does not stop");
    assert_eq!(step(&world.judge()), "KILL");
    assert_eq!(step(&world.judge_seen(Seen { saving: true, ..world.seen() }, &rules())), "-");
    let rules = Rules { stop_patience: Duration::from_secs(1), ..rules() };
    let waits = |since: u64, answer: Answer| {
        let process = ProcessSeen::Ours { pid: 4711, stopping: Some(Duration::from_secs(since)), outdated: false };
        world.judge_seen(Seen { process, answer, ..world.seen() }, &rules).step.is_none()
    };
    let answers = || Answer::View(Box::new(view()));
    assert!(waits(2, answers()) && waits(11, answers()) && !waits(12, answers()));
    assert!(!waits(2, Answer::Frozen('T')) && !waits(2, Answer::Hung("silent".into())));
}

#[test]
fn an_unknown_process_is_left_alone_and_looked_at_again() {
    everywhere(|world, verdict| {
        let unknown = matches!(world.process.1, ProcessSeen::Unknown(_));
        !unknown || (verdict.step.is_none() && verdict.state == InstanceState::Unknown && verdict.wake > Some(NOW))
    });
}

#[test]
fn where_somebody_else_is_nothing_is_started_or_written() {
    everywhere(|world, verdict| {
        let foreign = matches!(world.process.1, ProcessSeen::Foreign(_));
        !foreign || ["-", "SET ASIDE"].contains(&step(verdict))
    });
}

#[test]
fn what_is_not_ours_is_not_touched() {
    everywhere(|world, verdict| {
        let ours = ["free", "ours", "latched", "former"].contains(&world.directory.0);
        // A server of ours is asked to stop, which is not about the directory.
        ours || verdict.step.is_none() || verdict.step == Some(Step::Stop)
    });
}

#[test]
fn a_latch_is_never_taken_back() {
    everywhere(|world, verdict| match &verdict.step {
        Some(Step::Prepare { stamp, .. }) => !stamp.formed,
        Some(Step::Latch { .. }) => world.formed,
        _ => true,
    });
}

#[test]
fn where_something_is_missing_there_is_a_reason() {
    everywhere(|_, verdict| verdict.converged() || !verdict.reason.is_empty());
}

/// Absent is what lets the coordinator forget a cluster.
#[test]
fn nothing_of_ours_runs_where_nothing_is_said_to_be() {
    everywhere(|world, verdict| {
        let gone = verdict.state == InstanceState::Absent && verdict.step.is_none();
        let other = ["other life", "other node", "former"].contains(&world.directory.0);
        !gone || other || matches!(world.process.1, ProcessSeen::None | ProcessSeen::Foreign(_))
    });
}

#[test]
fn a_failed_step_waits_for_its_time_and_nothing_else_does() {
    let wait = Duration::from_secs(2);
    for world in worlds() {
        let free = world.judge();
        let again = |due| world.judge_seen(Seen { failed: Some(("disk full".into(), due)), ..world.seen() }, &rules());
        let now = again(NOW);
        assert_eq!((&now.step, &now.asks), (&free.step, &free.asks), "its time has come: {world:?}");
        let early = again(NOW + wait);
        let leaves = free.asks.is_some() || step(&free) == "WIPE";
        if leaves {
            assert_eq!((&early.step, &early.asks, early.wake), (&None, &None, Some(NOW + wait)), "{world:?}");
        } else if free.step.is_some() {
            assert_eq!(early, Verdict::blocked("disk full").at(NOW + wait), "{world:?}");
        } else {
            assert_eq!(early, free, "{world:?}");
        }
    }
}

#[test]
fn without_a_server_nothing_is_prepared_or_started_and_the_rest_goes_on() {
    for (server, words) in [
        (Err("no redis-server".to_owned()), "no redis-server"),
        (Ok("redis 3.0.6".parse().unwrap()), "the nodes.conf of redis 3.0.6 is not known to this version"),
    ] {
        let rules = Rules { server: server.clone(), ..rules() };
        for world in worlds() {
            let (with, without) = (world.judge(), world.judge_seen(world.seen(), &rules));
            let needed = step(&with) == "PREPARE" || (step(&with) == "START" && server.is_err());
            if needed {
                assert_eq!(without, Verdict::blocked(words), "{world:?}");
            } else {
                assert_eq!(step(&without), step(&with), "{world:?}");
            }
        }
    }
}

// --- single worlds
// ----------------------------------------------------------------------------------------------------

pub(super) fn world(want: Want, formed: bool, directory: &str, process: &str) -> World {
    let found = worlds().into_iter().find(|world| {
        (world.want, world.formed, world.directory.0, world.process.0) == (want, formed, directory, process)
    });
    found.unwrap()
}

#[test]
fn an_empty_master_of_a_formed_cluster_is_held_until_it_is_replaced() {
    let world = world(Want::Running, true, "latched", "none");
    let with = |stake| world.judge_seen(Seen { stake, ..world.seen() }, &rules());
    let empty =
        Stake { formed: true, leads: true, load: Load::Nothing, replaced: false, overruled: false, word: Word::Given };
    let held = with(empty);
    assert_eq!((held.state, &held.step), (InstanceState::Blocked, &None));
    assert_eq!(step(&with(Stake { replaced: true, ..empty })), "START");
}

#[test]
fn a_restart_waits_for_its_pause() {
    let world = world(Want::Running, true, "latched", "none");
    let exit = |at| restart::Exit { at, ending: restart::Ending::Code(1), jitter: 0 };
    let past = Past { exits: vec![exit(NOW - Duration::from_secs(3)), exit(NOW)], ..Past::default() };
    let verdict = world.judge_seen(Seen { past, ..world.seen() }, &rules());
    assert_eq!(
        (verdict.state, verdict.step, verdict.wake),
        (InstanceState::Down, None, Some(NOW + Duration::from_secs(1)))
    );
}

fn text_of<'a>(files: &'a [ConfFile], name: &str) -> &'a str {
    files.iter().find(|file| file.name == name).map_or("", |file| file.text.expose())
}

#[test]
fn a_prepared_directory_is_complete() {
    let verdict = world(Want::Prepared, false, "free", "none").judge();
    let Some(Step::Prepare { stamp: made, files }) = verdict.step else { panic!("{verdict:?}") };
    let [redis_conf, nodes_conf] = ["redis.conf", "nodes.conf"].map(|name| text_of(&files, name));
    assert_eq!(made, stamp());
    assert!(redis_conf.contains("\nport 7000\n") && redis_conf.contains("\ndir /base/7000\n"), "{redis_conf}");
    expect![[r#"
        0101010101010101010101010101010101010101 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-8191
        0303030303030303030303030303030303030303 127.0.0.2:7000@17000 master - 0 0 2 connected 8192-16383
        0202020202020202020202020202020202020202 127.0.0.2:7001@17001 slave 0101010101010101010101010101010101010101 0 0 1 connected
        0404040404040404040404040404040404040404 127.0.0.1:7001@17001 slave 0303030303030303030303030303030303030303 0 0 2 connected
        vars currentEpoch 2 lastVoteEpoch 0
    "#]]
    .assert_eq(nodes_conf);
}

#[test]
fn an_instance_that_the_topology_does_not_know_is_not_started() {
    let mut assignment = assignment(Want::Running, false);
    assignment.clusters[0].instances[0].node_id = id(9);
    let mut seen = world(Want::Running, false, "ours", "none").seen();
    seen.directory = Directory::Stamped(Stamp { node_id: id(9), ..stamp() });
    let seen = BTreeMap::from([(port(7000), seen)]);
    let verdicts = plan(&assignment, &seen, &rules(), NOW);
    expect!["node 0909090909090909090909090909090909090909 is not in the topology"]
        .assert_eq(&verdicts[&port(7000)].reason);
    assert_eq!(verdicts.len(), 1, "a port that was not looked at is not judged");
}
