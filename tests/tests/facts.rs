//! How hosts are set up for Redis: asked of every agent, judged, and what `muster-agent tune` would do about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, process::Command};

use muster_tests::{Output, World, binaries, processes};
use serde_json::Value;

#[test]
fn every_live_host_says_how_it_is_and_a_silent_one_is_named() {
    let mut world = World::up(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let ask = |world: &World| {
        let said = world.muster(&["hosts", "--facts", "--output", "json"]);
        assert!(said.code <= 1, "{said}");
        (said.json()["hosts"].as_array().unwrap().clone(), said.code)
    };
    let (hosts, code) = ask(&world);
    let mut bad = 0;
    for host in &hosts {
        assert_eq!(host["facts_error"], Value::Null, "{host}");
        let facts = host["facts"].as_array().unwrap();
        for name in ["vm.overcommit_memory", "net.core.somaxconn", "vm.swappiness", "memory", "disk", "clock"] {
            assert!(facts.iter().any(|fact| fact["name"] == name && fact["value"] != ""), "{name}: {facts:?}");
        }
        let wrong: Vec<_> = facts.iter().filter(|fact| fact["good"] == false).collect();
        assert!(wrong.iter().all(|fact| fact["why"].is_string() && fact["cure"].is_string()), "{wrong:?}");
        bad += wrong.len();
    }
    assert_eq!(code != 0, bad > 0);
    let swappiness = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    let fact = hosts[0]["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == "vm.swappiness").unwrap();
    assert_eq!(fact["value"], swappiness.trim());

    world.agent("server2").kill();
    world.until_host("server2", "unknown");
    let (hosts, code) = ask(&world);
    assert_eq!(code, 1);
    let silent = hosts.iter().find(|host| host["name"] == "server2").unwrap();
    assert!(silent["facts_error"].is_string() && silent["facts"].as_array().unwrap().is_empty(), "{silent}");
}

#[test]
fn what_would_be_tuned_is_shown_and_somebody_elses_file_is_left_alone() {
    let mut world = World::new(&[("server1", "7000-7002")]);
    let config = world.agent("server1").config_path().to_owned();
    let file = world.dir().join("60-muster.conf");
    fs::write(&file, "vm.swappiness = 7\n").unwrap();
    let settings = ["vm/overcommit_memory", "vm/swappiness", "net/core/somaxconn"];
    let kernel = || settings.map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap());
    let before = kernel();
    let tune = |args: &[&str]| -> Output {
        let mut command = Command::new(binaries::path("muster-agent"));
        command.arg("--config").arg(&config).arg("tune").arg("--file").arg(&file).args(args);
        processes::run_owned(&mut command).into()
    };
    let shown = tune(&["--dry-run"]);
    match shown.code {
        0 => assert!(shown.stdout.contains("nothing to do"), "{shown}"),
        _ => {
            let shown = shown.expect(1);
            assert!(shown.stdout.contains("nothing was changed") && shown.stdout.contains(" -> "), "{shown}");
            let refused = tune(&["--apply"]).expect(2);
            assert!(refused.stderr.contains("was not written by muster-agent tune"), "{refused}");
        }
    }
    assert_eq!(kernel(), before);
    assert_eq!(fs::read_to_string(&file).unwrap(), "vm.swappiness = 7\n");
    tune(&[]).expect(64);
}
