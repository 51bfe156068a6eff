//! The crash matrix: a scenario, a point in a daemon at which it stands still, and who is killed at that moment; then
//! all are started again, and the end must be the same.
//!
//! The points are in the daemons (`tests/crash`), and a run in which nobody dies finds which of them a scenario
//! passes, so none is forgotten here. What came of it is judged by an [`oracle`] that shares no code with Muster: it
//! asks the servers themselves, reads the directories and looks into /proc.
//!
//! Reading order: [`scenario`], [`matrix`], [`stage`], [`oracle`], [`resp`].

pub mod matrix;
pub mod oracle;
pub mod resp;
pub mod scenario;
pub mod stage;

use std::fmt;

pub use matrix::{Matrix, Tally};
pub use scenario::Scenario;
pub use stage::Server;

/// Who passes a point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The coordinator.
    Coordinator,
    /// The agent of that host.
    Agent(String),
}

/// Who is killed when it is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Killed {
    /// Who passes it.
    Itself,
    /// The other side: the coordinator, or one agent. Who passes it waits meanwhile, and goes on.
    Other,
    /// The coordinator and all agents.
    All,
}

impl Killed {
    /// Each of them.
    pub const EACH: [Self; 3] = [Self::Itself, Self::Other, Self::All];
}

/// One death.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Death {
    /// Who passes the point.
    pub who: Who,
    /// Its name.
    pub point: String,
    /// Who is killed then.
    pub killed: Killed,
}

/// What happens in one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nobody dies, and the points are written down.
    Listing,
    /// Nobody dies, and every step is taken twice.
    Twice,
    /// Somebody dies.
    Death(Death),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listing => f.write_str("nobody dies"),
            Self::Twice => f.write_str("every step twice"),
            Self::Death(Death { who, point, killed }) => {
                let who = match who {
                    Who::Coordinator => "coordinator",
                    Who::Agent(host) => host,
                };
                let killed = match killed {
                    Killed::Itself => "itself",
                    Killed::Other => "the other",
                    Killed::All => "all",
                };
                write!(f, "{point} of {who}, killing {killed}")
            }
        }
    }
}
