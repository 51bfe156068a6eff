//! A server that says what Redis says, as far as Muster asks, and is ready in milliseconds: `cluster_state:ok` as soon
//! as its peers answer, where Redis waits two seconds.
//!
//! It is a process of its own, with a port, a bus port and a unix socket, with `nodes.conf` and an append-only file in
//! its directory, and it holds whatever lock it was started with: enough for tests of what Muster does to processes and
//! directories. It elects nobody, expires nothing and saves nothing but that file. `tests/tests/fake.rs` holds it to
//! the real server.
//!
//! Reading order: [`conf`], [`nodes`], [`server`], [`bus`], [`commands`], [`resp`], [`judge`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a server's banner and its last words")]

mod bus;
mod commands;
mod conf;
mod judge;
mod nodes;
mod resp;
mod server;

use std::{env, process::ExitCode, sync::Arc, thread};

use nix::sys::signal::{SigSet, Signal};

use crate::{conf::Conf, server::Server};

/// What it says it is.
pub const VERSION: &str = "7.0.15";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--version" | "-v") => {
            println!("Redis server v={VERSION} sha=00000000:0 malloc=fake bits=64 build=0");
            ExitCode::SUCCESS
        }
        Some("-") => judge::judge(),
        Some(path) => match serve(path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("fake-redis: {why}");
                ExitCode::FAILURE
            }
        },
        None => {
            eprintln!("usage: fake-redis CONF | - | --version");
            ExitCode::from(64)
        }
    }
}

fn serve(path: &str) -> Result<(), String> {
    // Before there are threads, so that no other one is woken by it.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block().map_err(|error| error.to_string())?;
    let conf = Conf::read(path)?;
    env::set_current_dir(&conf.dir).map_err(|error| format!("{}: {error}", conf.dir))?;
    let server = Arc::new(Server::open(conf)?);
    let listeners = server.listen()?;
    bus::start(&server, listeners.bus)?;
    let (tcp, unix) = (server.clone(), server.clone());
    thread::spawn(move || listeners.tcp.incoming().flatten().for_each(|stream| commands::converse(&tcp, stream)));
    if let Some(listener) = listeners.unix {
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| commands::converse(&unix, stream)));
    }
    server.log("Ready to accept connections");
    let _ = stop.wait();
    server.leave();
    Ok(())
}
