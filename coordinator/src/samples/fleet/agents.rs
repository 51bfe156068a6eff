//! Agents that answer tasks as a test has them answer.

use std::sync::Arc;

use muster_proto::{
    HostName,
    wire::{self, task::Kind, task_result::Outcome, to_agent::Body},
};

use tokio_util::sync::CancellationToken;

use super::Fleet;
use crate::{config::Config, keeper::Shared, ledger::Ledger, samples::blueprint, seal::Seal};

/// What agents were asked, in words: "server1: Purge { .. }".
pub type Asked = Arc<std::sync::Mutex<Vec<String>>>;

impl Fleet {
    /// From now on every host's agent answers tasks; with none, it says nothing.
    pub fn answers(&mut self, answer: impl Fn(&HostName, &Kind) -> Option<Outcome> + Send + Sync + 'static) -> Asked {
        let (answer, asked) = (Arc::new(answer), Asked::default());
        for (host, mut ear) in blueprint().hosts().into_iter().zip(self.ears.drain(..)) {
            let (shared, answer, asked) = (self.shared.clone(), answer.clone(), asked.clone());
            tokio::spawn(async move {
                while let Some(message) = ear.recv().await {
                    let Some(Body::Task(wire::Task { id, kind: Some(kind), .. })) = message.body else { continue };
                    asked.lock().unwrap().push(format!("{host}: {kind:?}"));
                    let Some(outcome) = answer(&host, &kind) else { continue };
                    let mut inventory = shared.inventory();
                    let session = inventory.get_mut(&host).and_then(|host| host.session.as_mut());
                    if let Some(asked) = session.and_then(|session| session.asked.remove(&id)) {
                        let _ = asked.send(wire::TaskResult { id, outcome: Some(outcome) });
                    }
                }
            });
        }
        asked
    }

    /// The coordinator is started again, and wants a second person from now on.
    pub fn two_persons(self) -> Self {
        let config = Config { two_persons: true, ..self.shared.config.clone() };
        drop(self.shared);
        let ledger = Ledger::open(&self.dir.path().join("store.db"), Seal::for_tests()).unwrap();
        let shared = Shared::new(config, ledger, CancellationToken::new()).unwrap();
        Self { dir: self.dir, shared, ears: Vec::new() }.connected()
    }

    /// The stream to a host is gone.
    pub fn parts(&self, host: &HostName) {
        self.shared.inventory().get_mut(host).unwrap().session = None;
    }
}
