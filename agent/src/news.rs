//! That something has become of a file in a directory, as an event: who waits for it need not look again and again.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
};

pub use nix::sys::inotify::AddWatchFlags;
use nix::sys::inotify::{InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

/// Tells when something becomes of a file, by whoever's hand.
#[derive(Debug)]
pub struct News {
    listening: AsyncFd<Listening>,
    name: OsString,
}

#[derive(Debug)]
struct Listening(Inotify);

impl AsRawFd for Listening {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl News {
    /// Listens from now on for these things (inotify(7)).
    #[allow(unsafe_code)]
    pub fn of(dir: &Path, name: &str, things: AddWatchFlags) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(dir, things)?;
        // SAFETY: the descriptor is owned: open until it is dropped, and always the same.
        let listening = unsafe { AsyncFd::register_with_interest(Listening(inotify), Interest::READABLE)? };
        Ok(Self { listening, name: name.into() })
    }

    /// Ends when something has become of it since the last time; never when it can no longer be told.
    pub async fn next(&self) {
        while let Ok(mut ready) = self.listening.readable().await {
            match ready.try_io(|listening| Ok(listening.get_ref().0.read_events()?)) {
                Ok(Ok(events)) if events.iter().any(|event| event.name.as_ref() == Some(&self.name)) => return,
                Ok(Err(_)) => break,
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        std::future::pending().await
    }
}
