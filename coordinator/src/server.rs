//! Opens the store and the sockets, and runs until told to stop.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use muster_proto::{
    DESCRIPTORS, VERSION,
    wire::{
        admin_server::AdminServer, agent_link_server::AgentLinkServer, enrolment_server::EnrolmentServer,
        trust_server::TrustServer,
    },
};
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    admin::Admin,
    config::Config,
    door::accept,
    enrolment::Enrolment,
    gate::Gate,
    guardian::Guardian,
    keeper::{Keeper, Shared},
    ledger::Ledger,
    link::Link,
    seal::Seal,
};

/// Streams that do not end by themselves are cut after this.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the coordinator until `shutdown` is cancelled.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let _lock = lock(&config)?.with_context(|| {
        format!("another muster-coordinator uses {}; one store has one coordinator", config.state_dir.display())
    })?;
    let ledger = open(&config)?;
    let tcp = TcpListener::bind(config.listen).await.map_err(|error| cannot_listen(config.listen, error))?;
    let unix = listen_unix(&config.admin_socket)
        .with_context(|| format!("cannot listen on the admin socket {}", config.admin_socket.display()))?;
    tracing::info!(version = VERSION, term = %ledger.term(), "{config}");
    let shared = Shared::new(config.clone(), ledger, shutdown.clone()).context("cannot read the store")?;
    let keeper = tokio::spawn(Keeper::new(shared.clone()).run());
    let (health, healthy) = tonic_health::server::health_reporter();
    health.set_serving::<AgentLinkServer<Link>>().await;
    health.set_serving::<AdminServer<Admin>>().await;
    health.set_serving::<EnrolmentServer<Enrolment>>().await;
    health.set_serving::<TrustServer<Guardian>>().await;
    // The same services at both doors; the gate decides who may call which.
    let services = || -> anyhow::Result<_> {
        let router = builder()
            .layer(Gate::new(shared.clone()))
            .add_service(healthy.clone())
            .add_service(reflection()?)
            .add_service(EnrolmentServer::new(Enrolment::new(shared.clone())).max_decoding_message_size(STRANGE_MAX))
            .add_service(AgentLinkServer::new(Link::new(shared.clone())).max_decoding_message_size(MESSAGE_MAX))
            .add_service(AdminServer::new(Admin::new(shared.clone())))
            .add_service(TrustServer::new(Guardian::new(shared.clone())));
        Ok(router)
    };
    let outside = accept::tcp(&shared.door, tcp, !config.tls, shutdown.clone());
    let inside = accept::unix(&shared.door, unix, shutdown.clone());
    let agents = services()?.serve_with_incoming_shutdown(outside, shutdown.clone().cancelled_owned());
    let operators = services()?.serve_with_incoming_shutdown(inside, shutdown.clone().cancelled_owned());
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let farewell = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    let served = tokio::select! {
        served = async { tokio::try_join!(agents, operators) } => served.map(|_| ()),
        () = farewell => Ok(()),
    };
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    shutdown.cancel();
    let _ = fs::remove_file(&config.admin_socket);
    keeper.await.context("the loop has failed")?;
    served.context("a listener has failed")
}

/// Takes the state directory into use. The inner error says that somebody else has it.
pub(crate) fn lock(config: &Config) -> anyhow::Result<io::Result<File>> {
    fs::create_dir_all(&config.state_dir).with_context(|| format!("cannot make {}", config.state_dir.display()))?;
    fs::set_permissions(&config.state_dir, Permissions::from_mode(0o700))
        .context("cannot close the state directory to others")?;
    Ok(sole_coordinator(&config.state_dir.join("lock")))
}

/// Opens or makes the store. The lock is held.
pub(crate) fn open(config: &Config) -> anyhow::Result<Ledger> {
    let store = config.state_dir.join("store.db");
    let not_opened = || format!("cannot open the store {}", store.display());
    let sealed = Ledger::is_sealed(&store).with_context(not_opened)?;
    let seal = Seal::open(&config.key_file, sealed).context("cannot keep the store's secrets")?;
    crash::point("coordinator.key.kept");
    Ledger::open(&store, seal).with_context(not_opened)
}

/// A report of a host with hundreds of instances that all disagree with their blueprint is some megabytes.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;
/// What somebody may send who need not be anybody: a request for a certificate has less than a kilobyte.
pub(crate) const STRANGE_MAX: usize = 64 << 10;
/// Calls at once over one connection; an operator's tools make a few.
const STREAMS_MAX: u32 = 64;
/// Of a call's headers, in bytes.
const HEADERS_MAX: u32 = 16 << 10;

/// Keepalive finds a frozen agent in 15 s.
pub(crate) fn builder() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_max_pending_accept_reset_streams(Some(32))
}

fn reflection() -> anyhow::Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the descriptors are damaged")
}

pub(crate) fn cannot_listen(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another coordinator may run (ss -ltnp 'sport = :{}')", address.port())
        }
        io::ErrorKind::AddrNotAvailable => format!(": {} is no address of this machine (ip -br address)", address.ip()),
        io::ErrorKind::PermissionDenied => ": ports below 1024 are for root".to_owned(),
        _ => String::new(),
    };
    anyhow::Error::new(error).context(format!("cannot listen on {address}{cure}"))
}

/// The socket is its owner's: nobody else may connect, and the gate asks the kernel who did. One that a crash has
/// left is taken away; the lock says that no coordinator of ours listens on it.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound closed, so that there is no moment in which others may connect.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    listener
}

fn sole_coordinator(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}
