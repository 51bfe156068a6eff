//! What hosts are told, of one cluster and of several.

use muster_proto::Tls;

use super::*;
use crate::{
    placement::tests::Case,
    samples::{blueprint, drawn},
};

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

#[test]
fn a_host_is_told_of_every_cluster_that_names_it_and_of_no_other() {
    let (orders, mut carts) = (blueprint(), drawn(&Case::new(&[1, 1, 1], 0)));
    carts.cluster = "carts".parse().unwrap();
    let none = Duties::new();
    let told = [Told::plain(&orders, Goal::Running, true, &none), Told::plain(&carts, Goal::Prepared, false, &none)];
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
        let none = Duties::new();
        let told = Told::plain(&blueprint, goal, false, &none);
        let wishes = assignments(&blueprint.hosts(), &[told]);
        let wants: Vec<_> = wishes.values().flat_map(|wish| &wish.clusters[0].instances).map(|one| one.want).collect();
        assert_eq!(wants, [want; 6]);
    }
}

#[test]
fn who_may_log_in_and_what_is_spoken_goes_to_every_host_of_the_cluster() {
    let spec = crate::credentials::tests::spec(Tls::Issued);
    let record = crate::samples::fleet::formed(&spec, blueprint());
    let credentials = record.credentials.clone().unwrap();
    for wish in assignments(&record.blueprint.hosts(), &[Told::from(&record)]).into_values() {
        let [cluster] = wish.clusters.as_slice() else { panic!("one cluster") };
        assert_eq!((&cluster.users, &cluster.tls), (&credentials.users(&spec), &credentials.tls(&spec)));
        assert!(cluster.users.is_some() && cluster.tls.is_some() && cluster.formed);
        let told = wire::Spec::decode(cluster.spec.as_slice()).unwrap();
        assert_eq!(Spec::try_from(told).unwrap(), spec, "for a coordinator that has lost its store");
    }
}
