//! Takes connections in: handshakes side by side, each with a limit, and hands on those that have come through.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use muster_proto::pki;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::{
    Door, Peer, Proof,
    crowd::{Crowd, Place},
};
use crate::ledger::unix_ms;

/// A handshake may take so long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once.
const HANDSHAKES: usize = 512;
/// Connections at once that have come through and have not proved who they are.
const STRANGERS: usize = 256;
/// How long one of those may stay.
const STRANGE: Duration = Duration::from_secs(30);
/// After an accept that failed: out of descriptors, mostly. Some come back within that time.
const BREATH: Duration = Duration::from_millis(50);
/// Connections that wait for the server behind the door.
const QUEUE: usize = 64;

/// A connection that has come through.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: Arc<Peer>,
    door: Arc<Door>,
    kicked: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What can be read and written.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connections as tonic takes them.
pub type Incoming = ReceiverStream<io::Result<Connection>>;

/// Takes in whoever comes over TCP, until `shutdown`; without TLS where `plain`, which is for loopback alone.
pub fn tcp(door: &Arc<Door>, listener: TcpListener, plain: bool, shutdown: CancellationToken) -> Incoming {
    let (hand_on, incoming) = mpsc::channel(QUEUE);
    let (door, handshakes, strangers) = (door.clone(), Crowd::of(HANDSHAKES), Crowd::of(STRANGERS));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot take in a connection");
                    sleep(BREATH).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let (door, hand_on, from) = (door.clone(), hand_on.clone(), from.to_string());
            let kick = CancellationToken::new();
            if plain {
                let peer = door.enter(Proof::Loopback, from, kick);
                let _ = hand_on.send(Ok(Connection::new(Box::new(stream), peer, door))).await;
                continue;
            }
            let (place, strangers) = (handshakes.enter(kick.clone()), strangers.clone());
            tokio::spawn(async move {
                if let Some(connection) = handshake(door, stream, from, kick, place, strangers).await {
                    let _ = hand_on.send(Ok(connection)).await;
                }
            });
        }
    });
    ReceiverStream::new(incoming)
}

/// Takes in whoever comes over a unix socket.
pub fn unix(door: &Arc<Door>, listener: UnixListener, shutdown: CancellationToken) -> Incoming {
    let (hand_on, incoming) = mpsc::channel(QUEUE);
    let door = door.clone();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Of the moment when the other side connected (SO_PEERCRED, unix(7)).
                    let Ok(credentials) = stream.peer_cred() else { continue };
                    let proof = Proof::Unix { uid: credentials.uid() };
                    let peer = door.enter(proof, "unix socket".into(), CancellationToken::new());
                    let _ = hand_on.send(Ok(Connection::new(Box::new(stream), peer, door.clone()))).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take in a connection");
                    sleep(BREATH).await;
                }
            }
        }
    });
    ReceiverStream::new(incoming)
}

async fn handshake(
    door: Arc<Door>,
    stream: TcpStream,
    from: String,
    kick: CancellationToken,
    place: Place,
    strangers: Crowd,
) -> Option<Connection> {
    let acceptor = TlsAcceptor::from(door.config(unix_ms()));
    let done = tokio::select! {
        () = kick.cancelled() => return None,
        done = timeout(HANDSHAKE, acceptor.accept(stream)) => done,
    };
    let stream = match done {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%from, %error, "no handshake");
            return None;
        }
        Err(_) => return None,
    };
    drop(place);
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let proof = match shown.map(|certificate| pki::read_certificate(certificate)) {
        None => Proof::Nothing,
        Some(Ok(about)) => Proof::Certificate(about),
        // Signed by us, and nobody's: an authority of ours signs no such thing.
        Some(Err(error)) => {
            tracing::warn!(%from, %error, "shows a strange certificate");
            return None;
        }
    };
    let peer = door.enter(proof, from, kick);
    if !peer.is_vouched() {
        let place = strangers.enter(peer.kick.clone());
        tokio::spawn(watch_stranger(peer.clone(), place));
    }
    Some(Connection::new(Box::new(stream), peer, door))
}

/// Sends a stranger away who has not become somebody in time.
async fn watch_stranger(peer: Arc<Peer>, place: Place) {
    tokio::select! {
        () = peer.known.cancelled() => {}
        () = peer.kick.cancelled() => {}
        () = sleep(STRANGE) => peer.kick.cancel(),
    }
    drop(place);
}

impl Connection {
    fn new(stream: Box<dyn Stream>, peer: Arc<Peer>, door: Arc<Door>) -> Self {
        let kicked = Box::pin(peer.kick.clone().cancelled_owned());
        Self { stream, peer, door, kicked }
    }

    fn check(&mut self, context: &mut Context) -> io::Result<()> {
        match self.kicked.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "sent away")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.door.leave(&self.peer);
        // Whoever watches it need not wait any longer.
        self.peer.kick.cancel();
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;
    fn connect_info(&self) -> Arc<Peer> {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
