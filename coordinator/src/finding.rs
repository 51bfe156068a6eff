//! Something that a check found: what, where, how bad, and what to do about it.
//!
//! A value and nothing else: it is made by checks and rendered at the edge. It decides nothing.

use muster_proto::{HostName, wire};

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The work stops, and nothing was changed.
    Fatal,
    /// The work goes on; the operator should know.
    Warning,
}

/// What was found. The order is that of a list for people: the worst first, then by code and host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Stable machine code, `UPPER_SNAKE`.
    pub code: &'static str,
    /// The host that it is about; none when it is about the whole cluster.
    pub host: Option<HostName>,
    /// What of it: `shard 2`, `port 7003`.
    pub subject: String,
    /// What was found, as a sentence.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl Finding {
    /// One that stops the work.
    pub fn fatal(code: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let (subject, message) = (subject.into(), message.into());
        Self { severity: Severity::Fatal, code, host: None, subject, message, cure: String::new() }
    }

    /// One to know about.
    pub fn warning(code: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fatal(code, subject, message) }
    }

    /// On that host.
    pub fn on(self, host: &HostName) -> Self {
        Self { host: Some(host.clone()), ..self }
    }

    /// With what to do about it.
    pub fn cure(self, cure: impl Into<String>) -> Self {
        Self { cure: cure.into(), ..self }
    }
}

impl From<Severity> for wire::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Fatal => Self::Fatal,
            Severity::Warning => Self::Warning,
        }
    }
}

impl From<Finding> for wire::Finding {
    fn from(finding: Finding) -> Self {
        Self {
            severity: wire::Severity::from(finding.severity).into(),
            code: finding.code.to_owned(),
            host: finding.host.map(String::from).unwrap_or_default(),
            subject: finding.subject,
            message: finding.message,
            cure: finding.cure,
        }
    }
}
