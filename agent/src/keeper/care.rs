//! What the loop does to the instances that it looks after.

use std::{io, time::Instant};

use crate::{
    evidence,
    inventory::Instance,
    process,
    reconcile::{Answer, Step},
};

impl Instance {
    /// A server of it was started.
    pub(super) fn began(&mut self, process: process::Process) {
        self.clues = evidence::born(process.pid());
        self.process = Some(process);
        self.answer = Answer::Silent("it has just been started".into());
        self.view = None;
        (self.past.stillborn, self.past.urged) = (None, false);
        self.overruled = false;
        self.starts += 1;
        self.unwatch();
    }

    /// What watches its server ends.
    pub(super) fn unwatch(&mut self) {
        self.watchers.drain(..).for_each(|watcher| watcher.abort());
    }

    /// Signals its server, where the step says so.
    pub(super) fn signal(&mut self, step: &Step) -> io::Result<()> {
        match (step, self.process.as_mut()) {
            (Step::Stop, Some(process)) => {
                process.stopping = Some(Instant::now());
                process.terminate()
            }
            (Step::Kill, Some(process)) => process.kill(),
            _ => Ok(()),
        }
    }
}
