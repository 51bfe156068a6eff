//! Whether the kernel was short of memory when a server was killed. It does not say whom it has killed, only how many
//! (/proc/vmstat): a server that ends by SIGKILL, and has not answered since that number last rose, was one of them.
//!
//! Since it last answered, and not since the last look: the kernel takes a dead server's memory back before it says
//! that it has ended, which is seconds for a large one, and looks are made every second.

use std::time::Instant;

/// The count, and when it was last seen to rise.
#[derive(Debug)]
pub struct Shortage {
    kills: u64,
    rose: Option<Instant>,
}

impl Shortage {
    /// That was the count when we came.
    pub fn new(kills: u64) -> Self {
        Self { kills, rose: None }
    }

    /// This is the count now.
    pub fn look(&mut self, kills: u64) {
        if kills > self.kills {
            self.rose = Some(Instant::now());
        }
        self.kills = kills;
    }

    /// Whether the kernel has killed somebody since then.
    pub fn since(&self, then: Instant) -> bool {
        self.rose.is_some_and(|at| at >= then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_counts_for_whoever_has_not_answered_since() {
        let (before, mut shortage) = (Instant::now(), Shortage::new(7));
        shortage.look(7);
        assert!(!shortage.since(before), "what was there when we came was not ours");
        shortage.look(8);
        shortage.look(8);
        assert!(shortage.since(before), "looks in between do not hide it");
        assert!(!shortage.since(Instant::now()), "one that has answered since was not meant");
    }
}
