//! The phase, for every goal and everything that one instance can say, while the others are where they should be.

use expect_test::{Expect, expect};
use muster_proto::{SlotRange, topology::Node};

use super::*;
use crate::samples::{absent, blueprint, heard, id, nodes_text, running, view};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a member says once it is where the goal wants it.
fn settled(blueprint: &Blueprint, goal: Goal, member: &Member) -> InstanceStatus {
    match goal {
        Goal::Prepared => InstanceStatus { state: InstanceState::Prepared, ..absent(blueprint, member) },
        Goal::Running => running(blueprint, member),
        Goal::SetAside => absent(blueprint, member),
    }
}

/// What the others say is settled; the first member's status is changed. The line that people read, and why one of them
/// is needed, at once and after a long time.
fn line(goal: Goal, change: impl Fn(&Blueprint, &mut InstanceStatus)) -> String {
    let blueprint = blueprint();
    let heard = heard(&blueprint, |member| {
        let mut status = settled(&blueprint, goal, member);
        if member.node_id == blueprint.members[0].node_id {
            change(&blueprint, &mut status);
        }
        status
    });
    said(&phase(&blueprint, goal, false, &heard))
}

fn said(phase: &Phase) -> String {
    let now = needs_operator(phase, Duration::ZERO, PATIENCE).map_or("", |_| " | STUCK");
    let later = needs_operator(phase, PATIENCE, PATIENCE).is_some();
    format!("{:9} {phase}{now}{}", phase.word(), if later { "" } else { " | never stuck" })
}

#[test]
fn every_state_of_an_instance_under_every_goal() {
    use InstanceState::{Absent, Blocked, Down, Prepared, Running, Starting, Stopping, Unknown};
    let mut text = String::new();
    for goal in [Goal::Prepared, Goal::Running, Goal::SetAside] {
        for state in [Absent, Prepared, Starting, Running, Stopping, Down, Blocked, Unknown] {
            let line = line(goal, |_, status| {
                status.state = state;
                status.reason = if state == Blocked { "disk full".into() } else { String::new() };
            });
            text.push_str(&format!("{:9} {:8} => {line}\n", goal.word(), state.word()));
        }
    }
    expect![[r#"
        prepared  absent   => CONFIGURE writing directories and confs; waiting for server1:7000: absent
        prepared  prepared => CONFIGURE writing directories and confs | never stuck
        prepared  starting => CONFIGURE writing directories and confs | never stuck
        prepared  running  => CONFIGURE writing directories and confs | never stuck
        prepared  stopping => CONFIGURE writing directories and confs; waiting for server1:7000: stopping
        prepared  down     => CONFIGURE writing directories and confs; waiting for server1:7000: down
        prepared  blocked  => CONFIGURE writing directories and confs; waiting for server1:7000: disk full | STUCK
        prepared  unknown  => CONFIGURE writing directories and confs; waiting for server1:7000: unknown
        running   absent   => START     starting the servers; waiting for server1:7000: absent
        running   prepared => START     starting the servers; waiting for server1:7000: prepared
        running   starting => START     starting the servers; waiting for server1:7000: starting
        running   running  => VERIFY    writing and reading through every master
        running   stopping => START     starting the servers; waiting for server1:7000: stopping
        running   down     => START     starting the servers; waiting for server1:7000: down
        running   blocked  => START     starting the servers; waiting for server1:7000: disk full | STUCK
        running   unknown  => START     starting the servers; waiting for server1:7000: unknown
        set-aside absent   => CANCEL    called off; what was made has been set aside | never stuck
        set-aside prepared => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: prepared
        set-aside starting => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: starting
        set-aside running  => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: running
        set-aside stopping => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: stopping
        set-aside down     => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: down
        set-aside blocked  => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: disk full | STUCK
        set-aside unknown  => CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: unknown
    "#]].assert_eq(&text);
}

#[test]
fn who_is_silent_or_unheard_of_is_a_culprit_under_every_goal() {
    let mut text = String::new();
    let blueprint = blueprint();
    for goal in [Goal::Prepared, Goal::Running, Goal::SetAside] {
        let mut heard = heard(&blueprint, |member| settled(&blueprint, goal, member));
        let first = &blueprint.members[0];
        heard.instances.remove(&first.node_id);
        text.push_str(&format!("{}\n", said(&phase(&blueprint, goal, false, &heard))));
        heard.silent.insert(first.host.clone(), "not heard of for 9 s".into());
        text.push_str(&format!("{}\n", said(&phase(&blueprint, goal, false, &heard))));
    }
    expect![[r#"
        CONFIGURE writing directories and confs; waiting for server1:7000: not reported yet
        CONFIGURE writing directories and confs; waiting for server1:7000: not heard of for 9 s (and 2 more)
        START     starting the servers; waiting for server1:7000: not reported yet
        START     starting the servers; waiting for server1:7000: not heard of for 9 s (and 2 more)
        CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: not reported yet
        CANCEL    stopping the servers and setting their directories aside; waiting for server1:7000: not heard of for 9 s (and 2 more)
    "#]].assert_eq(&text);
}

#[test]
fn formed_is_formed_whatever_is_heard() {
    for goal in [Goal::Prepared, Goal::Running, Goal::SetAside] {
        assert_eq!(phase(&blueprint(), goal, true, &Heard::default()), Phase::Formed);
    }
    expect!["FORMED    formed: all 16384 slots are served | never stuck"].assert_eq(&said(&Phase::Formed));
}

/// Nobody is called for one who only needs time.
#[test]
fn who_loads_or_saves_gets_on_and_who_waits_does_not() {
    let blueprint = blueprint();
    let works = |condition| {
        let one = |member: &Member| {
            let mut status = settled(&blueprint, Goal::Running, member);
            status.account.condition = condition;
            (member.node_id, status)
        };
        Heard { instances: blueprint.members.iter().take(1).map(one).collect(), ..Heard::default() }.works()
    };
    let now =
        [None, Some(Condition::Loading), Some(Condition::Saving), Some(Condition::Backoff), Some(Condition::Frozen)];
    assert_eq!(now.map(works), [false, true, true, false, false]);
}

// --- what a running instance may lack
// ---------------------------------------------------------------------------------

fn lacks(change: impl Fn(&Blueprint, &mut NodeView), expected: Expect) {
    expected.assert_eq(&line(Goal::Running, |blueprint, status| change(blueprint, status.view.as_mut().unwrap())));
}

/// The blueprint's topology, its nodes changed, as the first member sees it.
fn seen(blueprint: &Blueprint, view: &mut NodeView, change: impl Fn(&mut Vec<Node>)) {
    let mut nodes = blueprint.topology().nodes().to_vec();
    change(&mut nodes);
    let topology = Topology::new(nodes);
    view.digest = topology.digest();
    view.nodes_text = Some(nodes_text(&topology, view.node_id));
}

#[test]
fn a_master_is_verified_by_its_own_view_and_nothing_less() {
    lacks(|_, _| {}, expect!["VERIFY    writing and reading through every master"]);
    lacks(|_, view| view.link_up = false, expect!["VERIFY    writing and reading through every master"]);
    lacks(
        |_, view| view.node_id = id(99),
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: another node answers there: 6363636363636363636363636363636363636363"
        ],
    );
    lacks(
        |_, view| view.cluster_ok = false,
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: cluster_state is not ok yet (a master waits 2 s before it serves)"
        ],
    );
    lacks(
        |_, view| view.known_nodes = 7,
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: knows 7 of 6 nodes"
        ],
    );
    lacks(
        |_, view| view.online_replicas = 0,
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: 0 of 1 replicas are in sync"
        ],
    );
    lacks(
        |_, view| view.troubles = vec!["10.0.0.9:7000 (99999999) is in state handshake".into()],
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: thinks that 10.0.0.9:7000 (99999999) is in state handshake"
        ],
    );
    lacks(
        |_, view| view.digest = Sha256([0; 32]),
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: sees another topology than planned"
        ],
    );
    lacks(
        |blueprint, view| seen(blueprint, view, |nodes| drop(nodes.pop())),
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: does not know 10.0.0.2:7005@17005 replica of 0808080808080808080808080808080808080808"
        ],
    );
    let one = SlotRange::new(0, 0).unwrap();
    lacks(
        |blueprint, view| seen(blueprint, view, |nodes| nodes[0].role = Role::Master { slots: vec![one] }),
        expect![
            "VERIFY    comparing every node's own view with the blueprint; waiting for server1:7000: sees 10.0.0.1:7000@17000 master 0 where 10.0.0.1:7000@17000 master 0-5460 is right"
        ],
    );
    assert_eq!(
        line(Goal::Running, |_, status| status.view = None),
        "START     starting the servers; waiting for server1:7000: running",
        "running without a word is not enough"
    );
}

#[test]
fn a_replica_is_verified_when_its_link_is_up() {
    let blueprint = blueprint();
    let heard = heard(&blueprint, |member| {
        let link_up = member.role.master().is_none();
        InstanceStatus { view: Some(NodeView { link_up, ..view(&blueprint, member) }), ..running(&blueprint, member) }
    });
    expect!["VERIFY    comparing every node's own view with the blueprint; waiting for server2:7004: its link to its master is not up (and 2 more)"].assert_eq(&said(&phase(&blueprint, Goal::Running, false, &heard)));
}

#[test]
fn whoever_is_stuck_is_named_before_whoever_waits() {
    let culprit = |name: &str, stuck| Culprit { name: name.into(), why: "why".into(), stuck };
    let phase = Phase::Start { unsettled: vec![culprit("a:1", false), culprit("b:2", true)] };
    assert_eq!(needs_operator(&phase, Duration::ZERO, PATIENCE).as_deref(), Some("b:2: why"));
    let phase = Phase::Start { unsettled: vec![culprit("a:1", false)] };
    assert_eq!(needs_operator(&phase, PATIENCE - Duration::from_millis(1), PATIENCE), None);
    let needed = needs_operator(&phase, PATIENCE, PATIENCE);
    assert_eq!(needed.as_deref(), Some("nothing has moved for 30 s; a:1: why"));
}

#[test]
fn goals_come_back_from_the_store_and_others_do_not() {
    for goal in [Goal::Prepared, Goal::Running, Goal::SetAside] {
        assert_eq!(Goal::from_word(goal.word()), Some(goal));
    }
    assert_eq!(Goal::from_word("destroyed"), None);
}

#[test]
fn an_hour_of_waiting_is_an_event_a_minute_and_a_few_at_the_beginning() {
    let mut said: Vec<u64> = (0..3600).map(|second| steps(Duration::from_secs(second))).collect();
    said.dedup();
    assert_eq!(said[..7], [0, 3, 10, 30, 60, 120, 180]);
    assert_eq!(said.len(), 63);
}
