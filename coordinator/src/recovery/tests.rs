//! Stores that were lost, and what is made of what hosts hold: every small world, then who contradicts whom.

use expect_test::expect;
use muster_proto::{Hello, HostAssignment, Incarnation, NodeId, Tls};
use uuid::Uuid;

use super::*;
use crate::{
    blueprint::Identity,
    finding::Severity,
    placement::{Site, place},
    reconcile,
    samples::{self, fleet::formed},
};

const NOW: u64 = 1_800_000_000_000;

fn name(host: &str) -> HostName {
    host.parse().unwrap()
}

/// A formed cluster with passwords, two instances from that port on, on each of the hosts.
fn cluster(cluster: &str, id: u8, hosts: &[&str], port: u32) -> ClusterRecord {
    let entry = |host: &&str| format!("[[hosts]]\nname = \"{host}\"\nports = [\"{port}-{}\"]\n", port + 1);
    let text = format!("name = \"{cluster}\"\nreplicas = 1\n{}", hosts.iter().map(entry).collect::<String>());
    let spec = crate::spec_file::parse(&text).unwrap();
    let site = |host: &&str| {
        let nth = host.trim_start_matches("server").parse().unwrap();
        (name(host), Site { name: name(host), address: [10, 0, 0, nth].into(), rack: None, zone: None })
    };
    let placement = place(&spec, &hosts.iter().map(site).collect()).unwrap();
    let cluster_id = ClusterId(Uuid::from_u128(id.into()));
    let mut drawn = 0;
    let draw = || {
        drawn += 1;
        NodeId([[id; 10], [drawn; 10]].concat().try_into().unwrap())
    };
    let identity = Identity { cluster: cluster.parse().unwrap(), cluster_id, incarnation: Incarnation(1) };
    formed(&spec, Blueprint::draw(identity, &placement, &spec, draw))
}

fn orders() -> ClusterRecord {
    cluster("orders", 1, &["server1", "server2", "server3"], 7000)
}

fn carts() -> ClusterRecord {
    cluster("carts", 2, &["server2", "server3", "server4"], 8000)
}

/// What a host holds that was told of these, in generation 7 and term 5.
fn holding(host: &str, clusters: &[&ClusterRecord]) -> Testimony {
    let wishes: Vec<_> = clusters.iter().map(|record| reconcile::Told::from(*record)).collect();
    let assignment = reconcile::assignments([&name(host)], &wishes).remove(&name(host)).unwrap();
    telling(host, assignment)
}

fn telling(host: &str, assignment: HostAssignment) -> Testimony {
    let (document, sha256) = assignment.encode();
    let desired = wire::Desired { term: 5, generation: 7, sha256: sha256.0.to_vec(), document };
    let directories = assignment.clusters.iter().flat_map(|told| {
        let stamp = |one: &muster_proto::InstanceAssignment| Directory {
            port: one.port,
            cluster: told.into(),
            life: one.life,
            node_id: one.node_id,
            formed: told.formed,
            pid: Some(4711),
        };
        told.instances.iter().map(stamp).collect::<Vec<_>>()
    });
    let directories = directories.collect();
    let hello = Hello { term: Term(5), ..samples::hello(host) };
    Testimony { hello, told: Told::Orders { desired, assignment }, directories }
}

fn evidence(of: impl IntoIterator<Item = Testimony>) -> Evidence {
    of.into_iter().map(|one| (one.hello.host.clone(), one)).collect()
}

fn rebuilt(evidence: &Evidence) -> Rebuilt {
    let mut drawn = 0;
    rebuild(evidence, Term(1), NOW, || {
        drawn += 1;
        OperationId(Uuid::from_u128(drawn))
    })
}

fn said(rebuilt: &Rebuilt) -> String {
    let line = |finding: &Finding| {
        let host = finding.host.as_ref().map_or("-", HostName::as_str);
        let severity = if finding.severity == Severity::Fatal { "FATAL" } else { "warn" };
        format!("{severity} {} {host} {}: {}\n", finding.code, finding.subject, finding.message)
    };
    let credentials = |finding: &&Finding| finding.code != "CREDENTIALS_LOST";
    rebuilt.findings.iter().filter(credentials).map(line).collect()
}

fn names(rebuilt: &Rebuilt) -> Vec<&str> {
    rebuilt.clusters.iter().map(|cluster| cluster.record.blueprint.cluster.as_str()).collect()
}

#[test]
fn from_all_hosts_comes_the_store_that_was_lost_and_every_host_is_told_what_it_has() {
    let tls = Spec::new(muster_proto::spec::SpecParts { tls: Tls::Issued, ..carts().spec.parts().clone() }).unwrap();
    let kept = [formed(&tls, carts().blueprint), orders()];
    let all = [&kept[0], &kept[1]];
    let found = rebuilt(&evidence(["server1", "server2", "server3", "server4"].map(|host| holding(host, &all))));
    assert_eq!((names(&found), found.term), (vec!["carts", "orders"], Term(6)));
    for (cluster, kept) in found.clusters.iter().zip(&kept) {
        let record = &cluster.record;
        assert_eq!((&record.spec, &record.blueprint), (&kept.spec, &kept.blueprint));
        assert_eq!((record.goal, record.formed_ms), (Goal::Running, Some(NOW)));
    }
    for host in found.hosts.values() {
        assert_eq!((&host.standing, host.generation), (&Standing::Same, Generation(7)));
        assert_eq!(host.directories, host.running);
    }
    assert_eq!(said(&found), "");
}

/// Of a host that was not heard nothing is known.
#[test]
fn what_operators_wanted_of_instances_is_taken_up_from_those_that_were_told() {
    let mut kept = orders();
    let ids: Vec<_> = kept.blueprint.members.iter().map(|member| (member.node_id, member.host.clone())).collect();
    for (nth, (id, _)) in ids.iter().enumerate() {
        let run = u64::try_from(nth).unwrap() + 1;
        kept.duties.insert(*id, Duty { stopped: nth % 2 == 0, run, all_stopped: nth == 3, handed_ms: 0 });
    }
    let found = rebuilt(&evidence(["server1", "server2"].map(|host| holding(host, &[&kept]))));
    let duties = &found.clusters[0].record.duties;
    for (id, host) in ids {
        let expected = kept.duties.get(&id).filter(|_| host.as_str() != "server3");
        assert_eq!(duties.get(&id), expected, "{host}");
    }
}

/// What a host may be in a small world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Missing,
    /// It has all that it was told.
    Whole,
    /// Its ledger is lost, its directories are there.
    Forgetful,
    /// It was told of the first cluster alone: the last order has not reached it.
    Behind,
    /// It is there, and has nothing.
    Empty,
}

#[test]
fn in_every_small_world_what_is_held_is_taken_up_or_left_alone_and_nobody_is_told_less() {
    let hosts = ["server1", "server2", "server3", "server4"];
    let ways = [As::Missing, As::Whole, As::Forgetful, As::Behind, As::Empty];
    let (orders, carts) = (orders(), carts());
    let clash = cluster("orders", 3, &["server3", "server4", "server5"], 7000);
    let mut worlds = 0;
    for nth in 0..ways.len().pow(4) * 2 {
        let (second, nth) = if nth % 2 == 0 { (&carts, nth / 2) } else { (&clash, nth / 2) };
        let way = |at: usize| ways[nth / ways.len().pow(u32::try_from(at).unwrap()) % ways.len()];
        let testimony = |(at, host): (usize, &&str)| {
            // The clash is of other hosts: nobody holds both.
            let both: &[&ClusterRecord] = match (second.blueprint.cluster == orders.blueprint.cluster, at) {
                (false, _) => &[&orders, second],
                (true, 0 | 1) => &[&orders],
                (true, _) => &[second],
            };
            let whole = holding(host, both);
            match way(at) {
                As::Missing => None,
                As::Whole => Some(whole),
                As::Forgetful => Some(Testimony { told: Told::Nothing, ..whole }),
                As::Behind => Some(Testimony { directories: whole.directories, ..holding(host, &both[..1]) }),
                As::Empty => Some(Testimony { told: Told::Nothing, directories: Vec::new(), ..whole }),
            }
        };
        let evidence = evidence(hosts.iter().enumerate().filter_map(testimony));
        let found = rebuilt(&evidence);
        let world =
            || format!("{:?}, {}:\n{}", (0..4).map(way).collect::<Vec<_>>(), second.blueprint.cluster, said(&found));
        let taken: BTreeSet<_> = found.clusters.iter().map(|one| one.record.blueprint.cluster_id).collect();
        let records: Vec<_> = found.clusters.iter().map(|cluster| cluster.record.clone()).collect();
        let wishes: Vec<_> = records.iter().map(reconcile::Told::from).collect();
        assert!(found.term > Term(5) || evidence.is_empty(), "{}", world());
        for (host, testimony) in &evidence {
            let held: BTreeSet<_> = testimony.told.clusters().iter().map(|told| told.cluster_id).collect();
            let standing = &found.hosts[host].standing;
            assert_eq!(*standing == Standing::LeftAlone, !held.is_subset(&taken), "{host} in {}", world());
            if *standing == Standing::LeftAlone {
                assert!(said(&found).contains(&format!("FATAL HOST_LEFT_ALONE {host}")), "{}", world());
                continue;
            }
            let wish = reconcile::assignments([host], &wishes).remove(host).unwrap();
            let told: BTreeSet<_> = wish.clusters.iter().map(|told| told.cluster_id).collect();
            assert!(told.is_superset(&held), "{host} loses something in {}", world());
            if let Told::Orders { desired, .. } = &testimony.told {
                let same = wish.encode().1.0 == desired.sha256[..];
                assert_eq!(*standing == Standing::Same, same, "{host} in {}", world());
            }
        }
        for record in &records {
            for host in record.blueprint.hosts() {
                let told = evidence.get(&host).map(|testimony| &testimony.told);
                let says =
                    told.is_some_and(|told| told.clusters().iter().any(|one| one.cluster == record.blueprint.cluster));
                let named = |finding: &Finding| finding.host.as_ref() == Some(&host);
                assert!(says || found.findings.iter().any(named), "{host} is not spoken of in {}", world());
                assert_eq!(told.is_none(), found.hosts[&host].standing == Standing::Missing, "{}", world());
            }
        }
        // What comes of it comes of it again.
        let again = evidence.iter().map(|(host, testimony)| match found.hosts[host].standing {
            Standing::Same | Standing::Anew => Testimony {
                directories: testimony.directories.clone(),
                ..telling(host.as_str(), reconcile::assignments([host], &wishes).remove(host).unwrap())
            },
            _ => testimony.clone(),
        });
        assert_eq!(
            names(&rebuilt(&again.map(|one| (one.hello.host.clone(), one)).collect())),
            names(&found),
            "{}",
            world()
        );
        worlds += 1;
    }
    assert_eq!(worlds, 1250);
}

#[test]
fn of_one_host_comes_everything_that_its_clusters_are_and_who_is_missing() {
    let found = rebuilt(&evidence([holding("server1", &[&orders()])]));
    assert_eq!(found.term, Term(1005), "others may have obeyed a later one");
    let record = &found.clusters[0].record;
    assert_eq!((&record.spec, &record.blueprint), (&orders().spec, &orders().blueprint));
    expect![[r#"
        warn HOST_MISSING server2 orders: was not heard, and has 2 instances of orders by the ledgers of server1; it is told so when it calls, unless it holds more; whether an operator has stopped any of them is not known
        warn HOST_MISSING server3 orders: was not heard, and has 2 instances of orders by the ledgers of server1; it is told so when it calls, unless it holds more; whether an operator has stopped any of them is not known
    "#]]
    .assert_eq(&said(&found));
}

#[test]
fn a_term_that_nobody_comes_to_takes_no_number_away() {
    let mut liar = holding("server2", &[&orders()]);
    liar.hello.term = Term(u64::MAX);
    assert_eq!(rebuilt(&evidence([holding("server1", &[&orders()]), liar])).term, Term(1005));
}

#[test]
fn who_contradicts_whom_is_said_and_what_more_hosts_hold_is_taken_up() {
    let orders = orders();
    let mut other = orders.clone();
    other.blueprint.members[0].config_epoch = 99;
    let found = rebuilt(&evidence([
        holding("server1", &[&orders]),
        holding("server2", &[&orders]),
        holding("server3", &[&other]),
    ]));
    assert_eq!(found.clusters[0].record.blueprint, orders.blueprint);
    assert_eq!(found.hosts[&name("server3")].standing, Standing::Anew);
    expect![[r#"
        warn LEDGERS_DIFFER - orders: server3 was told another blueprint of it than server1, server2, which more hosts have, and which is taken up
    "#]]
    .assert_eq(&said(&found));

    let split = rebuilt(&evidence([holding("server1", &[&orders]), holding("server3", &[&other])]));
    expect![[r#"
        FATAL HOST_LEFT_ALONE server1 agent: holds orders, which is not taken up: it is told nothing, and its servers go on
        FATAL HOST_LEFT_ALONE server3 agent: holds orders, which is not taken up: it is told nothing, and its servers go on
        FATAL LEDGERS_DIFFER - orders: server3 was told another blueprint of it than server1: it is not taken up
    "#]].assert_eq(&said(&split));
    assert!(split.clusters.is_empty());
}

#[test]
fn an_older_life_gives_way_and_stamps_alone_are_not_enough() {
    let mut older = orders();
    older.blueprint.incarnation = Incarnation(1);
    let mut newer = orders();
    newer.blueprint.incarnation = Incarnation(2);
    let forgotten = Testimony { told: Told::Nothing, ..holding("server4", &[&carts()]) };
    let unreadable = Testimony { told: Told::Unreadable("torn".into()), ..holding("server2", &[&newer]) };
    let found =
        rebuilt(&evidence([holding("server1", &[&newer]), unreadable, holding("server3", &[&older]), forgotten]));
    assert_eq!(found.clusters[0].record.blueprint.incarnation, Incarnation(2));
    expect![[r#"
        FATAL STAMPS_ALONE - carts: directories at server4:8000, server4:8001 are stamped for it (00000000-0000-0000-0000-000000000002), and no ledger names it: it cannot be rebuilt from stamps alone; its servers go on
        warn LEDGERS_DIFFER - orders: server3 was told an older life of it than server1 (incarnation 2), which is taken up
        warn LEDGER_LOST server2 ledger: cannot be used: torn
        warn LEDGER_LOST server2 orders: has 2 instances of orders by the ledgers of server1; its own ledger is lost, and its directories say so too
        warn STAMP_DIFFERS server3 port 7000: the directory is stamped for node 01010101 of incarnation 1, and the ledgers of server1 say otherwise; it is not touched
        warn STAMP_DIFFERS server3 port 7001: the directory is stamped for node 01010101 of incarnation 1, and the ledgers of server1 say otherwise; it is not touched
    "#]].assert_eq(&said(&found));
}

#[test]
fn of_two_with_one_name_the_formed_one_is_taken_up_and_of_two_formed_ones_neither() {
    let orders = orders();
    let mut begun = ClusterRecord { formed_ms: None, ..cluster("orders", 9, &["server4", "server5", "server6"], 7000) };
    let found = rebuilt(&evidence([holding("server1", &[&orders]), holding("server4", &[&begun])]));
    assert_eq!(found.clusters[0].record.blueprint, orders.blueprint);
    assert_eq!(found.hosts[&name("server4")].standing, Standing::LeftAlone);
    begun.formed_ms = Some(1);
    let neither = rebuilt(&evidence([holding("server1", &[&orders]), holding("server4", &[&begun])]));
    assert!(neither.clusters.is_empty());
    expect![[r#"
        FATAL CLUSTERS_CONFLICT - orders: orders 00000000-0000-0000-0000-000000000001 (formed, by server1) is in the way of orders 00000000-0000-0000-0000-000000000009 (formed, by server4): it is not taken up
        FATAL CLUSTERS_CONFLICT - orders: orders 00000000-0000-0000-0000-000000000009 (formed, by server4) is in the way of orders 00000000-0000-0000-0000-000000000001 (formed, by server1): it is not taken up
        FATAL HOST_LEFT_ALONE server1 agent: holds orders, which is not taken up: it is told nothing, and its servers go on
        FATAL HOST_LEFT_ALONE server4 agent: holds orders, which is not taken up: it is told nothing, and its servers go on
    "#]].assert_eq(&said(&neither));
}

#[test]
fn a_host_speaks_for_others_only_as_long_as_they_do_not_speak_against_it() {
    let (orders, carts) = (orders(), carts());
    let liar = holding("server1", &[&orders]);
    let found = rebuilt(&evidence([liar.clone(), holding("server2", &[&carts]), holding("server3", &[&carts])]));
    assert_eq!(names(&found), ["carts"]);
    expect![[r#"
        FATAL HOST_LEFT_ALONE server1 agent: holds orders, which is not taken up: it is told nothing, and its servers go on
        FATAL LEDGERS_DIFFER - orders: server1 was told of instances at server2, server3, and nothing there says so: it is not taken up
        warn HOST_MISSING server4 carts: was not heard, and has 2 instances of carts by the ledgers of server2, server3; it is told so when it calls, unless it holds more; whether an operator has stopped any of them is not known
    "#]].assert_eq(&said(&found));
    let forgetful = Testimony { told: Told::Nothing, directories: Vec::new(), ..holding("server3", &[&carts]) };
    assert_eq!(names(&rebuilt(&evidence([liar, forgetful]))), ["orders"], "silence is nothing against it");
}

#[test]
fn a_formation_goes_on_where_its_hosts_were_told_to_go() {
    let as_told = |goals: [(&str, Goal); 2]| {
        let holding =
            |(host, goal): (&str, Goal)| holding(host, &[&ClusterRecord { formed_ms: None, goal, ..orders() }]);
        let found = rebuilt(&evidence(goals.map(holding)));
        let record = &found.clusters[0].record;
        (record.goal, record.formed_ms)
    };
    use Goal::{Prepared, Running, SetAside};
    let cases = [
        (Prepared, Prepared, Prepared),
        (Prepared, Running, Running),
        (Running, SetAside, SetAside),
        (Prepared, SetAside, SetAside),
    ];
    for (one, other, goal) in cases {
        assert_eq!(as_told([("server1", one), ("server2", other)]), (goal, None));
    }
}

#[test]
fn of_hosts_that_were_never_told_the_spec_it_is_inferred() {
    let mut assignment = match holding("server1", &[&orders()]).told {
        Told::Orders { assignment, .. } => assignment,
        _ => unreachable!(),
    };
    assignment.clusters[0].spec.clear();
    let found = rebuilt(&evidence([telling("server1", assignment.clone())]));
    assert_eq!(found.clusters[0].record.spec, orders().spec);
    assert!(said(&found).contains("warn SPEC_INFERRED - orders"), "{}", said(&found));
    assert_eq!(found.hosts[&name("server1")].standing, Standing::Anew, "it is told the spec from now on");
    assignment.clusters[0].members[0].port = Port::try_from(9000).unwrap();
    assignment.clusters[0].spec = wire::Spec::from(&orders().spec).encode_to_vec();
    let moved = rebuilt(&evidence([telling("server1", assignment)]));
    assert!(said(&moved).contains("SPEC_INFERRED"), "one that does not fit the blueprint is not believed");
}

#[test]
fn a_lie_that_does_not_hold_together_is_as_good_as_nothing() {
    let Told::Orders { desired, .. } = holding("server1", &[&orders()]).told else { unreachable!() };
    let said = |change: fn(&mut wire::Disclosure), host: &str| {
        let wire::Desired { term, generation, sha256, document } = desired.clone();
        let mut said = wire::Disclosure { term, generation, sha256, document, ..wire::Disclosure::default() };
        change(&mut said);
        match Testimony::of(samples::hello(host), said).told {
            Told::Orders { .. } => "taken".to_owned(),
            Told::Nothing => "nothing".to_owned(),
            Told::Unreadable(why) => why,
        }
    };
    assert_eq!(said(|_| {}, "server1"), "taken");
    assert_eq!(said(|_| {}, "server2"), "it is host server1's");
    assert_eq!(
        said(|said| said.sha256 = vec![0; 32], "server1"),
        "its document does not have the hash that it was kept with"
    );
    assert_eq!(said(|said| said.ledger_error = "torn".into(), "server1"), "torn");
    assert_eq!(said(|said| *said = wire::Disclosure::default(), "server1"), "nothing");
}
