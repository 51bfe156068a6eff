//! What steps do to a modelled machine, and what happens to processes.

use std::{collections::BTreeMap, time::Duration};

use muster_agent::{
    conf::ConfFile,
    layout::Stamp,
    permits::{Leaving, Permit},
    reconcile::{Answer, Step, Verdict},
};
use muster_proto::{Ask, Port, wire};

use super::{
    agent::Died,
    host::{Agent, Directory, Held, Life, Nodes, Record},
    look::Found,
    redis::Server,
    sabotage::Sabotage,
    world::{End, Event, World},
};

/// A failed step is tried again after this.
const RETRY: Duration = Duration::from_secs(2);

/// What has become of the agent meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lives,
    Died,
}

impl World {
    /// Takes the steps of a pass, in the order of ports. Whether there were any.
    pub fn act(&mut self, host: usize, agent: &mut Agent, verdicts: &BTreeMap<Port, Verdict>) -> Result<bool, Died> {
        let steps: Vec<(Port, Step)> =
            verdicts.iter().filter_map(|(port, verdict)| Some((*port, verdict.step.clone()?))).collect();
        for (port, step) in &steps {
            let struck = self.hosts[host].strikes();
            if struck == Some(false) {
                return Err(Died);
            }
            let done = self.perform(host, agent, *port, step);
            if struck.is_some() {
                return Err(Died);
            }
            let due = self.now - agent.born + RETRY;
            let place = agent.place(*port, self.now);
            place.failed = done.as_ref().err().map(|words| (words.clone(), due));
            if let Err(words) = done {
                self.tell(format!("{}:{port}", self.name(host)), format!("a step has failed: {words}"));
            }
        }
        Ok(!steps.is_empty())
    }

    fn perform(&mut self, host: usize, agent: &mut Agent, port: Port, step: &Step) -> Result<(), String> {
        let full = || Err("cannot write: No space left on device".to_owned());
        match step {
            Step::Prepare { .. } | Step::Start { .. } | Step::Latch { .. } if self.hosts[host].disk.full => full(),
            Step::Prepare { stamp, files } => self.establish(host, port, stamp, files),
            Step::Start { files, run, .. } => self.start(host, agent, port, files, *run),
            Step::Stop => {
                let now = self.now;
                let place = agent.place(port, now);
                place.unwilling = place.unwilling.map(|_| now);
                if let Some(held) = &mut place.process {
                    held.stopping.get_or_insert(now);
                    let pid = held.pid;
                    self.terminate(pid);
                }
                Ok(())
            }
            Step::Kill => {
                if let Some(held) = &agent.place(port, self.now).process {
                    let pid = held.pid;
                    self.at(self.now + Duration::from_millis(5), Event::Ended { pid, how: End::Killed });
                }
                Ok(())
            }
            Step::Latch { stamp } => {
                let place = self.hosts[host].disk.places.get_mut(&port);
                let place = place.filter(|place| place.stamp.same_life(stamp)).ok_or("no such directory")?;
                place.stamp.formed = true;
                Ok(())
            }
            Step::SetAside { stamp } => {
                self.move_aside(host, port, stamp, None, agent.stream)?;
                self.reborn(host, agent, port);
                Ok(())
            }
            Step::Wipe { leaving } => self.wipe(host, agent, port, leaving),
            Step::Restore { stamp } => {
                self.restore(host, port, stamp)?;
                self.reborn(host, agent, port);
                Ok(())
            }
            Step::Adjust { .. } => Ok(()),
        }
    }

    fn establish(&mut self, host: usize, port: Port, stamp: &Stamp, files: &[ConfFile]) -> Result<(), String> {
        if self.hosts[host].disk.places.contains_key(&port) {
            return Err("File exists".into());
        }
        let text = |name: &str| {
            files.iter().find(|file| file.name == name).map(|file| file.text.expose().to_owned()).unwrap_or_default()
        };
        let directory = Directory {
            inode: self.number(),
            stamp: stamp.clone(),
            conf: text("redis.conf"),
            nodes: Nodes::new(text("nodes.conf")),
            data: false,
            ran: false,
            aside: self.now,
        };
        self.hosts[host].disk.places.insert(port, directory);
        self.judge_made(host, port);
        Ok(())
    }

    fn start(
        &mut self,
        host: usize,
        agent: &mut Agent,
        port: Port,
        files: &[ConfFile],
        run: u64,
    ) -> Result<(), String> {
        if !matches!(self.find(host, port, &[]), Found::Nothing) {
            return Err("the lock is held: something still runs in the directory".into());
        }
        let boot = self.hosts[host].boot;
        let node = self.hosts[host].disk.places.get(&port).ok_or("cannot open the directory")?.stamp.node_id;
        self.hosts[host].disk.records.insert(port, Record { boot, run, node });
        let directory = self.hosts[host].disk.places.get_mut(&port).ok_or("cannot open the directory")?;
        if let Some(conf) = files.iter().find(|file| file.name == "redis.conf") {
            directory.conf = conf.text.expose().to_owned();
        }
        let pid = self.spawn(host, port, true).ok_or("cannot start")?;
        let now = self.now;
        let place = agent.place(port, now);
        place.meet(Held { pid, stopping: None, run: Some(run) }, now);
        (place.answer, place.view) = (Answer::Silent("it has just been started".into()), None);
        (place.past.stillborn, place.past.urged, place.overruled) = (None, false, false);
        place.unwilling = None;
        self.judge_started(pid);
        Ok(())
    }

    /// A process in the directory at a port; with the port's lock, or as somebody starts it by hand. One that does not get
    /// its ports ends at once.
    pub fn spawn(&mut self, host: usize, port: Port, locked: bool) -> Option<i32> {
        let directory = self.hosts[host].disk.places.get_mut(&port)?;
        directory.ran = true;
        let (home, conf, nodes) = (directory.inode, directory.conf.clone(), directory.nodes.text.clone());
        let life = directory.life();
        self.run_in(host, home, life, (&conf, &nodes), locked)
    }

    pub fn run_in(&mut self, host: usize, home: u64, life: Life, files: (&str, &str), locked: bool) -> Option<i32> {
        let pid = i32::try_from(self.number()).expect("few");
        let mut server = Server::start(pid, host, home, life, files, self.now)?;
        server.locked = locked;
        server.answers_from = self.now + self.dice.ms(10, 400);
        let ends = [server.port, server.bus];
        let taken = self
            .servers
            .values()
            .any(|other| other.host == host && (ends.contains(&other.port) || ends.contains(&other.bus)));
        if taken {
            self.after(Duration::from_millis(15), Event::Ended { pid, how: End::PortTaken });
            // It listens nowhere meanwhile.
            (server.port, server.bus) = (0, 0);
        }
        let how = if locked { "" } else { " by hand" };
        let name = self.name(host);
        self.tell(format!("{name}:{}", ends[0]), format!("pid {pid} is started{how} (life {})", life.1));
        self.servers.insert(pid, server);
        self.stirred = true;
        Some(pid)
    }

    /// SIGTERM.
    pub fn terminate(&mut self, pid: i32) {
        let slow = self.dice.chance(6);
        let pause = if slow { self.dice.ms(2_000, 20_000) } else { self.dice.ms(5, 600) };
        let Some(server) = self.servers.get_mut(&pid) else { return };
        if std::mem::replace(&mut server.leaving, true) || server.frozen {
            return;
        }
        self.after(pause, Event::Ended { pid, how: End::Asked });
    }

    /// A process is gone; its agent will hear of it.
    pub fn ended(&mut self, pid: i32, how: End) {
        // What is frozen takes no other signal than the one that kills.
        if how == End::Asked && self.servers.get(&pid).is_some_and(|server| server.frozen) {
            return;
        }
        let Some(server) = self.servers.remove(&pid) else { return };
        self.stirred = true;
        let (host, port) = (server.host, server.port);
        let who = format!("{}:{port}", self.name(host));
        self.tell(who, format!("pid {pid} has ended ({how:?})"));
        let place = self.hosts[host].disk.places.iter().find(|(_, directory)| directory.inode == server.home);
        let Some(port) = place.map(|(port, _)| *port) else { return };
        if how == End::Killed && server.locked && self.dice.chance(15) {
            let until = self.now + self.dice.ms(200, 5_000);
            self.hosts[host].children.push((port, until));
        }
        let Some(agent) = &self.hosts[host].agent else { return };
        let (life, pause) = (agent.life, self.dice.ms(1, 40));
        self.after(pause, Event::Exited { host, life, pid, port, how });
    }

    /// Into the trash, in one step.
    pub fn move_aside(
        &mut self,
        host: usize,
        port: Port,
        stamp: &Stamp,
        leaving: Option<&Leaving>,
        stream: Option<u64>,
    ) -> Result<(), String> {
        let skips = self.sabotage(Sabotage::WipeWhileItRuns);
        if let Some(who) = self.find(host, port, &[]).who().filter(|_| !skips) {
            return Err(format!("it is not moved, because something runs there: {who}"));
        }
        let found = self.hosts[host].disk.places.get(&port).ok_or("No such file or directory")?;
        if !found.stamp.same_life(stamp) {
            return Err("it does not carry the stamp that it is to be set aside with".into());
        }
        self.judge_moved(host, port, leaving.is_some(), stream);
        let mut directory = self.hosts[host].disk.places.remove(&port).expect("just found");
        directory.aside = self.now;
        self.tell(format!("{}:{port}", self.name(host)), format!("life {} is set aside", directory.stamp.life));
        self.hosts[host].disk.trash.push(directory);
        Ok(())
    }

    // --- permits -----------------------------------------------------------------------------------------------------

    /// The stream is on.
    pub fn linked(&mut self, _host: usize, agent: &mut Agent, stream: u64) {
        agent.permits.connected(stream);
    }

    pub fn permitted(&mut self, host: usize, agent: &mut Agent, stream: u64, permit: wire::Permit) {
        let obeyed = self.hosts[host].disk.orders.term();
        let now = self.now - agent.born;
        let port = permit.port;
        self.judge.delivered(host, &permit);
        let outcome = Permit::try_from(permit).and_then(|permit| agent.permits.take_in(&permit, stream, obeyed, now));
        match outcome {
            Ok(port) => self.tell(format!("{}:{port}", self.name(host)), "has its permit"),
            Err(_) if self.sabotage(Sabotage::TakeAnyPermit) => drop(port.try_into().map(|it| agent.forged.insert(it))),
            Err(refused) => {
                self.judge.count("permits refused");
                self.tell(format!("{}:{port}", self.name(host)), format!("refuses a permit: {refused}"));
            }
        }
    }

    pub fn granted(&self, host: usize, agent: &Agent, port: Port) -> Option<Leaving> {
        if self.sabotage(Sabotage::WipeUnpermitted) || agent.forged.contains(&port) {
            return self.forged(host, port);
        }
        agent.permits.granted(port, self.now - agent.born).cloned()
    }

    /// What is asked for, by port; what is not asked for any more is withdrawn.
    pub fn asks(&mut self, host: usize, agent: &mut Agent, verdicts: &BTreeMap<Port, Verdict>) -> BTreeMap<Port, Ask> {
        let now = self.now - agent.born;
        agent.permits.retain(now, |port| verdicts.contains_key(&port));
        let mut asks = BTreeMap::new();
        for (port, verdict) in verdicts {
            let wipes = matches!(verdict.step, Some(Step::Wipe { .. }));
            match &verdict.asks {
                Some(leaving) => {
                    let nonce = self.dice.uuid();
                    if let Some(ask) = agent.permits.ask(*port, leaving, now, nonce) {
                        self.judge.asked(host, *port, &ask, agent.stream, self.now);
                        asks.insert(*port, ask);
                    }
                }
                None if !wipes => agent.permits.withdraw(*port, now),
                None => {}
            }
        }
        asks
    }

    fn wipe(&mut self, host: usize, agent: &mut Agent, port: Port, leaving: &Leaving) -> Result<(), String> {
        let wipe = agent.permits.redeem(port, leaving, self.now - agent.born);
        let forged = agent.forged.remove(&port) || self.sabotage(Sabotage::WipeUnpermitted);
        if wipe.is_none() && !forged {
            return Err("the permit is gone".into());
        }
        let stamp = wipe.as_ref().map_or(&leaving.stamp, |wipe| &wipe.leaving().stamp).clone();
        self.move_aside(host, port, &stamp, Some(leaving), agent.stream)?;
        self.reborn(host, agent, port);
        Ok(())
    }

    fn reborn(&self, host: usize, agent: &mut Agent, port: Port) {
        if let Some((cluster, _)) = self.hosts[host].disk.orders.assignment().by_port().get(&port) {
            agent.reborn(port, &cluster.cluster, self.now);
        }
    }

    /// Ends the lives of agents' lost streams in their eyes.
    pub fn parted(&mut self, host: usize, stream: u64) {
        let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.stream == Some(stream)) else { return };
        (agent.stream, agent.welcomed, agent.sent) = (None, false, None);
        agent.permits.parted(stream);
        let (life, dials) = (agent.life, agent.dials.min(6));
        agent.dials += 1;
        let most = 250 << dials;
        let pause = self.dice.ms(100, most);
        self.after(pause, Event::Dial { host, life });
    }
}
