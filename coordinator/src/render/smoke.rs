//! `muster smoke`: how a client fared at every master, told as `redis-cli -c` tells it.

use muster_proto::wire::SmokeStep;
use serde::Serialize;

use super::{count, some, took};

/// How the client fared, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct SmokeJson {
    cluster: String,
    from: Option<String>,
    ok: bool,
    steps: Vec<StepJson>,
}

#[derive(Debug, Clone, Serialize)]
struct StepJson {
    slot: u32,
    key: Option<String>,
    asked: Option<String>,
    answered: Option<String>,
    error: Option<String>,
    micros: u64,
}

impl SmokeJson {
    /// Of the steps; `from` is the host that was the client, none when it was this one.
    pub fn new(cluster: &str, from: Option<&str>, steps: &[SmokeStep]) -> Self {
        let step = |step: &SmokeStep| StepJson {
            slot: step.slot,
            key: some(&step.key),
            asked: some(&step.asked),
            answered: some(&step.answered),
            error: some(&step.error),
            micros: step.micros,
        };
        let (cluster, from) = (cluster.to_owned(), from.map(str::to_owned));
        Self { cluster, from, ok: ok(steps), steps: steps.iter().map(step).collect() }
    }
}

/// Whether every master did all that was asked. No steps prove nothing.
pub fn ok(steps: &[SmokeStep]) -> bool {
    !steps.is_empty() && steps.iter().all(|step| step.error.is_empty())
}

/// A dialogue for each master, and the verdict.
pub fn text(cluster: &str, from: Option<&str>, steps: &[SmokeStep]) -> String {
    let from = from.map_or_else(|| "this host".to_owned(), |host| format!("host {host}"));
    let failed = steps.iter().filter(|step| !step.error.is_empty()).count();
    let verdict = match (steps.len(), failed) {
        (0, _) => "has no master to ask".to_owned(),
        (all, 0) => format!("took a write and gave it back through {}", count(all, "master")),
        (all, failed) => format!("FAILED at {failed} of {}", count(all, "master")),
    };
    steps.iter().map(one).collect::<String>() + &format!("Cluster {cluster} {verdict}, from {from}.\n")
}

fn one(step: &SmokeStep) -> String {
    let mut text = String::new();
    if !step.key.is_empty() {
        text += &format!("{}> SET {}\n", step.asked, step.key);
    }
    if !step.answered.is_empty() && step.asked != step.answered {
        text += &format!("-> Redirected to slot [{}] located at {}\n", step.slot, step.answered);
    }
    text += &match (step.error.is_empty(), step.key.is_empty()) {
        (true, _) => format!("[OK]    {}: written, read back, removed in {}\n", step.answered, took(step.micros)),
        (false, true) => format!("[FATAL] slot {}: {}\n", step.slot, step.error),
        (false, false) => format!("[FATAL] slot {}, asked {}: {}\n", step.slot, step.asked, step.error),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    fn step(slot: u32, asked: &str, answered: &str, error: &str) -> SmokeStep {
        let words = [&format!("muster:smoke:{{{slot}}}"), asked, answered, error].map(str::to_owned);
        let [key, asked, answered, error] = words;
        SmokeStep { slot, key, asked, answered, error, micros: 812 }
    }

    #[test]
    fn redirects_are_shown_as_redis_cli_shows_them() {
        let steps = [
            step(12_539, "127.0.0.1:7000", "127.0.0.2:7004", ""),
            step(7, "127.0.0.1:7000", "127.0.0.1:7000", ""),
            step(9_000, "127.0.0.2:7003", "", "timed out after 2 s"),
            SmokeStep { slot: 16_000, error: "no running master serves 16000-16383".into(), ..SmokeStep::default() },
        ];
        expect![[r#"
            127.0.0.1:7000> SET muster:smoke:{12539}
            -> Redirected to slot [12539] located at 127.0.0.2:7004
            [OK]    127.0.0.2:7004: written, read back, removed in 0.8 ms
            127.0.0.1:7000> SET muster:smoke:{7}
            [OK]    127.0.0.1:7000: written, read back, removed in 0.8 ms
            127.0.0.2:7003> SET muster:smoke:{9000}
            [FATAL] slot 9000, asked 127.0.0.2:7003: timed out after 2 s
            [FATAL] slot 16000: no running master serves 16000-16383
            Cluster orders FAILED at 2 of 4 masters, from host server1.
        "#]]
        .assert_eq(&text("orders", Some("server1"), &steps));
        expect![[r#"
            127.0.0.1:7000> SET muster:smoke:{12539}
            -> Redirected to slot [12539] located at 127.0.0.2:7004
            [OK]    127.0.0.2:7004: written, read back, removed in 0.8 ms
            Cluster orders took a write and gave it back through 1 master, from this host.
        "#]]
        .assert_eq(&text("orders", None, &steps[..1]));
        expect![[r#"
            {
              "cluster": "orders",
              "from": null,
              "ok": false,
              "steps": [
                {
                  "slot": 16000,
                  "key": null,
                  "asked": null,
                  "answered": null,
                  "error": "no running master serves 16000-16383",
                  "micros": 0
                }
              ]
            }
        "#]]
        .assert_eq(&document(&SmokeJson::new("orders", None, &steps[3..])));
        assert!(ok(&steps[..2]) && !ok(&steps) && !ok(&[]));
    }
}
