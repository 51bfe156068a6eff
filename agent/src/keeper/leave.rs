//! What leaves and what comes back: permits are asked for and taken in, and the trash is looked through.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use muster_proto::{HostAssignment, Port, Want, wire};
use uuid::Uuid;

use super::Keeper;
use crate::{
    events, execute,
    permits::Permit,
    reconcile::{ProcessSeen, Seen, Step, Unwilling, Verdict},
};

/// Between two looks through the trash.
const SWEEP: Duration = Duration::from_secs(3600);
/// What the ledger wants kept may be out of date, until the coordinator was heard; an agent that cannot hear it for so
/// long looks through the trash by what it knows.
const UNHEARD: Duration = Duration::from_secs(600);

impl Keeper {
    /// Adds to what was seen what may be set aside.
    pub(super) fn grant(&self, seen: &mut BTreeMap<Port, Seen>) {
        let now = self.inventory.now();
        for (port, seen) in seen {
            seen.granted = self.permits.granted(*port, now).cloned();
        }
    }

    /// Adds to what was seen what servers say that were asked to stop, and do not: what they had written when their
    /// patience was over, so that it stays the same while they go on.
    pub(super) fn hear_out(&mut self, assignment: &HostAssignment, seen: &mut BTreeMap<Port, Seen>) {
        for (port, (_, wanted)) in assignment.by_port() {
            let Some(seen) = seen.get_mut(&port) else { continue };
            let ProcessSeen::Ours { stopping: Some(since), .. } = seen.process else { continue };
            let instance = self.inventory.instance(port);
            if wanted.want == Want::Stopped && since >= self.config.stop_patience && !seen.saving {
                let dir = &instance.dir;
                let (words, _) = instance.unwilling.get_or_insert_with(|| (execute::refusal(dir), Instant::now()));
                if Unwilling::writes_first_log(words) {
                    let now = execute::refusal(dir);
                    if Unwilling::has_another_reason(&now) {
                        *words = now;
                    }
                }
            }
            let unwilling = |(words, at): &(String, Instant)| Unwilling { words: words.clone(), asked: at.elapsed() };
            seen.unwilling = instance.unwilling.as_ref().map(unwilling);
        }
    }

    /// Asks for what is to leave. What is not to leave any more is asked for no longer, and no permit for it is good.
    pub(super) fn ask(&mut self, verdicts: &BTreeMap<Port, Verdict>) {
        let now = self.inventory.now();
        self.permits.retain(now, |port| verdicts.contains_key(&port));
        for (port, verdict) in verdicts {
            let asks = match (&verdict.asks, &verdict.step) {
                (Some(leaving), _) => self.permits.ask(*port, leaving, now, Uuid::new_v4()),
                (None, Some(Step::Wipe { .. })) => None,
                (None, _) => {
                    self.permits.withdraw(*port, now);
                    None
                }
            };
            self.inventory.instance(*port).asks = asks;
        }
    }

    /// A permit has come on a stream.
    pub(super) fn permitted(&mut self, stream: u64, permit: wire::Permit) {
        let (port, operation) = (Port::try_from(permit.port), permit.operation.clone());
        let (obeyed, now) = (self.ledger.term(), self.inventory.now());
        let taken = Permit::try_from(permit).and_then(|permit| self.permits.take_in(&permit, stream, obeyed, now));
        match (taken, port) {
            (Ok(port), _) => {
                tracing::info!(%port, operation, "permitted to set its directory aside");
                self.note("permit", port, format!("operation {operation} may set its directory aside"), None);
                self.refused.clear();
            }
            (Err(why), port) => {
                let text = format!("a permit of operation {} is refused: {why}", muster_proto::printable(&operation));
                let said = format!("{port:?} {text}");
                if said == self.refused {
                    return;
                }
                self.refused = said;
                tracing::warn!(port = port.as_ref().ok().map(tracing::field::display), "{text}");
                match port {
                    Ok(port) => self.note("permit", port, text, None),
                    Err(_) => self.diary.note(&events::Event::of_agent(text)),
                }
            }
        }
    }

    /// A directory is in the trash; what comes next at the port has no past.
    pub(super) fn set_aside(&mut self, port: Port, path: &Path) {
        tracing::info!(%port, "set aside as {}", path.display());
        self.note("aside", port, format!("set aside as {}", path.display()), None);
        self.reborn(port);
        self.swept = None;
    }

    /// A directory is back in its place.
    pub(super) fn restored(&mut self, port: Port) {
        tracing::info!(%port, "its directory is back in its place");
        self.note("restored", port, "its directory is back in its place".into(), None);
        self.reborn(port);
    }

    fn reborn(&mut self, port: Port) {
        let assignment = self.assignment.borrow().clone();
        if let Some((cluster, _)) = assignment.by_port().get(&port) {
            self.inventory.reborn(port, &cluster.cluster);
        }
    }

    /// Looks through the trash for what is to go, where that is due, beside the loop. An agent that ends meanwhile does
    /// not wait for it: what is half deleted is known as such.
    pub(super) fn sweep(&mut self) {
        if !is_due(self.heard, self.inventory.now(), self.swept.map(|at| at.elapsed())) {
            return;
        }
        self.swept = Some(Instant::now());
        let (trash, bell) = (self.trash.clone(), self.bell.clone());
        std::thread::spawn(move || trash.sweep(&bell));
    }
}

/// Whether the trash is to be looked through by an agent that is so old, and did so for the last time so long ago.
fn is_due(heard: bool, age: Duration, swept: Option<Duration>) -> bool {
    (heard || age >= UNHEARD) && swept.is_none_or(|ago| ago >= SWEEP)
}

#[cfg(test)]
mod tests;
