//! Why a spec cannot be placed: the numbers, and what would change it. Decides nothing.

use std::net::IpAddr;

use muster_proto::{
    HostName, Port, PortSet,
    failure::{Failure, Reason},
    spec::{MASTERS_MAX, MASTERS_MIN},
};

use super::{
    Remedies,
    text::{count, list},
};

/// What a host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The host.
    pub host: HostName,
    /// Its ports.
    pub ports: PortSet,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has that name.
    #[error("no agent calls itself {host}; known are: {}", known_text(.known))]
    UnknownHost {
        /// Of the spec.
        host: HostName,
        /// Those that are known.
        known: Vec<HostName>,
    },
    /// Two instances would listen at one place.
    #[error("{first} and {second} both have address {address}, and {}", clash_text(.first, *.port, .second, *.other))]
    SameEndpoint {
        /// A host.
        first: HostName,
        /// Another.
        second: HostName,
        /// The address of both.
        address: IpAddr,
        /// A client port of the first.
        port: Port,
        /// The client port of the second that it collides with: the same, or the one whose bus port it is.
        other: Port,
    },
    /// Not enough for what is asked.
    #[error("{}", few_text(*.masters, *.asked, *.replicas, .offers))]
    FewInstances {
        /// How many masters there would have to be.
        masters: usize,
        /// The spec says so; otherwise it is the fewest that can elect.
        asked: bool,
        /// Beside each.
        replicas: usize,
        /// What there is.
        offers: Vec<Offer>,
        /// What would be enough.
        remedies: Remedies,
    },
    /// More than Redis Cluster is made for.
    #[error(
        "{} with {} each make {masters} masters; Muster forms at most {MASTERS_MAX}",
        count(*.instances, "instance"), count(*.replicas, "replica")
    )]
    ManyMasters {
        /// How many it would be.
        masters: usize,
        /// Beside each.
        replicas: usize,
        /// What there is.
        instances: usize,
    },
    /// A shard would need two copies on one host.
    #[error("{}", shared_text(*.masters, *.replicas, .offers))]
    SharedHost {
        /// Shards.
        masters: usize,
        /// Beside each master.
        replicas: usize,
        /// What there is.
        offers: Vec<Offer>,
        /// What would do without.
        remedies: Remedies,
    },
}

impl Refusal {
    /// What to change.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownHost { host, .. } => {
                format!("start muster-agent with `name = \"{host}\"` there, or name one that `muster hosts` lists")
            }
            Self::SameEndpoint { first, second, .. } => {
                format!("give {first} and {second} different addresses in their agent.toml, or other ports in the spec")
            }
            Self::FewInstances { masters, replicas, offers, remedies, .. } => {
                let missing = masters * (replicas + 1) - instances(offers);
                let least =
                    || format!("offer {} more, on {} or more", count(missing, "port"), count(replicas + 1, "host"));
                or(remedies_text(remedies)).unwrap_or_else(least)
            }
            Self::ManyMasters { .. } => format!("set `masters = {MASTERS_MAX}` or fewer, or raise `replicas`"),
            Self::SharedHost { remedies, .. } => {
                let allow =
                    "set `allow_shared_host = true`, which accepts two copies of a shard on one host".to_owned();
                or([remedies_text(remedies), vec![allow]].concat()).unwrap_or_default()
            }
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::UnknownHost { .. } => Reason::UnknownHost,
            _ => Reason::SpecRefused,
        };
        Failure::new(reason, refusal.to_string()).hint(refusal.hint())
    }
}

/// What works best first: a number in the spec, then another host, then fewer copies.
fn remedies_text(remedies: &Remedies) -> Vec<String> {
    let masters = remedies.masters.map(|masters| format!("set `masters = {masters}`"));
    let host = remedies.another_host.map(|ports| format!("add a host with {} to the spec", count(ports, "port")));
    let replicas = remedies.replicas.map(|replicas| format!("set `replicas = {replicas}`"));
    [masters, host, replicas].into_iter().flatten().collect()
}

fn or(ways: Vec<String>) -> Option<String> {
    Some(ways.join("; or ")).filter(|text| !text.is_empty())
}

fn instances(offers: &[Offer]) -> usize {
    offers.iter().map(|offer| offer.ports.len()).sum()
}

/// Those that can be used when no host has two copies of a shard.
fn usable(offers: &[Offer], masters: usize) -> usize {
    offers.iter().map(|offer| offer.ports.len().min(masters)).sum()
}

fn known_text(known: &[HostName]) -> String {
    if known.is_empty() { "none yet".to_owned() } else { list(known) }
}

fn clash_text(first: &HostName, port: Port, second: &HostName, other: Port) -> String {
    if port == other {
        format!("both offer port {port}")
    } else {
        format!("port {port} of {first} is the bus port of {second}'s port {other}")
    }
}

fn offers_text(offers: &[Offer]) -> String {
    list(offers.iter().map(|offer| format!("{} {} ({})", offer.host, offer.ports.len(), offer.ports)))
}

fn few_text(masters: usize, asked: bool, replicas: usize, offers: &[Offer]) -> String {
    let least = if asked || masters > MASTERS_MIN as usize { "" } else { ", the fewest that can elect," };
    let each =
        if replicas == 0 { "without replicas".to_owned() } else { format!("with {}", count(replicas, "replica")) };
    format!(
        "{masters} masters{least} {each} need {} instances; the spec offers {}: {}",
        masters * (replicas + 1),
        instances(offers),
        offers_text(offers)
    )
}

fn shared_text(masters: usize, replicas: usize, offers: &[Offer]) -> String {
    let copies = replicas + 1;
    if offers.len() < copies {
        return format!(
            "{copies} copies of a shard need {copies} hosts; the spec has {}: {}",
            offers.len(),
            offers_text(offers)
        );
    }
    let big = list(
        offers
            .iter()
            .filter(|offer| offer.ports.len() > masters)
            .map(|offer| format!("{} offers {}", offer.host, offer.ports.len())),
    );
    format!(
        "{masters} shards of {copies} copies would need two copies of a shard on one host: {big}, and a host can take \
         only one of each shard, so that {} of the {} needed instances can be used: {}",
        usable(offers, masters),
        masters * copies,
        offers_text(offers)
    )
}
