//! Every small fleet through the planner, judged by the linter and by brute force; large ones by chance; a few to read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod brute;

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use expect_test::{Expect, expect};
use muster_proto::{Auth, HostName, Limits, Port, PortSet, Spec, SpecHost, Tls, spec::SpecParts};
use proptest::prelude::*;

use super::{Placement, Refusal, Site, place};
use crate::{
    finding::Severity,
    lint::{Asked, Copy, lint},
};

/// A fleet to try: ports offered by each host, and what is asked of them.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub ports: Vec<usize>,
    pub replicas: u32,
    pub masters: Option<u32>,
    pub allow_shared_host: bool,
}

impl Case {
    pub fn new(ports: &[usize], replicas: u32) -> Self {
        Self { ports: ports.to_vec(), replicas, masters: None, allow_shared_host: false }
    }

    /// server1 on 10.0.0.1 with ports from 7000 on, and so forth, as in the procedure that people follow by hand.
    pub fn world(&self) -> (Spec, BTreeMap<HostName, Site>) {
        let mut next = 7000_u32;
        let (mut hosts, mut sites) = (Vec::new(), BTreeMap::new());
        for (nth, &ports) in self.ports.iter().enumerate() {
            let name: HostName = format!("server{}", nth + 1).parse().unwrap();
            let range = next..next + u32::try_from(ports).unwrap();
            next = range.end;
            let ports = PortSet::new(range.map(|port| Port::try_from(port).unwrap())).unwrap();
            let nth = u32::try_from(nth).unwrap();
            let site = Site {
                name: name.clone(),
                address: std::net::Ipv4Addr::from(0x0a00_0001 + nth).into(),
                rack: None,
                zone: None,
            };
            sites.insert(name.clone(), site);
            hosts.push(SpecHost { name, ports });
        }
        let parts = SpecParts {
            name: "orders".parse().unwrap(),
            replicas: self.replicas,
            masters: self.masters,
            hosts,
            settings: Vec::new(),
            allow_shared_host: self.allow_shared_host,
            auth: Auth::None,
            tls: Tls::Off,
            limits: Limits::default(),
        };
        (Spec::new(parts).unwrap(), sites)
    }

    pub fn place(&self) -> Result<Placement, Refusal> {
        let (spec, sites) = self.world();
        place(&spec, &sites)
    }

    pub fn asked(&self) -> Asked {
        Asked { replicas: self.replicas, allow_shared_host: self.allow_shared_host }
    }
}

/// The placement as the linter sees it, written down by hand so that it cannot agree with the planner by accident.
pub(crate) fn copies(placement: &Placement) -> Vec<Copy> {
    let mut copies = Vec::new();
    for (shard, placed) in (0..).zip(&placement.shards) {
        for (nth, seat) in placed.seats().enumerate() {
            let slots = if nth == 0 { vec![placed.slots] } else { Vec::new() };
            let name = format!("{}:{}", seat.host, seat.port);
            copies.push(Copy { host: seat.host.clone(), name, shard, slots, master: nth == 0 });
        }
    }
    copies
}

/// Hosts as numbers: of each shard the master's and the replicas'.
fn hosts_of(placement: &Placement) -> Vec<(usize, Vec<usize>)> {
    let number = |host: &HostName| host.as_str().trim_start_matches("server").parse::<usize>().unwrap() - 1;
    let shard = |shard: &super::PlacedShard| {
        (number(&shard.master.host), shard.replicas.iter().map(|seat| number(&seat.host)).collect())
    };
    placement.shards.iter().map(shard).collect()
}

fn judge(case: &Case, placement: &Placement) {
    let findings = lint(&copies(placement), case.asked());
    let masters = placement.shards.len();
    for finding in &findings {
        let expected = match finding.code {
            "SHARED_HOST" => case.allow_shared_host,
            "MAJORITY_ON_HOST" => brute::best_maximum(&case.ports, masters) * 2 >= masters,
            _ => false,
        };
        assert!(expected && finding.severity == Severity::Warning, "{case:?}\n{finding:?}\n{placement:?}");
    }
    let offered: usize = case.ports.iter().sum();
    let used: usize = placement.shards.iter().map(|shard| shard.seats().count()).sum();
    let shared = findings.iter().any(|finding| finding.code == "SHARED_HOST");
    let usable: usize = case.ports.iter().map(|&ports| ports.min(masters)).sum();
    let needed = masters * (case.replicas as usize + 1);
    assert_eq!(shared, usable < needed, "shared exactly when nothing else is possible: {case:?}");
    assert_eq!(used, usable.max(needed), "{case:?}");
    assert_eq!(placement.findings.iter().any(|finding| finding.code == "PORTS_UNUSED"), used < offered, "{case:?}");
}

/// All lists of 1 to `hosts` numbers from 1 to `ports`.
fn fleets(hosts: usize, ports: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..hosts {
        let longer = all[from..].iter().flat_map(|fleet| (1..=ports).map(|n| [fleet.as_slice(), &[n]].concat()));
        let longer: Vec<_> = longer.collect();
        from = all.len();
        all.extend(longer);
    }
    all.split_off(1)
}

/// Every fleet of that size, with everything that may be asked of it and no host shared.
pub(crate) fn cases(hosts: usize, ports: usize) -> impl Iterator<Item = Case> {
    let asked =
        || (0..=3).flat_map(|replicas| std::iter::once(None).chain((3..=6).map(Some)).map(move |m| (replicas, m)));
    fleets(hosts, ports)
        .into_iter()
        .flat_map(move |ports| asked().map(move |(replicas, masters)| Case { masters, ..Case::new(&ports, replicas) }))
}

#[test]
fn every_small_fleet_is_placed_by_the_rules_or_refused_for_a_reason_that_holds() {
    let mut placed = 0;
    for case in cases(5, 4) {
        let sharing = Case { allow_shared_host: true, ..case.clone() };
        let copies = case.replicas as usize + 1;
        let offered: usize = case.ports.iter().sum();
        let masters = case.masters.map_or(offered / copies, |masters| masters as usize);
        match case.place() {
            Ok(placement) => {
                assert_eq!(placement.shards.len(), masters);
                judge(&case, &placement);
                assert_eq!(Ok(placement), sharing.place(), "what is not needed is not used");
                placed += 1;
            }
            Err(Refusal::FewInstances { .. }) => {
                assert!(masters < 3 || offered < masters * copies, "{case:?}");
                assert!(matches!(sharing.place(), Err(Refusal::FewInstances { .. })), "{case:?}");
            }
            Err(Refusal::SharedHost { .. }) => {
                let usable: usize = case.ports.iter().map(|&ports| ports.min(masters)).sum();
                assert!(masters >= 3 && offered >= masters * copies && usable < masters * copies, "{case:?}");
                judge(&sharing, &sharing.place().unwrap());
                placed += 1;
            }
            Err(other) => panic!("{case:?}: {other}"),
        }
    }
    assert!(placed > 10_000, "{placed}");
}

#[test]
fn every_remedy_of_a_refusal_is_enough_and_none_is_missed() {
    for case in cases(4, 3) {
        let (Err(Refusal::FewInstances { remedies, .. }) | Err(Refusal::SharedHost { remedies, .. })) = case.place()
        else {
            continue;
        };
        let number = |number| u32::try_from(number).unwrap();
        let works = |change: Case| change.place().is_ok();
        let fewer = |masters| works(Case { masters: Some(number(masters)), ..case.clone() });
        let most = case.masters.map_or(case.ports.iter().sum(), |masters| masters as usize);
        assert_eq!(remedies.masters, (3..most).rev().find(|&masters| fewer(masters)), "{case:?}");
        let single = |replicas| works(Case { replicas: number(replicas), ..case.clone() });
        assert_eq!(remedies.replicas, (0..case.replicas as usize).rev().find(|&replicas| single(replicas)), "{case:?}");
        let grown = |ports| works(Case { ports: [case.ports.as_slice(), &[ports]].concat(), ..case.clone() });
        assert_eq!(remedies.another_host, (1..24).find(|&ports| grown(ports)), "{case:?}");
    }
}

#[test]
fn no_other_plan_of_a_tiny_fleet_is_better() {
    let tiny = fleets(4, 4).into_iter().filter(|ports| ports.is_sorted() && ports.iter().sum::<usize>() <= 9);
    for ports in tiny {
        for replicas in 0..=2 {
            for masters in 3..=4 {
                for allow_shared_host in [false, true] {
                    let case = Case { ports: ports.clone(), replicas, masters: Some(masters), allow_shared_host };
                    let ours = case.place().ok().map(|placement| brute::Score::of(&hosts_of(&placement), ports.len()));
                    let best = brute::best(&case);
                    assert_eq!(
                        ours.as_ref().map(brute::Score::without_spread),
                        best.as_ref().map(brute::Score::without_spread),
                        "{case:?}"
                    );
                    let Some(ours) = ours else { continue };
                    let spread = brute::best_with_masters(&case, &ours.masters).unwrap();
                    assert_eq!(ours, spread, "{case:?}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn larger_fleets_keep_the_rules(
        ports in prop::collection::vec(1..20_usize, 1..14),
        replicas in 0..4_u32,
        masters in prop::option::of(3..40_u32),
        allow_shared_host: bool,
    ) {
        let case = Case { ports, replicas, masters, allow_shared_host };
        if let Ok(placement) = case.place() {
            judge(&case, &placement);
            prop_assert_eq!(Ok(placement), case.place(), "the same input, the same plan");
        }
    }
}

#[test]
fn the_largest_fleets_take_well_under_a_second() {
    let equal = Case::new(&[10; 100], 1);
    let ragged = Case::new(&(0..100).map(|nth| 1 + nth * 7 % 19).collect::<Vec<_>>(), 1);
    let single = Case::new(&[1; 1000], 1);
    let steps = Case::new(&(0..60).map(|nth| 1 + nth / 2).collect::<Vec<_>>(), 2);
    for case in [equal, ragged, single, steps] {
        let begun = Instant::now();
        let placement = case.place().unwrap();
        let took = begun.elapsed();
        judge(&case, &placement);
        // Measured in a debug build: 30 to 300 ms.
        assert!(took.as_secs() < 5, "{took:?} for {:?}", case.ports);
    }
}

fn show(case: &Case) -> String {
    let placement = match case.place() {
        Ok(placement) => placement,
        Err(refusal) => return format!("{refusal}\nhint: {}\n", refusal.hint()),
    };
    let mut text = String::new();
    for shard in &placement.shards {
        let _ = writeln!(text, "{}", shard.slots);
        for seat in shard.seats() {
            let _ = writeln!(text, "  {} {}:{}  {}", seat.host, seat.address, seat.port, seat.why);
        }
    }
    for finding in placement.findings.iter().chain(&lint(&copies(&placement), case.asked())) {
        let _ = writeln!(text, "{:?} {}: {} ({})", finding.severity, finding.subject, finding.message, finding.cure);
    }
    text
}

fn check(case: &Case, expected: Expect) {
    expected.assert_eq(&show(case));
}

#[test]
fn the_two_servers_of_the_procedure_by_hand() {
    check(
        &Case::new(&[3, 3], 1),
        expect![[r#"
            0-5460
              server1 10.0.0.1:7000  masters go in turn over the hosts; server1 has 2 of 3
              server2 10.0.0.2:7004  not on its master's host; server2 holds 2 of 2 replicas of server1's masters
            5461-10922
              server2 10.0.0.2:7003  masters go in turn over the hosts; server2 has 1 of 3
              server1 10.0.0.1:7002  not on its master's host; server1 holds 1 of 1 replica of server2's masters
            10923-16383
              server1 10.0.0.1:7001  masters go in turn over the hosts; server1 has 2 of 3
              server2 10.0.0.2:7005  not on its master's host; server2 holds 2 of 2 replicas of server1's masters
            Warning masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect (spread the masters over at least 3 hosts)
        "#]],
    );
}

#[test]
fn three_hosts_of_two_ports() {
    check(
        &Case::new(&[2, 2, 2], 1),
        expect![[r#"
        0-5460
          server1 10.0.0.1:7000  masters go in turn over the hosts; server1 has 1 of 3
          server2 10.0.0.2:7003  not on its master's host; server2 holds 1 of 1 replica of server1's masters
        5461-10922
          server2 10.0.0.2:7002  masters go in turn over the hosts; server2 has 1 of 3
          server3 10.0.0.3:7005  not on its master's host; server3 holds 1 of 1 replica of server2's masters
        10923-16383
          server3 10.0.0.3:7004  masters go in turn over the hosts; server3 has 1 of 3
          server1 10.0.0.1:7001  not on its master's host; server1 holds 1 of 1 replica of server3's masters
    "#]],
    );
}

#[test]
fn unequal_hosts_and_leftovers() {
    check(
        &Case::new(&[4, 3, 1, 1], 1),
        expect![[r#"
        0-4095
          server1 10.0.0.1:7000  masters go in turn over the hosts; server1 has 1 of 4
          server2 10.0.0.2:7005  not on its master's host; server2 holds 1 of 1 replica of server1's masters
        4096-8191
          server2 10.0.0.2:7004  masters go in turn over the hosts; server2 has 1 of 4
          server1 10.0.0.1:7001  not on its master's host; server1 holds 1 of 1 replica of server2's masters
        8192-12287
          server3 10.0.0.3:7007  masters go in turn over the hosts; server3 has 1 of 4
          server1 10.0.0.1:7002  not on its master's host; server1 holds 1 of 2 replicas of server3's masters
          server2 10.0.0.2:7006  extra replica, from a leftover instance; not on its master's host; server2 holds 1 of 2 replicas of server3's masters
        12288-16383
          server4 10.0.0.4:7008  masters go in turn over the hosts; server4 has 1 of 4
          server1 10.0.0.1:7003  not on its master's host; server1 holds 1 of 1 replica of server4's masters
    "#]],
    );
    check(
        &Case { masters: Some(3), ..Case::new(&[5, 3, 2], 1) },
        expect![[r#"
        0-5460
          server1 10.0.0.1:7000  masters go in turn over the hosts; server1 has 1 of 3
          server2 10.0.0.2:7006  not on its master's host; server2 holds 1 of 2 replicas of server1's masters
          server3 10.0.0.3:7009  extra replica, from a leftover instance; not on its master's host; server3 holds 1 of 2 replicas of server1's masters
        5461-10922
          server2 10.0.0.2:7005  masters go in turn over the hosts; server2 has 1 of 3
          server1 10.0.0.1:7001  not on its master's host; server1 holds 1 of 1 replica of server2's masters
        10923-16383
          server3 10.0.0.3:7008  masters go in turn over the hosts; server3 has 1 of 3
          server1 10.0.0.1:7002  not on its master's host; server1 holds 1 of 2 replicas of server3's masters
          server2 10.0.0.2:7007  extra replica, from a leftover instance; not on its master's host; server2 holds 1 of 2 replicas of server3's masters
        Warning ports 7003, 7004: 2 of server1's 5 instances would stay unused: one more would share the host with another copy of its shard (take the ports out of the spec, or offer them on another host)
    "#]],
    );
}

#[test]
fn one_host_when_the_spec_allows_it() {
    check(
        &Case { allow_shared_host: true, ..Case::new(&[5, 1], 1) },
        expect![[r#"
            0-5460
              server1 10.0.0.1:7000  masters go in turn over the hosts; server1 has 2 of 3
              server1 10.0.0.1:7002  shares server1 with another copy: no other host is left, and the spec allows it
            5461-10922
              server2 10.0.0.2:7005  masters go in turn over the hosts; server2 has 1 of 3
              server1 10.0.0.1:7003  not on its master's host; server1 holds 1 of 1 replica of server2's masters
            10923-16383
              server1 10.0.0.1:7001  masters go in turn over the hosts; server1 has 2 of 3
              server1 10.0.0.1:7004  shares server1 with another copy: no other host is left, and the spec allows it
            Warning masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect (spread the masters over at least 3 hosts)
            Warning shard 0: 2 of its 2 copies are on server1 (server1:7000, server1:7002): its death takes the whole shard (offer more instances on other hosts)
            Warning shard 2: 2 of its 2 copies are on server1 (server1:7001, server1:7004): its death takes the whole shard (offer more instances on other hosts)
        "#]],
    );
}

#[test]
fn refusals_say_the_numbers() {
    check(
        &Case::new(&[3, 2], 1),
        expect![[r#"
            3 masters, the fewest that can elect, with 1 replica need 6 instances; the spec offers 5: server1 3 (7000-7002), server2 2 (7003-7004)
            hint: add a host with 1 port to the spec; or set `replicas = 0`
        "#]],
    );
    check(
        &Case::new(&[2], 0),
        expect![[r#"
            3 masters, the fewest that can elect, without replicas need 3 instances; the spec offers 2: server1 2 (7000-7001)
            hint: add a host with 1 port to the spec
        "#]],
    );
    check(
        &Case { masters: Some(5), ..Case::new(&[3, 3, 2], 1) },
        expect![[r#"
            5 masters with 1 replica need 10 instances; the spec offers 8: server1 3 (7000-7002), server2 3 (7003-7005), server3 2 (7006-7007)
            hint: set `masters = 4`; or add a host with 2 ports to the spec; or set `replicas = 0`
        "#]],
    );
    check(
        &Case::new(&[6], 1),
        expect![[r#"
            2 copies of a shard need 2 hosts; the spec has 1: server1 6 (7000-7005)
            hint: add a host with 5 ports to the spec; or set `replicas = 0`; or set `allow_shared_host = true`, which accepts two copies of a shard on one host
        "#]],
    );
    check(
        &Case::new(&[6, 2, 2], 1),
        expect![[r#"
            5 shards of 2 copies would need two copies of a shard on one host: server1 offers 6, and a host can take only one of each shard, so that 9 of the 10 needed instances can be used: server1 6 (7000-7005), server2 2 (7006-7007), server3 2 (7008-7009)
            hint: set `masters = 4`; or add a host with 1 port to the spec; or set `replicas = 0`; or set `allow_shared_host = true`, which accepts two copies of a shard on one host
        "#]],
    );
    check(
        &Case::new(&[4, 1, 1], 1),
        expect![[r#"
            3 shards of 2 copies would need two copies of a shard on one host: server1 offers 4, and a host can take only one of each shard, so that 5 of the 6 needed instances can be used: server1 4 (7000-7003), server2 1 (7004), server3 1 (7005)
            hint: add a host with 1 port to the spec; or set `replicas = 0`; or set `allow_shared_host = true`, which accepts two copies of a shard on one host
        "#]],
    );
    check(
        &Case::new(&[1001], 0),
        expect![[r#"
        1001 instances with no replicas each make 1001 masters; Muster forms at most 1000
        hint: set `masters = 1000` or fewer, or raise `replicas`
    "#]],
    );
}

#[test]
fn hosts_must_be_known_and_apart() {
    let refuse = |ports: [&str; 2], change: &dyn Fn(&mut BTreeMap<HostName, Site>)| {
        let (spec, mut sites) = Case::new(&[3, 3], 1).world();
        change(&mut sites);
        let mut parts = spec.parts().clone();
        for (host, ports) in parts.hosts.iter_mut().zip(ports) {
            host.ports = PortSet::parse(&[ports]).unwrap();
        }
        match place(&Spec::new(parts).unwrap(), &sites) {
            Ok(placement) => format!("{:#?}", placement.findings),
            Err(refusal) => format!("{refusal}\nhint: {}", refusal.hint()),
        }
    };
    let one_address = |sites: &mut BTreeMap<HostName, Site>| {
        for site in sites.values_mut() {
            site.address = [10, 0, 0, 7].into();
        }
    };
    expect![[r#"
        no agent calls itself server2; known are: server1
        hint: start muster-agent with `name = "server2"` there, or name one that `muster hosts` lists"#]]
    .assert_eq(&refuse(["7000-7002", "7003-7005"], &|sites| {
        sites.pop_last();
    }));
    expect![[r#"
        no agent calls itself server1; known are: none yet
        hint: start muster-agent with `name = "server1"` there, or name one that `muster hosts` lists"#]]
    .assert_eq(&refuse(["7000-7002", "7003-7005"], &|sites| sites.clear()));
    expect![[r#"
        server1 and server2 both have address 10.0.0.7, and both offer port 7002
        hint: give server1 and server2 different addresses in their agent.toml, or other ports in the spec"#]]
    .assert_eq(&refuse(["7000-7002", "7002-7004"], &one_address));
    expect![[r#"
        server2 and server1 both have address 10.0.0.7, and port 17002 of server2 is the bus port of server1's port 7002
        hint: give server2 and server1 different addresses in their agent.toml, or other ports in the spec"#]]
    .assert_eq(&refuse(["7000-7002", "17002-17004"], &one_address));
    expect![[r#"
        [
            Finding {
                severity: Warning,
                code: "ADDRESS_SHARED",
                host: None,
                subject: "address 10.0.0.7",
                message: "server1, server2 have one address: if they are one machine, its death takes all of them",
                cure: "run one agent a machine",
            },
        ]"#]]
    .assert_eq(&refuse(["7000-7002", "7003-7005"], &one_address));
}
