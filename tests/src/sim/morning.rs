//! The morning after: nothing goes wrong any more. Within its time the cluster is well, or somebody is told what to do;
//! he does it, and then it must be well.

use std::time::Duration;

use muster_coordinator::ledger::{ClusterRecord, OpState};
use muster_proto::{InstanceState, PROTOCOL, wire};

use super::{
    host::Host,
    operator::Act,
    world::{End, Event, World},
};

/// Without a change for the better.
const PATIENCE: Duration = Duration::from_secs(400);
/// A word stands for so long before somebody acts upon it.
const STANDS: Duration = Duration::from_secs(6);
/// Well for so long is well.
const WELL: Duration = Duration::from_secs(8);
/// Commands that one morning may take.
const COMMANDS: usize = 12;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub struct Morning {
    /// What is wrong, and since when it is that.
    wrong: Option<(String, Duration)>,
    well: Option<Duration>,
    since: Option<Duration>,
    commands: usize,
}

impl World {
    /// Once a second.
    pub fn looks(&mut self) {
        let began = *self.morning.since.get_or_insert(self.now);
        match self.wrong() {
            None => {
                let since = *self.morning.well.get_or_insert(self.now);
                self.morning.wrong = None;
                if self.now - since >= WELL {
                    self.is_over = true;
                    return;
                }
            }
            Some((why, cure)) => {
                self.morning.well = None;
                let known = self.morning.wrong.as_ref().filter(|(known, _)| *known == why).map(|(_, since)| *since);
                let since = known.unwrap_or(self.now);
                self.morning.wrong = Some((why.clone(), since));
                if self.now - began > PATIENCE {
                    self.judge.condemn(format!("in the morning it is not well for {} s: {why}", PATIENCE.as_secs()));
                }
                if self.now - since >= STANDS
                    && let Some(words) = cure
                {
                    self.obeys(&words);
                }
            }
        }
        self.after(Duration::from_secs(1), Event::Looks);
    }

    /// What is not as it should be, and the words that somebody is told about it.
    fn wrong(&mut self) -> Option<(String, Option<String>)> {
        let Some(main) = self.main() else { return Some(("the coordinator does not run".into(), None)) };
        let Some(record) = main.store.clusters.values().next().cloned() else {
            let nth = self.operator.bootstraps;
            return Some(("there is no cluster".into(), Some(format!("muster bootstrap ({nth} before)"))));
        };
        let id = record.rebuild.as_ref().map_or(record.operation, |rebuild| rebuild.operation);
        let operation = main.store.operations.get(&id).cloned()?;
        if record.formed_ms.is_none() || record.rebuild.is_some() {
            let cure = match operation.state {
                OpState::NeedsOperator | OpState::Cancelling => Some(operation.message.clone()),
                OpState::Paused => Some(format!("muster op resume {id}")),
                _ => None,
            };
            return Some((format!("[{}] {}", operation.state.word(), operation.message), cure));
        }
        if !record.remnants.is_empty() {
            let refuses = |host: &Host| {
                let refusal = host.agent.as_ref()?.refusal.as_ref()?;
                Some(format!("its host {} refuses: {refusal}", host.name))
            };
            let words = self.hosts.iter().find_map(refuses).or_else(|| self.verdict_of(|_| true));
            return Some((format!("quarantined: {}", record.remnants[0].name()), words));
        }
        self.unwell(&record)
    }

    /// A formed cluster: every instance runs in its own directory, and all agree.
    fn unwell(&mut self, record: &ClusterRecord) -> Option<(String, Option<String>)> {
        let life = (record.blueprint.cluster_id, record.blueprint.incarnation);
        let any = self.verdict_of(|state| state == InstanceState::Blocked);
        for member in &record.blueprint.members {
            let host = self.host_named(&member.host).expect("a host");
            let words = self.hosts[host].agent.as_ref().and_then(|agent| {
                let verdict = agent.verdicts.get(&member.port)?;
                (verdict.state == InstanceState::Blocked).then(|| verdict.reason.clone())
            });
            let words = words.or_else(|| any.clone());
            let Some(directory) = self.hosts[host].disk.places.get(&member.port).filter(|it| it.life() == life) else {
                return Some((format!("{} has no directory", member.name()), words));
            };
            let (home, formed) = (directory.inode, directory.stamp.formed);
            let Some(server) = self.servers.values().find(|server| server.home == home) else {
                return Some((format!("{} does not run", member.name()), words));
            };
            if server.frozen {
                return Some((format!("{} is frozen", member.name()), words));
            }
            if !server.ok || !formed {
                return Some((format!("{} is not well", member.name()), words));
            }
            if server.myself().role.master().is_some() && !server.link_up(self.now) {
                return Some((format!("{} is not in sync", member.name()), words));
            }
        }
        let mut digests: Vec<_> =
            self.servers.values_mut().filter(|server| server.life == life).map(|server| server.digest()).collect();
        digests.dedup();
        if digests.len() != 1 {
            return Some(("its nodes do not agree".into(), None));
        }
        let told = self.main()?.store.desired.clone();
        let behind = self.hosts.iter().find(|host| {
            let converged = host.agent.as_ref().map(|agent| agent.converged.0);
            told.get(&host.name).is_some_and(|desired| Some(desired.generation) != converged)
        });
        if let Some(host) = behind {
            return Some((format!("{} has not made true what it was told", host.name), self.verdict_of(|_| true)));
        }
        // Nobody else runs but whom somebody has started by hand.
        let other = self.servers.values().find(|server| server.life != life && server.locked);
        other.map(|other| (format!("pid {} of life {} runs", other.pid, other.life.1), None))
    }

    fn verdict_of(&self, is_meant: impl Fn(InstanceState) -> bool) -> Option<String> {
        let all = self.hosts.iter().filter_map(|host| host.agent.as_ref()).flat_map(|agent| agent.verdicts.values());
        all.filter(|it| !it.reason.is_empty() && is_meant(it.state)).map(|it| it.reason.clone()).next()
    }

    /// Carries out the first command in these words that he has not carried out for them yet.
    fn obeys(&mut self, words: &str) {
        let commands = commands(words);
        for command in commands {
            let key = (command.clone(), words.to_owned());
            if self.operator.carried_out.contains(&key) {
                continue;
            }
            if self.carries_out(&command) {
                self.tell("operator", format!("was told to: {command}"));
                self.operator.carried_out.push(key);
                self.morning.commands += 1;
                self.judge.count("cures");
                self.morning.wrong = None;
                return;
            }
        }
        if self.morning.commands >= COMMANDS {
            self.judge.condemn(format!("{COMMANDS} commands have not made it well; the last words: {words}"));
        }
    }

    /// Where the store is older than what a host has obeyed, and is to rule all the same, the README says: stop the
    /// agent, move its memory aside, start it.
    fn forgets_orders(&mut self, name: &str) -> bool {
        let Some(host) = name.parse().ok().and_then(|name| self.host_named(&name)) else { return false };
        self.agent_dies(host, ", and its memory is moved aside");
        let name = self.hosts[host].name.clone();
        self.hosts[host].disk.orders = muster_agent::ledger::Orders::new(&name, None).expect("empty");
        self.judge.forgets(host);
        true
    }

    fn carries_out(&mut self, command: &str) -> bool {
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["kill", "-CONT", pid] => self.pid(pid, Self::thaws),
            ["kill", pid] => self.pid(pid, |world, pid| world.ended(pid, End::Killed)),
            ["README", host] => self.forgets_orders(host),
            ["muster", "bootstrap"] => self.does(&Act::Bootstrap),
            ["muster", "op", "cancel", id] => id.parse().is_ok_and(|id| self.does(&Act::Cancel(id))),
            ["muster", "op", "resume", id] => id.parse().is_ok_and(|id| self.does(&Act::Resume(id))),
            ["muster", "rebuild", _, "--undo"] => self.does(&Act::Undo),
            ["muster", "rebuild", _] => self.does(&Act::Rebuild { missing: None }),
            ["redis-cli", "cluster", "failover", "takeover"] => self.takes_over(),
            ["muster", "start", "--even-if-empty"] => {
                self.overrules();
                true
            }
            _ => false,
        }
    }

    fn pid(&mut self, pid: &str, act: impl Fn(&mut Self, i32)) -> bool {
        let Some(pid) = pid.parse().ok().filter(|pid| self.servers.contains_key(pid)) else { return false };
        act(self, pid);
        true
    }

    /// A replica of a master that does not run is told to take over, without a vote.
    fn takes_over(&mut self) -> bool {
        let now = self.now;
        let runs = |id: muster_proto::NodeId| self.servers.values().any(|server| server.me == id);
        let heir = self.servers.values().find(|server| {
            let master = server.myself().role.master();
            server.is_awake(now) && master.is_some_and(|master| !runs(master))
        });
        let Some((pid, master)) = heir.and_then(|heir| Some((heir.pid, heir.myself().role.master()?))) else {
            return false;
        };
        let epoch = self.servers.values().flat_map(|it| &it.peers).map(|peer| peer.epoch).max().unwrap_or(0) + 1;
        self.servers.get_mut(&pid).expect("it runs").promote(master, epoch);
        self.stirred = true;
        true
    }

    /// Somebody has said by name that what has nothing to load is to be started all the same.
    fn overrules(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(agent) = &mut self.hosts[host].agent else { continue };
            for place in agent.places.values_mut().filter(|place| place.process.is_none()) {
                (place.past.urged, place.failed, place.overruled) = (true, None, true);
            }
            self.pass_in(host, Duration::from_millis(1));
        }
    }

    /// How an agent introduces itself.
    pub fn hello(&self, host: usize) -> wire::Hello {
        let it = &self.hosts[host];
        let held = it.disk.orders.assignment().clusters.iter().map(muster_proto::Held::from).collect();
        let hello = muster_proto::Hello {
            protocol: PROTOCOL,
            agent_version: "0.1.0".into(),
            host: it.name.clone(),
            address: it.address,
            identity: it.identity,
            boot_id: it.boot.to_string(),
            ports: it.ports.clone(),
            base_dir: "/var/lib/muster".into(),
            rack: None,
            zone: None,
            term: it.disk.orders.term(),
            pid: i32::try_from(it.lives).expect("few"),
            generation: it.disk.orders.generation(),
            held,
        };
        wire::Hello::from(&hello)
    }
}

/// Commands in words for people, in their order: what stands behind a colon and begins like one. Who is in the way is
/// named by its pid, and whoever has started it ends it.
fn commands(words: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in
        words.match_indices("muster ").chain(words.match_indices("kill ")).chain(words.match_indices("redis-cli "))
    {
        let rest = &words[at..];
        let end = rest.find([';', ',', ')', '(']).unwrap_or(rest.len());
        found.push((at, rest[..end].trim_end_matches(['.', ' ']).to_owned()));
    }
    for before in ["left alone: pid ", "runs there: pid ", "stranger: pid "] {
        let pid = words.find(before).map(|at| (at, &words[at + before.len()..]));
        let pid = pid.map(|(at, rest)| (at, rest.chars().take_while(char::is_ascii_digit).collect::<String>()));
        found.extend(pid.map(|(at, pid)| (at, format!("kill {pid}"))));
    }
    // What README.md has under "When something is lost".
    let refuses = words.contains("refuses: generation") || words.contains("refuses: term");
    if let Some(at) = words.find("its host ").filter(|_| refuses || is_ahead(words)) {
        let host = words[at + 9..].split(' ').next().unwrap_or_default();
        found.push((at, format!("README {host}")));
    }
    found.sort();
    found.into_iter().map(|(_, command)| command).collect()
}

/// `has generation 5, told was 4`: another coordinator has told it something.
fn is_ahead(words: &str) -> bool {
    let number = |after: &str| {
        let at = words.find(after)? + after.len();
        words[at..].chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
    };
    number("has generation ").zip(number("told was ")).is_some_and(|(has, told)| has > told)
}
