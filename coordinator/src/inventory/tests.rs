//! Who is live, what formation may lean on, and what a plan does.

use expect_test::expect;
use muster_proto::{InstanceStatus, Member};

use super::*;
use crate::{
    blueprint::Blueprint,
    samples::{blueprint, hello, id, inventory, report, running, session},
};

fn name(host: &str) -> HostName {
    host.parse().unwrap()
}

fn all_well(blueprint: &Blueprint) -> Inventory {
    inventory(blueprint, |member: &Member| running(blueprint, member))
}

fn live(inventory: &Inventory) -> bool {
    inventory.live(inventory.get(&name("server1")).unwrap())
}

#[test]
fn live_is_who_has_a_stream_and_has_reported_and_is_heard() {
    let hour = Duration::from_secs(3600);
    let mut inventory = Inventory::new(hour);
    inventory.remember(hello("server1"), Generation(1));
    assert!(!live(&inventory), "it called before this coordinator started");
    inventory.arrive(hello("server1"), Generation(1), session(1));
    assert!(!live(&inventory), "it has said hello and no more");
    inventory.get_mut(&name("server1")).unwrap().report = Some(report(Vec::new()));
    assert!(live(&inventory));
    inventory.depart(&name("server1"), session(2).id);
    assert!(live(&inventory), "an older stream that ends late is not its stream");
    inventory.depart(&name("server1"), session(1).id);
    assert!(!live(&inventory));
}

#[test]
fn a_host_that_is_not_heard_is_unknown_after_three_heartbeats() {
    let blueprint = blueprint();
    let heartbeat = Duration::from_secs(10);
    for (silence, expected) in [(0, true), (29, true), (31, false)] {
        let mut inventory = all_well(&blueprint);
        inventory.heartbeat = heartbeat;
        let heard = Instant::now().checked_sub(Duration::from_secs(silence)).unwrap();
        inventory.get_mut(&name("server1")).unwrap().heard = heard;
        assert_eq!(live(&inventory), expected, "{silence} s");
        assert_eq!(inventory.heard(&blueprint, &Bars::new()).silent.is_empty(), expected, "{silence} s");
    }
}

/// A way to call again, and whether what was said before still holds then.
type Again = (fn(&mut Hello), bool);

#[test]
fn what_was_said_before_holds_for_the_same_process_alone() {
    let changes: [Again; 4] = [
        (|_| {}, true),
        (|hello| hello.pid = 2, false),
        (|hello| hello.boot_id = "another".into(), false),
        (|hello| hello.identity = Uuid::max(), false),
    ];
    for (change, holds) in changes {
        let mut inventory = all_well(&blueprint());
        let mut hello = hello("server1");
        change(&mut hello);
        inventory.arrive(hello.clone(), Generation(1), session(2));
        assert_eq!(live(&inventory), holds, "{hello:?}");
    }
}

/// Why nothing is known of server1.
fn silent(change: impl FnOnce(&mut Host)) -> String {
    let blueprint = blueprint();
    let mut inventory = all_well(&blueprint);
    change(inventory.get_mut(&name("server1")).unwrap());
    let heard = inventory.heard(&blueprint, &Bars::new());
    let others = heard.instances.values().all(|status: &InstanceStatus| status.host == name("server2"));
    assert_eq!((heard.instances.len(), others), (3, true), "a silent host says nothing, and the other is heard");
    heard.silent[&name("server1")].clone()
}

#[test]
fn a_host_that_has_not_taken_in_what_it_was_told_is_silent() {
    expect!["its host server1 has generation 1, told was 2"].assert_eq(&silent(|host| host.told = Generation(2)));
    let refusal = "its host server1 refuses: an older term";
    assert_eq!(
        silent(|host| {
            host.told = Generation(2);
            let report = host.report.as_mut().unwrap();
            (report.received, report.refusal) = (Generation(2), Some("an older term".into()));
        }),
        refusal
    );
    expect!["its host server1 has generation 1, told was 3"].assert_eq(&silent(|host| {
        host.told = Generation(3);
        let report = host.report.as_mut().unwrap();
        (report.received, report.refusal) = (Generation(2), Some("an older term".into()));
    }));
    expect!["its host server1 has not been heard of for 0 s"].assert_eq(&silent(|host| host.session = None));
    expect!["its host server1 has not been heard of for 0 s"].assert_eq(&silent(|host| host.report = None));
}

/// Who is behind when server1 was changed so.
fn behind(change: impl FnOnce(&mut Host)) -> String {
    let mut inventory = all_well(&blueprint());
    change(inventory.get_mut(&name("server1")).unwrap());
    let behind = inventory.behind(&blueprint(), &Bars::new());
    behind.iter().map(|one| format!("{}: {}{}", one.name, one.why, if one.stuck { " (stuck)" } else { "" })).collect()
}

#[test]
fn behind_is_who_has_not_made_true_what_he_was_told_last() {
    assert_eq!(behind(|_| {}), "");
    expect!["server1: has generation 1, told was 2"].assert_eq(&behind(|host| host.told = Generation(2)));
    let accepted = |host: &mut Host| {
        host.told = Generation(2);
        let report = host.report.as_mut().unwrap();
        (report.received, report.accepted) = (Generation(2), Generation(2));
    };
    expect!["server1: has made generation 1 true, told was 2"].assert_eq(&behind(accepted));
    let troubled = |state| {
        behind(|host| {
            accepted(host);
            let status = &mut host.report.as_mut().unwrap().instances[1];
            (status.state, status.reason) = (state, "its password is not taken".into());
        })
    };
    expect!["server1:7002: its password is not taken"].assert_eq(&troubled(InstanceState::Running));
    expect!["server1:7002: its password is not taken (stuck)"].assert_eq(&troubled(InstanceState::Blocked));
    expect!["server1: refuses: the disk is full (stuck)"].assert_eq(&behind(|host| {
        host.told = Generation(2);
        let report = host.report.as_mut().unwrap();
        (report.received, report.refusal) = (Generation(2), Some("the disk is full".into()));
    }));
    expect!["server1: has not been heard of for 0 s"].assert_eq(&behind(|host| host.session = None));
    // Another cluster on the same host, which is sick, is its own matter; this one's instances say nothing.
    let neighbour = |change: &dyn Fn(&mut Vec<InstanceStatus>)| {
        behind(|host| {
            accepted(host);
            let instances = &mut host.report.as_mut().unwrap().instances;
            let sick = InstanceStatus { node_id: id(99), reason: "a crash loop".into(), ..instances[0].clone() };
            instances.push(sick);
            change(instances);
        })
    };
    assert_eq!(neighbour(&|_| {}), "");
    expect!["server1: has made generation 1 true, told was 2"].assert_eq(&neighbour(&|instances| {
        instances.remove(0);
    }));
    let bar = Bar { what: "was revoked: stolen".into(), cure: "muster host rejoin-token server1".into() };
    let barred = all_well(&blueprint()).behind(&blueprint(), &Bars::from([(name("server1"), bar)]));
    assert_eq!(barred.len(), 1);
    expect!["was revoked: stolen (hint: muster host rejoin-token server1)"].assert_eq(&barred[0].why);
    assert!(barred[0].stuck, "waiting does not help");
    let nobody = Inventory::new(Duration::from_secs(1)).behind(&blueprint(), &Bars::new());
    assert_eq!(nobody[0].why, "has no agent: none calls itself so");
}

#[test]
fn all_well_is_heard_and_others_are_not_listened_to() {
    let blueprint = blueprint();
    let mut inventory = all_well(&blueprint);
    let stranger = InstanceStatus { node_id: id(99), ..running(&blueprint, &blueprint.members[0]) };
    inventory.get_mut(&name("server1")).unwrap().report.as_mut().unwrap().instances.push(stranger);
    let heard = inventory.heard(&blueprint, &Bars::new());
    assert!(heard.silent.is_empty());
    let ids: BTreeSet<_> = blueprint.members.iter().map(|member| member.node_id).collect();
    assert_eq!(heard.instances.into_keys().collect::<BTreeSet<_>>(), ids, "of this cluster alone");
    let nobody = Inventory::new(Duration::from_secs(1)).heard(&blueprint, &Bars::new());
    assert_eq!(nobody.silent[&name("server1")], "no agent calls itself server1");
}

#[test]
fn leaders_serve_every_slot_once_and_nobody_doubts_them() {
    let blueprint = blueprint();
    let masters: BTreeSet<_> =
        blueprint.members.iter().filter(|member| member.role.master().is_none()).map(|member| member.node_id).collect();
    let first = blueprint.members[0].node_id;
    let leaders = |change: &dyn Fn(&Member, &mut InstanceStatus)| {
        let says = |member: &Member| {
            let mut status = running(&blueprint, member);
            change(member, &mut status);
            status
        };
        inventory(&blueprint, says).leaders(&blueprint)
    };
    assert_eq!(leaders(&|_, _| {}), Some(masters));
    let down = |member: &Member, status: &mut InstanceStatus| {
        if member.node_id == first {
            status.state = InstanceState::Down;
        }
    };
    assert_eq!(leaders(&down), None, "its slots are nobody's");
    let twice = |member: &Member, status: &mut InstanceStatus| {
        if member.role.master() == Some(first) {
            status.view.as_mut().unwrap().role = blueprint.members[0].role.clone();
        }
    };
    assert_eq!(leaders(&twice), None, "two say that they serve them: one of them is of yesterday");
    let doubt = |member: &Member, status: &mut InstanceStatus| {
        if member.node_id != first {
            let trouble = format!("127.0.0.1:7000 ({}) is failed (fail)", first.short());
            status.view.as_mut().unwrap().troubles.push(trouble);
        }
    };
    assert_eq!(leaders(&doubt), None, "the others have failed it, and it may have a successor");
}

#[test]
fn the_facts_that_plans_lean_on() {
    let blueprint = blueprint();
    let inventory = all_well(&blueprint);
    let facts = inventory.facts(&name("server1"));
    let text: String = facts.into_iter().map(|(fact, value)| format!("{fact}: {value}\n")).collect();
    expect![[r#"
        address: 10.0.0.1
        agent: live
        identity: 00000000-0000-0000-0000-000000000000
        port 7000: free
        server: redis 7.0.15
    "#]]
    .assert_eq(&text);
    assert!(inventory.facts(&name("server9")).is_empty());
    let words = [PortUse::Free, PortUse::Stamped("orders".parse().unwrap()), PortUse::Foreign, PortUse::Unreadable];
    assert_eq!(words.map(|usage| use_word(&usage)), ["free", "orders", "foreign", "unreadable"]);
    assert_eq!(inventory.sites().keys().map(HostName::as_str).collect::<Vec<_>>(), ["server1", "server2"]);
}
