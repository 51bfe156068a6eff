//! `muster agent ps`: whose the process at each instance's port is, and what that is known by.

use muster_proto::wire::{Account, ClusterInstance};
use serde::Serialize;

use super::{age, some};

/// How an instance came to be what it is, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct AccountJson {
    condition: Option<String>,
    since_ms: u64,
    next_try_ms: Option<u64>,
    standing: Option<String>,
    evidence: Vec<String>,
}

/// All processes, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessesJson {
    processes: Vec<ProcessJson>,
}

#[derive(Debug, Clone, Serialize)]
struct ProcessJson {
    host: String,
    port: u32,
    cluster: String,
    pid: Option<i32>,
    reason: Option<String>,
    age_ms: u64,
    #[serde(flatten)]
    account: AccountJson,
}

impl From<&Account> for AccountJson {
    fn from(account: &Account) -> Self {
        Self {
            condition: some(&account.condition),
            since_ms: account.since_ms,
            next_try_ms: account.next_try_ms,
            standing: some(&account.standing),
            evidence: account.evidence.clone(),
        }
    }
}

impl From<&[ClusterInstance]> for ProcessesJson {
    fn from(instances: &[ClusterInstance]) -> Self {
        let one = |instance: &ClusterInstance| {
            let status = instance.status.clone().unwrap_or_default();
            ProcessJson {
                reason: some(&status.reason),
                pid: Some(status.pid).filter(|pid| *pid > 0),
                account: AccountJson::from(&status.account.unwrap_or_default()),
                host: status.host,
                port: status.port,
                cluster: status.cluster,
                age_ms: instance.age_ms,
            }
        };
        Self { processes: instances.iter().map(one).collect() }
    }
}

/// A paragraph an instance, by host and port.
pub fn text(instances: &[ClusterInstance]) -> String {
    if instances.is_empty() {
        return "No instances there.\n".to_owned();
    }
    instances.iter().map(paragraph).collect()
}

fn paragraph(instance: &ClusterInstance) -> String {
    let status = instance.status.clone().unwrap_or_default();
    let account = status.account.clone().unwrap_or_default();
    let standing = some(&account.standing).unwrap_or_else(|| "not looked at yet".into());
    let pid = if status.pid > 0 { format!(", pid {}", status.pid) } else { String::new() };
    let mut text = format!(
        "{}:{}  {standing}{pid}, cluster {}, so for {}, heard {} ago\n",
        status.host,
        status.port,
        status.cluster,
        age(account.since_ms + instance.age_ms),
        age(instance.age_ms)
    );
    let next = account.next_try_ms.map(|ms| format!("; next try in {}", age(ms.saturating_sub(instance.age_ms))));
    if let Some(reason) = some(&status.reason) {
        text.push_str(&format!("    {reason}{}\n", next.unwrap_or_default()));
    }
    text + &account.evidence.iter().map(|clue| format!("    {clue}\n")).collect::<String>()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use muster_proto::wire::InstanceStatus;

    use super::*;

    fn two() -> Vec<ClusterInstance> {
        let status = |port, pid, account, reason: &str| ClusterInstance {
            status: Some(InstanceStatus {
                host: "server1".into(),
                port,
                cluster: "orders".into(),
                pid,
                reason: reason.into(),
                account: Some(account),
                ..InstanceStatus::default()
            }),
            planned: None,
            age_ms: 300,
        };
        let ours = Account {
            since_ms: 86_400_000,
            standing: "ours".into(),
            evidence: vec!["lock: held by pid 4711".into(), "nonce: as written down".into()],
            ..Account::default()
        };
        let gone = Account {
            condition: "CRASH_LOOP".into(),
            since_ms: 12_000,
            next_try_ms: Some(48_300),
            standing: "gone".into(),
            evidence: vec!["lock: free".into()],
        };
        vec![status(7000, 4711, ours, ""), status(7001, 0, gone, "a crash loop")]
    }

    #[test]
    fn every_process_comes_with_what_it_is_known_by() {
        expect![[r#"
            server1:7000  ours, pid 4711, cluster orders, so for 24 h, heard 0.3 s ago
                lock: held by pid 4711
                nonce: as written down
            server1:7001  gone, cluster orders, so for 12 s, heard 0.3 s ago
                a crash loop; next try in 48 s
                lock: free
        "#]]
        .assert_eq(&text(&two()));
        assert_eq!(text(&[]), "No instances there.\n");
        let json = super::super::line(&ProcessesJson::from(&*two()));
        assert!(json.contains(r#""pid":null,"reason":"a crash loop","age_ms":300,"condition":"CRASH_LOOP""#), "{json}");
    }
}
