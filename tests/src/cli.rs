//! What a command of `muster` ended with.

use std::{fmt, process};

/// Exit code and both streams, as a script sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 done, 1 a finding or refusal, 2 it failed, 64 bad usage; -1 when a signal ended it.
    pub code: i32,
    /// The data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl From<process::Output> for Output {
    fn from(output: process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Output {
    /// The one document on stdout.
    ///
    /// # Panics
    /// When stdout is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }

    /// Insists on an exit code.
    ///
    /// # Panics
    /// When it was another; both streams are shown.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(f, "exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
