//! A secret through a change of it: which one is used, and which are accepted.
//!
//! What is accepted before anybody uses it, and is accepted until nobody does any more, is never missed by anyone.

use serde::{Deserialize, Serialize};

/// A secret, and while it is exchanged the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History<T> {
    /// One, used and accepted.
    Steady {
        /// It.
        current: T,
    },
    /// The next one is accepted already; nobody uses it.
    Adding {
        /// In use.
        current: T,
        /// Will be.
        next: T,
    },
    /// The previous one is still accepted; nobody of ours uses it.
    Overlapping {
        /// In use.
        current: T,
        /// Was.
        previous: T,
    },
}

impl<T: Clone> History<T> {
    /// One that was never exchanged.
    pub fn new(current: T) -> Self {
        Self::Steady { current }
    }

    /// The one in use.
    pub fn used(&self) -> &T {
        match self {
            Self::Steady { current } | Self::Adding { current, .. } | Self::Overlapping { current, .. } => current,
        }
    }

    /// Those that are accepted, the newest first.
    pub fn accepted(&self) -> Vec<&T> {
        match self {
            Self::Steady { current } => vec![current],
            Self::Adding { current, next } => vec![next, current],
            Self::Overlapping { current, previous } => vec![current, previous],
        }
    }

    /// Whether more than one is accepted.
    pub fn in_motion(&self) -> bool {
        !matches!(self, Self::Steady { .. })
    }

    /// Accepts a next one. Of one that is being exchanged already nothing changes.
    pub fn add(&self, next: T) -> Self {
        match self {
            Self::Steady { current } => Self::Adding { current: current.clone(), next },
            Self::Adding { .. } | Self::Overlapping { .. } => self.clone(),
        }
    }

    /// Uses the next one.
    pub fn switch(&self) -> Self {
        match self {
            Self::Adding { current, next } => Self::Overlapping { current: next.clone(), previous: current.clone() },
            Self::Steady { .. } | Self::Overlapping { .. } => self.clone(),
        }
    }

    /// Accepts the one in use alone: the end of an exchange, or of one that was called off before anybody used the
    /// next.
    pub fn settle(&self) -> Self {
        Self::Steady { current: self.used().clone() }
    }
}
