//! Real listeners and a real redis-server that nobody of ours has started.

use std::{
    net::{IpAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;
use crate::samples::{alone, files, layout, stamp};

/// An address of this process alone, so that no other test's ports are in the way.
fn address() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 86, high, low.max(1)].into()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(address(), port)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quiet(program: &str, dir: &InstanceDir) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn who_listens_is_named() {
    let _alone = alone();
    let listening = TcpListener::bind(at(7100)).unwrap();
    assert_eq!(bind(at(7100)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let pid = Crowd::default().listener(at(7100)).unwrap();
    assert_eq!(u32::try_from(pid), Ok(std::process::id()));
    assert!(describe(pid).starts_with(&format!("pid {pid} (")), "{}", describe(pid));
    let elsewhere = SocketAddr::new([127, 87, 0, 1].into(), 7100);
    assert_eq!(Crowd::default().listener(elsewhere), None, "another address is another place");
    drop(listening);
    bind(at(7100)).unwrap();
}

#[test]
fn a_server_that_somebody_has_started_by_hand_is_found_and_a_shell_is_not() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = layout.instance(stamp().port);
    dir.establish(&stamp(), &files("", "")).unwrap();
    let _shell = Killed(quiet("sleep", &dir).arg("1000").spawn().unwrap());
    let ours = TcpListener::bind(at(7200)).unwrap();
    assert_eq!(Crowd::default().strangers(&dir, &[at(7200), at(17200)]), [""; 0], "a shell, and ports that we hold");
    drop(ours);

    let mut command = quiet("redis-server", &dir);
    command.args(["--port", "7200", "--bind", &address().to_string(), "--cluster-enabled", "yes", "--save", ""]);
    let server = Killed(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(at(17200)).is_err() {
        assert!(Instant::now() < deadline, "it does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    let found = Crowd::default().strangers(&dir, &[at(7200), at(17200), at(7201)]);
    let pid = server.0.id();
    let whose = |words: &String| words.starts_with(&format!("pid {pid} (redis-server"));
    assert!(found.len() == 3 && found.iter().all(whose), "{found:?}");
    assert!(found[0].ends_with(":7200") && found[1].ends_with(":17200"), "{found:?}");
    assert!(found[2].ends_with("without Muster"), "{found:?}");
}
