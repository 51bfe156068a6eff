//! A sound cluster has no findings; each way to break it has its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use expect_test::{Expect, expect};

use super::{Asked, Copy, lint};

const ASKED: Asked = Asked { replicas: 1, allow_shared_host: false };

/// Copies from lines of `host:port shard slots`, with `-` for a replica and `none` for a master without slots.
fn copies(text: &str) -> Vec<Copy> {
    let copy = |line: &str| {
        let [name, shard, slots] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        Copy {
            host: name.split(':').next().unwrap().parse().unwrap(),
            name: name.to_owned(),
            shard: shard.parse().unwrap(),
            slots: match slots {
                "-" | "none" => Vec::new(),
                slots => slots.trim_start_matches("replica:").split(',').map(|range| range.parse().unwrap()).collect(),
            },
            master: slots != "-" && !slots.starts_with("replica:"),
        }
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(copy).collect()
}

const SOUND: &str = "
a:1 0 0-5460
b:2 0 -
b:1 1 5461-10922
c:2 1 -
c:1 2 10923-16383
a:2 2 -
";

fn say(text: &str, asked: Asked) -> String {
    let findings = lint(&copies(text), asked).into_iter();
    let line = |f: super::Finding| {
        let host = f.host.map_or("-".to_owned(), |host| host.to_string());
        format!("{:?} {} {host} {}: {} ({})\n", f.severity, f.code, f.subject, f.message, f.cure)
    };
    findings.map(line).collect()
}

/// SOUND with one text replaced by another.
fn check(from: &str, to: &str, expected: Expect) {
    assert!(SOUND.contains(from), "{from}");
    expected.assert_eq(&say(&SOUND.replace(from, to), ASKED));
}

#[test]
fn a_sound_cluster_has_no_findings() {
    assert_eq!(say(SOUND, ASKED), "");
}

#[test]
fn slots_are_served_once() {
    check(
        "0-5460",
        "1-5459",
        expect![[r#"
        Fatal SLOTS_UNSERVED - slots 0,5460: no master serves them (assign them: the cluster serves nothing while cluster-require-full-coverage is yes, the default)
    "#]],
    );
    check(
        "5461-10922",
        "5400-11000",
        expect![[r#"
        Fatal SLOTS_TWICE - slots 5400-5460,10923-11000: more than one node serves them (leave them to one master)
    "#]],
    );
    check(
        "c:2 1 -",
        "c:2 1 replica:5461",
        expect![[r#"
        Fatal REPLICA_SERVES c c:2: a replica that serves slots 5461 (leave the slots to its master)
        Fatal SLOTS_TWICE - slots 5461: more than one node serves them (leave them to one master)
    "#]],
    );
}

#[test]
fn every_shard_has_one_master_and_its_replicas() {
    check(
        "a:1 0 0-5460",
        "a:1 0 -",
        expect![[r#"
        Fatal FEW_MASTERS - masters: 2 masters with slots: when one dies, no majority is left to elect its successor (spread the slots over at least 3 masters)
        Fatal NO_MASTER - shard 0: nobody in it is master (promote one of its replicas)
        Fatal SLOTS_UNSERVED - slots 0-5460: no master serves them (assign them: the cluster serves nothing while cluster-require-full-coverage is yes, the default)
        Warning MAJORITY_ON_HOST b masters: b has 1 of 2 masters: if it dies, 1 of 2 is no majority and cannot elect (spread the masters over at least 3 hosts)
        Warning MAJORITY_ON_HOST c masters: c has 1 of 2 masters: if it dies, 1 of 2 is no majority and cannot elect (spread the masters over at least 3 hosts)
    "#]],
    );
    check(
        "c:1 2 10923-16383",
        "c:1 2 10923-16000\nd:1 2 16001-16383",
        expect![[r#"
        Fatal MANY_MASTERS - shard 2: it has 2 masters: c:1, d:1 (make all but one of them replicas)
    "#]],
    );
    check(
        "c:1 2 10923-16383",
        "c:1 2 10923-16383\nd:1 3 none",
        expect![[r#"
        Fatal FEW_REPLICAS - shard 3: it has 0 of the 1 replicas asked for (add an instance to it, or bring the missing one back)
        Warning MASTER_IDLE d d:1: a master without slots (give it slots, or make it a replica: without slots it has no vote)
    "#]],
    );
    check(
        "b:2 0 -",
        "",
        expect![[r#"
        Fatal FEW_REPLICAS - shard 0: it has 0 of the 1 replicas asked for (add an instance to it, or bring the missing one back)
    "#]],
    );
    check(
        "b:2 0 -",
        "b:2 0 -\nc:3 0 -\nd:1 0 -",
        expect![[r#"
        Warning REPLICAS_UNEVEN - shard 1: shard 0 has 4 copies and shard 1 has 2 (make a replica of shard 0 copy shard 1 instead)
    "#]],
    );
    check(
        "a:2 2 -",
        "a:1 2 -",
        expect![[r#"
        Fatal INSTANCE_TWICE a a:1: it has two places in the cluster (give every instance one place)
    "#]],
    );
    expect![[r#"
        Fatal FEW_MASTERS - masters: 2 masters with slots: when one dies, no majority is left to elect its successor (spread the slots over at least 3 masters)
        Warning MAJORITY_ON_HOST a masters: a has 1 of 2 masters: if it dies, 1 of 2 is no majority and cannot elect (spread the masters over at least 3 hosts)
        Warning MAJORITY_ON_HOST b masters: b has 1 of 2 masters: if it dies, 1 of 2 is no majority and cannot elect (spread the masters over at least 3 hosts)
    "#]].assert_eq(&say("a:1 0 0-9000\nb:1 0 -\nb:2 1 9001-16383\nc:1 1 -", ASKED));
}

#[test]
fn copies_and_masters_are_apart() {
    check(
        "b:2 0 -",
        "a:3 0 -",
        expect![[r#"
        Fatal SHARED_HOST a shard 0: 2 of its 2 copies are on a (a:1, a:3): its death takes the whole shard (offer more instances on other hosts)
    "#]],
    );
    check(
        "b:1 1 5461-10922",
        "a:3 1 5461-10922",
        expect![[r#"
            Warning MAJORITY_ON_HOST a masters: a has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect (spread the masters over at least 3 hosts)
            Warning MASTERS_UNEVEN a masters: a has 2 masters, b has 0 and could take one (fail masters over to replicas on hosts that have fewer)
        "#]],
    );
    check(
        "b:2 0 -",
        "b:2 0 -\nd:1 3 none\nd:2 3 -",
        expect![[r#"
        Fatal SHARED_HOST d shard 3: 2 of its 2 copies are on d (d:1, d:2): its death takes the whole shard (offer more instances on other hosts)
        Warning MASTER_IDLE d d:1: a master without slots (give it slots, or make it a replica: without slots it has no vote)
    "#]],
    );
    let shared = SOUND.replace("b:2 0 -", "a:3 0 -");
    expect![[r#"
        Warning SHARED_HOST a shard 0: 2 of its 2 copies are on a (a:1, a:3): its death takes the whole shard (offer more instances on other hosts)
    "#]].assert_eq(&say(&shared, Asked { allow_shared_host: true, ..ASKED }));
}

#[test]
fn masters_that_piled_up_are_seen() {
    let piled = "
a:1 0 0-4095
b:1 0 -
a:2 1 4096-8191
c:1 1 -
b:2 2 8192-12287
c:2 2 -
d:1 3 12288-13000
a:3 3 -
d:2 4 13001-16383
b:3 4 -
";
    expect![[r#"
        Warning MASTERS_UNEVEN d masters: d has 2 masters, c has 0 and could take one (fail masters over to replicas on hosts that have fewer)
    "#]]
    .assert_eq(&say(piled, ASKED));
}
