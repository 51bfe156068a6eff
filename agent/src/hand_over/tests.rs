//! What makes a hand-over possible, done or impossible, and how long a gap is.

use muster_proto::Want;

use super::*;
use crate::samples::{cluster, id, view};

/// The replica of shard 0, as itself and its topology say.
fn replica() -> (NodeView, Topology) {
    let topology = cluster(Want::Running, true).topology();
    let role = topology.get(id(2)).unwrap().role.clone();
    (NodeView { node_id: id(2), role, link_up: true, ..view() }, topology)
}

#[test]
fn a_replica_in_sync_is_ready_with_the_slots_of_its_master() {
    let (view, topology) = replica();
    let Stand::Ready(range) = stand(&view, &topology, id(1)) else { panic!("{:?}", stand(&view, &topology, id(1))) };
    assert_eq!(topology.get(id(1)).unwrap().role.slots().first(), Some(&range));
}

#[test]
fn one_that_cannot_have_everything_or_copies_another_is_not_asked() {
    let (view, topology) = replica();
    let unfit = |view: &NodeView, from| match stand(view, &topology, from) {
        Stand::Unfit(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(unfit(&NodeView { link_up: false, ..view.clone() }, id(1)).contains("link"));
    assert!(unfit(&view, id(3)).contains("replica of"));
    let master = topology.get(id(3)).unwrap().role.clone();
    assert!(unfit(&NodeView { role: master, ..view.clone() }, id(1)).contains("beside"));
    assert!(unfit(&NodeView { role: Role::Master { slots: Vec::new() }, ..view }, id(1)).contains("without slots"));
}

#[test]
fn one_that_has_taken_over_has_nothing_to_do() {
    let (view, _) = replica();
    let mut members = cluster(Want::Running, true).members;
    let slots = members[0].role.clone();
    members[0].role = Role::Replica { master: id(2) };
    members[1].role = slots.clone();
    let now = Topology::of_members(&members);
    assert_eq!(stand(&NodeView { role: slots, ..view }, &now, id(1)), Stand::Done);
}

#[test]
fn the_gap_is_the_longest_wait_between_two_acknowledgements() {
    let began = Instant::now();
    let at = |millis: &[u64]| millis.iter().map(|at| began + Duration::from_millis(*at)).collect::<Vec<_>>();
    assert_eq!(longest(&at(&[0, 1, 2, 145, 146])), Duration::from_millis(143));
    assert_eq!(longest(&at(&[5])), Duration::ZERO);
    assert_eq!(longest(&[]), Duration::ZERO);
}
