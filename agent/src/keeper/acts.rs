//! The steps of a pass, and what comes of them.

use std::{collections::BTreeMap, path::PathBuf};

use muster_proto::Port;
use tokio::task::JoinSet;

use super::{Keeper, RETRY};
use crate::{
    execute::{self, Done, Tools},
    reconcile::{Step, Verdict},
};

impl Keeper {
    /// Performs the steps of all ports side by side; whether there were any.
    pub(super) async fn execute(&mut self, verdicts: &BTreeMap<Port, Verdict>) -> bool {
        let server = self.server.found.as_ref().map(|server| PathBuf::from(&server.path)).unwrap_or_default();
        let tools = Tools { server, run_as: self.config.run_as.clone() };
        let (mut work, now) = (JoinSet::new(), self.inventory.now());
        for (port, step) in verdicts.iter().filter_map(|(port, verdict)| Some((*port, verdict.step.clone()?))) {
            let instance = self.inventory.instance(port);
            if let Err(error) = instance.signal(&step) {
                tracing::error!(%port, %error, "cannot signal the server");
            }
            let (dir, tools) = (instance.dir.clone(), tools.clone());
            let right = match &step {
                Step::Wipe { leaving } => self.permits.redeem(port, leaving, now),
                _ => None,
            };
            let applied = match &step {
                Step::Start { applied, .. } => *applied,
                Step::Adjust { live, .. } => Some(live.fingerprint),
                _ => instance.applied,
            };
            work.spawn(async move { (port, applied, execute::carry_out(step, right, dir, tools).await) });
        }
        let acted = !work.is_empty();
        for (port, applied, outcome) in work.join_all().await {
            let retry = self.inventory.now() + RETRY;
            let instance = self.inventory.instance(port);
            if outcome.is_ok() {
                instance.applied = applied;
            }
            instance.forget_look();
            instance.failed = outcome.as_ref().err().map(|error| (error.words(), retry));
            match outcome {
                Ok(Done::Started(process)) => {
                    tracing::info!(%port, pid = process.pid(), "started");
                    let pid = process.pid();
                    instance.began(process);
                    self.note("started", port, format!("pid {pid}"), None);
                }
                Ok(Done::Aside(path)) => self.set_aside(port, &path),
                Ok(Done::Restored) => self.restored(port),
                Ok(Done::Changed) => {}
                Err(error) => tracing::error!(%port, "{}", error.words()),
            }
        }
        if acted {
            crash::point("agent.pass.acted");
            self.inventory.forget_looks();
        }
        acted
    }
}
