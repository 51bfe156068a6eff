//! What makes an instance settled, and how often one that is not is asked.

use muster_proto::{NodeId, Want};

use super::*;
use crate::samples::{cluster, view};

fn expected(formed: bool) -> Expected {
    Expected::of(&cluster(Want::Running, formed))
}

fn replica() -> NodeView {
    NodeView { role: Role::Replica { master: NodeId([3; 20]) }, link_up: true, online_replicas: 0, ..view() }
}

/// One thing amiss, and whether an instance is settled all the same.
type Case = (&'static str, fn(&mut NodeView), bool);

#[test]
fn settled_is_what_the_blueprint_says() {
    let other = |view: &mut NodeView| view.digest = Sha256([0; 32]);
    let cases: [Case; 8] = [
        ("nothing", |_| {}, true),
        ("more replicas than planned", |view| view.online_replicas = 9, true),
        ("a replica that is not in sync", |view| view.online_replicas = 0, false),
        ("no link, of a master", |view| view.link_up = false, true),
        ("cluster_state:fail", |view| view.cluster_ok = false, false),
        ("a trouble", |view| view.troubles = vec!["x".into()], false),
        ("another topology", other, false),
        ("its text", |view| view.nodes_text = Some("x".into()), true),
    ];
    for (name, change, settled) in cases {
        let mut view = view();
        change(&mut view);
        assert_eq!(expected(false).settled(&view), settled, "{name}");
    }
}

#[test]
fn a_replica_is_settled_when_its_link_is_up() {
    assert!(expected(false).settled(&replica()));
    assert!(!expected(false).settled(&NodeView { link_up: false, ..replica() }));
}

#[test]
fn only_the_settled_and_the_formed_are_asked_seldom() {
    let pace = |answer| expected(false).pace(&answer);
    assert_eq!(pace(Answer::View(Box::new(view()))), CALM);
    assert_eq!(pace(Answer::View(Box::new(NodeView { cluster_ok: false, ..view() }))), SETTLING);
    let formed = expected(true).pace(&Answer::View(Box::new(NodeView { cluster_ok: false, ..view() })));
    assert_eq!(formed, CALM, "whatever its peers are doing");
    assert_eq!(pace(Answer::Loading), SETTLING);
    assert_eq!(pace(Answer::Silent(String::new())), SETTLING);
}
