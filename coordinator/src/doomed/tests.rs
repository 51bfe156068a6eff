//! Rebuilds that somebody thinks of: of three hosts with a master and a replica each.

mod changes;
mod fence;
mod undo;

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use muster_proto::{ClusterId, Setting};
use uuid::Uuid;

use super::*;
use crate::{
    blueprint::Identity,
    placement::tests::Case,
    samples::{drawn, id},
};

/// All that a question is made from, to be changed.
struct World {
    blueprint: Blueprint,
    spec: Spec,
    next: Spec,
    fenced: BTreeSet<HostName>,
    away: BTreeMap<HostName, String>,
    even_if_serving: bool,
    server: &'static str,
    appraisals: Appraisals,
}

fn host(nth: usize) -> HostName {
    format!("server{nth}").parse().unwrap()
}

fn case() -> Case {
    Case::new(&[2, 2, 2], 1)
}

/// Everybody is there and idle, and keeps what he has.
fn world() -> World {
    let blueprint = drawn(&case());
    let mut appraisals = Appraisals::new();
    for member in &blueprint.members {
        let found = wire::Appraised {
            port: member.port.into(),
            path: format!("/var/lib/muster/{}", member.port),
            bytes: 4096,
            keys: 100,
            last_save_unix_ms: 1_700_000_000_000,
            role: wire::Member::from(member).role,
            keeps: "append-only file".into(),
            runs: true,
            ..Default::default()
        };
        let appraisal = appraisals.entry(member.host.clone()).or_insert_with(|| Ok(wire::Appraisal::default()));
        appraisal.as_mut().unwrap().instances.push(found);
    }
    let spec = case().world().0;
    World {
        blueprint,
        next: spec.clone(),
        spec,
        fenced: BTreeSet::new(),
        away: BTreeMap::new(),
        even_if_serving: false,
        server: "redis 7.0.15",
        appraisals,
    }
}

impl World {
    fn at(&mut self, port: u32) -> &mut wire::Appraised {
        let all = self.appraisals.values_mut().filter_map(|found| found.as_mut().ok());
        all.flat_map(|found| &mut found.instances).find(|found| found.port == port).unwrap()
    }

    fn goes(&mut self, nth: usize) {
        self.away.insert(host(nth), "has not been heard of for 12 s".into());
        self.appraisals.insert(host(nth), Err("it is not connected".into()));
    }

    fn question(&self) -> Question<'_> {
        Question {
            blueprint: &self.blueprint,
            spec: &self.spec,
            next: &self.next,
            becomes: Incarnation(2),
            fenced: &self.fenced,
            away: &self.away,
            even_if_serving: self.even_if_serving,
            undo: None,
            bus_offset: if self.fenced.is_empty() { 10_000 } else { 11_000 },
            server: Some(self.server.parse().unwrap()),
            supersedes: None,
            buries: None,
            appraisals: &self.appraisals,
        }
    }
}

fn shown(findings: Vec<crate::finding::Finding>) -> String {
    let line = |found: crate::finding::Finding| {
        let host = found.host.map(|host| format!(" {host}")).unwrap_or_default();
        let (severity, code, subject) = (found.severity, found.code, found.subject);
        let cure = if found.cure.is_empty() { String::new() } else { format!("    {}\n", found.cure) };
        format!("{severity:?} {code}{host} [{subject}]: {}\n{cure}", found.message)
    };
    findings.into_iter().map(line).collect()
}

fn check(change: impl FnOnce(&mut World), expected: Expect) {
    let mut world = world();
    change(&mut world);
    expected.assert_eq(&shown(findings(&world.question())));
}

/// The directories that are set aside, a line each.
fn doomed_shown(plan: &wire::RebuildPlan) -> String {
    let mut text = String::new();
    for one in &plan.doomed {
        let aside = if one.quarantined { " quarantined" } else { "" };
        let role = one.role().as_str_name();
        write!(text, "{}:{} {} {role}{aside} {:?}", one.host, one.port, &one.node_id[..4], one.path).unwrap();
        write!(text, " {} bytes, {} keys, {} clients", one.bytes, one.keys, one.clients).unwrap();
        writeln!(text, ", {:?}{}", one.keeps, Some(&one.error).filter(|it| !it.is_empty()).map_or("", |_| " ?"))
            .unwrap();
    }
    text
}

#[test]
fn nothing_speaks_against_an_idle_cluster_that_keeps_its_data() {
    check(|_| {}, expect![[""]]);
}

#[test]
fn the_plan_names_every_directory_and_what_it_holds() {
    let mut world = world();
    world.at(7003).error = "it does not answer".into();
    world.at(7003).role = wire::Role::Unspecified.into();
    world.goes(3);
    world.fenced.insert(host(3));
    world.next = without(&world.spec, &world.fenced).unwrap();
    let plan = plan(&world.question());
    expect![[r#"
        server1:7000 0202 ROLE_MASTER "/var/lib/muster/7000" 4096 bytes, 100 keys, 0 clients, "append-only file"
        server1:7001 0909 ROLE_REPLICA "/var/lib/muster/7001" 4096 bytes, 100 keys, 0 clients, "append-only file"
        server2:7002 0505 ROLE_MASTER "/var/lib/muster/7002" 4096 bytes, 100 keys, 0 clients, "append-only file"
        server2:7003 0303 ROLE_UNSPECIFIED "/var/lib/muster/7003" 4096 bytes, 100 keys, 0 clients, "append-only file" ?
        server3:7004 0808 ROLE_UNSPECIFIED quarantined "" 0 bytes, 0 keys, 0 clients, "" ?
        server3:7005 0606 ROLE_UNSPECIFIED quarantined "" 0 bytes, 0 keys, 0 clients, "" ?
    "#]]
    .assert_eq(&doomed_shown(&plan));
    assert_eq!((plan.incarnation, plan.becomes, plan.undo, plan.bus_offset), (1, 2, false, 11_000));
    assert_eq!(plan.fenced, ["server3"]);
    assert_eq!(plan.changes, ["server3 leaves: 7004-7005"]);
    assert!(plan.returns.is_empty() && plan.supersedes.is_empty());
}

#[test]
fn clients_that_write_stop_it_unless_that_is_meant() {
    let writes = |world: &mut World| {
        world.at(7000).writes_millihertz = 120_560;
        world.at(7002).writes_millihertz = 50;
        // What a replica takes comes from its master.
        world.at(7001).writes_millihertz = 120_560;
    };
    check(
        writes,
        expect![[r#"
        Fatal CLIENTS_WRITE [clients]: clients write to server1:7000 (120.5/s), server2:7002 (under 0.1/s)
            stop the writers, or say that you mean it: muster rebuild orders --even-if-serving
    "#]],
    );
    check(
        |world| {
            writes(world);
            world.even_if_serving = true;
        },
        expect![[r#"
            Warning CLIENTS_WRITE [clients]: clients write to server1:7000 (120.5/s), server2:7002 (under 0.1/s); they get errors from the first step on, and what they have written is in no cluster afterwards
        "#]],
    );
}

#[test]
fn whoever_is_connected_and_writes_seldom_may_not_be_seen() {
    let connected = |world: &mut World| {
        world.at(7000).clients = 1;
        world.at(7001).clients = 3;
    };
    check(
        connected,
        expect![[r#"
        Warning CLIENTS_CONNECTED [clients]: up to 3 clients are connected to an instance, and nobody wrote while it was looked at, which was 1 s: who writes seldom is not seen
            be sure that they only read; they get errors from the first step on, and find an empty cluster then
    "#]],
    );
    check(
        |world| {
            connected(world);
            world.even_if_serving = true;
        },
        expect![[""]],
    );
}

#[test]
fn where_nothing_can_be_set_aside_that_is_said_before_anything_is_stopped() {
    check(
        |world| {
            let found = world.appraisals.get_mut(&host(2)).unwrap().as_mut().unwrap();
            found.trash_error = "/var/lib/muster/.trash, where it would go: Not a directory".into();
        },
        expect![[r#"
            Fatal TRASH_UNUSABLE server2 [base_dir/.trash]: nothing can be set aside there: /var/lib/muster/.trash, where it would go: Not a directory
                on server2: make way for a directory of that name, on the file system of base_dir; where nothing is, the agent makes it
        "#]],
    );
}

#[test]
fn the_life_that_no_undo_brings_back_any_more_is_named() {
    let world = world();
    let question = Question { buries: Some(Incarnation(4)), ..world.question() };
    expect![[r#"
        Warning ENDS_UNDO [life 4]: an undo brings back life 4 now, and life 1 afterwards: then no command brings back life 4, whose directories stay in .trash until they are deleted
            where it is the data of life 4 that matters: muster rebuild orders --undo
    "#]].assert_eq(&shown(findings(&question)));
    assert_eq!((plan(&question).buries, plan(&world.question()).buries), (4, 0));
}

#[test]
fn many_that_are_written_to_are_counted() {
    let blueprint = drawn(&Case::new(&[4, 4, 4], 1));
    let mut appraisals = Appraisals::new();
    for member in &blueprint.members {
        let role = wire::Member::from(member).role;
        let port = u32::from(member.port);
        let found = wire::Appraised { port, role, writes_millihertz: u64::from(port), ..Default::default() };
        let appraisal = appraisals.entry(member.host.clone()).or_insert_with(|| Ok(wire::Appraisal::default()));
        appraisal.as_mut().unwrap().instances.push(found);
    }
    assert_eq!(
        writes(&blueprint, &appraisals).unwrap(),
        "clients write to server3:7009 (7.0/s), server3:7008 (7.0/s), server2:7005 (7.0/s), server2:7004 (7.0/s), \
         server1:7001 (7.0/s) and 1 more"
    );
}

#[test]
fn an_undo_that_would_come_back_empty_is_said_before() {
    check(
        |world| (7000..7006).for_each(|port| world.at(port).keeps = "nothing".into()),
        expect![[r#"
            Warning KEEPS_NOTHING [data]: the directories of server1 (7000-7001), server2 (7002-7003), server3 (7004-7005) keep nothing of the data: an undo brings back an empty cluster
                where the data matters: copy it out with a client first; or, as a user whom the spec's rules let (+bgsave), BGSAVE on each of the masters: a server that is put back loads what that has written
        "#]],
    );
    check(
        |world| world.at(7000).keeps = "nothing".into(),
        expect![[r#"
            Warning KEEPS_NOTHING [data]: the directories of server1 (7000) keep nothing of the data: an undo brings them back empty
                where the data matters: copy it out with a client first; or, as a user whom the spec's rules let (+bgsave), BGSAVE on each of the masters: a server that is put back loads what that has written
        "#]],
    );
    // There is nothing to keep.
    check(
        |world| {
            let found = world.at(7000);
            (found.keeps, found.keys) = ("nothing".into(), 0);
        },
        expect![[""]],
    );
}

#[test]
fn what_is_not_known_is_said_with_its_reason() {
    let unknown = |world: &mut World| {
        world.at(7000).error = "it does not run".into();
        world.at(7001).error = "it does not run".into();
        (world.at(7000).runs, world.at(7001).runs) = (false, false);
        world.appraisals.insert(host(2), Err("no answer within 11 s".into()));
        world.appraisals.insert(host(3), Ok(wire::Appraisal::default()));
    };
    check(
        unknown,
        expect![[r#"
            Fatal NOT_APPRAISED server2 [ports 7002-7003]: what server2 (7002-7003) holds, and whether clients write to it, is not known: no answer within 11 s
                muster status orders; or say that you mean it: muster rebuild orders --even-if-serving
            Fatal NOT_APPRAISED server3 [ports 7004-7005]: what server3 (7004-7005) holds, and whether clients write to it, is not known: its agent knows of no instance there
                muster status orders; or say that you mean it: muster rebuild orders --even-if-serving
            Warning NOT_APPRAISED server1 [ports 7000-7001]: what server1 (7000-7001) holds, and whether clients write to it, is not known: it does not run
                muster status orders
        "#]],
    );
    let meant = |world: &mut World| {
        unknown(world);
        world.even_if_serving = true;
    };
    check(
        meant,
        expect![[r#"
        Warning NOT_APPRAISED server1 [ports 7000-7001]: what server1 (7000-7001) holds, and whether clients write to it, is not known: it does not run
            muster status orders
        Warning NOT_APPRAISED server2 [ports 7002-7003]: what server2 (7002-7003) holds, and whether clients write to it, is not known: no answer within 11 s
            muster status orders
        Warning NOT_APPRAISED server3 [ports 7004-7005]: what server3 (7004-7005) holds, and whether clients write to it, is not known: its agent knows of no instance there
            muster status orders
    "#]],
    );
    let mut world = world();
    unknown(&mut world);
    let said = |without: usize| {
        may_be_written(&world.blueprint, &world.appraisals, |host| *host == super::tests::host(without))
    };
    expect!["whether clients write to server2 (7002-7003) is not known: no answer within 11 s"]
        .assert_eq(&said(1).unwrap());
    expect!["whether clients write to server3 (7004-7005) is not known: its agent knows of no instance there"]
        .assert_eq(&said(2).unwrap());
}

#[test]
fn what_a_directory_keeps_is_looked_at_again() {
    let mut world = world();
    let plan = plan(&world.question());
    assert_eq!(keeps_less(&plan, &world.appraisals), None);
    world.at(7001).keeps = "snapshots".into();
    assert_eq!(
        keeps_less(&plan, &world.appraisals).unwrap(),
        "the directory of server1:7001 kept append-only file, and keeps snapshots now"
    );
    world.at(7001).error = "it does not answer".into();
    world.at(7001).keeps = String::new();
    assert_eq!(keeps_less(&plan, &world.appraisals), None, "not known is not less");
    world.appraisals.insert(host(1), Err("no answer within 11 s".into()));
    assert_eq!(keeps_less(&plan, &world.appraisals), None, "not known is not less");
}

#[test]
fn data_that_came_after_the_plan_is_found_unless_clients_may_write() {
    let mut world = world();
    world.at(7000).keys = 0;
    let before = plan(&world.question());
    world.even_if_serving = true;
    let serving = plan(&world.question());
    world.at(7000).keys = 3;
    assert_eq!(keeps_less(&before, &world.appraisals).unwrap(), "server1:7000 held no keys, and holds 3 now");
    assert_eq!(keeps_less(&serving, &world.appraisals), None);
}

#[test]
fn a_spec_without_its_hosts_is_the_same_or_none() {
    let spec = case().world().0;
    let left = without(&spec, &[host(2)].into()).unwrap();
    let names: Vec<_> = left.parts().hosts.iter().map(|host| host.name.to_string()).collect();
    assert_eq!(names, ["server1", "server3"]);
    assert_eq!(without(&left, &[host(2)].into()).as_ref(), Ok(&left));
    assert_eq!(without(&spec, &[host(1), host(2), host(3)].into()), Err(SpecError::NoHosts));
}
