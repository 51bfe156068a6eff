//! Facts of this very machine: ports that we hold ourselves, and whom we reach.
#![allow(clippy::await_holding_lock, reason = "one test a runtime: nobody else waits for the lock there")]

use muster_proto::wire::{Reach, Survey, Target};

use super::*;
use crate::samples::{self, alone, layout};

/// An address of this process alone, so that no other test's ports are in the way.
fn address() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 83, high, low.max(1)].into()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(address(), port)
}

#[test]
fn a_port_that_is_taken_is_not_to_be_had_twice() {
    let _alone = alone();
    let socket = listen(at(7100)).unwrap();
    assert_eq!(listen(at(7100)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(socket);
    listen(at(7100)).unwrap();
}

#[test]
fn an_address_of_another_machine_is_not_to_be_had() {
    let error = listen(SocketAddr::new([192, 0, 2, 1].into(), 7000)).unwrap_err();
    assert_eq!(plain(&error), "cannot assign requested address");
}

#[tokio::test(flavor = "current_thread")]
async fn who_is_reached_and_who_is_not_is_said() {
    let _alone = alone();
    let _held = listen(at(7200)).unwrap();
    let target = |port, address: String| Target { host: "b".into(), address, port, bus: false };
    let targets = vec![
        target(7200, address().to_string()),
        target(7201, address().to_string()),
        target(7202, "db1".into()),
        target(70_000, address().to_string()),
    ];
    let result = reach(address(), &Reach { targets, timeout_ms: 1000 }).await;
    assert_eq!(result.reached, 1);
    let said: Vec<_> = result.unreached.into_iter().map(|one| one.error).collect();
    assert_eq!(said, ["connection refused", "\"db1\" is not an IP address", "70000 is not a port"]);
}

fn task(ports: &[u32]) -> Survey {
    Survey { ports: ports.to_vec(), bus_offset: 10_000, hold_ms: 1000, ..Survey::default() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_survey_says_what_is_there_and_holds_the_ports_that_are_free() {
    let _alone = alone();
    let (base, layout) = layout();
    let config = Config { address: address(), redis_server: Some("/bin/true".into()), ..samples::config(base.path()) };
    let taken = listen(at(17301)).unwrap();
    fs::write(layout.instance(Port::try_from(7301).unwrap()).path(), "").unwrap();
    let (found, held) = survey(&config, &layout, &task(&[7300, 7301])).await.unwrap();
    let error = &found.server_error;
    assert!(
        error.starts_with("/bin/true --version: ") && error.ends_with("does not say which server it is"),
        "{error}"
    );
    let facts: Vec<_> =
        found.ports.iter().map(|fact| [&fact.client_error, &fact.bus_error, &fact.directory_note]).collect();
    assert_eq!(facts, [["", "", ""], ["", "address already in use", "a file"]]);
    assert!(found.ports[1].bus_holder.contains(&std::process::id().to_string()), "{:?}", found.ports[1]);
    assert_eq!(found.disk_error, "");
    assert!(found.disk_free_bytes > 0 && fs::read_dir(base.path().join(".staging")).unwrap().next().is_none());
    listen(at(7300)).unwrap_err();
    drop((held, taken));
    [7300, 17300, 7301, 17301].iter().for_each(|port| drop(listen(at(*port)).unwrap()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_survey_that_is_not_understood_is_refused() {
    let (base, layout) = layout();
    let config = samples::config(base.path());
    let refused = async |task| survey(&config, &layout, &task).await.err().unwrap();
    assert_eq!(refused(Survey { bus_offset: 1, ..task(&[]) }).await, "the bus offset 1 is not known to this agent");
    assert!(refused(task(&[0])).await.starts_with("port 0 leaves no room"));
}

#[test]
fn a_disk_that_cannot_be_written_says_so() {
    let (base, _layout) = layout();
    fs::remove_dir_all(base.path().join(".staging")).unwrap();
    let said = format!("cannot write below {}: no such file or directory", base.path().display());
    assert_eq!(disk(base.path()).1, said);
}
