//! Preflight on one host: facts about ports, directories, the server and the kernel, and who can be reached from here.
//!
//! Nothing is judged here, and nothing is left behind but listeners that are held until they are released, so that the
//! other hosts can dial the very ports that the servers will listen on.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use muster_proto::{
    BusOffset, Port, ServerVersion, Setting,
    convert::millis,
    report::Server,
    wire::{self, KernelFacts, PortFact, SurveyResult, Unreached},
};
use socket2::Socket;
use tokio::{
    net::{TcpSocket, TcpStream},
    process::Command,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use crate::{
    config::Config,
    enscope,
    layout::{Directory, Layout},
    strangers::{self, Crowd},
};

mod asked;

/// Patience for `redis-server --version`, which takes some milliseconds. The loop waits for it, and must not be so
/// long in a pass that its host looks dead.
const VERSION: Duration = Duration::from_secs(2);

/// Ports that are being held. Dropping it closes them.
#[derive(Debug, Default)]
pub struct Held(Vec<Socket>);

/// The server binary of this host: the configured one, or the first of redis-server and valkey-server on the PATH.
pub async fn server(config: &Config) -> Result<Server, String> {
    let path = match &config.redis_server {
        Some(path) => path.clone(),
        None => on_path().ok_or(
            "no redis-server and no valkey-server on the PATH; install one (apt-get install redis-server), or set \
             redis_server in the agent's config",
        )?,
    };
    let shown = path.display();
    let output = Command::new(&path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(VERSION, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("cannot run {shown}: {}", plain(&error))),
        Err(_) => return Err(format!("{shown} --version did not answer within {VERSION:?}")),
    };
    let banner = String::from_utf8_lossy(&output.stdout);
    let version = ServerVersion::from_banner(&banner).map_err(|error| format!("{shown} --version: {error}"))?;
    Ok(Server { path: shown.to_string(), version })
}

fn on_path() -> Option<PathBuf> {
    let dirs: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let named = |name: &'static str| dirs.iter().map(move |dir| dir.join(name));
    named("redis-server").chain(named("valkey-server")).find(|path| path.is_file())
}

/// Everything a bootstrap here would lean on, and the ports held.
pub async fn survey(config: &Config, layout: &Layout, task: &wire::Survey) -> Result<(SurveyResult, Held), String> {
    let known = BusOffset::CHOICE.into_iter().find(|offset| u32::from(offset.get()) == task.bus_offset);
    let offset = known.ok_or_else(|| format!("the bus offset {} is not known to this agent", task.bus_offset))?;
    let ports = task.ports.iter().map(|port| Port::try_from(*port)).collect::<Result<Vec<_>, _>>();
    let ports = ports.map_err(|error| error.to_string())?;
    if let Some(port) = ports.iter().find(|port| !offset.fits(**port)) {
        return Err(format!("port {port} leaves no room for a bus port {} higher", task.bus_offset));
    }
    let server = server(config).await;
    let settings: Vec<Setting> = task.settings.iter().cloned().map(Setting::from).collect();
    let settings_error = match &server {
        Ok(server) => asked::try_settings(&server.path, &settings).await.err().unwrap_or_default(),
        Err(_) => String::new(),
    };
    let (auth_error, tls_error) = match &server {
        Ok(server) => asked::access_errors(server, layout, task).await,
        Err(_) => (String::new(), String::new()),
    };
    let (address, place) = (config.address, layout.clone());
    let looked = spawn_blocking(move || (port_facts(address, &place, &ports, offset), disk(place.base()))).await;
    let ((facts, held), (disk_free_bytes, disk_error)) = looked.map_err(|error| error.to_string())?;
    let result = SurveyResult {
        server: server.as_ref().ok().map(wire::Server::from),
        server_error: server.err().unwrap_or_default(),
        ports: facts,
        settings_error,
        unix_ms: unix_ms(),
        kernel: Some(kernel()),
        disk_free_bytes,
        disk_error,
        auth_error,
        tls_error,
    };
    Ok((result, held))
}

/// Of each port, and those that are free, held.
fn port_facts(address: IpAddr, layout: &Layout, ports: &[Port], offset: BusOffset) -> (Vec<PortFact>, Held) {
    let (crowd, mut held) = (Crowd::default(), Held::default());
    let facts = ports.iter().map(|port| port_fact(address, layout, *port, offset, &crowd, &mut held)).collect();
    (facts, held)
}

fn port_fact(
    address: IpAddr,
    layout: &Layout,
    port: Port,
    offset: BusOffset,
    crowd: &Crowd,
    held: &mut Held,
) -> PortFact {
    let mut hold = |number: u16| match listen(SocketAddr::new(address, number)) {
        Ok(socket) => {
            held.0.push(socket);
            (String::new(), String::new())
        }
        Err(error) => {
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            (
                plain(&error),
                if taken {
                    crowd.listener(SocketAddr::new(address, number)).map(strangers::describe).unwrap_or_default()
                } else {
                    String::new()
                },
            )
        }
    };
    let (client_error, client_holder) = hold(port.get());
    let (bus_error, bus_holder) = hold(port.bus(offset));
    let dir = layout.instance(port);
    let (directory, directory_note) = match dir.look() {
        Directory::Free => (wire::Directory::Free, String::new()),
        Directory::Stamped(stamp) => (wire::Directory::Stamped, stamp.cluster.to_string()),
        Directory::Foreign(what) => (wire::Directory::Foreign, what),
        Directory::Unreadable(why) => (wire::Directory::Unreadable, why),
    };
    PortFact {
        port: port.into(),
        client_error,
        bus_error,
        client_holder,
        bus_holder,
        directory: directory.into(),
        directory_note,
        path: dir.path().display().to_string(),
    }
}

/// Listens as the server will, and with a backlog that answers dials without anybody accepting them.
fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = strangers::bind(address)?;
    socket.listen(4096)?;
    Ok(socket)
}

/// The kernel's words without its number.
fn plain(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_ascii_lowercase()
}

/// Free bytes, and why nothing could be written; tried with a real file.
fn disk(base: &Path) -> (u64, String) {
    let free = nix::sys::statvfs::statvfs(base).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
    let probe = base.join(".staging").join("probe");
    let written = crate::durable::write_plain(&probe, &[0; 4096], 0o600);
    // On a full disk it is there and empty. Where it could not even be made there is none to remove.
    let removed = fs::remove_file(&probe);
    let written = written.and(removed);
    (
        free,
        written
            .err()
            .map(|error| format!("cannot write below {}: {}", base.display(), plain(&error)))
            .unwrap_or_default(),
    )
}

/// How this host is.
pub fn facts(layout: &Layout) -> wire::FactsResult {
    let (disk_free_bytes, disk_error) = disk(layout.base());
    wire::FactsResult { kernel: Some(kernel()), disk_free_bytes, disk_error, unix_ms: unix_ms() }
}

fn unix_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn kernel() -> KernelFacts {
    let word = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let number = |path: &str| word(path).parse().unwrap_or(0);
    let range = word("/proc/sys/net/ipv4/ip_local_port_range");
    let mut ends = range.split_whitespace().map(|end| end.parse().unwrap_or(0));
    let huge = word("/sys/kernel/mm/transparent_hugepage/enabled");
    let chosen = huge.split_whitespace().find_map(|choice| choice.strip_prefix('[')?.strip_suffix(']'));
    let memory = word("/proc/meminfo");
    let bytes = |name: &str| {
        let kib = |line: &str| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
        memory.lines().find_map(kib).unwrap_or(0) * 1024
    };
    KernelFacts {
        overcommit_memory: number("/proc/sys/vm/overcommit_memory"),
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        transparent_hugepage: chosen.unwrap_or_default().to_owned(),
        ephemeral_first: ends.next().unwrap_or(0),
        ephemeral_last: ends.next().unwrap_or(0),
        reserved_ports: word("/proc/sys/net/ipv4/ip_local_reserved_ports"),
        memory_bytes: bytes("MemTotal:"),
        memory_available_bytes: bytes("MemAvailable:"),
        swappiness: number("/proc/sys/vm/swappiness"),
        scopes: enscope::manager().gives_scopes(),
        open_files: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .map_or(0, |(_, hard)| hard),
    }
}

/// Dials every target at once, from the address that this host's instances will announce.
pub async fn reach(from: IpAddr, task: &wire::Reach) -> wire::ReachResult {
    let patience = Duration::from_millis(task.timeout_ms.clamp(100, 10_000).into());
    let mut dials = JoinSet::new();
    for target in task.targets.clone() {
        dials.spawn(async move {
            dial(from, &target, patience).await.err().map(|error| Unreached { target: Some(target), error })
        });
    }
    let total = dials.len();
    let mut unreached: Vec<Unreached> = dials.join_all().await.into_iter().flatten().collect();
    unreached.sort_by_key(|one| one.target.as_ref().map(|target| (target.host.clone(), target.port)));
    let reached = u32::try_from(total - unreached.len()).unwrap_or(u32::MAX);
    wire::ReachResult { unreached, reached }
}

async fn dial(from: IpAddr, target: &wire::Target, patience: Duration) -> Result<(), String> {
    let address: IpAddr = target.address.parse().map_err(|_| format!("{:?} is not an IP address", target.address))?;
    let port = u16::try_from(target.port).map_err(|_| format!("{} is not a port", target.port))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| plain(&error))?;
    socket.bind(SocketAddr::new(from, 0)).map_err(|error| format!("cannot dial from {from}: {}", plain(&error)))?;
    match timeout(patience, socket.connect(SocketAddr::new(address, port))).await {
        Ok(Ok(stream)) => {
            reset(&stream);
            Ok(())
        }
        Ok(Err(error)) => Err(plain(&error)),
        Err(_) => Err(format!("timed out after {patience:?}")),
    }
}

/// Closes with a reset, so that no side is left with a connection in TIME_WAIT on a port that a server will want.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
