//! What two topologies say of each other.

use expect_test::{Expect, expect};

use super::*;

fn id(nth: u8) -> NodeId {
    NodeId([nth; 20])
}

fn node(nth: u8, role: Role) -> Node {
    let port = 7000 + u16::from(nth);
    Node { id: id(nth), address: [10, 0, 0, nth].into(), port, bus_port: port + 10_000, role }
}

fn master(nth: u8, slots: &[(u16, u16)]) -> Node {
    let slots = slots.iter().map(|(first, last)| SlotRange::new(*first, *last).unwrap()).collect();
    node(nth, Role::Master { slots })
}

fn replica(nth: u8, of: u8) -> Node {
    node(nth, Role::Replica { master: id(of) })
}

fn right() -> Vec<Node> {
    vec![master(1, &[(0, 8191)]), master(2, &[(8192, 16383)]), replica(3, 1)]
}

fn check(seen: Vec<Node>, expected: Expect) {
    let (right, seen) = (Topology::new(right()), Topology::new(seen));
    let said = right.differences(&seen);
    expected.assert_eq(&said.join("\n"));
    assert_eq!(said.is_empty(), right.digest() == seen.digest(), "equal exactly if the digests are");
    assert_eq!(said.is_empty(), seen.differences(&right).is_empty(), "and from both sides");
}

#[test]
fn neither_order_nor_the_way_slots_are_cut_is_a_difference() {
    check(right(), expect![""]);
    check(vec![replica(3, 1), master(2, &[(8192, 16383)]), master(1, &[(100, 8191), (0, 99)])], expect![""]);
}

#[test]
fn a_node_that_is_not_known_is_named() {
    check(
        right()[..2].to_vec(),
        expect!["does not know 10.0.0.3:7003@17003 replica of 0101010101010101010101010101010101010101"],
    );
}

#[test]
fn a_stranger_is_named() {
    check(
        right().into_iter().chain([master(9, &[])]).collect(),
        expect!["knows a stranger, 10.0.0.9:7009@17009 master -"],
    );
}

#[test]
fn a_failover_is_two_differences() {
    check(
        vec![replica(1, 3), master(2, &[(8192, 16383)]), master(3, &[(0, 8191)])],
        expect![[r#"
        sees 10.0.0.1:7001@17001 replica of 0303030303030303030303030303030303030303 where 10.0.0.1:7001@17001 master 0-8191 is right
        sees 10.0.0.3:7003@17003 master 0-8191 where 10.0.0.3:7003@17003 replica of 0101010101010101010101010101010101010101 is right"#]],
    );
}

#[test]
fn every_field_counts() {
    let changed: [fn(&mut Node); 4] = [
        |node| node.address = [10, 0, 0, 99].into(),
        |node| node.port += 1,
        |node| node.bus_port += 1,
        |node| node.role = Role::Master { slots: vec![] },
    ];
    for change in changed {
        let mut seen = right();
        change(&mut seen[0]);
        let (right, seen) = (Topology::new(right()), Topology::new(seen));
        assert_ne!(right.digest(), seen.digest());
        assert_eq!(right.differences(&seen).len(), 1);
    }
}
