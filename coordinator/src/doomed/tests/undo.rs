//! A life that is put back, as far as it is there.

use super::*;

/// The life before this one, with other ids.
fn before() -> Blueprint {
    let identity = Identity {
        cluster: "orders".parse().unwrap(),
        cluster_id: ClusterId(Uuid::nil()),
        incarnation: Incarnation(1),
    };
    let mut drawn = 100;
    let draw = || {
        drawn += 1;
        id(drawn)
    };
    Blueprint::draw(identity, &case().place().unwrap(), &case().world().0, draw)
}

/// Whole, in the trash of its hosts.
fn trash(blueprint: &Blueprint) -> Trash {
    let mut trash = Trash::new();
    for member in &blueprint.members {
        let found = wire::Discarded {
            name: format!("{}-orders", member.port),
            cluster: "orders".into(),
            cluster_id: blueprint.cluster_id.to_string(),
            incarnation: 1,
            life: 1,
            node_id: member.node_id.to_string(),
            port: member.port.into(),
            formed: true,
            bytes: 1000,
            aside_unix_ms: 5,
            until_unix_ms: 0,
        };
        let result = trash.entry(member.host.clone()).or_insert_with(|| Ok(wire::RummageResult::default()));
        result.as_mut().unwrap().directories.push(found);
    }
    trash
}

fn check(
    change: impl FnOnce(&mut World, &mut Trash, &mut BTreeSet<(HostName, Port)>),
    expected: Expect,
) -> wire::RebuildPlan {
    let (mut world, blueprint, mut in_place) = (world(), before(), BTreeSet::new());
    world.blueprint.incarnation = Incarnation(2);
    let mut trash = trash(&blueprint);
    change(&mut world, &mut trash, &mut in_place);
    let undo = Undo { blueprint: &blueprint, trash: &trash, in_place: &in_place };
    let question = Question { undo: Some(undo), becomes: Incarnation(1), ..world.question() };
    expected.assert_eq(&shown(findings(&question)));
    plan(&question)
}

fn found(trash: &mut Trash, port: u32) -> &mut wire::Discarded {
    let all = trash.values_mut().flat_map(|result| &mut result.as_mut().unwrap().directories);
    all.into_iter().find(|found| found.port == port).unwrap()
}

#[test]
fn what_is_all_there_is_put_back() {
    let plan = check(|_, _, _| {}, expect![[""]]);
    assert_eq!((plan.undo, plan.incarnation, plan.becomes, plan.changes.len()), (true, 2, 1, 0));
    let returns: Vec<_> = plan.returns.iter().map(|one| (one.host.as_str(), one.port, one.life, one.bytes)).collect();
    assert_eq!(returns[0], ("server1", 7000, 1, 1000));
    assert_eq!(returns.len(), 6);
    assert_eq!(plan.returns[0].aside_unix_ms, 5);
    assert!(plan.doomed.iter().all(|one| one.life == 2), "the life that is there is set aside");
}

#[test]
fn what_was_purged_or_only_looks_like_it_is_named() {
    check(
        |_, trash, _| {
            trash.get_mut(&host(1)).unwrap().as_mut().unwrap().directories.clear();
            found(trash, 7002).node_id = id(9).to_string();
            found(trash, 7003).incarnation = 7;
            found(trash, 7004).cluster_id = Uuid::from_u128(1).to_string();
            found(trash, 7005).life = 7;
        },
        expect![[r#"
            Fatal TRASH_INCOMPLETE [life 1]: life 1 of orders cannot be put back whole: not there any more: server1 (7000-7001), server2 (7002-7003), server3 (7004-7005)
                look at what is left: muster trash orders; what was purged does not come back, and muster rebuild orders makes a cluster without data
        "#]],
    );
}

#[test]
fn what_was_not_set_aside_yet_is_no_loss() {
    let plan = check(
        |_, trash, in_place| {
            trash.get_mut(&host(1)).unwrap().as_mut().unwrap().directories.clear();
            in_place.extend([7000, 7001].map(|port| (host(1), Port::try_from(port).unwrap())));
        },
        expect![[""]],
    );
    assert_eq!((plan.returns[0].bytes, plan.returns[0].aside_unix_ms), (0, 0));
}

#[test]
fn a_trash_that_nobody_knows_is_not_taken_for_an_empty_one() {
    check(
        |world, trash, _| {
            world.goes(1);
            trash.insert(host(1), Err("it is not connected".into()));
            trash.remove(&host(2));
        },
        expect![[r#"
            Fatal MISSING_HOST [server1]: server1 has not been heard of for 12 s; what runs there cannot be stopped, and its directories cannot be moved
                on server1: systemctl status muster-agent; an undo needs all hosts
            Fatal TRASH_INCOMPLETE [life 1]: life 1 of orders cannot be put back whole: the trash of server1 is not known: it is not connected; the trash of server2 is not known: it was not asked; the trash of server1 is not known: it is not connected
                look at what is left: muster trash orders; what was purged does not come back, and muster rebuild orders makes a cluster without data
        "#]],
    );
}

#[test]
fn writers_are_told_the_command_of_the_undo() {
    check(
        |world, _, _| world.at(7000).writes_millihertz = 2_000,
        expect![[r#"
        Fatal CLIENTS_WRITE [clients]: clients write to server1:7000 (2.0/s)
            stop the writers, or say that you mean it: muster rebuild orders --undo --even-if-serving
    "#]],
    );
}

#[test]
fn the_life_that_returns_is_shown_as_it_was_formed() {
    let blueprint = before();
    let placement = placement(&blueprint).unwrap();
    let formed = case().place().unwrap();
    assert_eq!(placement.shards.len(), formed.shards.len());
    for (shard, was) in placement.shards.iter().zip(&formed.shards) {
        let seats = |shard: &crate::placement::PlacedShard| -> Vec<_> {
            shard.seats().map(|seat| (seat.host.clone(), seat.port)).collect()
        };
        assert_eq!((shard.slots, seats(shard)), (was.slots, seats(was)));
    }
}
