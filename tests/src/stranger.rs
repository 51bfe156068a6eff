//! What may be in Muster's way on a host: somebody else's listener, somebody else's redis-server.

use std::{
    net::{IpAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{eventually, processes, redis};

/// A listener that is none of Muster's business and never answers. It lives in the test's own process.
#[derive(Debug)]
pub struct Stranger(TcpListener);

impl Stranger {
    /// Takes a port.
    ///
    /// # Panics
    /// When it is taken already.
    pub fn listen(address: impl Into<IpAddr>, port: u16) -> Self {
        let address = address.into();
        Self(TcpListener::bind((address, port)).unwrap_or_else(|error| panic!("{address}:{port}: {error}")))
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }
}

/// A redis-server that no agent started. Dropping it kills it.
#[derive(Debug)]
pub struct ForeignRedis {
    child: Child,
    endpoint: String,
}

impl ForeignRedis {
    /// Starts one, with nothing but a port, in a directory that must exist, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(home: &Path, address: impl Into<IpAddr>, port: u16) -> Self {
        let address = address.into().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", &address, "--save", "", "--protected-mode", "no"]);
        command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let redis = Self { child: processes::spawn_owned(&mut command), endpoint: format!("{address}:{port}") };
        let what = format!("a foreign redis-server answers on {}", redis.endpoint);
        eventually(Duration::from_secs(10), &what, || redis::cli(&redis.endpoint, &["ping"]));
        redis
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for ForeignRedis {
    fn drop(&mut self) {
        processes::signal(self.pid(), Signal::SIGKILL);
        processes::wait_owned(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnet::Subnet;

    #[test]
    fn a_foreign_server_answers_and_goes_with_its_handle() {
        let (subnet, home) = (Subnet::lease(), tempfile::tempdir().unwrap());
        let redis = ForeignRedis::start(home.path(), subnet.address(1), 7000);
        assert_eq!(redis::cli(redis.endpoint(), &["set", "a", "1"]), Ok("OK".into()));
        assert!(redis::cli(redis.endpoint(), &["cluster", "info"]).is_err());
        let pid = redis.pid();
        drop(redis);
        assert!(!processes::alive(pid));
        drop(Stranger::listen(subnet.address(1), 7000));
    }
}
