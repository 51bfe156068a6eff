//! What a coordinator of the simulation commits, says and hears.

use super::*;

impl World {
    /// The change, what hosts are to be told, and where the operation is: as one. Then the hosts hear of it.
    pub fn commit(&mut self, nth: usize, change: Change) -> Result<(), Dead> {
        let Change { before, next, operation, state, phase, message, begins, gives_way } = change;
        let who = self.coordinator_name(nth);
        let coordinator = self.of(nth);
        let doom = coordinator.doom.as_mut().and_then(|doom| match doom.commits {
            0 => Some(doom.after),
            _ => {
                doom.commits -= 1;
                None
            }
        });
        if doom == Some(false) {
            return Err(Dead);
        }
        let mut store = coordinator.store.clone();
        let cluster = &before.blueprint.cluster;
        match &next {
            Some(next) => drop(store.clusters.insert(cluster.clone(), next.clone())),
            None => drop(store.clusters.remove(cluster)),
        }
        if let Some((ended, formed)) = coordinator.lives_after.take() {
            let back = next.as_ref().map(|next| next.blueprint.incarnation);
            store.lives.retain(|(life, _)| Some(life.blueprint.incarnation) != back);
            store.lives.push((ended, formed));
        }
        let meant: BTreeSet<HostName> =
            before.hosts().into_iter().chain(next.iter().flat_map(ClusterRecord::hosts)).collect();
        let tellable = |name: &HostName| coordinator.inventory.get(name).is_some_and(|host| host.estranged.is_none());
        let hosts: Vec<HostName> = meant.into_iter().filter(tellable).collect();
        let told = store.tell_all(&hosts);
        store.operations.extend(begins.map(|begins| (begins.id, begins)));
        if let Some(open) = gives_way {
            store.event(open, OpState::Cancelled, "CANCEL", "has given way");
        }
        store.event(operation, state, phase, &message);
        coordinator.store = store;
        if state.ended() {
            coordinator.drives.remove(&operation);
        }
        self.judge_committed(nth, (operation, state), &before, next.as_ref());
        self.tell(who, format!("{phase} [{}] {message}", state.word()));
        if doom == Some(true) {
            return Err(Dead);
        }
        self.send(nth, told);
        self.ring(nth, Duration::from_millis(1));
        Ok(())
    }

    pub(super) fn send(&mut self, nth: usize, told: Vec<(HostName, wire::Desired)>) {
        for (name, desired) in told {
            let coordinator = self.of(nth);
            let term = coordinator.term.0;
            let Some(host) = coordinator.inventory.get_mut(&name) else { continue };
            host.told = Generation(desired.generation);
            if let Some(stream) = coordinator.session(&name) {
                self.say_down(stream, Down::Desired(wire::Desired { term, ..desired }));
            }
        }
    }

    pub(super) fn tell_leaders(&mut self, nth: usize, record: &ClusterRecord) {
        let now = self.now;
        let coordinator = self.of(nth);
        coordinator.refresh(now);
        let Some(leaders) = coordinator.inventory.leaders(&record.blueprint) else { return };
        let cluster = record.blueprint.cluster.clone();
        for name in record.blueprint.hosts() {
            let coordinator = self.of(nth);
            let Some(stream) = coordinator.session(&name) else { continue };
            let told = (stream, leaders.clone());
            if coordinator.led.insert((cluster.clone(), name), told.clone()).as_ref() != Some(&told) {
                self.say_down(stream, Down::Leaders(cluster.clone(), leaders.clone()));
            }
        }
    }

    pub(super) fn permit(&mut self, nth: usize, record: &ClusterRecord, paused: bool) {
        let open = record.stage();
        let early = self.sabotage(Sabotage::PermitWhileFencing) && record.rebuild.is_some();
        if record.remnants.is_empty() || ((paused || !matches!(open, None | Some(Stage::Wipe))) && !early) {
            return;
        }
        let again = self.sabotage(Sabotage::PermitTwice);
        let now = self.now;
        let coordinator = self.of(nth);
        coordinator.refresh(now);
        let term = coordinator.term.0;
        let mut permits = Vec::new();
        for name in record.hosts() {
            let Some(host) = coordinator.inventory.get(&name) else { continue };
            let (Some(stream), Some(report)) = (coordinator.session(&name), &host.report) else { continue };
            if report.accepted != host.told || host.estranged.is_some() {
                continue;
            }
            for status in &report.instances {
                let Some(ask) = status.asks.as_ref().filter(|_| status.cluster == record.blueprint.cluster) else {
                    continue;
                };
                let meant = |remnant: &&rebuild::Remnant| {
                    (&remnant.host, remnant.port, remnant.former.node_id, remnant.former.life)
                        == (&status.host, status.port, ask.node_id, ask.life)
                };
                let Some(remnant) = record.remnants.iter().find(meant) else { continue };
                if coordinator.permitted.insert(ask.nonce) || again {
                    permits.push((
                        stream,
                        remnant.name(),
                        wire::Permit {
                            term,
                            operation: remnant.former.operation.to_string(),
                            cluster_id: record.blueprint.cluster_id.to_string(),
                            port: status.port.into(),
                            node_id: remnant.former.node_id.to_string(),
                            old_life: remnant.former.life.0,
                            new_life: new_life(record, remnant).0,
                            nonce: ask.nonce.to_string(),
                        },
                    ));
                }
            }
        }
        for (stream, what, permit) in permits {
            let who = self.coordinator_name(nth);
            self.tell(who, format!("permit to set {what} aside"));
            self.say_down(stream, Down::Permit(permit));
        }
    }

    /// What a host that was not there has set aside since is forgotten.
    pub(super) fn settle(&mut self, nth: usize, record: &ClusterRecord) -> Result<(), Dead> {
        if record.remnants.is_empty() || record.rebuild.is_some() {
            return Ok(());
        }
        let now = self.now;
        let heard = self.of(nth).hears(record, now);
        let places: BTreeMap<_, _> =
            heard.instances.values().map(|status| ((&status.host, status.port), status)).collect();
        let gone = |remnant: &&rebuild::Remnant| {
            let status = places.get(&(&remnant.host, remnant.port));
            status.is_some_and(|status| status.state == InstanceState::Absent && status.asks.is_none())
        };
        let (gone, left): (Vec<_>, Vec<_>) = record.remnants.iter().partition(gone);
        let Some(last) = gone.last() else { return Ok(()) };
        let Some(operation) = self.of(nth).store.operations.get(&last.former.operation).cloned() else { return Ok(()) };
        let names: Vec<_> = gone.iter().map(|remnant| remnant.name()).collect();
        let next = ClusterRecord { remnants: left.into_iter().cloned().collect(), ..record.clone() };
        let message = format!("set aside on a host that has come back: {}", names.join(", "));
        let (id, state) = (operation.id, operation.state);
        let change = Change {
            before: record.clone(),
            next: Some(next),
            operation: id,
            state,
            phase: "SETTLE",
            message,
            begins: None,
            gives_way: None,
        };
        self.commit(nth, change)
    }

    // --- the proof ---------------------------------------------------------------------------------------------------

    pub(super) fn proved(
        &mut self,
        nth: usize,
        id: OperationId,
        record: &ClusterRecord,
        masters: Vec<resumed::Leader>,
    ) -> bool {
        let now = self.now;
        let Some(drive) = self.of(nth).drives.get_mut(&id) else { return false };
        if let Some(proof) = &drive.proof {
            let late = now - proof.since > ANSWER;
            match (&proof.failed, proof.waits.is_empty(), late) {
                (None, true, _) => return true,
                (Some(why), true, _) => {
                    drive.unproved = Some((why.clone(), now));
                    drive.proof = None;
                }
                (_, false, true) => {
                    let who = proof.waits.values().next().map(ToString::to_string).unwrap_or_default();
                    drive.unproved = Some((format!("{who}: no answer within 5 s"), now));
                    drive.proof = None;
                }
                (_, false, false) => return false,
            }
        }
        if drive.unproved.as_ref().is_some_and(|(_, at)| now - *at < RETRY) {
            return false;
        }
        let mut by_host = BTreeMap::<HostName, Vec<_>>::new();
        masters.into_iter().for_each(|it| by_host.entry(it.host).or_default().push((it.port, it.replicas)));
        let (mut proof, term) = (Proof { since: now, waits: BTreeMap::new(), failed: None }, self.of(nth).term);
        for (host, masters) in by_host {
            match self.of(nth).session(&host) {
                Some(stream) => {
                    let task = self.number();
                    proof.waits.insert(task, host);
                    self.say_down(stream, Down::Canary { task, term, masters });
                }
                None => proof.failed = Some(format!("{host}: is not connected")),
            }
        }
        let _ = record;
        if let Some(drive) = self.of(nth).drives.get_mut(&id) {
            drive.proof = Some(proof);
        }
        false
    }

    // --- what it hears -----------------------------------------------------------------------------------------------

    pub fn coordinator_hears(&mut self, nth: usize, stream: u64, name: &HostName, said: Up) {
        if let Up::Hello(hello) = said {
            return self.welcome(nth, stream, &hello);
        }
        let now = self.now;
        let coordinator = self.of(nth);
        // One that has connected again is heard on its newest stream alone.
        if coordinator.session(name) != Some(stream) {
            return;
        }
        coordinator.heard.insert(name.clone(), now);
        match said {
            Up::Report(report) => {
                let report = Report::try_from(*report).expect("an agent's own report");
                if let Some(host) = coordinator.inventory.get_mut(name) {
                    host.report = Some(report);
                }
                self.ring(nth, Duration::from_millis(1));
            }
            Up::Canary { task, outcome } => {
                for proof in coordinator.drives.values_mut().filter_map(|drive| drive.proof.as_mut()) {
                    if let Some(host) = proof.waits.remove(&task)
                        && let Err(why) = &outcome
                    {
                        proof.failed = Some(format!("{host}: {why}"));
                    }
                }
                self.ring(nth, Duration::from_millis(1));
            }
            Up::Heartbeat | Up::Hello(_) => {}
        }
    }

    pub(super) fn welcome(&mut self, nth: usize, stream: u64, raw: &wire::Hello) {
        let now = self.now;
        let hello = Hello::try_from(raw.clone()).expect("an agent's own hello");
        let name = hello.host.clone();
        let coordinator = self.of(nth);
        let term = coordinator.term;
        let strange = estrangement(&hello, &coordinator.store.known(&name, term));
        coordinator.store.hellos.insert(name.clone(), raw.clone());
        let named = coordinator.store.clusters.values().any(|record| record.hosts().contains(&name));
        if strange.is_none() && hello.term <= term && named && !coordinator.store.desired.contains_key(&name) {
            coordinator.store.tell_all(std::slice::from_ref(&name));
        }
        let desired = coordinator.store.desired.get(&name).cloned();
        let told = coordinator.store.told(&name);
        let session =
            Session { id: Uuid::from_u128(u128::from(stream)), say: coordinator.say.clone(), asked: HashMap::new() };
        coordinator.inventory.arrive(hello, told, session);
        coordinator.inventory.estrange(&name, strange.clone());
        coordinator.heard.insert(name.clone(), now);
        let before = coordinator.sessions.insert(name.clone(), stream);
        if let Some(before) = before.filter(|before| *before != stream) {
            self.cut_stream(before);
        }
        if let Some(why) = strange {
            let who = self.coordinator_name(nth);
            self.tell(who, format!("{name} {why}"));
        }
        self.say_down(stream, Down::Welcome(term));
        if let Some(desired) = desired {
            self.say_down(stream, Down::Desired(wire::Desired { term: term.0, ..desired }));
        }
        self.ring(nth, Duration::from_millis(1));
    }

    /// A stream is over, in its eyes.
    pub fn departed(&mut self, nth: usize, stream: u64) {
        let Some(coordinator) = self.coordinators.get_mut(nth).and_then(Option::as_mut) else { return };
        coordinator.sessions.retain(|_, current| *current != stream);
        for proof in coordinator.drives.values_mut().filter_map(|drive| drive.proof.as_mut()) {
            if proof.waits.is_empty() {
                continue;
            }
            proof.failed.get_or_insert_with(|| "a stream has ended".into());
        }
        self.ring(nth, Duration::from_millis(1));
    }
}

/// As `keeper/rebuilding.rs` has it: the life that is assigned to the place of a remnant.
fn new_life(record: &ClusterRecord, remnant: &rebuild::Remnant) -> Life {
    let here = record.blueprint.members.iter().any(|it| (&it.host, it.port) == (&remnant.host, remnant.port));
    let left = record.remnants.iter().rfind(|it| (&it.host, it.port) == (&remnant.host, remnant.port));
    match left {
        Some(last) if !here => last.former.life,
        _ => Life(record.blueprint.incarnation.0),
    }
}
