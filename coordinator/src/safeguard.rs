//! What every service needs of trust: the door's names and keys, refusals in the audit, and the second person.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use muster_proto::{
    ClusterName, HostName,
    failure::{Failure, Reason},
    pki::{Name, PkiError},
};
use uuid::Uuid;

use crate::{
    authority::Authority,
    caller::Caller,
    config::Config,
    door::Door,
    gate::Visit,
    guardian::authorities::NAME,
    keeper::Shared,
    ledger::{ClusterRecord, Ledger, LedgerError, unix_ms},
    trust::{Bars, HostRecord, SecondRecord, Seconded, TrustState, seconded},
};

/// Refusals that are audited within [`WINDOW`]; those beyond are counted, so that a flood does not fill the disk.
const REFUSALS: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// How long a request waits for a second person.
const SECOND_MS: u64 = 15 * 60 * 1000;

/// How many were refused lately.
#[derive(Debug, Default)]
pub struct Refusals {
    since: Option<Instant>,
    count: u32,
    unsaid: u32,
}

impl Refusals {
    /// Whether this one is worth an entry, with how many were not.
    fn count(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        if self.count > REFUSALS {
            self.unsaid += 1;
            return None;
        }
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn damaged(error: PkiError) -> LedgerError {
    LedgerError::Damaged(format!("the authorities: {error}"))
}

impl Shared {
    /// The fleet's authority is made at the first start.
    pub(crate) fn open_door(config: &Config, ledger: &Ledger) -> Result<Arc<Door>, LedgerError> {
        let now = unix_ms();
        let mut authorities = ledger.authorities()?;
        if authorities.is_empty() {
            let first = Authority::make(NAME, now, None).map_err(damaged)?;
            ledger.write(|write| write.authority(&first))?;
            authorities.push(first);
        }
        let mut names = config.names.clone();
        names.extend(Some(config.listen.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
        Door::new(names, authorities, now).map_err(damaged)
    }

    /// Puts a refusal into the audit, if there are not too many.
    pub fn note_refusal(&self, caller: &Caller, from: &str, path: &str, failure: &Failure) {
        let worth = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        let Some(unsaid) = worth else { return };
        let others = if unsaid > 0 { format!("; {unsaid} more like it were not written down") } else { String::new() };
        let detail = format!("refused: {}{others}", failure.message);
        let action = path.rsplit('.').next().unwrap_or(path);
        if let Err(error) = self.ledger.write(|write| write.audit(caller, from, action, &detail)) {
            tracing::error!(%error, "cannot write down a refusal");
        }
    }

    /// Puts something that was done into the audit.
    pub fn audit(&self, visit: &Visit, action: &str, detail: &str) -> Result<(), Failure> {
        self.ledger.write(|write| write.audit(&visit.caller, &visit.from, action, detail)).map_err(store_failed)
    }

    /// Lets something that destroys through, when it takes no second person or one has approved it; a request for one
    /// is made otherwise. `what` says exactly what is done, and nothing else is approved by it.
    pub fn take_two(&self, visit: &Visit, what: &str) -> Result<(), Failure> {
        if !self.config.two_persons {
            return Ok(());
        }
        let (first, now) = (visit.caller.to_string(), unix_ms());
        let found = self.ledger.second_for(what).map_err(store_failed)?;
        if seconded(found.as_ref(), &first, now) == Seconded::Go {
            let id = found.map(|request| request.id).unwrap_or_default();
            return self.ledger.write(|write| write.forget_second(&id)).map_err(store_failed);
        }
        let mine = found.filter(|request| request.first == first && request.expires_ms > now);
        let request = mine.unwrap_or_else(|| SecondRecord {
            id: Uuid::new_v4().simple().to_string()[..12].to_owned(),
            first,
            what: what.to_owned(),
            second: None,
            expires_ms: now + SECOND_MS,
        });
        self.ledger.write(|write| write.second(&request)).map_err(store_failed)?;
        let message = format!("to {what} takes a second person; nothing was done yet");
        Err(Failure::new(Reason::SecondPersonNeeded, message).hint(format!(
            "somebody else with the role destroyer, within 15 minutes: muster second {}; then repeat this",
            request.id
        )))
    }

    /// Changes how far a host is believed, and cuts it off unless it is approved.
    pub fn judge_host(&self, record: &HostRecord, state: TrustState, reason: &str) -> Result<HostRecord, Failure> {
        let record = HostRecord { state, reason: reason.to_owned(), since_ms: unix_ms(), ..record.clone() };
        self.ledger.write(|write| write.host_trust(&record)).map_err(store_failed)?;
        if state != TrustState::Approved {
            self.cut_host(&record.host);
        }
        Ok(record)
    }

    /// Ends a host's connections.
    pub fn cut_host(&self, host: &HostName) {
        self.door.cut(&Name::Host(host.clone()));
        if let Some(known) = self.inventory().get_mut(host) {
            known.session = None;
        }
        self.ring();
    }

    /// Has every enrolled host that speaks dial again, and so learn whom to believe from now on.
    pub fn spread_authorities(&self) {
        let mut inventory = self.inventory();
        inventory.end_sessions();
        drop(inventory);
        self.ring();
    }

    /// A cluster.
    pub fn cluster(&self, name: &str) -> Result<ClusterRecord, Failure> {
        let parsed: ClusterName = name.parse().map_err(|error| Failure::invalid(format!("cluster: {error}")))?;
        let unknown =
            || Failure::new(Reason::UnknownCluster, format!("there is no cluster {name}")).hint("muster status");
        self.ledger.cluster(&parsed).map_err(store_failed)?.ok_or_else(unknown)
    }

    /// The hosts that may not take part.
    pub fn bars(&self) -> Result<Bars, LedgerError> {
        let known = self.ledger.hosts_trust()?;
        Ok(known.iter().filter_map(|record| Some((record.host.clone(), record.bar()?))).collect())
    }

    /// Whether there is such a host: one that is enrolled, or has called.
    pub fn knows(&self, host: &HostName) -> Result<bool, Failure> {
        let enrolled = self.ledger.host_trust(host).map_err(store_failed)?.is_some();
        Ok(enrolled || self.inventory().get(host).is_some())
    }

    /// What is known of an enrolled host.
    pub fn enrolled(&self, name: &str) -> Result<HostRecord, Failure> {
        let unknown =
            || Failure::new(Reason::UnknownHost, format!("no host {name:?} is enrolled")).hint("muster hosts");
        let host: HostName = name.parse().map_err(|_| unknown())?;
        self.ledger.host_trust(&host).map_err(store_failed)?.ok_or_else(unknown)
    }
}

/// There is no such host.
pub fn unknown_host(name: &str) -> Failure {
    let message = format!("no host {name:?} is enrolled, and no agent calls itself so");
    Failure::new(Reason::UnknownHost, message).hint("muster hosts")
}

/// What the store's refusal looks like to a caller.
pub fn store_failed(error: LedgerError) -> Failure {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let message = format!("{error}{cause}; nothing was changed");
    if matches!(error, LedgerError::Damaged(_)) {
        return Failure::new(Reason::StoreDamaged, message)
            .hint("something else than the coordinator has written to store.db: put a backup of it back");
    }
    Failure::new(Reason::StoreFailed, message)
        .hint("look at the disk of the coordinator's state_dir: df -h, and its log: journalctl -u muster-coordinator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_leaves_few_entries_and_their_number() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let said = (0..1000).filter(|_| refusals.count(begin).is_some()).count();
        assert_eq!(said, REFUSALS as usize);
        assert_eq!(refusals.count(begin + WINDOW), Some(1000 - REFUSALS));
        assert_eq!(refusals.count(begin + WINDOW), Some(0));
    }
}
