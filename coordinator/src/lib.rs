//! The coordinator, and `muster`, the CLI that speaks to it.
//!
//! The whole program is one sentence: **inventory → plan → execute → report**. What is, as agents last said; what to do
//! about it; do it, which means tell the agents; say it. Only [`ledger`], [`link`], [`admin`], [`execute`] and the CLI
//! touch the world; [`placement`], [`lint`], [`loss`], [`preflight`], [`plan`], [`blueprint`], [`formation`],
//! [`rolling`], [`rebuild`], [`reconcile`], [`doomed`], [`estranged`], [`check`] and [`status`] are functions of
//! values.
//!
//! The coordinator never speaks to a redis-server and touches no disk but its own store. Losing it changes nothing for
//! data or clients.
//!
//! Reading order: the modules as they stand below; [`keeper`] is where they meet.

pub mod admin;
pub mod authority;
pub mod blueprint;
pub mod caller;
pub mod check;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod doomed;
pub mod door;
pub mod enrolment;
pub mod estranged;
pub mod execute;
pub mod facts;
pub mod finding;
pub mod formation;
pub mod gate;
pub mod guardian;
pub mod inventory;
pub mod keeper;
pub mod ledger;
pub mod link;
pub mod lint;
pub mod loss;
pub mod placement;
pub mod plan;
pub mod preflight;
pub mod rebuild;
pub mod reconcile;
pub mod recovery;
pub mod render;
pub mod rolling;
pub mod safeguard;
#[cfg(test)]
mod samples;
pub mod seal;
pub mod server;
pub mod spec_file;
pub mod status;
pub mod trust;

pub use server::run;
