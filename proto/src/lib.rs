//! What agent, coordinator and CLI have in common: the wire protocol, the vocabulary as types, and the only
//! conversions between the two.
//!
//! There is no I/O here and no decision. A value of one of these types has been checked: a [`Port`] leaves room for its
//! bus port, a [`SlotRange`] is not empty, a [`NodeId`] is 20 bytes. Wire integers and strings die in [`convert`].
//!
//! Reading order: [`names`], [`ids`], [`ports`], [`slots`], [`server`], [`topology`], [`view`], [`secret`],
//! [`printable`], [`acl`], [`limits`], [`spec`], [`keeps`], [`assignment`], [`condition`], [`report`], [`convert`],
//! [`failure`]; then who believes whom: [`access`], [`token`], [`pki`], [`audit`].

pub mod access;
pub mod acl;
pub mod assignment;
pub mod audit;
pub mod condition;
pub mod convert;
pub mod failure;
pub mod ids;
pub mod keeps;
pub mod limits;
pub mod names;
pub mod pki;
pub mod ports;
pub mod printable;
pub mod report;
pub mod secret;
pub mod server;
pub mod slots;
pub mod spec;
pub mod token;
pub mod topology;
pub mod view;

pub use access::AccessRole;
pub use acl::{Auth, InstanceTls, Tls, Users};
pub use assignment::{ClusterAssignment, Former, HostAssignment, InstanceAssignment, Want};
pub use condition::{Account, Condition};
pub use ids::{ClusterId, Generation, Incarnation, Life, NodeId, OperationId, Sha256, Term};
pub use keeps::Keeps;
pub use limits::{Cpus, Limits, Memory};
pub use names::{ClusterName, HostName};
pub use ports::{BusOffset, Port, PortSet};
pub use printable::printable;
pub use report::{Ask, Held, Hello, InstanceState, InstanceStatus, NodeView, PortUse, Report, Server};
pub use secret::Secret;
pub use server::{Dialect, Flavour, ServerVersion};
pub use slots::{SLOTS, SlotRange};
pub use spec::{Setting, Spec, SpecHost};
pub use topology::{Member, Role, Topology};

/// The messages and services as generated from `proto/muster/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod wire {
    tonic::include_proto!("muster.v1");
}

/// The encoded descriptor set of every message and service, for reflection and for the compatibility test.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/muster.binpb"));

/// The version of the agents' protocol that this build speaks. The coordinator also takes the one before it.
pub const PROTOCOL: u32 = 2;

/// The first version of it in which agents set directories aside under permits, and put them back.
pub const PERMITS_SINCE: u32 = 2;

/// The version of Muster, as every binary prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
