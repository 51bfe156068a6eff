//! `muster check`: a verdict on a running cluster.

use muster_proto::wire::CheckResponse;
use serde::Serialize;

use super::{
    count,
    finding::{self, FindingJson},
};

/// A verdict, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct CheckJson {
    cluster: String,
    ok: bool,
    answered: u32,
    instances: u32,
    findings: Vec<FindingJson>,
    passed: Vec<String>,
}

impl CheckJson {
    /// Of what was answered about a cluster.
    pub fn new(cluster: &str, answer: &CheckResponse) -> Self {
        Self {
            cluster: cluster.to_owned(),
            ok: ok(answer),
            answered: answer.answered,
            instances: answer.instances,
            findings: finding::json(&answer.findings),
            passed: answer.passed.clone(),
        }
    }
}

/// Whether nothing fatal was found and everybody was heard: who did not answer was not judged.
pub fn ok(answer: &CheckResponse) -> bool {
    finding::tally(&answer.findings).0 == 0 && answer.answered == answer.instances
}

/// Findings, what was held to be true, and the verdict.
pub fn text(cluster: &str, answer: &CheckResponse) -> String {
    let (fatal, warnings) = finding::tally(&answer.findings);
    let passed: String = answer.passed.iter().map(|sentence| format!("[OK]    {sentence}\n")).collect();
    let verdict = match (ok(answer), warnings) {
        (true, 0) => "is healthy".to_owned(),
        (true, _) => format!("is healthy, with {}", count(warnings, "warning")),
        (false, _) if fatal == 0 => "cannot be judged: not every instance answered".to_owned(),
        (false, _) => format!("is NOT healthy: {} fatal, {}", fatal, count(warnings, "warning")),
    };
    let heard = format!("{} of {} answered", answer.answered, count(answer.instances, "instance"));
    finding::text(&answer.findings) + &passed + &format!("Cluster {cluster} {verdict} ({heard}).\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use muster_proto::wire::{Finding, Severity};

    fn answer(severities: &[Severity], answered: u32) -> CheckResponse {
        let finding = |severity: &Severity| Finding {
            severity: (*severity).into(),
            code: "LINK_DOWN".into(),
            host: "server2".into(),
            subject: "port 7004".into(),
            message: "its link to its master is down".into(),
            cure: "muster status orders".into(),
        };
        let passed = vec!["all views agree".into(), "16384 slots are served".into()];
        CheckResponse { findings: severities.iter().map(finding).collect(), answered, instances: 6, passed }
    }

    #[test]
    fn a_verdict_lists_findings_then_what_passed() {
        expect![[r#"
            [FATAL] LINK_DOWN: server2 port 7004: its link to its master is down
                    cure: muster status orders
            [WARN]  LINK_DOWN: server2 port 7004: its link to its master is down
                    cure: muster status orders
            [OK]    all views agree
            [OK]    16384 slots are served
            Cluster orders is NOT healthy: 1 fatal, 1 warning (6 of 6 instances answered).
        "#]]
        .assert_eq(&text("orders", &answer(&[Severity::Warning, Severity::Fatal], 6)));
    }

    #[test]
    fn only_fatal_findings_and_silence_make_a_cluster_unhealthy() {
        let cases: &[(&[Severity], u32, bool, &str)] = &[
            (&[], 6, true, "Cluster orders is healthy (6 of 6 instances answered)."),
            (&[Severity::Warning], 6, true, "Cluster orders is healthy, with 1 warning (6 of 6 instances answered)."),
            (
                &[Severity::Fatal],
                6,
                false,
                "Cluster orders is NOT healthy: 1 fatal, 0 warnings (6 of 6 instances answered).",
            ),
            (
                &[],
                5,
                false,
                "Cluster orders cannot be judged: not every instance answered (5 of 6 instances answered).",
            ),
        ];
        for (severities, answered, healthy, last) in cases {
            let answer = answer(severities, *answered);
            assert_eq!(ok(&answer), *healthy, "{last}");
            assert_eq!(text("orders", &answer).lines().last(), Some(*last));
        }
    }
}
