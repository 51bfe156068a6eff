//! The agent of one server.
//!
//! The whole program is one sentence: **inventory → reconcile → execute → report**. What is here, what to do about it,
//! do it, say it. Only [`inventory`], [`execute`], [`survey`], [`appraise`], [`process`], [`strangers`], [`tree`],
//! [`trash`], [`talk`], [`hand_over`], [`watch`], [`enscope`] and [`link`] touch the world; [`reconcile`], [`permits`],
//! [`restart`], [`evidence`], [`scope`] and [`conf`] are functions of values.
//!
//! The agent starts, adopts and stops redis-server processes of its own. It never stops one because it lost the
//! coordinator, never touches a directory without its stamp, and never starts a second server in a directory.
//!
//! Reading order: the modules as they stand below; [`keeper`] is where they meet.

pub mod adjust;
pub mod appraise;
pub mod certify;
pub mod conf;
pub mod config;
pub mod dial;
pub mod disclose;
pub mod durable;
pub mod enrol;
pub mod enscope;
pub mod events;
pub mod evidence;
pub mod execute;
pub mod hand_over;
pub mod identity;
pub mod inventory;
pub mod keeper;
pub mod layout;
pub mod ledger;
pub mod link;
pub mod logs;
pub mod news;
pub mod permits;
pub mod process;
pub mod ps;
pub mod reconcile;
pub mod report;
pub mod restart;
#[cfg(test)]
mod samples;
pub mod scope;
pub mod shortage;
pub mod smoke;
pub mod strangers;
pub mod survey;
pub mod talk;
pub mod tasks;
pub mod trash;
pub mod tree;
pub mod tune;
pub mod watch;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, keeper::Keeper};

/// Runs the agent until `shutdown` is cancelled. The redis-server processes that it started go on. What comes through
/// `reloads` is its config as it is now written.
pub async fn run(config: Config, shutdown: CancellationToken, reloads: mpsc::Receiver<Config>) -> anyhow::Result<()> {
    let keeper = Keeper::open(config)?;
    keeper.run(shutdown, reloads).await;
    Ok(())
}
