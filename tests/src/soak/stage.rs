//! Where a soak takes place: a world with two clusters, strangers beside them, and the hands that inflict the faults.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    cluster::Cluster,
    schedule::Fault,
    story::{Ack, Event, Names, Spot, Story},
    talk::{Reply, Talk},
    watcher::servers,
};
use crate::{ForeignRedis, World, processes, redis};

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Both clusters, with their ports and what they keep.
const CLUSTERS: [(&str, &str, &str); 2] = [
    ("durable", "7000-7001", "appendonly = \"yes\"\nappendfsync = \"no\"\nsave = \"\""),
    ("fleeting", "7002-7003", "appendonly = \"no\"\nsave = \"\""),
];
/// Not shorter: on two cores with a dozen servers Redis would take over by itself all the time.
const NODE_TIMEOUT: &str = "cluster-node-timeout = \"2500\"";
/// A cluster is well again within this after one fault: a crash loop's pause of 60 s and its jitter, an election, a
/// sync.
const HEALED: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Keys that are asked for at once.
const BATCH: usize = 500;

/// What is to be done when its time comes.
enum Due {
    Thaw(Spot, i32),
    StartAgent(usize),
    StartCoordinator,
}

/// A process that Muster has nothing to do with.
struct Bystander {
    child: Child,
    started: String,
}

/// See the module. Fields drop in this order; all that runs is gone with it.
pub struct Stage {
    world: World,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// What has happened.
    pub story: Arc<Story>,
    due: Vec<(Instant, Due)>,
    foreign: ForeignRedis,
    foreign_started: String,
    bystanders: Vec<Bystander>,
    _home: TempDir,
}

impl Stage {
    /// Forms both clusters, and puts the strangers beside them.
    pub fn set() -> Self {
        let world = World::up(&HOSTS.map(|host| (host, "7000-7003")));
        let hosts = HOSTS.map(str::to_owned);
        let clusters: Vec<Cluster> = CLUSTERS
            .iter()
            .enumerate()
            .map(|(number, (name, ports, settings))| {
                let host = |host: &str| format!("[[hosts]]\nname = \"{host}\"\nports = [\"{ports}\"]\n");
                let head = format!("name = \"{name}\"\nreplicas = 1\nauth = \"none\"\n");
                let spec = format!("{head}{}[redis.config]\n{settings}\n{NODE_TIMEOUT}\n", HOSTS.map(host).concat());
                let path = world.write(&format!("{name}.spec.toml"), &spec);
                world.muster(&["bootstrap", &path, "--yes"]).expect(0);
                Cluster::of(number, &world.status(name).expect("it was formed"), &hosts)
            })
            .collect();
        let home = tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").expect("a directory");
        let foreign = ForeignRedis::start(home.path(), world.spare_address(1), 7000);
        redis::cli(foreign.endpoint(), &["set", "mine", "untouched"]).expect("it answers");
        // One of them stands in an instance's own directory, as an operator's shell does.
        let bystanders = [home.path().to_owned(), world.base_dir("a").join("7000")].map(|cwd| {
            let mut command = Command::new("sleep");
            let child = processes::spawn_owned(command.arg("100000").current_dir(cwd).stdin(Stdio::null()));
            let started = start_ticks(child.id() as i32);
            Bystander { child, started }
        });
        let foreign_started = start_ticks(foreign.pid());
        Self {
            world,
            clusters,
            story: Arc::new(Story::new()),
            due: Vec::new(),
            foreign,
            foreign_started,
            bystanders: bystanders.into(),
            _home: home,
        }
    }

    /// What everything is called.
    pub fn names(&self) -> Names {
        let instances = |cluster: &Cluster| cluster.places.iter().map(|place| place.name.clone()).collect();
        Names { hosts: HOSTS.map(str::to_owned).into(), instances: self.clusters.iter().map(instances).collect() }
    }

    /// The directory of every instance.
    pub fn places(&self) -> BTreeMap<PathBuf, Spot> {
        let mut places = BTreeMap::new();
        for cluster in &self.clusters {
            for (nth, place) in cluster.places.iter().enumerate() {
                let home = self.world.base_dir(HOSTS[place.host]).join(place.port.to_string());
                places.insert(home, Spot { cluster: cluster.number, nth });
            }
        }
        places
    }

    /// Lets so much time pass; what is due meanwhile is done.
    pub fn pass_time(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.do_what_is_due();
            thread::sleep(LOOK);
        }
    }

    /// Inflicts a fault: on an instance, as soon as its cluster is well. Whether there was anything to do.
    pub fn inflict(&mut self, fault: &Fault) -> Result<bool, String> {
        match *fault {
            Fault::Kill(spot) => {
                self.heal(spot.cluster)?;
                self.kill(spot)
            }
            Fault::Freeze(spot, time) => {
                self.heal(spot.cluster)?;
                let pid = self.server(spot)?;
                self.story.tell(Event::Frozen(spot));
                processes::signal(pid, Signal::SIGSTOP);
                self.due.push((Instant::now() + time, Due::Thaw(spot, pid)));
                Ok(true)
            }
            Fault::KillAgent(host, away) => Ok(self.kill_agent(host, away)),
            Fault::KillBoth(spot, away) => {
                self.heal(spot.cluster)?;
                let host = self.clusters[spot.cluster].places[spot.nth].host;
                self.kill_agent(host, away);
                self.kill(spot)
            }
            Fault::KillCoordinator(away) => {
                if !self.world.coordinator().is_running() {
                    return Ok(false);
                }
                self.story.tell(Event::CoordinatorKilled);
                self.world.coordinator().kill();
                self.due.push((Instant::now() + away, Due::StartCoordinator));
                Ok(true)
            }
        }
    }

    fn kill(&self, spot: Spot) -> Result<bool, String> {
        let pid = self.server(spot)?;
        self.story.tell(Event::Killed(spot));
        processes::signal(pid, Signal::SIGKILL);
        Ok(true)
    }

    fn kill_agent(&mut self, host: usize, away: Duration) -> bool {
        let agent = self.world.agent(HOSTS[host]);
        if !agent.is_running() {
            return false;
        }
        self.story.tell(Event::AgentKilled(host));
        agent.kill();
        self.due.push((Instant::now() + away, Due::StartAgent(host)));
        true
    }

    /// The one server of a cluster that is well.
    fn server(&self, spot: Spot) -> Result<i32, String> {
        let name = &self.clusters[spot.cluster].places[spot.nth].name;
        match servers(&self.places()).get(&spot).map(Vec::as_slice) {
            Some([pid]) => Ok(*pid),
            found => Err(format!("{name} answers, and its processes are {found:?}")),
        }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        let due: Vec<(Instant, Due)> = due;
        for (_, what) in due {
            match what {
                Due::Thaw(spot, pid) => {
                    self.story.tell(Event::Thawed(spot));
                    processes::signal(pid, Signal::SIGCONT);
                }
                Due::StartAgent(host) => {
                    self.story.tell(Event::AgentStarted(host));
                    self.world.agent(HOSTS[host]).start();
                }
                Due::StartCoordinator => {
                    self.story.tell(Event::CoordinatorStarted);
                    self.world.coordinator().start();
                }
            }
        }
    }

    /// Waits until nothing is due to a cluster and it is well.
    fn heal(&mut self, cluster: usize) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.do_what_is_due();
            let frozen = |(_, due): &(Instant, Due)| matches!(due, Due::Thaw(spot, _) if spot.cluster == cluster);
            let why = if self.due.iter().any(frozen) {
                "an instance is frozen".to_owned()
            } else {
                match self.clusters[cluster].well() {
                    Ok(keys) => {
                        self.story.tell(Event::Well(cluster, keys));
                        return Ok(());
                    }
                    Err(why) => why,
                }
            };
            if began.elapsed() > HEALED {
                let name = &self.clusters[cluster].name;
                let said = self.world.muster(&["status", name]);
                return Err(format!("cluster {name} is not well {HEALED:?} after a fault: {why}\n{said}"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Ends all that lasts, and waits until both clusters are well. What is not so, otherwise.
    pub fn come_to_rest(&mut self) -> Vec<String> {
        let last = self.due.iter().map(|(at, _)| *at).max();
        self.pass_time(last.map(|at| at.saturating_duration_since(Instant::now()) + LOOK).unwrap_or_default());
        (0..self.clusters.len()).filter_map(|cluster| self.heal(cluster).err()).collect()
    }

    /// What is not as it should be, once nobody writes any more.
    pub fn examine(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let found = servers(&self.places());
        for (number, cluster) in self.clusters.iter().enumerate() {
            let endpoints = cluster.endpoints();
            let judge = |what: &str, verdict: Result<String, String>| {
                verdict.err().map(|why| format!("{}: {what}: {why}", cluster.name))
            };
            wrong.extend(judge("redis-cli --cluster check", redis::check(&endpoints[0])));
            wrong.extend(judge("views", redis::agreement(&endpoints).map(|_| String::new())));
            wrong.extend(judge("replicas", redis::in_sync(&endpoints).map(|()| String::new())));
            let said = self.world.until(HEALED, &cluster.name, "Muster says that all is well", |status| {
                status.well().map(|()| status.clone())
            });
            for (nth, (place, said)) in cluster.places.iter().zip(&said.instances).enumerate() {
                let pids = found.get(&Spot { cluster: number, nth }).cloned().unwrap_or_default();
                if pids.len() != 1 || said.pid != pids.first().copied() {
                    wrong.push(format!("{} runs as {pids:?}, and its agent says {:?}", place.name, said.pid));
                }
            }
        }
        if redis::cli(self.foreign.endpoint(), &["get", "mine"]) != Ok("untouched".to_owned()) {
            wrong.push("the foreign redis-server has lost its key".into());
        }
        let mut strangers: Vec<(i32, &str)> =
            self.bystanders.iter().map(|one| (one.child.id() as i32, one.started.as_str())).collect();
        strangers.push((self.foreign.pid(), &self.foreign_started));
        let touched = strangers.into_iter().filter(|(pid, started)| start_ticks(*pid) != *started);
        wrong.extend(touched.map(|(pid, _)| format!("pid {pid}, which is nobody's business here, was touched")));
        wrong
    }

    /// Asks for every write that was acknowledged, and returns those that are not there.
    pub fn read_back(&self, acks: &[Ack]) -> Result<Vec<Ack>, String> {
        let mut lost = Vec::new();
        for cluster in &self.clusters {
            let mut asking = Vec::new();
            for place in &cluster.places {
                let mut talk = Talk::to(&place.endpoint, HEALED).map_err(|error| error.to_string())?;
                let info = talk.text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
                if info.contains("role:master") {
                    asking.push((place.shard, talk));
                }
            }
            for (shard, mut talk) in asking {
                let mine = |ack: &&Ack| ack.by.cluster == cluster.number && ack.shard == shard;
                let mine: Vec<&Ack> = acks.iter().filter(mine).collect();
                for batch in mine.chunks(BATCH) {
                    let gets: Vec<_> = batch.iter().map(|ack| ["GET".to_owned(), ack.key()]).collect();
                    let replies = talk.ask_all(&gets).map_err(|error| error.to_string())?;
                    for (ack, reply) in batch.iter().zip(replies) {
                        match reply {
                            Reply::Text(value) if value == ack.number.to_string() => {}
                            Reply::Nil => lost.push(**ack),
                            other => return Err(format!("{} is {other:?}", ack.key())),
                        }
                    }
                }
            }
        }
        Ok(lost)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for one in &mut self.bystanders {
            processes::signal(one.child.id() as i32, Signal::SIGKILL);
            processes::wait_owned(&mut one.child);
        }
    }
}

/// Field 22 of /proc/PID/stat: with the pid, it is one process for as long as the kernel runs. Empty when it is gone.
fn start_ticks(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, tail)| tail.split(' ').nth(19)).unwrap_or_default().to_owned()
}
