//! The two files that a redis-server is started with, and the question whether it would take the operator's settings.
//!
//! Every `redis.conf` and every seeded `nodes.conf` in the project is rendered here, whole, from an assignment: the
//! same assignment gives the same bytes. Nothing here touches the disk, runs a server or asks one; that is for the
//! callers.
//!
//! Reading order: [`redis_conf`], [`nodes_conf`], then [`settings_probe`] with [`settings_verdict`],
//! [`acl_probe`] with [`acl_verdict`].

mod file;

mod access;

mod acl_probe;

mod redis;

mod nodes;

mod probe;

#[cfg(test)]
mod goldens;

pub use access::{AccessError, Adjustment, Live, access, probed_users, setuser};
pub use acl_probe::{acl_probe, acl_probe_file, acl_verdict};
pub use file::{ConfFile, FileKeeper};
pub use nodes::nodes_conf;
pub use probe::{settings_probe, settings_verdict};
pub use redis::{ConfInput, redis_conf};
