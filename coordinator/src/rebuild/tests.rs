//! What a rebuild makes of records, and of what is heard.

use muster_proto::{
    Ask, BusOffset, ClusterAssignment, Incarnation, InstanceState, InstanceStatus, Member, NodeId, Role, Want,
};
use uuid::Uuid;

use super::*;
use crate::{
    reconcile::{Told, assignments},
    rolling::Duty,
    samples::{absent, heard, id, record, running},
};

const FIRST: u128 = 1;
const SECOND: u128 = 2;

fn operation(number: u128) -> OperationId {
    OperationId(Uuid::from_u128(number))
}

/// The same cluster in a later life, with ids of its own.
fn life(of: &ClusterRecord, number: u8) -> LifeRecord {
    let fresh = |node: &NodeId| NodeId([node.0[0] + 20 * (number - 1); 20]);
    let member = |member: &Member| Member {
        node_id: fresh(&member.node_id),
        role: match &member.role {
            Role::Replica { master } => Role::Replica { master: fresh(master) },
            Role::Master { slots } => Role::Master { slots: slots.clone() },
        },
        ..member.clone()
    };
    let members = of.blueprint.members.iter().map(member).collect();
    let blueprint = Blueprint { incarnation: Incarnation(number.into()), members, ..of.blueprint.clone() };
    LifeRecord { spec: of.spec.clone(), blueprint, credentials: None, duties: Duties::new() }
}

fn formed() -> ClusterRecord {
    record(Goal::Running, true)
}

fn fencing(missing: &[&str]) -> ClusterRecord {
    let missing = missing.iter().map(|name| name.parse().unwrap()).collect();
    let next = life(&formed(), 2);
    begin(&formed(), Order { operation: operation(FIRST), undo: false, missing, next })
}

fn crossed() -> (ClusterRecord, LifeRecord) {
    cross(&fencing(&[])).unwrap()
}

fn in_state(record: &ClusterRecord, state: InstanceState) -> Heard {
    heard(&record.blueprint, |member| InstanceStatus { state, ..absent(&record.blueprint, member) })
}

/// What every instance of every host is told.
fn told(record: &ClusterRecord) -> Vec<(Port, Want, Vec<u64>, bool)> {
    let hosts = record.hosts();
    let wishes = assignments(&hosts, &[Told::from(record)]);
    let clusters: Vec<ClusterAssignment> = wishes.into_values().flat_map(|wish| wish.clusters).collect();
    let instances = clusters.into_iter().flat_map(|cluster| cluster.instances);
    let one = |instance: muster_proto::InstanceAssignment| {
        let formers = instance.formers.iter().map(|former| former.life.0).collect();
        (instance.port, instance.want, formers, instance.restore)
    };
    instances.map(one).collect()
}

#[test]
fn a_fence_is_passed_only_when_everybody_is_heard_and_stopped() {
    let record = fencing(&[]);
    assert!(told(&record).iter().all(|(_, want, formers, _)| *want == Want::Stopped && formers.is_empty()));
    let stopped = in_state(&record, InstanceState::Stopped);
    assert_eq!(phase(&record, &stopped), Phase::Fenced);
    for member in &record.blueprint.members {
        for state in [InstanceState::Running, InstanceState::Stopping, InstanceState::Unknown, InstanceState::Absent] {
            let mut one = stopped.clone();
            one.instances.get_mut(&member.node_id).unwrap().state = state;
            assert_eq!(phase(&record, &one).unsettled().len(), 1, "{state:?}");
        }
        let mut unheard = stopped.clone();
        unheard.instances.remove(&member.node_id);
        assert_eq!(phase(&record, &unheard).unsettled().len(), 1, "nothing is concluded of what is not reported");
        let mut strange = stopped.clone();
        strange.instances.get_mut(&member.node_id).unwrap().account.standing = "foreign".into();
        assert!(phase(&record, &strange).unsettled()[0].stuck, "somebody's own server is for somebody to stop");
        let mut silent = stopped.clone();
        silent.silent.insert(member.host.clone(), "away".into());
        assert_eq!(phase(&record, &silent).word(), "FENCE");
        assert!(!phase(&record, &silent).unsettled().is_empty());
    }
    let mut silent = stopped;
    silent.silent.insert("server1".parse().unwrap(), "away".into());
    silent.instances.retain(|_, status| status.host.as_str() != "server1");
    assert_eq!(phase(&fencing(&["server1"]), &silent), Phase::Fenced, "who is named is not waited for");
}

#[test]
fn past_the_point_the_next_life_waits_for_every_directory_of_the_last() {
    let (record, ended) = crossed();
    assert_eq!((record.blueprint.incarnation, record.formed_ms), (Incarnation(2), None));
    assert_eq!(ended.blueprint, formed().blueprint);
    assert!(
        told(&record)
            .iter()
            .all(|(_, want, formers, restore)| { *want == Want::Prepared && *formers == [1] && !restore })
    );
    let waiting = in_state(&record, InstanceState::Stopped);
    assert_eq!(phase(&record, &waiting).word(), "WIPE");
    assert_eq!(phase(&record, &waiting).unsettled().len(), record.blueprint.members.len());
    let free = in_state(&record, InstanceState::Absent);
    assert_eq!(phase(&record, &free).word(), "CONFIGURE");
    let mut asking = free.clone();
    let first = asking.instances.values_mut().next().unwrap();
    first.asks = Some(Ask { nonce: Uuid::nil(), node_id: id(2), life: Life(1) });
    assert_eq!(phase(&record, &asking).word(), "WIPE", "whoever asks still has it");
    let running = heard(&record.blueprint, |member| running(&record.blueprint, member));
    let started = ClusterRecord { goal: Goal::Running, ..record };
    assert_eq!(phase(&started, &running), Phase::Prove);
    let done = done(&ClusterRecord { formed_ms: Some(1), ..started });
    assert!(done.remnants.is_empty() && done.rebuild.is_none());
}

#[test]
fn what_hosts_that_were_not_there_have_stays_quarantined() {
    let away: HostName = "server2".parse().unwrap();
    let mut next = life(&formed(), 2);
    next.blueprint.members.retain(|member| member.host != away);
    let missing = BTreeSet::from([away.clone()]);
    let order = Order { operation: operation(FIRST), undo: false, missing, next };
    let (record, _) = cross(&begin(&formed(), order)).unwrap();
    let mut heard = in_state(&record, InstanceState::Absent);
    heard.silent.insert(away.clone(), "away".into());
    assert_eq!(phase(&record, &heard).word(), "CONFIGURE");
    let done = done(&ClusterRecord { formed_ms: Some(1), ..record });
    assert_eq!(done.remnants.len(), 3);
    assert!(done.remnants.iter().all(|remnant| remnant.host == away));
    let retired = told(&done).into_iter().filter(|(_, want, ..)| *want == Want::Retired).count();
    assert_eq!(retired, 3, "when it comes, it is told to set them aside, and nothing else");
    assert!(done.hosts().contains(&away));
    let old = formed().blueprint.members.into_iter().find(|member| member.host == away).unwrap();
    assert!(done.listens().contains(&(away, old.bus_port)), "nobody else is given its ports");
}

#[test]
fn calling_off_leads_back_only_while_nothing_was_moved() {
    let mut stood = fencing(&[]);
    let still = stood.blueprint.members[0].node_id;
    stood.duties.insert(still, Duty { stopped: true, run: 4, ..Duty::default() });
    let back = call_off(&stood, &in_state(&stood, InstanceState::Stopped)).unwrap();
    assert_eq!(back.stage(), Some(Stage::Return));
    assert!(back.duties[&still].stopped, "what stood still before stands still again");
    let runs: BTreeSet<_> = back.duties.values().filter(|duty| !duty.stopped).map(|duty| duty.run).collect();
    assert_eq!(runs, BTreeSet::from([5]), "no process was ever started for that run");
    assert!(told(&back).iter().all(|(_, want, ..)| *want != Want::Prepared));
    assert_eq!(phase(&back, &in_state(&back, InstanceState::Stopped)).word(), "RETURN");
    let whole = call_off(&fencing(&[]), &Heard::default()).unwrap();
    assert!(whole.duties.is_empty(), "of what is not proved to be stopped nothing is said");
    let running = heard(&whole.blueprint, |member| running(&whole.blueprint, member));
    assert_eq!(phase(&whole, &running), Phase::Returned);
    for other in [crossed().0, back, formed()] {
        assert!(call_off(&other, &Heard::default()).is_none());
    }
}

#[test]
fn an_undo_puts_back_what_was_there_and_nothing_that_is_in_place_is_in_its_way() {
    let (record, ended) = crossed();
    let half = ClusterRecord { goal: Goal::Prepared, ..record };
    assert!(gives_way(&half, OpState::NeedsOperator) && gives_way(&half, OpState::Paused));
    assert!(!gives_way(&half, OpState::Running));
    assert!(!gives_way(&fencing(&[]), OpState::Paused), "that one is called off");
    let order = Order { operation: operation(SECOND), undo: true, missing: BTreeSet::new(), next: ended };
    let fenced = begin(&half, order);
    assert!(!fenced.rebuild.as_ref().unwrap().can_return);
    let wishes = assignments(&fenced.hosts(), &[Told::from(&fenced)]);
    let kept = wishes.values().flat_map(|wish| &wish.clusters).flat_map(|cluster| &cluster.keeps).count();
    assert_eq!(kept, fenced.blueprint.members.len(), "what is about to come back is not to be deleted meanwhile");
    let mut smaller = ClusterRecord { remnants: Vec::new(), ..fenced.clone() };
    let left = smaller.blueprint.hosts().remove(0);
    smaller.blueprint.members.retain(|member| member.host != left);
    let wishes = assignments(&smaller.hosts(), &[Told::from(&smaller)]);
    let kept = wishes[&left].clusters.iter().map(|cluster| cluster.keeps.len()).sum::<usize>();
    assert!(kept > 0, "nor where the present life has nothing");
    assert!(
        told(&fenced)
            .iter()
            .all(|(_, want, formers, restore)| { *want == Want::Stopped && *formers == [1] && !restore })
    );
    let (undone, second) = cross(&fenced).unwrap();
    assert_eq!((undone.blueprint.incarnation, second.blueprint.incarnation), (Incarnation(1), Incarnation(2)));
    assert!(
        told(&undone)
            .iter()
            .all(|(_, want, formers, restore)| { *want == Want::Prepared && *formers == [2] && *restore })
    );
    assert!(!fenced.rebuild.as_ref().unwrap().lived, "what never was is not wanted back");
    let again = Order { operation: operation(FIRST), undo: false, missing: BTreeSet::new(), next: life(&undone, 3) };
    let superseded = begin(&undone, again);
    assert!(superseded.rebuild.as_ref().unwrap().lived, "an undo that stood still is undone to again");
    assert!(undone.duties.values().all(|duty| duty.all_stopped && duty.run > 0));
}

#[test]
fn bus_ports_change_only_where_somebody_may_be_listening() {
    let seats: Vec<_> = formed().blueprint.members.iter().map(|member| (member.host.clone(), member.port)).collect();
    let ([usual, other, ..], none) = (BusOffset::CHOICE, BTreeSet::new());
    assert_eq!(offset(&seats, usual, false, &none, &BTreeSet::new()), Some(usual));
    assert_eq!(offset(&seats, usual, true, &none, &BTreeSet::new()), Some(other));
    assert_eq!(offset(&seats, other, true, &none, &BTreeSet::new()), Some(usual));
    let (host, port) = seats[0].clone();
    let taken = BTreeSet::from([(host, port.bus(other))]);
    assert_eq!(offset(&seats, usual, true, &none, &taken), Some(BusOffset::CHOICE[2]));
    assert_eq!(
        offset(&seats, other, true, &BTreeSet::from([usual.get()]), &BTreeSet::new()),
        Some(BusOffset::CHOICE[2])
    );
    assert_eq!(offset_of(&formed().blueprint), usual);
    let high = vec![("server1".parse().unwrap(), Port::try_from(55_000).unwrap())];
    assert_eq!(offset(&high, usual, true, &none, &BTreeSet::new()), Some(BusOffset::CHOICE[3]), "no port overflows");
}
