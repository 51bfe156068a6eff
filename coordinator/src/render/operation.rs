//! Operations and their events: `muster ops`, `muster op`, and the end of a bootstrap.

use muster_proto::wire::{Operation, OperationEvent, OperationState, PhaseTime};
use serde::Serialize;

use super::{age, moment, plan::PlanJson, roll::HandedOverJson, table, took};

/// All operations, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct OperationsJson {
    operations: Vec<OperationJson>,
}

/// One operation, alone in a document.
#[derive(Debug, Clone, Serialize)]
pub struct OneJson {
    operation: OperationJson,
}

/// What the applying of a plan ended with: no operation when nothing was begun, no plan when it was applied already.
#[derive(Debug, Clone, Serialize)]
pub struct AppliedJson {
    /// The operation.
    pub operation: Option<OperationJson>,
    /// The plan.
    pub plan: Option<PlanJson>,
}

/// An operation, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct OperationJson {
    id: String,
    kind: String,
    cluster: String,
    state: &'static str,
    phase: String,
    message: String,
    plan_hash: String,
    started_unix_ms: u64,
    ended_unix_ms: Option<u64>,
    phases: Vec<PhaseJson>,
    last_seq: u64,
    hand_overs: Vec<HandedOverJson>,
}

#[derive(Debug, Clone, Serialize)]
struct PhaseJson {
    phase: String,
    micros: u64,
}

/// An event, for scripts; a line each.
#[derive(Debug, Clone, Serialize)]
pub struct EventJson {
    seq: u64,
    operation_id: String,
    unix_ms: u64,
    phase: String,
    state: &'static str,
    message: String,
    done: u32,
    total: u32,
}

impl From<&[Operation]> for OperationsJson {
    fn from(operations: &[Operation]) -> Self {
        Self { operations: operations.iter().map(OperationJson::from).collect() }
    }
}

impl From<&Operation> for OneJson {
    fn from(operation: &Operation) -> Self {
        Self { operation: operation.into() }
    }
}

impl From<&Operation> for OperationJson {
    fn from(operation: &Operation) -> Self {
        let phase = |time: &PhaseTime| PhaseJson { phase: time.phase.clone(), micros: time.micros };
        Self {
            id: operation.id.clone(),
            kind: operation.kind.clone(),
            cluster: operation.cluster.clone(),
            state: state(operation.state()),
            phase: operation.phase.clone(),
            message: operation.message.clone(),
            plan_hash: operation.plan_hash.clone(),
            started_unix_ms: operation.started_unix_ms,
            ended_unix_ms: Some(operation.ended_unix_ms).filter(|ended| *ended > 0),
            phases: operation.phases.iter().map(phase).collect(),
            last_seq: operation.last_seq,
            hand_overs: operation.hand_overs.iter().map(HandedOverJson::from).collect(),
        }
    }
}

impl From<&OperationEvent> for EventJson {
    fn from(event: &OperationEvent) -> Self {
        Self {
            seq: event.seq,
            operation_id: event.operation_id.clone(),
            unix_ms: event.unix_ms,
            phase: event.phase.clone(),
            state: state(event.state()),
            message: event.message.clone(),
            done: event.done,
            total: event.total,
        }
    }
}

/// As people and scripts read it.
pub fn state(state: OperationState) -> &'static str {
    match state {
        OperationState::Running => "running",
        OperationState::Paused => "paused",
        OperationState::NeedsOperator => "needs_operator",
        OperationState::Cancelling => "cancelling",
        OperationState::Done => "done",
        OperationState::Cancelled => "cancelled",
        OperationState::Unspecified => "unknown",
    }
}

/// A table, as listed.
pub fn list(operations: &[Operation]) -> String {
    if operations.is_empty() {
        return "No operations.\n".to_owned();
    }
    let row = |operation: &Operation| {
        [
            operation.id.clone(),
            operation.kind.clone(),
            operation.cluster.clone(),
            state(operation.state()).to_owned(),
            operation.phase.clone(),
            moment(operation.started_unix_ms),
            duration(operation),
            operation.message.clone(),
        ]
    };
    let header = ["OPERATION", "KIND", "CLUSTER", "STATE", "PHASE", "STARTED", "TOOK", "MESSAGE"];
    table(header, operations.iter().map(row).collect())
}

/// Everything about one.
pub fn show(operation: &Operation) -> String {
    let plan = Some(&operation.plan_hash).filter(|hash| !hash.is_empty());
    let plan = plan.map(|hash| format!("plan       {hash}\n")).unwrap_or_default();
    let mut text = format!(
        "operation  {}\nkind       {}\ncluster    {}\nstate      {}\n\
         phase      {}\nmessage    {}\n{plan}started    {}\n",
        operation.id,
        operation.kind,
        operation.cluster,
        state(operation.state()),
        operation.phase,
        operation.message,
        moment(operation.started_unix_ms),
    );
    if operation.ended_unix_ms > 0 {
        text += &format!("ended      {} (after {})\n", moment(operation.ended_unix_ms), duration(operation));
    }
    for time in &operation.phases {
        text += &format!("           {:<10} {}\n", time.phase, took(time.micros));
    }
    if let Some(back) = way_back(operation) {
        text += &format!("way back   {back}\n");
    }
    text
}

/// Whether it sets directories aside, or puts them back.
pub fn is_rebuild(operation: &Operation) -> bool {
    matches!(&*operation.kind, "rebuild" | "undo")
}

/// What takes a rebuild or an undo back as it is now; none where nothing does, and for other kinds.
pub fn way_back(operation: &Operation) -> Option<String> {
    use OperationState::{Done, NeedsOperator, Paused, Running};
    let Operation { id, cluster, phase, .. } = operation;
    let undo = format!("muster rebuild {cluster} --undo");
    match (operation.state(), &**phase) {
        _ if !is_rebuild(operation) => None,
        (_, "RETURN") => None,
        (Running | Paused | NeedsOperator, "FENCE") => Some(format!("muster op cancel {id}")),
        // One that stands still gives way to another.
        (Paused | NeedsOperator, _) => Some(undo),
        (Running, _) => Some(format!("when it is formed, or after muster op pause {id}: {undo}")),
        (Done, _) => Some(format!("muster trash {cluster} says whether it still can be taken back, and how")),
        _ => None,
    }
}

/// An event in a line: `VERIFY 5/6: server2:7004 is loading`.
pub fn event(event: &OperationEvent) -> String {
    let count = if event.total > 0 { format!(" {}/{}", event.done, event.total) } else { String::new() };
    let state = match event.state() {
        OperationState::Running => String::new(),
        other => format!(" [{}]", state(other)),
    };
    let message = if event.message.is_empty() { String::new() } else { format!(": {}", event.message) };
    format!("{}{count}{state}{message}", event.phase)
}

/// How a bootstrap, a rebuild or an undo that is done ends, as redis-trib ended. Each line is what VERIFY has proved
/// before the operation could be done.
pub fn formed(operation: &Operation, preflight_micros: Option<u64>) -> String {
    let mut text = "[OK] All nodes agree about slots configuration.\n[OK] All 16384 slots covered.\n\
                    [OK] Every master took a write, every replica is in sync.\n"
        .to_owned();
    let preflight = preflight_micros.map(|micros| PhaseTime { phase: "PREFLIGHT".into(), micros });
    let times: Vec<_> = preflight.iter().chain(&operation.phases).collect();
    let spent = times.iter().map(|time| format!("{} {}", time.phase, took(time.micros))).collect::<Vec<_>>();
    if !spent.is_empty() {
        let total = times.iter().map(|time| time.micros).sum();
        let is = if operation.kind == "undo" { "is what it was before its rebuild" } else { "is formed" };
        text += &format!("Cluster {} {is}: {}; {} in all.\n", operation.cluster, spent.join(", "), took(total));
    }
    text
}

fn duration(operation: &Operation) -> String {
    match operation.ended_unix_ms {
        0 => String::new(),
        ended => age(ended.saturating_sub(operation.started_unix_ms)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::{document, line};
    use expect_test::expect;

    pub(crate) const ID: &str = "0199a2b4-0000-7000-8000-000000000001";

    pub(crate) fn done() -> Operation {
        let phase = |(phase, micros): (&str, u64)| PhaseTime { phase: phase.into(), micros };
        Operation {
            id: ID.into(),
            kind: "bootstrap".into(),
            cluster: "orders".into(),
            state: OperationState::Done.into(),
            phase: "FORMED".into(),
            message: "formed at incarnation 1".into(),
            plan_hash: "ab".repeat(32),
            started_unix_ms: 1_795_384_800_000,
            ended_unix_ms: 1_795_384_802_345,
            phases: [("CONFIGURE", 61_000), ("START", 190_000), ("VERIFY", 2_040_000)].map(phase).into(),
            last_seq: 9,
            hand_overs: vec![],
        }
    }

    fn waiting() -> Operation {
        let message = "server2:7004 does not answer: Connection refused".into();
        let state = OperationState::NeedsOperator.into();
        Operation { state, phase: "START".into(), message, ended_unix_ms: 0, phases: vec![], ..done() }
    }

    #[test]
    fn operations_are_a_table() {
        expect![[r#"
            OPERATION                             KIND       CLUSTER  STATE           PHASE   STARTED               TOOK   MESSAGE
            0199a2b4-0000-7000-8000-000000000001  bootstrap  orders   needs_operator  START   2026-11-22T22:00:00Z         server2:7004 does not answer: Connection refused
            0199a2b4-0000-7000-8000-000000000001  bootstrap  orders   done            FORMED  2026-11-22T22:00:00Z  2.3 s  formed at incarnation 1
        "#]].assert_eq(&list(&[waiting(), done()]));
        assert_eq!(list(&[]), "No operations.\n");
    }

    #[test]
    fn one_operation_is_shown_whole() {
        expect![[r#"
            operation  0199a2b4-0000-7000-8000-000000000001
            kind       bootstrap
            cluster    orders
            state      done
            phase      FORMED
            message    formed at incarnation 1
            plan       abababababababababababababababababababababababababababababababab
            started    2026-11-22T22:00:00Z
            ended      2026-11-22T22:00:02Z (after 2.3 s)
                       CONFIGURE  0.06 s
                       START      0.19 s
                       VERIFY     2.04 s
        "#]]
        .assert_eq(&show(&done()));
        expect![[r#"
            {
              "operation": {
                "id": "0199a2b4-0000-7000-8000-000000000001",
                "kind": "bootstrap",
                "cluster": "orders",
                "state": "needs_operator",
                "phase": "START",
                "message": "server2:7004 does not answer: Connection refused",
                "plan_hash": "abababababababababababababababababababababababababababababababab",
                "started_unix_ms": 1795384800000,
                "ended_unix_ms": null,
                "phases": [],
                "last_seq": 9,
                "hand_overs": []
              }
            }
        "#]]
        .assert_eq(&document(&OneJson::from(&waiting())));
    }

    #[test]
    fn a_rebuild_says_at_each_moment_what_takes_it_back() {
        use OperationState::{Cancelled, Cancelling, Done, NeedsOperator, Paused, Running};
        let cases = [
            ("bootstrap", Running, "START"),
            ("rebuild", Running, "FENCE"),
            ("rebuild", Running, "WIPE"),
            ("rebuild", Paused, "WIPE"),
            ("rebuild", NeedsOperator, "START"),
            ("rebuild", Cancelling, "RETURN"),
            ("rebuild", NeedsOperator, "RETURN"),
            ("rebuild", Cancelled, "RETURN"),
            ("rebuild", Done, "FORMED"),
            ("undo", Running, "FENCE"),
            ("undo", NeedsOperator, "WIPE"),
            ("undo", Done, "FORMED"),
        ];
        let one = |(kind, state, phase): (&str, OperationState, &str)| {
            let operation =
                Operation { id: "42".into(), kind: kind.into(), state: state.into(), phase: phase.into(), ..done() };
            format!("{kind} {phase} {}: {}\n", super::state(state), way_back(&operation).unwrap_or_default())
        };
        expect![[r#"
            bootstrap START running: 
            rebuild FENCE running: muster op cancel 42
            rebuild WIPE running: when it is formed, or after muster op pause 42: muster rebuild orders --undo
            rebuild WIPE paused: muster rebuild orders --undo
            rebuild START needs_operator: muster rebuild orders --undo
            rebuild RETURN cancelling: 
            rebuild RETURN needs_operator: 
            rebuild RETURN cancelled: 
            rebuild FORMED done: muster trash orders says whether it still can be taken back, and how
            undo FENCE running: muster op cancel 42
            undo WIPE needs_operator: muster rebuild orders --undo
            undo FORMED done: muster trash orders says whether it still can be taken back, and how
        "#]]
        .assert_eq(&cases.map(one).concat());
        let undone = Operation { kind: "undo".into(), ..done() };
        assert!(formed(&undone, None).contains("Cluster orders is what it was before its rebuild: CONFIGURE"));
        assert!(show(&undone).ends_with("taken back, and how\n"));
    }

    #[test]
    fn events_name_phase_count_and_culprit() {
        let case = |state: OperationState, done, total, message: &str| OperationEvent {
            seq: 4,
            operation_id: ID.into(),
            unix_ms: 1_795_384_801_000,
            phase: "VERIFY".into(),
            state: state.into(),
            message: message.into(),
            done,
            total,
        };
        assert_eq!(
            event(&case(OperationState::Running, 5, 6, "server2:7004 is loading")),
            "VERIFY 5/6: server2:7004 is loading"
        );
        assert_eq!(event(&case(OperationState::Paused, 0, 0, "")), "VERIFY [paused]");
        expect![[r#"
            {"seq":4,"operation_id":"0199a2b4-0000-7000-8000-000000000001","unix_ms":1795384801000,"phase":"VERIFY","state":"running","message":"x","done":5,"total":6}
        "#]].assert_eq(&line(&EventJson::from(&case(OperationState::Running, 5, 6, "x"))));
    }

    #[test]
    fn a_bootstrap_ends_as_redis_trib_ended_and_says_what_the_time_went_into() {
        expect![[r#"
            [OK] All nodes agree about slots configuration.
            [OK] All 16384 slots covered.
            [OK] Every master took a write, every replica is in sync.
            Cluster orders is formed: PREFLIGHT 0.12 s, CONFIGURE 0.06 s, START 0.19 s, VERIFY 2.04 s; 2.41 s in all.
        "#]]
        .assert_eq(&formed(&done(), Some(123_456)));
    }
}
