//! What hosts are told, of one cluster and of several.

use super::*;
use crate::{
    placement::tests::Case,
    samples::{blueprint, drawn, spec},
};

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

#[test]
fn a_host_is_told_of_every_cluster_that_names_it_and_of_no_other() {
    let (orders, mut carts) = (blueprint(), drawn(&Case::new(&[1, 1, 1], 0)));
    carts.cluster = "carts".parse().unwrap();
    let told = [
        Told { blueprint: &orders, goal: Goal::Running, formed: true, spec: &spec(), credentials: None },
        Told { blueprint: &carts, goal: Goal::Prepared, formed: false, spec: &spec(), credentials: None },
    ];
    let hosts = ["server1", "server3", "server9"].map(host);
    let wishes = assignments(&hosts, &told);
    assert_eq!(wishes.keys().cloned().collect::<Vec<_>>(), hosts);
    let names = |name: &str| {
        let clusters = &wishes[&host(name)].clusters;
        clusters.iter().map(|cluster| (cluster.cluster.as_str(), cluster.formed)).collect::<Vec<_>>()
    };
    assert_eq!(names("server1"), [("orders", true), ("carts", false)]);
    assert_eq!(names("server3"), [("carts", false)]);
    assert_eq!(wishes[&host("server9")], HostAssignment::empty(host("server9")), "so that it can forget");
}

#[test]
fn every_goal_is_a_wish_for_every_instance() {
    let blueprint = blueprint();
    let cases = [(Goal::Prepared, Want::Prepared), (Goal::Running, Want::Running), (Goal::SetAside, Want::SetAside)];
    for (goal, want) in cases {
        let told = Told { blueprint: &blueprint, goal, formed: false, spec: &spec(), credentials: None };
        let wishes = assignments(&blueprint.hosts(), &[told]);
        let wants: Vec<_> = wishes.values().flat_map(|wish| &wish.clusters[0].instances).map(|one| one.want).collect();
        assert_eq!(wants, [want; 6]);
    }
}
