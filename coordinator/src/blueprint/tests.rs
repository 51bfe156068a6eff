//! What is drawn for every small fleet.

use std::collections::BTreeSet;

use super::*;
use crate::{
    placement::tests::{Case, cases},
    samples::{blueprint, drawn, id},
};

/// Every small fleet that can be placed.
fn everywhere(holds: impl Fn(&Case, &Blueprint)) {
    let placed: Vec<_> = cases(3, 4).filter(|case| case.place().is_ok()).collect();
    assert!(placed.len() > 100, "only {} fleets", placed.len());
    placed.iter().for_each(|case| holds(case, &drawn(case)));
}

#[test]
fn the_store_gives_back_what_it_was_given() {
    everywhere(|case, blueprint| {
        assert_eq!(Blueprint::decode(&blueprint.encode()).as_ref(), Ok(blueprint), "{case:?}")
    });
    let settings = vec![Setting { key: "appendonly".into(), value: "yes".into() }];
    let blueprint = Blueprint { settings, incarnation: Incarnation(7), ..blueprint() };
    assert_eq!(Blueprint::decode(&blueprint.encode()).unwrap(), blueprint);
    assert_eq!(Blueprint::decode(&[0xff]).unwrap_err().field, "blueprint");
}

#[test]
fn no_id_is_drawn_twice_and_every_node_has_one() {
    everywhere(|case, blueprint| {
        let nodes = blueprint.members.iter().map(|member| member.node_id);
        let shards: BTreeSet<_> = blueprint.members.iter().map(|member| member.shard_id).collect();
        let all: BTreeSet<_> = nodes.chain(shards.iter().copied()).collect();
        assert_eq!(all.len(), blueprint.members.len() + shards.len(), "{case:?}");
        assert_eq!(shards.len(), blueprint.masters(), "a shard has one id: {case:?}");
    });
}

#[test]
fn epochs_are_1_to_m_and_a_replica_has_its_masters() {
    everywhere(|case, blueprint| {
        let (masters, replicas): (Vec<_>, Vec<_>) = blueprint.members.iter().partition(|m| m.role.master().is_none());
        let epochs: Vec<_> = masters.iter().map(|master| master.config_epoch).collect();
        assert_eq!(epochs, (1..=masters.len() as u64).collect::<Vec<_>>(), "{case:?}");
        for replica in replicas {
            let master = masters.iter().find(|master| replica.role.master() == Some(master.node_id)).unwrap();
            let of = |member: &Member| (member.shard, member.shard_id, member.config_epoch);
            assert_eq!(of(replica), of(master), "{case:?}");
            assert_ne!((&replica.host, replica.port), (&master.host, master.port));
        }
    });
}

#[test]
fn replicas_are_counted_by_shard_and_the_fewest_are_promised() {
    everywhere(|case, blueprint| {
        let by_shard = blueprint.replicas_by_shard();
        assert_eq!(by_shard.len(), blueprint.masters(), "{case:?}");
        assert_eq!(by_shard.values().sum::<usize>() + blueprint.masters(), blueprint.members.len(), "{case:?}");
        assert_eq!(by_shard.values().min(), Some(&(blueprint.replicas as usize)), "{case:?}");
        assert!(blueprint.replicas >= case.replicas, "{case:?}");
    });
}

#[test]
fn every_member_stands_in_the_assignment_of_its_host_and_in_no_other() {
    everywhere(|case, blueprint| {
        let mut assigned = Vec::new();
        for host in blueprint.hosts() {
            let whole = blueprint.told(&host, Want::Running, true);
            assert_eq!((&whole.members, whole.formed), (&blueprint.members, true));
            assert!(whole.instances.windows(2).all(|pair| pair[0].port < pair[1].port), "by port: {case:?}");
            for instance in &whole.instances {
                let member = whole.member(instance.node_id).unwrap();
                assert_eq!((&member.host, member.port, instance.want), (&host, instance.port, Want::Running));
                assigned.push(instance.node_id);
            }
        }
        let count = assigned.len();
        assert_eq!((count, assigned.into_iter().collect::<BTreeSet<_>>().len()), (blueprint.members.len(), count));
    });
    assert!(blueprint().told(&"stranger".parse().unwrap(), Want::Running, false).instances.is_empty());
}

#[test]
fn ids_come_from_the_draw_and_from_nowhere_else() {
    assert_eq!(blueprint().members.iter().map(|member| member.node_id).collect::<Vec<_>>(), [2, 3, 5, 6, 8, 9].map(id));
}
