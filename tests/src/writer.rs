//! A client of a cluster that never stops writing, on a machine of a network: what an application is while secrets are
//! exchanged under it. It counts what was acknowledged and keeps every error.

use std::{
    fs::File,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use redis::{
    TlsCertificates,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};

use crate::fleet::Credentials;

/// Between two writes.
const PACE: Duration = Duration::from_millis(5);
/// A write that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it has done.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Writes that were acknowledged.
    pub written: u64,
    /// Everything that went wrong.
    pub errors: Vec<String>,
}

/// The client.
#[derive(Debug)]
pub struct Writer {
    enough: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    logins: mpsc::Sender<Credentials>,
    thread: JoinHandle<Tally>,
}

impl Writer {
    /// Begins to write, in the network namespace of that name, as these credentials say.
    pub fn begin(namespace: &str, seeds: Vec<SocketAddr>, with: Credentials) -> Self {
        let (enough, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (logins, other) = mpsc::channel();
        let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
        let (stop, count) = (enough.clone(), written.clone());
        let thread = thread::spawn(move || {
            // Of this thread alone: its sockets are made there.
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(write(&seeds, with, &other, &stop, &count))
        });
        Self { enough, written, logins, thread }
    }

    /// From now on it logs in anew with these, as an application that was given new ones.
    pub fn log_in(&self, with: Credentials) {
        self.logins.send(with).unwrap();
    }

    /// Writes that were acknowledged until now.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for so many more writes.
    #[track_caller]
    pub fn until_more(&self, writes: u64) {
        let goal = self.written() + writes;
        crate::eventually(Duration::from_secs(20), &format!("{goal} writes"), || {
            if self.written() >= goal { Ok(()) } else { Err(format!("{} are done", self.written())) }
        });
    }

    /// Ends it.
    pub fn end(self) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic")
    }
}

async fn write(
    seeds: &[SocketAddr],
    with: Credentials,
    logins: &mpsc::Receiver<Credentials>,
    enough: &AtomicBool,
    count: &AtomicU64,
) -> Tally {
    let mut tally = Tally { written: 0, errors: Vec::new() };
    let mut connection = connect(seeds, &with).await.unwrap();
    let mut nth = 0_u64;
    while !enough.load(Ordering::Relaxed) {
        if let Ok(with) = logins.try_recv() {
            match connect(seeds, &with).await {
                Ok(fresh) => connection = fresh,
                Err(error) => tally.errors.push(format!("logging in anew: {error}")),
            }
        }
        nth += 1;
        let key = format!("writer:{}", nth % 1000);
        match redis::cmd("SET").arg(&key).arg(nth).query_async::<()>(&mut connection).await {
            Ok(()) => tally.written = count.fetch_add(1, Ordering::Relaxed) + 1,
            Err(error) => tally.errors.push(format!("write {nth}: {error}")),
        }
        tokio::time::sleep(PACE).await;
    }
    tally
}

async fn connect(seeds: &[SocketAddr], with: &Credentials) -> redis::RedisResult<ClusterConnection> {
    client(seeds, with)?.get_async_connection().await
}

fn client(seeds: &[SocketAddr], with: &Credentials) -> redis::RedisResult<ClusterClient> {
    let scheme = if with.ca.is_empty() { "redis" } else { "rediss" };
    let builder = ClusterClientBuilder::new(seeds.iter().map(|seed| format!("{scheme}://{seed}")))
        .username(with.user.clone())
        .password(with.password.clone())
        // An error is not to be smoothed over.
        .retries(0)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE);
    if with.ca.is_empty() {
        return builder.build();
    }
    let root_cert = Some(with.ca.clone().into_bytes());
    builder.certs(TlsCertificates { client_tls: None, root_cert }).build()
}
