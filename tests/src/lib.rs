//! The harness: real daemons, real redis-servers, real faults, on addresses and in directories that no other test has.
//!
//! A test makes a [`World`], tells it what to do and looks at what came of it; when the world goes out of scope, all
//! that ran in it is gone, or the test fails. There are no mocks here and no knowledge of how Muster works inside: what
//! the harness knows is the interface that operators' scripts rely on too.
//!
//! ```no_run
//! use muster_tests::{World, redis};
//!
//! let mut world = World::seed();
//! let status = world.bootstrap("orders");
//! redis::agreement(&status.endpoints()).unwrap();
//! world.agent("server1").kill();
//! world.until_host("server1", "unknown");
//! ```
//!
//! Waits are on levels ([`eventually`]): a deadline, and the last reason when it passes. Nothing sleeps.
//!
//! Reading order: [`world`], [`daemon`], [`status`], [`redis`], [`stranger`], [`wait`], [`processes`], [`subnet`],
//! [`binaries`], [`cli`], [`admin`], [`client`], [`manager`]; for refusals [`tree`], [`mount`], [`network`], [`api`];
//! for the kernel [`space`], [`memory`], [`soak`]; for trust [`fleet`], [`writer`]; for whole servers [`machine`],
//! [`cgroups`], [`site`]; for lives of a cluster [`lives`], [`data`].
//! [`cgroups`], [`site`]; for crashes at named points [`crash`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness that meets what it does not expect ends the test, loudly"
)]

pub mod admin;
pub mod api;
pub mod binaries;
pub mod cgroups;
pub mod cli;
pub mod client;
pub mod crash;
pub mod daemon;
pub mod data;
pub mod fleet;
pub mod lives;
pub mod machine;
pub mod manager;
pub mod memory;
pub mod mount;
pub mod network;
pub mod processes;
pub mod redis;
pub mod sim;
pub mod site;
pub mod soak;
pub mod space;
pub mod status;
pub mod stranger;
pub mod subnet;
pub mod tree;
pub mod wait;
pub mod world;
pub mod writer;

pub use admin::Admin;
pub use api::Api;
pub use cli::Output;
pub use client::Client;
pub use daemon::Daemon;
pub use data::Data;
pub use fleet::{Credentials, Fleet};
pub use machine::Machine;
pub use manager::Manager;
pub use memory::MemoryLimit;
pub use mount::{ReadOnly, SmallDisk};
pub use network::Network;
pub use site::Site;
pub use space::PidSpace;
pub use status::{Instance, Status};
pub use stranger::{ForeignRedis, Stranger};
pub use tree::Before;
pub use wait::eventually;
pub use world::World;
pub use writer::{Tally, Writer};
