//! Rotations through the loop and the store, with a crash between any two stages.

use muster_proto::{HostName, Port, Tls, Users, failure::Reason, wire};

use super::{super::Keeper, *};
use crate::{
    admin,
    credentials::{Kind, Stage, api, tests::spec},
    samples::{
        blueprint,
        fleet::{Fleet, formed, owner, visit},
        report,
    },
};

fn host(nth: usize) -> HostName {
    blueprint().hosts()[nth - 1].clone()
}

fn fleet() -> Fleet {
    Fleet::new(&[formed(&spec(Tls::Issued), blueprint())])
}

fn rotate(fleet: &Fleet, certificates: bool) -> String {
    let request = wire::RotateCredentialsRequest { cluster: "orders".into(), certificates };
    api::rotate(&fleet.shared, &owner(), "unix socket", request).unwrap().operation_id
}

fn finish(fleet: &Fleet) -> Result<String, muster_proto::failure::Failure> {
    let request = wire::FinishRotationRequest { cluster: "orders".into() };
    api::finish(&fleet.shared, &owner(), "unix socket", request).map(|answer| answer.operation_id)
}

fn stage(fleet: &Fleet) -> Option<Stage> {
    fleet.record("orders").credentials.unwrap().rotation.map(|rotation| rotation.stage)
}

fn users(fleet: &Fleet) -> Users {
    fleet.told(&host(1)).clusters[0].users.clone().unwrap()
}

/// Goes through the whole of it, and calls `crash` wherever a crash may be.
fn through(certificates: bool, crash: impl Fn(Fleet) -> Fleet) {
    let kind = if certificates { Kind::Certificates } else { Kind::Passwords };
    let stages = match kind {
        Kind::Passwords => [Stage::Add, Stage::Switch, Stage::Overlap, Stage::Retire],
        Kind::Certificates => [Stage::Add, Stage::Overlap, Stage::Switch, Stage::Retire],
    };
    let fleet = fleet();
    let before = fleet.record("orders").credentials.unwrap();
    let id = rotate(&fleet, certificates);
    let mut fleet = crash(fleet);
    let mut keeper = Keeper::new(fleet.shared.clone());
    for (nth, expected) in stages.into_iter().enumerate() {
        assert_eq!(stage(&fleet), Some(expected));
        assert_eq!(fleet.operation(&id).phase, expected.word());
        // Nobody has followed, then one: the other holds the stage, and is named.
        for followed in 0..2 {
            if followed == 1 {
                fleet.follow(&host(1));
            }
            keeper.pass().unwrap();
            assert_eq!(stage(&fleet), Some(expected), "nobody hurries");
        }
        if expected != Stage::Overlap {
            assert!(fleet.operation(&id).message.contains("waiting for server"), "{}", fleet.operation(&id).message);
        }
        drop(keeper);
        fleet = crash(fleet);
        keeper = Keeper::new(fleet.shared.clone());
        fleet.all_follow();
        keeper.pass().unwrap();
        if expected == Stage::Overlap {
            assert_eq!(stage(&fleet), Some(expected), "it waits for the operator, however often");
            assert_eq!(finish(&fleet).unwrap(), id);
            assert!(finish(&fleet).is_ok(), "said again, answered again");
        }
        if nth < 3 {
            assert_ne!(stage(&fleet), Some(expected));
        }
        drop(keeper);
        fleet = crash(fleet);
        keeper = Keeper::new(fleet.shared.clone());
    }
    assert_eq!(stage(&fleet), None);
    let operation = fleet.operation(&id);
    assert_eq!((operation.state, operation.phase.as_str(), operation.plan_hash), (OpState::Done, "DONE", None));
    assert_eq!(finish(&fleet).unwrap(), id, "finished is finished");
    let after = fleet.record("orders").credentials.unwrap();
    assert_eq!(before.password("default") == after.password("default"), certificates);
    assert_eq!(before.signing() == after.signing(), !certificates);
}

#[test]
fn a_rotation_waits_for_every_host_at_every_stage() {
    through(false, |fleet| fleet);
    through(true, |fleet| fleet);
}

#[test]
fn a_crash_between_any_two_stages_changes_nothing() {
    through(false, Fleet::restarted);
    through(true, Fleet::restarted);
}

#[test]
fn hosts_are_told_in_the_transaction_that_moves_the_stage() {
    let fleet = fleet();
    rotate(&fleet, false);
    let mut keeper = Keeper::new(fleet.shared.clone());
    for _ in 0..3 {
        let credentials = fleet.record("orders").credentials.unwrap();
        assert_eq!(users(&fleet), credentials.users(&spec(Tls::Issued)).unwrap());
        let told = fleet.shared.ledger.desired(&host(2)).unwrap().unwrap().generation;
        assert_eq!(fleet.shared.inventory().get(&host(2)).unwrap().told.0, told, "and they hear of it");
        fleet.all_follow();
        keeper.pass().unwrap();
    }
}

#[test]
fn clusters_that_share_hosts_do_not_take_each_others_steps_back() {
    let mut carts = blueprint();
    carts.cluster = "carts".parse().unwrap();
    for member in &mut carts.members {
        member.port = Port::try_from(u32::from(member.port.get()) + 100).unwrap();
        member.bus_port += 100;
    }
    let fleet = Fleet::new(&[formed(&spec(Tls::Off), blueprint()), formed(&spec(Tls::Off), carts)]);
    for cluster in ["orders", "carts"] {
        let request = wire::RotateCredentialsRequest { cluster: cluster.into(), certificates: false };
        api::rotate(&fleet.shared, &owner(), "unix socket", request).unwrap();
    }
    fleet.all_follow();
    let mut keeper = Keeper::new(fleet.shared.clone());
    // The first step puts the hosts behind again, so the second cluster waits for another pass.
    for _ in 0..2 {
        keeper.pass().unwrap();
        fleet.all_follow();
    }
    let told = fleet.told(&host(1));
    assert_eq!(told.clusters.len(), 2);
    for cluster in &told.clusters {
        let record = fleet.record(cluster.cluster.as_str());
        let credentials = record.credentials.unwrap();
        assert!(credentials.rotation.unwrap().stage != Stage::Add, "{}", cluster.cluster);
        assert_eq!(cluster.users, credentials.users(&record.spec), "{}", cluster.cluster);
    }
}

#[test]
fn a_host_that_refuses_needs_the_operator_at_once_and_is_named_with_the_way_out() {
    let fleet = fleet();
    let id = rotate(&fleet, false);
    fleet.follow(&host(1));
    let told = fleet.shared.inventory().get(&host(2)).unwrap().told;
    let refusal = Some("the disk is full".to_owned());
    fleet.shared.inventory().get_mut(&host(2)).unwrap().report =
        Some(muster_proto::Report { received: told, refusal, ..report(Vec::new()) });
    let mut keeper = Keeper::new(fleet.shared.clone());
    keeper.pass().unwrap();
    let operation = fleet.operation(&id);
    assert_eq!(operation.state, OpState::NeedsOperator);
    let said = format!(
        "every instance accepts the new passwords beside the old ones; server2: refuses: the disk is full; mend it and \
         it goes on by itself, or call it off: muster op cancel {id}"
    );
    assert_eq!(operation.message, said);
    fleet.all_follow();
    keeper.pass().unwrap();
    assert_eq!((stage(&fleet), fleet.operation(&id).state), (Some(Stage::Switch), OpState::Running));
}

#[test]
fn paused_it_stands_still_and_resumed_it_says_again_what_it_waits_for() {
    let fleet = fleet();
    let id = rotate(&fleet, false);
    let mut keeper = Keeper::new(fleet.shared.clone());
    admin::operations::pause(&fleet.shared, &visit(), &id).unwrap();
    fleet.all_follow();
    keeper.pass().unwrap();
    assert_eq!(stage(&fleet), Some(Stage::Add));
    admin::operations::resume(&fleet.shared, &visit(), &id).unwrap();
    for _ in 0..2 {
        fleet.all_follow();
        keeper.pass().unwrap();
    }
    assert_eq!(stage(&fleet), Some(Stage::Overlap));
    admin::operations::pause(&fleet.shared, &visit(), &id).unwrap();
    assert!(finish(&fleet).unwrap_err().is(Reason::OperationBusy));
    admin::operations::resume(&fleet.shared, &visit(), &id).unwrap();
    fleet.all_follow();
    keeper = Keeper::new(fleet.shared.clone());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !fleet.operation(&id).message.ends_with("then: muster credentials finish orders") {
        assert!(std::time::Instant::now() < deadline, "{}", fleet.operation(&id).message);
        keeper.pass().unwrap();
    }
    assert_eq!(finish(&fleet).unwrap(), id);
}

#[test]
fn called_off_before_the_switch_all_is_as_it_was_and_after_it_there_is_no_way_back() {
    for certificates in [false, true] {
        let fleet = fleet();
        let before = fleet.record("orders").credentials.unwrap();
        fleet.shared.ledger.write(|write| write.credentials(&blueprint().cluster, &before)).unwrap();
        let id = rotate(&fleet, certificates);
        assert!(finish(&fleet).unwrap_err().is(Reason::RotationBusy), "too early");
        let again = wire::RotateCredentialsRequest { cluster: "orders".into(), certificates };
        let busy = api::rotate(&fleet.shared, &owner(), "", again).unwrap_err();
        assert!(busy.is(Reason::RotationBusy) && busy.hint.unwrap().contains(&id));
        let mut keeper = Keeper::new(fleet.shared.clone());
        admin::operations::cancel(&fleet.shared, &visit(), &id).unwrap();
        admin::operations::cancel(&fleet.shared, &visit(), &id).unwrap();
        assert_eq!((stage(&fleet), fleet.operation(&id).state), (Some(Stage::Withdraw), OpState::Cancelling));
        assert!(finish(&fleet).unwrap_err().is(Reason::RotationBusy));
        keeper.pass().unwrap();
        assert_eq!(stage(&fleet), Some(Stage::Withdraw), "hosts have not followed");
        fleet.all_follow();
        keeper.pass().unwrap();
        assert_eq!(fleet.operation(&id).state, OpState::Cancelled);
        assert_eq!(fleet.record("orders").credentials.unwrap(), before);
        assert_eq!(users(&fleet), before.users(&spec(Tls::Issued)).unwrap());
        assert!(admin::operations::cancel(&fleet.shared, &visit(), &id).unwrap_err().is(Reason::OperationEnded));

        let id = rotate(&fleet, certificates);
        while stage(&fleet) != Some(Stage::Switch) {
            fleet.all_follow();
            keeper.pass().unwrap();
            if certificates && stage(&fleet) == Some(Stage::Overlap) {
                finish(&fleet).unwrap();
            }
        }
        let refused = admin::operations::cancel(&fleet.shared, &visit(), &id).unwrap_err();
        assert!(refused.is(Reason::PastNoReturn), "{refused}");
        assert_eq!(stage(&fleet), Some(Stage::Switch));
    }
}

#[test]
fn the_store_and_the_audit_hold_no_password_that_can_be_read() {
    let fleet = fleet();
    let id = rotate(&fleet, false);
    let mut keeper = Keeper::new(fleet.shared.clone());
    let mut secrets = Vec::new();
    while fleet.operation(&id).state != OpState::Done {
        let credentials = fleet.record("orders").credentials.unwrap();
        secrets.extend(["default", "drawn"].map(|user| credentials.password(user).unwrap().expose().to_owned()));
        let users = users(&fleet);
        secrets.extend(users.admin.iter().map(|login| login.password.expose().to_owned()));
        secrets.push(users.replica.password.expose().to_owned());
        // The middle of the key, and not the words around it.
        secrets.push(credentials.signing().unwrap().key().expose()[60..90].to_owned());
        fleet.all_follow();
        keeper.pass().unwrap();
        if stage(&fleet) == Some(Stage::Overlap) {
            let request = wire::GetCredentialsRequest { cluster: "orders".into(), user: String::new() };
            api::get(&fleet.shared, &owner(), "unix socket", request).unwrap();
            finish(&fleet).unwrap();
        }
    }
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 8, "old and new: {}", secrets.len());
    let files = std::fs::read_dir(fleet.dir.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let bytes = files.collect::<Vec<_>>().concat();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("rotate-passwords"), "what is not secret is there");
    for secret in &secrets {
        assert!(!holds(secret), "a secret stands in the store");
    }
    let audit = fleet.shared.ledger.audit(0, 100).unwrap();
    let said: Vec<_> =
        audit.0.iter().map(|entry| format!("{}: {}", entry.action, entry.detail.replace(&id, "ID"))).collect();
    let expected = [
        "Trust/RotateCredentials: cluster orders, rotate-passwords: operation ID",
        "Trust/GetCredentials: cluster orders, user default",
        "Trust/FinishRotation: cluster orders: operation ID",
    ];
    assert_eq!(said, expected);
}
