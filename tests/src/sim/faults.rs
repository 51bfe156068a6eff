//! What goes wrong, drawn from the seed while the night lasts, and how it is mended.

use super::{
    coordinator::Doom as CoordinatorDoom,
    dice::Dice,
    host::Doom,
    world::{End, Event, Mend, World},
};

/// A thing that goes wrong. Numbers are drawn when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    AgentDies,
    AgentIsDoomed,
    CoordinatorDies,
    CoordinatorIsDoomed,
    StrayComes,
    StreamEnds,
    LineIsCut,
    LinkIsCut,
    PowerGoes,
    HostHangs,
    ServerDies,
    ServerFreezes,
    DiskIsFull,
    OldLifeByHand,
    TrashIsSwept,
}

impl Fault {
    /// With how often, of a hundred.
    const ALL: [(Self, usize); 15] = [
        (Self::AgentDies, 10),
        (Self::AgentIsDoomed, 14),
        (Self::CoordinatorDies, 7),
        (Self::CoordinatorIsDoomed, 10),
        (Self::StrayComes, 4),
        (Self::StreamEnds, 14),
        (Self::LineIsCut, 8),
        (Self::LinkIsCut, 5),
        (Self::PowerGoes, 5),
        (Self::HostHangs, 5),
        (Self::ServerDies, 9),
        (Self::ServerFreezes, 6),
        (Self::DiskIsFull, 4),
        (Self::OldLifeByHand, 4),
        (Self::TrashIsSwept, 2),
    ];

    pub fn draw(dice: &mut Dice) -> Self {
        let mut at = dice.below(Self::ALL.iter().map(|(_, share)| share).sum());
        for (fault, share) in Self::ALL {
            if at < share {
                return fault;
            }
            at -= share;
        }
        Self::StreamEnds
    }
}

impl World {
    pub fn next_fault(&mut self) {
        let pause = self.dice.ms(self.plan.pace / 4, self.plan.pace * 2);
        let fault = Fault::draw(&mut self.dice);
        if self.now + pause < self.plan.night {
            self.after(pause, Event::Fault(fault));
        }
    }

    fn some_host(&mut self) -> usize {
        self.dice.below(self.hosts.len())
    }

    fn some_server(&mut self) -> Option<i32> {
        let pids: Vec<i32> = self.servers.keys().copied().collect();
        self.dice.pick(&pids)
    }

    pub fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::AgentDies => {
                let host = self.some_host();
                self.agent_dies(host, "");
            }
            Fault::AgentIsDoomed => {
                let host = self.some_host();
                let doom = Doom { chances: self.dice.below(4), after: self.dice.chance(50) };
                self.hosts[host].doom.get_or_insert(doom);
            }
            Fault::CoordinatorDies => self.coordinator_dies(0, ""),
            Fault::CoordinatorIsDoomed => {
                let doom = CoordinatorDoom { commits: self.dice.below(3), after: self.dice.chance(60) };
                if let Some(Some(coordinator)) = self.coordinators.first_mut() {
                    coordinator.doom.get_or_insert(doom);
                }
            }
            Fault::StrayComes => self.stray_comes(),
            Fault::StreamEnds => {
                let streams: Vec<u64> =
                    self.streams.iter().filter(|(_, open)| open.cut.is_none()).map(|(id, _)| *id).collect();
                if let Some(stream) = self.dice.pick(&streams) {
                    let host = self.streams[&stream].host;
                    self.tell(self.name(host), "its stream is cut");
                    self.cut_stream(stream);
                }
            }
            Fault::LineIsCut => {
                let (host, pause) = (self.some_host(), self.dice.ms(500, 25_000));
                if self.cut_lines.insert(host) {
                    self.tell(self.name(host), format!("reaches no coordinator for {} ms", pause.as_millis()));
                    self.cut_streams_of(|stream| stream.host == host);
                    self.after(pause, Event::Mends(Mend::Line(host)));
                }
            }
            Fault::LinkIsCut => {
                let (one, two, pause) = (self.some_host(), self.some_host(), self.dice.ms(500, 20_000));
                let (one, two) = (one.min(two), one.max(two));
                if one != two && self.cut_links.insert((one, two)) {
                    let what = format!("does not reach {} for {} ms", self.name(two), pause.as_millis());
                    self.tell(self.name(one), what);
                    self.stirred = true;
                    self.after(pause, Event::Mends(Mend::Link(one, two)));
                }
            }
            Fault::PowerGoes => {
                let (host, pause) = (self.some_host(), self.dice.ms(4_000, 60_000));
                self.power_goes(host);
                self.after(pause, Event::Boots { host });
            }
            Fault::HostHangs => self.hangs(),
            Fault::ServerDies => {
                if let Some(pid) = self.some_server() {
                    self.ended(pid, End::Killed);
                }
            }
            Fault::ServerFreezes => self.freeze(),
            Fault::DiskIsFull => {
                let (host, pause) = (self.some_host(), self.dice.ms(500, 15_000));
                if !std::mem::replace(&mut self.hosts[host].disk.full, true) {
                    self.tell(self.name(host), format!("its disk is full for {} ms", pause.as_millis()));
                    self.after(pause, Event::Mends(Mend::Disk(host)));
                }
            }
            Fault::OldLifeByHand => self.old_life_by_hand(),
            Fault::TrashIsSwept => {
                let host = self.some_host();
                self.sweeps(host);
            }
        }
    }

    /// A copy of the store is started somewhere, and some hosts find it.
    fn stray_comes(&mut self) {
        let Some(copy) = self.dice.pick(&self.copies.clone()) else { return };
        let term = self.main().map_or(self.store.term, |main| main.term);
        let is_rival = copy.term.next() >= term;
        if self.coordinators.get(1).is_some_and(Option::is_some) || (is_rival && !self.plan.rivals) {
            return;
        }
        let pause = self.dice.ms(3_000, 40_000);
        self.coordinator_starts(1, copy);
        self.judge.count("strays");
        self.after(pause, Event::StrayEnds);
        // Somebody is led to it at once.
        let host = self.some_host();
        self.cut_streams_of(|stream| stream.host == host);
    }

    fn power_goes(&mut self, host: usize) {
        if !self.hosts[host].up {
            return;
        }
        self.tell(self.name(host), "loses its power");
        self.hosts[host].up = false;
        self.hosts[host].children.clear();
        self.servers.retain(|_, server| server.host != host);
        self.hosts[host].agent = None;
        self.hosts[host].doom = None;
        self.cut_streams_of(|stream| stream.host == host);
        self.stirred = true;
    }

    pub fn boots(&mut self, host: usize) {
        if self.hosts[host].up {
            return;
        }
        self.hosts[host].up = true;
        self.hosts[host].boot += 1;
        self.tell(self.name(host), "boots");
        let pause = self.dice.ms(500, 4_000);
        self.after(pause, Event::AgentStarts { host });
    }

    /// Everything on a host stops, as under a hypervisor that has better things to do. When it goes on, the servers may be
    /// quicker than the agent, or the agent may be gone.
    fn hangs(&mut self) {
        let host = self.some_host();
        if !self.hosts[host].up || self.hosts[host].hung {
            return;
        }
        let (wakes, comes) = (self.dice.ms(5_000, 60_000), self.dice.ms(1, 30_000));
        self.agent_dies(host, "");
        self.tell(self.name(host), format!("hangs for {} ms", wakes.as_millis()));
        self.hosts[host].hung = true;
        self.stirred = true;
        let pids: Vec<i32> = self.servers.values().filter(|it| it.host == host).map(|it| it.pid).collect();
        for pid in pids {
            self.servers.get_mut(&pid).expect("there").frozen = true;
            self.after(wakes, Event::Thaws { pid });
        }
        self.after(wakes + comes, Event::Mends(Mend::Hang(host)));
    }

    fn freeze(&mut self) {
        let Some(pid) = self.some_server() else { return };
        let (pause, server) = (self.dice.ms(500, 45_000), self.servers.get_mut(&pid).expect("there"));
        if std::mem::replace(&mut server.frozen, true) {
            return;
        }
        let (host, port) = (server.host, server.port);
        self.stirred = true;
        self.tell(format!("{}:{port}", self.name(host)), format!("pid {pid} is stopped by a signal"));
        self.after(pause, Event::Thaws { pid });
    }

    pub fn thaws(&mut self, pid: i32) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(&pid).filter(|server| server.frozen) else { return };
        server.wake(now);
        let (host, port, leaves) = (server.host, server.port, server.leaving);
        self.stirred = true;
        self.tell(format!("{}:{port}", self.name(host)), format!("pid {pid} goes on"));
        if leaves {
            self.after(std::time::Duration::from_millis(20), Event::Ended { pid, how: End::Asked });
        }
    }

    /// Somebody starts a server of a former life, from the trash or from where it still is.
    fn old_life_by_hand(&mut self) {
        let host = self.some_host();
        if !self.hosts[host].up {
            return;
        }
        let disk = &self.hosts[host].disk;
        let all: Vec<_> = disk.trash.iter().chain(disk.places.values()).filter(|it| it.ran).cloned().collect();
        let Some(directory) = self.dice.pick(&all) else { return };
        if self.servers.values().any(|server| server.home == directory.inode) {
            return;
        }
        let files = (directory.conf.as_str(), directory.nodes.text.as_str());
        self.run_in(host, directory.inode, directory.life(), files, false);
        self.judge.count("by hand");
    }

    pub fn mends(&mut self, mend: Mend) {
        let now = self.now;
        match mend {
            Mend::Disk(host) => self.hosts[host].disk.full = false,
            Mend::Hang(host) => {
                if std::mem::take(&mut self.hosts[host].hung) {
                    self.agent_starts(host);
                }
            }
            Mend::Line(host) => drop(self.cut_lines.remove(&host)),
            Mend::Link(one, two) => {
                self.cut_links.remove(&(one, two));
                self.stirred = true;
                let near = |host| host == one || host == two;
                self.servers.values_mut().filter(|it| near(it.host)).for_each(|it| it.disturbed = now);
            }
        }
    }

    /// The night is over: everything is up, and reaches everything.
    pub fn heals(&mut self) {
        self.tell("morning", "no more faults; everything is up");
        self.healed = true;
        for host in 0..self.hosts.len() {
            self.hosts[host].disk.full = false;
            self.hosts[host].doom = None;
            self.mends(Mend::Hang(host));
            self.boots(host);
        }
        self.cut_lines.clear();
        for (one, two) in std::mem::take(&mut self.cut_links) {
            self.mends(Mend::Link(one, two));
        }
        self.stray_ends();
        if let Some(Some(coordinator)) = self.coordinators.first_mut() {
            coordinator.doom = None;
        }
        // Half of what was stopped by a signal goes on; the rest needs somebody who is told to.
        let frozen: Vec<i32> = self.servers.values().filter(|it| it.frozen).map(|it| it.pid).collect();
        for pid in frozen {
            if self.dice.chance(50) {
                self.thaws(pid);
            }
        }
    }

    pub fn stray_ends(&mut self) {
        self.coordinator_dies(1, ", and with it its copy of the store");
    }
}
