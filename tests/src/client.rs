//! A client that never looks away: one connection to each server, a PING on each every few milliseconds, and the
//! longest time that one of them took.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two PINGs on one connection.
const PACE: Duration = Duration::from_millis(5);
/// A server that says nothing for so long is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the client has found on one server.
#[derive(Debug, Clone)]
pub struct Service {
    /// Where.
    pub endpoint: String,
    /// How often it answered.
    pub answers: u64,
    /// The longest time between a PING and its answer.
    pub longest: Duration,
}

/// The client. It goes on until it is asked what it has found.
#[derive(Debug)]
pub struct Client {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Service, String>>>,
}

impl Client {
    /// Connects to all of these.
    ///
    /// # Panics
    /// When one of them cannot be reached.
    pub fn of(endpoints: &[String]) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let one = |endpoint: &String| {
            let (endpoint, enough) = (endpoint.clone(), enough.clone());
            let stream = TcpStream::connect(&endpoint).unwrap_or_else(|error| panic!("{endpoint}: {error}"));
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || {
                let failed = |error| format!("{endpoint}: {error}");
                ping(stream, &enough)
                    .map(|(answers, longest)| Service { endpoint: endpoint.clone(), answers, longest })
                    .map_err(failed)
            })
        };
        let threads = endpoints.iter().map(one).collect();
        Self { enough, threads }
    }

    /// What every server has done until now; the first connection that broke, otherwise.
    pub fn end(self) -> Result<Vec<Service>, String> {
        self.enough.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a client thread does not panic")).collect()
    }
}

fn ping(mut stream: TcpStream, enough: &AtomicBool) -> io::Result<(u64, Duration)> {
    let (mut answers, mut longest) = (0, Duration::ZERO);
    let mut answer = [0; 7];
    while !enough.load(Ordering::Relaxed) || answers == 0 {
        let asked = Instant::now();
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut answer)?;
        if answer != *b"+PONG\r\n" {
            return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        answers += 1;
        longest = longest.max(asked.elapsed());
        thread::sleep(PACE);
    }
    Ok((answers, longest))
}
