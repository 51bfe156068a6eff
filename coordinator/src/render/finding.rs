//! Findings: what, where, how bad, and what to type. Worst first, everywhere.

use muster_proto::wire::{Finding, Severity};
use serde::Serialize;

use super::some;

/// A finding, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct FindingJson {
    severity: &'static str,
    code: String,
    host: Option<String>,
    subject: Option<String>,
    message: String,
    cure: Option<String>,
}

impl From<&Finding> for FindingJson {
    fn from(finding: &Finding) -> Self {
        Self {
            severity: if is_fatal(finding) { "fatal" } else { "warning" },
            code: finding.code.clone(),
            host: some(&finding.host),
            subject: some(&finding.subject),
            message: finding.message.clone(),
            cure: some(&finding.cure),
        }
    }
}

/// Whether it stops the work. A severity that this build does not know is taken for the worse one.
pub fn is_fatal(finding: &Finding) -> bool {
    finding.severity() != Severity::Warning
}

/// How many stop the work, and how many don't.
pub fn tally(findings: &[Finding]) -> (usize, usize) {
    let fatal = findings.iter().filter(|finding| is_fatal(finding)).count();
    (fatal, findings.len() - fatal)
}

/// Worst first, and as given among equals.
pub fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let (fatal, warnings): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| is_fatal(finding));
    fatal.into_iter().chain(warnings).collect()
}

/// For scripts, worst first.
pub fn json(findings: &[Finding]) -> Vec<FindingJson> {
    sorted(findings).into_iter().map(FindingJson::from).collect()
}

/// Two lines each: the finding, and its cure.
pub fn text(findings: &[Finding]) -> String {
    sorted(findings).into_iter().map(one).collect()
}

fn one(finding: &Finding) -> String {
    let severity = if is_fatal(finding) { "[FATAL]" } else { "[WARN] " };
    let place = [finding.host.as_str(), finding.subject.as_str()];
    let place = place.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let place = if place.is_empty() { place } else { format!("{place}: ") };
    let cure = if finding.cure.is_empty() { String::new() } else { format!("        cure: {}\n", finding.cure) };
    format!("{severity} {}: {place}{}\n{cure}", finding.code, finding.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn findings_are_shown_worst_first_with_place_and_cure() {
        let finding = |severity: Severity, code: &str, host: &str, subject: &str, message: &str, cure: &str| Finding {
            severity: severity.into(),
            code: code.into(),
            host: host.into(),
            subject: subject.into(),
            message: message.into(),
            cure: cure.into(),
        };
        let findings = [
            finding(Severity::Warning, "OVERCOMMIT", "server1", "vm.overcommit_memory", "it is 0", "sysctl -w x=1"),
            finding(Severity::Fatal, "PORT_TAKEN", "server2", "port 7003", "pid 4711 (nginx) has it", "stop it"),
            finding(Severity::Unspecified, "FROM_THE_FUTURE", "", "", "this build does not know", ""),
        ];
        expect![[r#"
            [FATAL] PORT_TAKEN: server2 port 7003: pid 4711 (nginx) has it
                    cure: stop it
            [FATAL] FROM_THE_FUTURE: this build does not know
            [WARN]  OVERCOMMIT: server1 vm.overcommit_memory: it is 0
                    cure: sysctl -w x=1
        "#]]
        .assert_eq(&text(&findings));
        assert_eq!(tally(&findings), (2, 1));
    }
}
