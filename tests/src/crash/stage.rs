//! A world for one case, with somebody in it who dies at a point, and somebody else who starts everything again.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use muster_proto::wire::{HostState, Operation, OperationState};
use tonic::{Code, Status};

use super::{Death, Fate, Killed, Who, oracle::Place};
use crate::{Admin, Daemon, World, binaries};

/// Between two looks whether somebody has come to his point.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two looks at what comes of it.
const LOOK: Duration = Duration::from_millis(25);
/// Most that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long after the last word of an operation its last acts are waited for.
const LAST: Duration = Duration::from_millis(100);
/// Most that one call may take.
const CALL: Duration = Duration::from_secs(12);

/// The hosts of every case, as the seed has them.
const HOSTS: [(&str, u16, u16); 2] = [("server1", 7000, 7002), ("server2", 7003, 7005)];

/// What is started as redis-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// `fake-redis`.
    Fake,
    /// The system's.
    Real,
}

/// Why a call was not answered with yes.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Of gRPC.
    pub code: Code,
    /// In words.
    pub why: String,
}

impl Refusal {
    /// The coordinator has said no. Otherwise it may not even have been heard, or has done it and its answer was lost.
    pub fn is_no(&self) -> bool {
        !matches!(
            self.code,
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded
        )
    }
}

impl From<Refusal> for String {
    fn from(Refusal { code, why }: Refusal) -> Self {
        format!("{code:?}: {why}")
    }
}

/// See the module.
pub struct Stage {
    /// The world.
    pub world: World,
    /// Its Admin service.
    pub admin: Admin,
    fate: Fate,
    fired: bool,
}

impl Stage {
    /// Starts everything; nothing counts before [`begin`](Self::begin).
    pub fn new(server: Server, fate: Fate) -> Self {
        let ports: Vec<String> = HOSTS.iter().map(|(_, first, last)| format!("{first}-{last}")).collect();
        let hosts: Vec<(&str, &str)> = HOSTS.iter().zip(&ports).map(|((name, ..), ports)| (*name, &**ports)).collect();
        let mut world = World::new(&hosts);
        for (host, ..) in HOSTS {
            if server == Server::Fake {
                let line = format!("redis_server = \"{}\"\n", binaries::path("fake-redis").display());
                let agent = world.agent(host);
                agent.configure(&(line + &agent.config()));
            }
        }
        let admin = Admin::of(&world);
        let mut stage = Self { world, admin, fate, fired: false };
        stage.arm();
        stage
    }

    /// From here on points count.
    pub fn begin(&self) {
        fs::write(self.file("when"), "").unwrap();
    }

    /// Starts all daemons, and waits until every host is live.
    pub fn start(&mut self) -> Result<(), String> {
        self.launch();
        self.until("every host is live", |stage| {
            let mut client = stage.admin.client();
            let answer =
                stage.call(async move { client.list_hosts(muster_proto::wire::ListHostsRequest::default()).await })?;
            let live = answer.into_inner().hosts.iter().filter(|host| host.state() == HostState::Live).count();
            if live == HOSTS.len() { Ok(()) } else { Err(format!("{live} hosts are live")) }
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.dir().join(format!("crash.{name}"))
    }

    /// Everybody gets the environment that his fate wants.
    fn arm(&mut self) {
        let path = |name: &str| self.file(name).display().to_string();
        let (when, told) = (path("when"), path("told"));
        let lists =
            [("coordinator", path("coordinator")), (HOSTS[0].0, path(HOSTS[0].0)), (HOSTS[1].0, path(HOSTS[1].0))];
        let fate = self.fate.clone();
        for (name, list) in &lists {
            let agent = Who::Agent((*name).to_owned());
            let who = if *name == "coordinator" { Who::Coordinator } else { agent };
            let mut environment = match &fate {
                Fate::Listing => vec![("MUSTER_CRASH_FILE", list.as_str())],
                Fate::Twice => vec![("MUSTER_CRASH_TWICE", "1")],
                Fate::Death(death) if death.who == who => {
                    vec![("MUSTER_CRASH_POINT", death.point.as_str()), ("MUSTER_CRASH_TOLD", &told)]
                }
                Fate::Death(_) => continue,
            };
            environment.push(("MUSTER_CRASH_WHEN", &when));
            if matches!(&fate, Fate::Death(Death { killed: Killed::Other, .. })) {
                environment.push(("MUSTER_CRASH_SPARE", "1"));
            }
            self.daemon(&who).set_environment(&environment);
        }
    }

    /// What was passed, and by whom. After a listing.
    pub fn passed(&self) -> Vec<(Who, String)> {
        let hosts = HOSTS.iter().map(|(name, ..)| (Who::Agent((*name).to_owned()), *name));
        let read = |(who, name): (Who, &str)| {
            let text = fs::read_to_string(self.file(name)).unwrap_or_default();
            text.lines().map(|line| (who.clone(), line.to_owned())).collect::<Vec<_>>()
        };
        [(Who::Coordinator, "coordinator")].into_iter().chain(hosts).flat_map(read).collect()
    }

    fn daemon(&mut self, who: &Who) -> &mut Daemon {
        match who {
            Who::Coordinator => self.world.coordinator(),
            Who::Agent(host) => self.world.agent(host),
        }
    }

    fn everybody() -> impl Iterator<Item = Who> {
        let agents = HOSTS.iter().map(|(name, ..)| Who::Agent((*name).to_owned()));
        [Who::Coordinator].into_iter().chain(agents)
    }

    fn launch(&mut self) {
        for who in Self::everybody() {
            let daemon = self.daemon(&who);
            if !daemon.is_running() {
                daemon.start();
            }
        }
    }

    /// Kills who is to be killed, when the point has been passed, and starts everything again without a fate.
    fn tend(&mut self) {
        let Fate::Death(death) = &self.fate else { return };
        let told = self.file("told");
        if self.fired || !told.exists() {
            return;
        }
        self.fired = true;
        let death = death.clone();
        let others: Vec<Who> = match (death.killed, &death.who) {
            (Killed::Itself, _) => Vec::new(),
            (Killed::Other, Who::Agent(_)) => vec![Who::Coordinator],
            (Killed::Other, Who::Coordinator) => vec![Who::Agent(HOSTS[0].0.to_owned())],
            (Killed::All, who) => Self::everybody().filter(|other| other != who).collect(),
        };
        for other in &others {
            if self.daemon(other).is_running() {
                self.daemon(other).kill();
            }
        }
        if death.killed == Killed::Other {
            fs::remove_file(&told).unwrap();
        } else {
            // A daemon that does not die is a bug of the points, and shows as one that runs already.
            self.daemon(&death.who).ends_by_itself(PATIENCE);
            self.daemon(&death.who).set_environment(&[]);
        }
        self.launch();
    }

    /// Waits a moment for somebody whose point comes with the last step, or after it.
    pub fn let_die(&mut self) {
        let began = Instant::now();
        while matches!(self.fate, Fate::Death(_)) && !self.fired && self.has_begun() && began.elapsed() < LAST {
            self.tend();
            thread::sleep(PAUSE);
        }
    }

    fn has_begun(&self) -> bool {
        self.file("when").exists()
    }

    /// Whether the point was passed.
    pub fn fired(&self) -> bool {
        self.fired
    }

    /// Makes a call, and tends the daemons while it lasts.
    pub fn call<T: Send + 'static>(
        &mut self,
        call: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let task = self.admin.begin(async move { tokio::time::timeout(CALL, call).await });
        while !task.is_finished() {
            self.tend();
            thread::sleep(PAUSE);
        }
        match self.admin.run(task) {
            Ok(Ok(answer)) => {
                answer.map_err(|status| Refusal { code: status.code(), why: status.message().to_owned() })
            }
            Ok(Err(_)) => Err(Refusal { code: Code::DeadlineExceeded, why: format!("no answer within {CALL:?}") }),
            Err(error) => Err(Refusal { code: Code::Unknown, why: error.to_string() }),
        }
    }

    /// Asks until the answer is good, and tends the daemons meanwhile.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let began = Instant::now();
        loop {
            self.tend();
            let reason = match look(self) {
                Ok(answer) => return Ok(answer),
                Err(reason) => reason,
            };
            if began.elapsed() > PATIENCE {
                return Err(format!("waited {PATIENCE:?} for this: {what}. Last: {reason}"));
            }
            let looked = Instant::now();
            while looked.elapsed() < LOOK {
                self.tend();
                thread::sleep(PAUSE);
            }
        }
    }

    /// Waits until an operation has ended.
    pub fn until_ended(&mut self, id: &str) -> Result<Operation, String> {
        self.until(&format!("operation {id} ends"), |stage| {
            let (mut client, id) = (stage.admin.client(), id.to_owned());
            let request = muster_proto::wire::GetOperationRequest { id };
            let answer = stage.call(async move { client.get_operation(request).await })?.into_inner().operation;
            match answer {
                Some(operation) if operation.ended_unix_ms > 0 => Ok(operation),
                Some(operation) if operation.state() == OperationState::NeedsOperator => {
                    Err(format!("needs an operator: {}: {}", operation.phase, operation.message))
                }
                Some(operation) => Err(format!("{}: {}", operation.phase, operation.message)),
                None => Err("there is no such operation".to_owned()),
            }
        })
    }

    /// The hosts as a judge sees them.
    pub fn places(&self) -> Vec<Place> {
        let place = |(name, first, last): &(&str, u16, u16)| Place {
            base: self.world.base_dir(name),
            address: self.world.address(name).to_string(),
            ports: (*first..=*last).collect(),
        };
        HOSTS.iter().map(place).collect()
    }

    /// The ends of all logs.
    pub fn story(&mut self) -> String {
        Self::everybody().map(|who| self.daemon(&who).log_end()).collect()
    }
}
