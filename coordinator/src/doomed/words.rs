//! Instances and rates as people read them.

use std::collections::BTreeMap;

use muster_proto::{HostName, Port, PortSet};

use super::{Question, without};
use crate::placement::text::list;

/// The command that asks this question, with these hosts left out too.
pub(super) fn command<'a>(of: &'a Question, too: impl IntoIterator<Item = &'a HostName>) -> String {
    let undo = if of.undo.is_some() { " --undo" } else { "" };
    let reshaped = of.undo.is_none() && without(of.spec, of.fenced).as_ref() != Ok(of.next);
    let file = if reshaped { " --file SPEC" } else { "" };
    let fenced: String = of.fenced.iter().chain(too).map(|host| format!(" --fence-missing {host}")).collect();
    format!("muster rebuild {}{undo}{file}{fenced}", of.blueprint.cluster)
}

/// `server1 (7000-7002), server2 (7003)`.
pub(super) fn places<'a>(places: impl IntoIterator<Item = (&'a HostName, Port)>) -> String {
    let mut by_host: BTreeMap<&HostName, Vec<Port>> = BTreeMap::new();
    for (host, port) in places {
        by_host.entry(host).or_default().push(port);
    }
    let one = |(host, ports): (&HostName, Vec<Port>)| format!("{host} ({})", runs(ports));
    list(by_host.into_iter().map(one))
}

/// `7000-7002, 7010`.
pub(super) fn runs(mut ports: Vec<Port>) -> String {
    ports.sort_unstable();
    ports.dedup();
    PortSet::new(ports.clone()).map_or_else(|_| list(ports), |set| set.to_string())
}

/// Thousandths of something a second: `120.5/s`.
pub(super) fn rate(millihertz: u64) -> String {
    match millihertz {
        1..100 => "under 0.1/s".to_owned(),
        _ => format!("{}.{}/s", millihertz / 1000, millihertz % 1000 / 100),
    }
}
