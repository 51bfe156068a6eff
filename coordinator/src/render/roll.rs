//! `muster stop`, `start`, `restart`: what would be done, and what was.

use muster_proto::wire::{HandedOver, Operation, RollKind, RollRequest, RollResponse};
use serde::Serialize;

/// What would be done, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct OutlookJson {
    cluster: String,
    kind: &'static str,
    steps: Vec<String>,
    consequences: Vec<String>,
    unserved: bool,
}

/// A hand-over, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct HandedOverJson {
    from: String,
    to: String,
    gap_micros: Option<u64>,
    unmeasured: Option<String>,
}

impl OutlookJson {
    /// Of an answer.
    pub fn new(request: &RollRequest, ahead: &RollResponse) -> Self {
        Self {
            cluster: request.cluster.clone(),
            kind: word(request.kind()),
            steps: ahead.steps.clone(),
            consequences: ahead.consequences.clone(),
            unserved: ahead.unserved,
        }
    }
}

impl From<&HandedOver> for HandedOverJson {
    fn from(done: &HandedOver) -> Self {
        Self {
            from: done.from.clone(),
            to: done.to.clone(),
            gap_micros: Some(done.gap_micros).filter(|gap| *gap > 0),
            unmeasured: Some(done.unmeasured.clone()).filter(|why| !why.is_empty()),
        }
    }
}

/// As it is typed.
pub fn word(kind: RollKind) -> &'static str {
    match kind {
        RollKind::Stop => "stop",
        RollKind::Start => "start",
        RollKind::Restart => "restart",
        RollKind::Unspecified => "",
    }
}

/// For people.
pub fn outlook(ahead: &OutlookJson) -> String {
    let OutlookJson { cluster, kind, steps, consequences, .. } = ahead;
    if steps.is_empty() {
        return format!("There is nothing to {kind} in {cluster}; nothing was done.\n");
    }
    let list = |items: &[String]| items.iter().map(|item| format!("  {item}\n")).collect::<String>();
    let what = format!("A {kind} of {cluster}, in this order:\n{}", list(steps));
    if consequences.is_empty() { what } else { format!("{what}Meaning:\n{}", list(consequences)) }
}

/// How it ended.
pub fn done(operation: &Operation) -> String {
    let one = |done: &HandedOver| {
        let gap = match done.gap_micros {
            0 => format!("not measured ({})", done.unmeasured),
            micros => format!("{:.1} ms", micros_as_ms(micros)),
        };
        format!("{} handed over to {}; a client that wrote waited: {gap}\n", done.from, done.to)
    };
    let hand_overs: String = operation.hand_overs.iter().map(one).collect();
    format!("{hand_overs}Cluster {}: {}.\n", operation.cluster, operation.message)
}

/// Three digits are enough for people.
#[allow(clippy::cast_precision_loss, reason = "microseconds of a hand-over are few")]
fn micros_as_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::render::document;

    fn ahead(steps: &[&str], consequences: &[&str]) -> OutlookJson {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let request = RollRequest { cluster: "orders".into(), kind: RollKind::Stop.into(), ..RollRequest::default() };
        let unserved = !consequences.is_empty();
        let answer = RollResponse { operation: None, steps: texts(steps), consequences: texts(consequences), unserved };
        OutlookJson::new(&request, &answer)
    }

    #[test]
    fn what_would_be_done_stands_before_what_it_means() {
        let whole = ahead(&["server1:7000, server2:7003 are stopped"], &["slots 0-5460 are served by nobody"]);
        expect![[r#"
            A stop of orders, in this order:
              server1:7000, server2:7003 are stopped
            Meaning:
              slots 0-5460 are served by nobody
        "#]]
        .assert_eq(&outlook(&whole));
        expect![[r#"
            {
              "cluster": "orders",
              "kind": "stop",
              "steps": [
                "server1:7000, server2:7003 are stopped"
              ],
              "consequences": [
                "slots 0-5460 are served by nobody"
              ],
              "unserved": true
            }
        "#]]
        .assert_eq(&document(&whole));
        expect![[r#"
            There is nothing to stop in orders; nothing was done.
        "#]]
        .assert_eq(&outlook(&ahead(&[], &[])));
    }

    #[test]
    fn every_hand_over_is_reported_with_its_gap() {
        let over = |gap_micros, unmeasured: &str| HandedOver {
            from: "server1:7000".into(),
            to: "server2:7003".into(),
            gap_micros,
            unmeasured: unmeasured.into(),
        };
        let operation = Operation {
            cluster: "orders".into(),
            message: "2 of 2 instances restarted, 2 hand-overs; writes waited 144 ms at most".into(),
            hand_overs: vec![over(143_250, ""), over(0, "it had taken over before it was asked")],
            ..Operation::default()
        };
        expect![[r#"
            server1:7000 handed over to server2:7003; a client that wrote waited: 143.2 ms
            server1:7000 handed over to server2:7003; a client that wrote waited: not measured (it had taken over before it was asked)
            Cluster orders: 2 of 2 instances restarted, 2 hand-overs; writes waited 144 ms at most.
        "#]]
        .assert_eq(&done(&operation));
    }
}
