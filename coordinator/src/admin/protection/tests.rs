//! Who may say what of which cluster, and what is left of it.

use muster_proto::ClusterName;
use uuid::Uuid;

use super::*;
use crate::{
    caller::Caller,
    formation::Goal,
    samples::{fleet::Fleet, record},
};

fn visit(role: AccessRole) -> Visit {
    let caller = Caller::User { name: role.word().into(), role, expires_ms: u64::MAX };
    Visit { caller, from: "here".into(), certificate_ms: None }
}

fn ask(fleet: &Fleet, role: AccessRole, cluster: &str, protected: bool) -> Result<bool, Failure> {
    let request = wire::SetProtectionRequest { cluster: cluster.into(), protected };
    set(&fleet.shared, &visit(role), &request, |_| None).map(|answer| answer.already)
}

fn audited(fleet: &Fleet) -> Vec<String> {
    fleet.shared.ledger.audit(0, 100).unwrap().0.into_iter().map(|entry| entry.detail).collect()
}

#[test]
fn protecting_takes_an_operator_and_taking_it_back_a_destroyer() {
    let fleet = Fleet::new(&[record(Goal::Running, true)]);
    assert_eq!(ask(&fleet, AccessRole::Operator, "orders", true), Ok(false));
    let refused = ask(&fleet, AccessRole::Operator, "orders", false).unwrap_err();
    assert!(refused.is(Reason::RoleTooLow), "{refused}");
    assert_eq!(refused.message, "to let cluster orders be rebuilt again takes the role destroyer");
    let stopped = refuse(&fleet.shared, &fleet.record("orders")).unwrap_err();
    assert!(stopped.is(Reason::Protected), "{stopped}");
    assert!(stopped.message.starts_with("cluster orders is protected: it may not be rebuilt, said user operator, 20"));
    assert_eq!(ask(&fleet, AccessRole::Destroyer, "orders", false), Ok(false));
    assert_eq!(refuse(&fleet.shared, &fleet.record("orders")), Ok(()));
    assert_eq!(
        audited(&fleet),
        [
            "cluster orders may not be rebuilt",
            "cluster orders may be rebuilt again; that it may not, user operator had said"
        ]
    );
}

#[test]
fn what_is_so_already_is_answered_so_and_changes_nothing() {
    let fleet = Fleet::new(&[record(Goal::Running, true)]);
    assert_eq!(ask(&fleet, AccessRole::Destroyer, "orders", false), Ok(true));
    assert_eq!(ask(&fleet, AccessRole::Operator, "orders", true), Ok(false));
    let name: ClusterName = "orders".parse().unwrap();
    let before = fleet.shared.ledger.protection(&name).unwrap();
    assert_eq!(ask(&fleet, AccessRole::Destroyer, "orders", true), Ok(true));
    assert_eq!(fleet.shared.ledger.protection(&name).unwrap(), before, "who has said it first stays");
    assert_eq!(audited(&fleet).len(), 1);
}

#[test]
fn it_survives_a_restart_and_not_the_cluster() {
    let fleet = Fleet::new(&[record(Goal::Prepared, false)]);
    assert_eq!(ask(&fleet, AccessRole::Operator, "orders", true), Ok(false));
    let fleet = fleet.restarted();
    assert!(!shown(&fleet.shared, &fleet.record("orders")).unwrap().is_empty());
    let name: ClusterName = "orders".parse().unwrap();
    fleet.shared.ledger.write(|write| write.forget_cluster(&name)).unwrap();
    assert_eq!(fleet.shared.ledger.protection(&name).unwrap(), None, "the next of that name is another one");
}

#[test]
fn an_unknown_cluster_and_one_that_is_rebuilt_now_are_refused() {
    let fleet = Fleet::new(&[record(Goal::Running, true)]);
    let unknown = ask(&fleet, AccessRole::Operator, "carts", true).unwrap_err();
    assert!(unknown.is(Reason::UnknownCluster), "{unknown}");
    let wrong = ask(&fleet, AccessRole::Operator, "No Name", true).unwrap_err();
    assert!(wrong.is(Reason::InvalidArgument), "{wrong}");
    let request = wire::SetProtectionRequest { cluster: "orders".into(), protected: true };
    let open = |_: &ClusterRecord| Some(OperationId(Uuid::nil()));
    let busy = set(&fleet.shared, &visit(AccessRole::Operator), &request, open).unwrap_err();
    assert!(busy.is(Reason::OperationBusy), "{busy}");
    assert_eq!(busy.hint.as_deref(), Some("muster op watch 00000000-0000-0000-0000-000000000000"));
    assert!(audited(&fleet).is_empty());
}
