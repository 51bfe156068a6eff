//! What has happened, a line each: when, who, what.

use std::{fmt::Write as _, time::Duration};

/// Told while it happens.
#[derive(Debug, Default)]
pub struct Story(Vec<(Duration, String, String)>);

impl Story {
    pub fn tell(&mut self, at: Duration, who: impl Into<String>, what: impl Into<String>) {
        self.0.push((at, who.into(), what.into()));
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at, who, what) in &self.0 {
            let _ = writeln!(text, "{:>9.3}  {who:<14}  {what}", at.as_secs_f64());
        }
        text
    }
}
