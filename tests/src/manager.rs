//! Stands for systemd towards a daemon: hears what it says through sd_notify. systemd always listens, and so does this:
//! a queue that nobody empties would be full at some time.

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// Most that a word may take.
const SOON: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct Manager {
    heard: Receiver<String>,
    words: [String; 3],
}

impl Manager {
    /// Listens on a socket in a directory that must exist.
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (tell, heard) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                if tell.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        let words =
            ["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display()), "WATCHDOG_USEC=30000000".to_owned()];
        Self { heard, words }
    }

    /// What a daemon is started by.
    pub fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// The next message with that line.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn hears(&self, line: &str) -> String {
        self.hears_of(line, |message| message.lines().any(|said| said == line))
    }

    /// The next message that is like that.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn hears_of(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        while began.elapsed() < SOON {
            let Ok(message) = self.heard.recv_timeout(SOON) else { break };
            if is(&message) {
                return message;
            }
        }
        panic!("no {what} within {SOON:?}");
    }
}
