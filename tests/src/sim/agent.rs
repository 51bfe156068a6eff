//! The agent's loop around the real decisions: what its inventory, keeper and link do, on a modelled machine.
//!
//! What is accepted is [`Orders`](muster_agent::ledger::Orders)', what is done is [`reconcile::plan`]'s, what may be set
//! aside is [`Permits`](muster_agent::permits::Permits)'. Everything else here carries values from one to the other.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use muster_agent::{
    ledger::Refusal,
    reconcile::{self, Answer, ProcessSeen, Rules, Seen, Verdict},
    report,
    restart::{Ending, Exit, Past, Word},
};
use muster_proto::{
    Account, ClusterAssignment, Generation, HostAssignment, InstanceAssignment, InstanceStatus, Port, PortUse, Report,
    Server as Binary, wire,
};

use super::{
    act::Fate,
    host::Agent,
    plan::VERSION,
    sabotage::Sabotage,
    world::{Down, End, Event, Up, World},
};

/// The longest time without a pass.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// What could not be kept for want of disk is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Steps that follow from steps are taken at once, up to so many passes.
const PASSES: usize = 8;

impl World {
    /// Puts a pass on, unless one is sooner.
    pub fn pass_in(&mut self, host: usize, pause: Duration) {
        let (at, appointment) = (self.now + pause, self.number());
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if at < agent.due.0 {
            agent.due = (at, appointment);
            let life = agent.life;
            self.at(at, Event::Pass { host, life, appointment });
        }
    }

    pub fn agent_starts(&mut self, host: usize) {
        if !self.hosts[host].up || self.hosts[host].hung || self.hosts[host].agent.is_some() {
            return;
        }
        self.hosts[host].lives += 1;
        let life = self.hosts[host].lives;
        let told = Rc::new(self.hosts[host].disk.orders.assignment().clone());
        let mut agent = Agent::new(life, told, self.now);
        agent.received = self.hosts[host].disk.orders.generation();
        self.hosts[host].agent = Some(agent);
        self.tell(self.name(host), format!("its agent begins (its {life}.)"));
        self.pass_in(host, Duration::ZERO);
        let pause = self.dice.ms(1, 50);
        self.after(pause, Event::Dial { host, life });
    }

    pub fn agent_dies(&mut self, host: usize, how: &str) {
        if self.hosts[host].agent.take().is_none() {
            return;
        }
        self.tell(self.name(host), format!("its agent is killed{how}"));
        self.hosts[host].doom = None;
        self.cut_streams_of(|stream| stream.host == host);
        if self.hosts[host].up {
            let pause = self.dice.ms(50, 6_000);
            self.after(pause, Event::AgentStarts { host });
        }
    }

    /// One pass after the other, until there is nothing left to do.
    pub fn passes(&mut self, host: usize) {
        let Some(mut agent) = self.hosts[host].agent.take() else { return };
        agent.due = (Duration::MAX, 0);
        if let Some((desired, _)) = agent.unkept.take_if(|(_, tried)| *tried + RETRY <= self.now)
            && self.offered(host, &mut agent, &desired) == Fate::Died
        {
            return self.buried(host, agent);
        }
        for _ in 0..PASSES {
            match self.pass(host, &mut agent) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Died) => return self.buried(host, agent),
            }
        }
        let since_birth = self.now - agent.born;
        let wakes = agent.verdicts.values().filter_map(|verdict| verdict.wake);
        let pause = wakes.map(|wake| wake.saturating_sub(since_birth)).fold(HEARTBEAT, Duration::min);
        self.report(&mut agent);
        self.hosts[host].agent = Some(agent);
        self.pass_in(host, pause.max(Duration::from_millis(1)));
    }

    fn buried(&mut self, host: usize, agent: Agent) {
        self.hosts[host].agent = Some(agent);
        self.agent_dies(host, " in the middle of it");
    }

    fn pass(&mut self, host: usize, agent: &mut Agent) -> Result<bool, Died> {
        let assignment = agent.told.clone();
        let seen = self.look(host, agent, &assignment);
        let rules = Rules {
            server: Ok(VERSION.parse().expect("a version")),
            stop_patience: self.plan.stop_patience,
            certificates: Default::default(),
        };
        let since_birth = self.now - agent.born;
        let verdicts = reconcile::plan(&assignment, &seen, &rules, since_birth);
        for (port, verdict) in &verdicts {
            let said = &mut agent.place(*port, self.now).said;
            if (said.0, said.1.as_str()) != (verdict.state, verdict.reason.as_str()) {
                *said = (verdict.state, verdict.reason.clone());
                let text = format!("{}: {}", verdict.state.word(), verdict.reason);
                self.tell(format!("{}:{port}", self.name(host)), text.trim_end_matches(": "));
            }
        }
        let asks = self.asks(host, agent, &verdicts);
        let acted = self.act(host, agent, &verdicts)?;
        let accepted = self.hosts[host].disk.orders.generation();
        agent.converged = report::converged(accepted, agent.converged, &assignment, &verdicts);
        let statuses = self.statuses(host, agent, &assignment, &seen, &verdicts, &asks);
        let ports = self.hosts[host].ports.clone();
        let usage = |port: Port| match self.hosts[host].disk.places.get(&port) {
            Some(directory) => PortUse::Stamped(directory.stamp.cluster.clone()),
            None => PortUse::Free,
        };
        agent.report = Some(Report {
            term: self.hosts[host].disk.orders.term(),
            received: agent.received,
            accepted,
            converged: agent.converged,
            refusal: agent.refusal.clone(),
            instances: statuses,
            ports: ports.iter().map(|port| (port, usage(port))).collect(),
            server: Ok(Binary { path: "/usr/bin/redis-server".into(), version: VERSION.parse().expect("a version") }),
        });
        agent.asked_on = agent.permits.stream();
        agent.verdicts = verdicts;
        agent.passes += 1;
        Ok(acted)
    }

    fn statuses(
        &self,
        host: usize,
        agent: &Agent,
        assignment: &HostAssignment,
        seen: &BTreeMap<Port, Seen>,
        verdicts: &BTreeMap<Port, Verdict>,
        asks: &BTreeMap<Port, muster_proto::Ask>,
    ) -> Vec<InstanceStatus> {
        let one = |(port, (cluster, wanted)): (Port, (&ClusterAssignment, &InstanceAssignment))| {
            let (seen, verdict, place) = (seen.get(&port)?, verdicts.get(&port)?, agent.places.get(&port)?);
            let (standing, evidence) = match (&place.process, &place.other) {
                (Some(_), _) => ("ours", Vec::new()),
                (None, Some(ProcessSeen::Foreign(who))) => ("foreign", vec![format!("stranger: {who} (!)")]),
                (None, Some(_)) => ("unknown", Vec::new()),
                (None, None) => ("gone", Vec::new()),
            };
            let standing = standing.to_owned();
            let account = Account { condition: verdict.condition, standing, evidence, ..Account::default() };
            Some(InstanceStatus {
                host: self.hosts[host].name.clone(),
                address: self.hosts[host].address,
                port,
                cluster: cluster.cluster.clone(),
                state: verdict.state,
                reason: verdict.reason.clone(),
                pid: match seen.process {
                    ProcessSeen::Ours { pid, .. } => Some(pid),
                    ProcessSeen::None | ProcessSeen::Foreign(_) | ProcessSeen::Unknown(_) => None,
                },
                view: place.view.as_ref().map(|(view, _)| view.clone()),
                view_age: place.view.as_ref().map(|(_, at)| self.now - *at).unwrap_or_default(),
                starts: 0,
                life: wanted.life,
                node_id: wanted.node_id,
                account,
                run: place.process.as_ref().and_then(|held| held.run).unwrap_or(0),
                asks: asks.get(&port).cloned(),
            })
        };
        assignment.by_port().into_iter().filter_map(one).collect()
    }

    /// What the link makes of a pass.
    fn report(&mut self, agent: &mut Agent) {
        let (Some(stream), Some(report), true) = (agent.stream, agent.report.clone(), agent.welcomed) else { return };
        match &agent.sent {
            Some((before, at)) if before.same_but_age(&report) => {
                if self.now - *at >= HEARTBEAT * 9 / 10 {
                    agent.sent = Some((report, self.now));
                    self.say_up(stream, Up::Heartbeat);
                }
            }
            _ => {
                let mut said = wire::Report::from(&report);
                if agent.asked_on != Some(stream) {
                    said.instances.iter_mut().for_each(|instance| instance.asks = None);
                }
                let said = Up::Report(Box::new(said));
                agent.sent = Some((report, self.now));
                self.say_up(stream, said);
            }
        }
    }

    // --- what it hears -----------------------------------------------------------------------------------------------

    /// Something has come down a stream. What an ended stream has left in the loop's own queue is taken in late.
    pub fn agent_hears(&mut self, host: usize, stream: u64, said: Down) {
        let Some(mut agent) = self.hosts[host].agent.take() else { return };
        let is_current = agent.stream == Some(stream);
        let obeyed = self.hosts[host].disk.orders.term();
        let mut fate = Fate::Lives;
        match said {
            Down::Welcome(term) if is_current => {
                if term < obeyed {
                    self.tell(self.name(host), format!("hangs up: term {term} is behind term {obeyed}"));
                    self.cut_stream(stream);
                } else {
                    (agent.welcomed, agent.dials) = (true, 0);
                    self.linked(host, &mut agent, stream);
                }
            }
            Down::Desired(desired) => {
                agent.word = Word::Given;
                fate = self.offered(host, &mut agent, &desired);
                self.misleads(host, stream, &desired);
            }
            Down::Leaders(cluster, leaders) => {
                agent.leaders.insert(cluster, (leaders, self.now));
            }
            Down::Permit(permit) => self.permitted(host, &mut agent, stream, permit),
            Down::Canary { task, term, masters } if is_current => {
                let outcome = if term < obeyed { Err("an old term".into()) } else { self.canary(host, &masters) };
                self.say_up(stream, Up::Canary { task, outcome });
            }
            Down::Welcome(_) | Down::Canary { .. } => {}
        }
        self.hosts[host].agent = Some(agent);
        match fate {
            Fate::Lives => self.pass_in(host, Duration::from_millis(1)),
            Fate::Died => self.agent_dies(host, " while it wrote down what it was told"),
        }
    }

    /// For the judge: whose word it is that a host obeys.
    fn misleads(&mut self, host: usize, stream: u64, desired: &wire::Desired) {
        if self.hosts[host].disk.orders.generation() == Generation(desired.generation) {
            match self.streams.get(&stream).map(|open| open.coordinator) {
                Some(0) | None => self.judge.misled.remove(&host),
                Some(_) => self.judge.misled.insert(host),
            };
        }
    }

    fn offered(&mut self, host: usize, agent: &mut Agent, desired: &wire::Desired) -> Fate {
        agent.received = Generation(desired.generation);
        let waits = agent.unkept.as_ref().is_some_and(|(unkept, _)| unkept.generation > desired.generation);
        let before = self.hosts[host].disk.orders.generation();
        let mut taken = self.hosts[host].disk.orders.take(desired);
        let forgotten = match taken {
            Err(Refusal::LowerTerm { .. }) => self.sabotage(Sabotage::ForgetTerm),
            Err(Refusal::OlderGeneration { .. }) => self.sabotage(Sabotage::ForgetGeneration),
            _ => false,
        };
        if forgotten {
            taken = muster_agent::ledger::Orders::new(&self.hosts[host].name, Some(desired.clone()))
                .map(Some)
                .map_err(Refusal::Malformed);
        }
        let full = self.hosts[host].disk.full;
        let outcome = match taken {
            Ok(Some(_)) if full => {
                if !waits {
                    agent.unkept = Some((desired.clone(), self.now));
                }
                Err(Refusal::Disk { path: "ledger".into(), why: "No space left on device".into() }.to_string())
            }
            Ok(next) => match (next, self.hosts[host].strikes()) {
                (Some(_), Some(false)) => return Fate::Died,
                (Some(next), struck) => {
                    agent.told = Rc::new(next.assignment().clone());
                    let mut told = agent.told.clusters.iter();
                    let comes_back = |told: &ClusterAssignment| {
                        !told.keeps.is_empty() || told.instances.iter().any(|wanted| wanted.restore)
                    };
                    if told.any(comes_back) && !self.healed && self.dice.chance(20) {
                        // The hour in which agents look through the trash strikes when it is least wanted.
                        let pause = self.dice.ms(1, 60);
                        self.after(pause, Event::Sweeps { host });
                    }
                    self.hosts[host].disk.orders = next;
                    if struck.is_some() {
                        return Fate::Died;
                    }
                    agent.unkept.take_if(|_| !waits);
                    Ok(())
                }
                (None, _) => Ok(()),
            },
            Err(refusal) => Err(refusal.to_string()),
        };
        let said = std::mem::replace(&mut agent.refusal, outcome.err());
        let generation = Generation(desired.generation);
        match &agent.refusal {
            Some(_) if agent.refusal == said => {}
            Some(refusal) => self.tell(self.name(host), format!("refuses generation {generation}: {refusal}")),
            None if self.hosts[host].disk.orders.generation() > before => {
                self.tell(self.name(host), format!("accepts generation {generation} of term {}", desired.term));
                for place in agent.places.values_mut() {
                    place.failed = None;
                    place.past.reconsider();
                }
            }
            None => {}
        }
        Fate::Lives
    }

    /// A server that it has in its hand has ended.
    pub fn exited(&mut self, host: usize, pid: i32, port: Port, how: End) {
        let (now, jitter) = (self.now, u8::try_from(self.dice.below(256)).expect("a byte"));
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let born = agent.born;
        let place = agent.place(port, now);
        let Some(held) = place.process.take_if(|held| held.pid == pid) else { return };
        let answered = place.view.is_some();
        place.answer = Answer::Silent("it has ended".into());
        place.unwilling = None;
        if held.stopping.is_some() {
            place.past = Past::default();
        } else {
            let (ending, words) = match how {
                End::Killed => (Ending::Signal(9), "Ready to accept connections"),
                End::Asked => (Ending::Code(0), "bye bye"),
                End::PortTaken => (Ending::Code(1), "bind: Address already in use"),
            };
            place.past.ended(Exit { at: now - born, ending, jitter }, (!answered).then(|| words.to_owned()));
        }
        self.pass_in(host, Duration::from_millis(1));
    }
}

/// The agent has died in the middle of something.
#[derive(Debug)]
pub struct Died;
