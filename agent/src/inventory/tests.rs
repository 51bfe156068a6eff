//! What is looked at, and what a restart would put at stake, on real directories.

use std::fs;

use muster_proto::Want;

use super::*;
use crate::{
    conf,
    restart::{Ending, Exit},
    samples::{alone, assignment, cluster, files, id, layout, port, stamp, view},
};

/// A prepared instance at 7000 of a formed cluster, and what a change of its world puts at stake.
fn stake(change: impl FnOnce(&mut Inventory, &InstanceDir)) -> Stake {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = layout.instance(port(7000));
    let cluster = cluster(Want::Running, true);
    let nodes = conf::nodes_conf(muster_proto::Dialect::Plain, &cluster.members, id(1));
    dir.establish(&stamp(), &files("conf", &nodes)).unwrap();
    let mut inventory = Inventory::new(layout);
    inventory.told(Word::Given);
    change(&mut inventory, &dir);
    inventory.look(&assignment(Want::Running, true))[&port(7000)].stake
}

const EMPTY_MASTER: Stake =
    Stake { formed: true, leads: true, load: Load::Nothing, replaced: false, overruled: false, word: Word::Given };

fn rewrite(dir: &InstanceDir, change: impl FnOnce(String) -> String) {
    fs::write(dir.path().join("nodes.conf"), change(dir.nodes_conf().unwrap())).unwrap();
}

fn sibling_says(inventory: &mut Inventory, text: Option<String>) {
    let view = NodeView { node_id: id(4), nodes_text: text, ..view() };
    let sibling = inventory.instance(port(7001));
    sibling.view = Some((view.clone(), Instant::now()));
    sibling.answer = Answer::View(Box::new(view));
}

/// The blueprint's nodes as 7001 sees them, after a failover to 2.
fn failed_over() -> String {
    let (one, two, four) = (id(1), id(2), id(4));
    let nodes = conf::nodes_conf(muster_proto::Dialect::Plain, &cluster(Want::Running, true).members, four);
    let nodes = nodes.replace(" master - 0 0 1 connected 0-8191", " master,fail - 0 0 1 disconnected");
    let swapped = nodes.replace(&format!("slave {one} 0 0 1 connected"), "master - 0 0 3 connected 0-8191");
    assert!(swapped.contains(&format!("{two} 127.0.0.2:7001@17001 master - 0 0 3")), "{swapped}");
    swapped.lines().filter(|line| !line.starts_with("vars")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_master_leads_by_its_own_nodes_conf_or_by_the_blueprint() {
    assert_eq!(stake(|_, _| {}), EMPTY_MASTER);
    let replica = stake(|_, dir| {
        rewrite(dir, |text| {
            text.replace("myself,master - 0 0 1 connected 0-8191", &format!("myself,slave {} 0 0 3 connected", id(2)))
        });
    });
    assert_eq!(replica, Stake { leads: false, ..EMPTY_MASTER });
    let alone =
        stake(|_, dir| rewrite(dir, |text| text.replace(&format!("slave {}", id(1)), &format!("slave {}", id(3)))));
    assert_eq!(alone, Stake { leads: false, ..EMPTY_MASTER }, "a master without replicas empties nobody");
    assert_eq!(stake(|_, dir| rewrite(dir, |_| "torn".into())), EMPTY_MASTER, "torn: the blueprint says");
    assert_eq!(stake(|_, dir| fs::remove_file(dir.path().join("nodes.conf")).unwrap()), EMPTY_MASTER);
}

/// A record of this boot is the only one that says that the machine has not booted since.
#[test]
fn after_a_boot_the_coordinators_word_is_waited_for() {
    let record = |boot: &str| format!("{{\"nonce\":\"{}\",\"boot_id\":\"{boot}\"}}", uuid::Uuid::nil());
    let words = |boot: Option<&str>| {
        [Word::Awaited, Word::Refused, Word::Given].map(|word| {
            let asked = stake(|inventory, dir| {
                inventory.told(word);
                if let Some(boot) = boot {
                    fs::write(dir.record(), record(boot)).unwrap();
                }
            });
            asked.word == word
        })
    };
    assert_eq!(words(None), [true; 3]);
    assert_eq!(words(Some("before")), [true; 3]);
    let boot = process::boot_id();
    assert_eq!(words(Some(&boot)), [false, true, true]);
    let briefly = |lived| {
        let asked = stake(|inventory, dir| {
            inventory.told(Word::Awaited);
            inventory.instance(port(7000)).lived = lived;
            fs::write(dir.record(), record(&boot)).unwrap();
        });
        asked.word
    };
    assert_eq!(briefly(false), Word::AwaitedBriefly, "this boot, and gone when the agent began");
    assert_eq!(briefly(true), Word::Given, "one that ends while there is an agent is started as before");
}

/// Another node has lived at the port, and what is known of that is nothing about this one.
#[test]
fn what_is_put_back_is_started_once_with_nothing_to_load_and_is_guarded_from_then_on() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = layout.instance(port(7000));
    let mut wanted = assignment(Want::Running, false);
    let nodes = conf::nodes_conf(muster_proto::Dialect::Plain, &wanted.clusters[0].members, id(1));
    dir.establish(&stamp(), &files("conf", &nodes)).unwrap();
    let instance = &mut wanted.clusters[0].instances[0];
    (instance.restore, instance.all_stopped, instance.run) = (true, true, 2);
    let ran = |node: u8, run: u64| {
        let record = format!(
            "{{\"nonce\":\"{}\",\"boot_id\":\"\",\"identity\":null,\"run\":{run},\"node_id\":\"{}\"}}",
            uuid::Uuid::nil(),
            id(node)
        );
        fs::write(dir.record(), record).unwrap();
        let mut inventory = Inventory::new(layout.clone());
        inventory.told(Word::Given);
        inventory.look(&wanted)[&port(7000)].stake
    };
    let free = Stake { overruled: true, ..EMPTY_MASTER };
    assert_eq!(ran(9, 7), free, "a higher run of another node");
    assert_eq!(ran(1, 1), free);
    assert_eq!(ran(1, 2), EMPTY_MASTER, "it has been started for this run");
}

#[test]
fn a_port_that_is_another_lifes_has_no_past() {
    let reborn = stake(|inventory, _| {
        inventory.led_by("orders".parse().unwrap(), [id(3)].into());
        let instance = inventory.instance(port(7000));
        (instance.overruled, instance.lived) = (true, true);
        instance.past.urged = true;
        inventory.reborn(port(7000), &"orders".parse().unwrap());
        let instance = inventory.instance(port(7000));
        assert_eq!((&instance.past, instance.starts, instance.view.is_none()), (&Past::default(), 0, true));
    });
    assert_eq!(reborn, EMPTY_MASTER, "neither overruled nor replaced");
}

#[test]
fn what_can_be_loaded_is_seen() {
    let log = stake(|_, dir| fs::write(dir.path().join("appendonly.aof"), "*1").unwrap());
    assert_eq!(log, Stake { load: Load::Log, ..EMPTY_MASTER });
    let synced = stake(|_, dir| fs::write(dir.path().join("dump.rdb"), "REDIS0010").unwrap());
    assert_eq!(synced, EMPTY_MASTER, "with a log, a server loads nothing else");
}

#[test]
fn a_sibling_that_has_not_been_asked_since_says_nothing() {
    let text = failed_over();
    let before = stake(|inventory, _| {
        sibling_says(inventory, Some(text));
        let at = inventory.now() + Duration::from_secs(1);
        inventory.instance(port(7000)).past.ended(Exit { at, ending: Ending::Unseen, jitter: 0 }, None);
    });
    assert_eq!(before, EMPTY_MASTER);
}

#[test]
fn the_coordinator_is_believed_if_it_has_spoken_since() {
    let led = |ids: &[u8], inventory: &mut Inventory| {
        inventory.led_by("orders".parse().unwrap(), ids.iter().map(|nth| id(*nth)).collect());
    };
    assert_eq!(stake(|inventory, _| led(&[1, 2], inventory)), EMPTY_MASTER, "it leads");
    assert_eq!(stake(|inventory, _| led(&[3, 2], inventory)), Stake { replaced: true, ..EMPTY_MASTER });
    let before = stake(|inventory, _| {
        led(&[3, 2], inventory);
        let at = inventory.now() + Duration::from_secs(1);
        inventory.instance(port(7000)).past.ended(Exit { at, ending: Ending::Unseen, jitter: 0 }, None);
    });
    assert_eq!(before, EMPTY_MASTER, "what was said before it ended says nothing");
}

#[test]
fn a_sibling_that_sees_a_successor_is_believed_and_silence_is_not() {
    assert_eq!(stake(|inventory, _| sibling_says(inventory, None)), EMPTY_MASTER, "it sees the blueprint");
    let text = failed_over();
    let replaced = stake(|inventory, _| sibling_says(inventory, Some(text)));
    assert_eq!(replaced, Stake { replaced: true, ..EMPTY_MASTER });
    assert_eq!(stake(|inventory, _| sibling_says(inventory, Some("torn".into()))), EMPTY_MASTER);
    let loading = stake(|inventory, _| inventory.instance(port(7001)).answer = Answer::Loading);
    assert_eq!(loading, EMPTY_MASTER);
}

#[test]
fn ports_are_looked_at_anew_when_something_was_done() {
    let _alone = alone();
    let (_base, layout) = layout();
    let mut inventory = Inventory::new(layout.clone());
    let ports = PortSet::parse(&["7000-7003".to_owned()]).unwrap();
    fs::write(layout.instance(port(7001)).path(), "").unwrap();
    fs::create_dir_all(layout.instance(port(7002)).path().join("muster.json")).unwrap();
    let free = [PortUse::Free, PortUse::Foreign, PortUse::Unreadable, PortUse::Free];
    let uses = |seen: Vec<(Port, PortUse)>| seen.into_iter().map(|(_, usage)| usage).collect::<Vec<_>>();
    assert_eq!(uses(inventory.offered(&ports)), free);
    layout.instance(port(7000)).establish(&stamp(), &files("", "")).unwrap();
    inventory.forget_looks();
    assert_eq!(inventory.offered(&ports)[0].1, PortUse::Stamped("orders".parse().unwrap()));
}

#[test]
fn only_the_ports_of_the_assignment_are_looked_at() {
    let _alone = alone();
    let (_base, layout) = layout();
    let mut inventory = Inventory::new(layout);
    let seen = inventory.look(&assignment(Want::Prepared, false));
    assert_eq!(seen.keys().map(|port| port.get()).collect::<Vec<_>>(), [7000, 7001]);
    for seen in seen.values() {
        assert_eq!((&seen.directory, &seen.process), (&Directory::Free, &ProcessSeen::None));
    }
    assert!(inventory.get(port(7002)).is_none());
}

#[test]
fn a_running_server_is_found_and_what_holds_its_lock_otherwise_is_unknown() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = layout.instance(port(7000));
    dir.establish(&stamp(), &files("exec sleep 1000", "")).unwrap();
    let mut process = Process::spawn(&dir, std::path::Path::new("/bin/sh"), None, 3).unwrap();
    let look =
        |layout: &Layout| Inventory::new(layout.clone()).look(&assignment(Want::Running, true))[&port(7000)].clone();
    let seen = look(&layout);
    assert_eq!(seen.process, ProcessSeen::Ours { pid: process.pid(), stopping: None, outdated: false });
    assert!(!seen.stake.formed, "nothing is at stake while it runs");
    let record = fs::read_to_string(dir.record()).unwrap();
    let outdated = |run| {
        let mut wanted = assignment(Want::Running, true);
        wanted.clusters[0].instances[0].run = run;
        let seen = Inventory::new(layout.clone()).look(&wanted)[&port(7000)].clone();
        matches!(seen.process, ProcessSeen::Ours { outdated: true, .. })
    };
    assert_eq!([2, 3, 4].map(outdated), [false, false, true], "it was started for run 3");
    fs::remove_file(dir.record()).unwrap();
    assert!(!outdated(4), "a record that is lost stops no server");
    fs::write(dir.record(), record.replace("\"start_ticks\":", "\"start_ticks\":1")).unwrap();
    assert!(matches!(look(&layout).process, ProcessSeen::Unknown(_)));
    process.kill().unwrap();
    while process.reap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(look(&layout).process, ProcessSeen::None);
}
