//! Ports, each with room for the bus port that Redis Cluster derives from it.

use std::{collections::BTreeSet, fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

/// What Redis adds to a client port to get the bus port, unless `cluster-port` (7.0 and later) says otherwise
/// (`CLUSTER_PORT_INCR` in cluster.h).
pub const DEFAULT_BUS_OFFSET: u16 = 10_000;

/// The highest client port whose bus port still is a port.
pub const PORT_MAX: u16 = u16::MAX - DEFAULT_BUS_OFFSET;

/// A port, or a set of them, that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Zero, or no room above.
    #[error("port {0} leaves no room for its bus port: use 1-{PORT_MAX} (the bus port is {DEFAULT_BUS_OFFSET} higher)")]
    NoRoom(u32),
    /// Neither a number nor a range.
    #[error("{0:?} is neither a port like 7000 nor a range like 7000-7005")]
    Malformed(String),
    /// The end lies before the beginning.
    #[error("the range {0:?} ends before it begins")]
    Backwards(String),
    /// Listed twice.
    #[error("port {0} is listed twice")]
    Twice(Port),
    /// One instance's bus port is another's client port.
    #[error("port {client} cannot be used together with port {other}: {client} would be the bus port of {other}")]
    BusClash {
        /// The client port.
        client: Port,
        /// The port whose bus port it is.
        other: Port,
    },
}

/// A client port: 1-55535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Port(NonZeroU16);

impl Port {
    /// As a number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// Its bus port. Never overflows with the usual offset, which is what a `Port` promises; others are asked whether
    /// they [fit](BusOffset::fits).
    pub fn bus(self, offset: BusOffset) -> u16 {
        self.get().saturating_add(offset.get())
    }
}

impl TryFrom<u32> for Port {
    type Error = PortError;
    fn try_from(number: u32) -> Result<Self, PortError> {
        u16::try_from(number)
            .ok()
            .filter(|port| *port <= PORT_MAX)
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or(PortError::NoRoom(number))
    }
}

impl From<Port> for u32 {
    fn from(port: Port) -> u32 {
        port.get().into()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is added to a client port to get its bus port. Other ones than the usual need a server that has `cluster-port`
/// (7.0), and leave fewer client ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BusOffset(u16);

impl BusOffset {
    /// Those that a cluster is given: each life that must not meet another one gets the first that is free. Bus ports
    /// 1000 apart keep clusters of up to a thousand neighbouring ports out of each other's way.
    pub const CHOICE: [Self; 4] = [Self(DEFAULT_BUS_OFFSET), Self(11_000), Self(12_000), Self(9_000)];

    /// As a number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Whether a client port has a bus port with it.
    pub fn fits(self, port: Port) -> bool {
        port.get().checked_add(self.0).is_some()
    }
}

impl Default for BusOffset {
    fn default() -> Self {
        Self(DEFAULT_BUS_OFFSET)
    }
}

/// Ports, ascending, none twice, none the bus port of another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct PortSet(BTreeSet<Port>);

impl PortSet {
    /// Checks that no port stands twice and none is another's bus port.
    pub fn new(ports: impl IntoIterator<Item = Port>) -> Result<Self, PortError> {
        let mut set = BTreeSet::new();
        for port in ports {
            if !set.insert(port) {
                return Err(PortError::Twice(port));
            }
        }
        for &other in &set {
            if let Ok(client) = Port::try_from(u32::from(other.bus(BusOffset::default())))
                && set.contains(&client)
            {
                return Err(PortError::BusClash { client, other });
            }
        }
        Ok(Self(set))
    }

    /// From the words of a config or spec: `["7000-7005", "7010"]`.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self, PortError> {
        // Word by word: a range that is there again and again is refused at its second port, not counted out.
        let mut ports = BTreeSet::new();
        for word in words {
            for port in range(word.as_ref())? {
                if !ports.insert(port) {
                    return Err(PortError::Twice(port));
                }
            }
        }
        Self::new(ports)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Port> + '_ {
        self.0.iter().copied()
    }

    /// Whether it is one of them.
    pub fn contains(&self, port: Port) -> bool {
        self.0.contains(&port)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<String>> for PortSet {
    type Error = PortError;
    fn try_from(words: Vec<String>) -> Result<Self, PortError> {
        Self::parse(&words)
    }
}

impl From<PortSet> for Vec<String> {
    fn from(set: PortSet) -> Self {
        vec![set.to_string()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .flat_map(|text| text.split(", ").map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

impl fmt::Display for PortSet {
    /// As runs: `7000-7002, 7010`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for port in self.iter().map(Port::get) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == port => *last = port,
                _ => runs.push((port, port)),
            }
        }
        for (nth, (first, last)) in runs.into_iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

fn number(word: &str) -> Result<Port, PortError> {
    let number: u32 = word.trim().parse().map_err(|_| PortError::Malformed(word.to_owned()))?;
    Port::try_from(number)
}

fn range(word: &str) -> Result<Vec<Port>, PortError> {
    let Some((first, last)) = word.split_once('-') else {
        return Ok(vec![number(word)?]);
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(PortError::Backwards(word.to_owned()));
    }
    (first.get()..=last.get()).map(|port| Port::try_from(u32::from(port))).collect()
}

impl FromStr for Port {
    type Err = PortError;
    fn from_str(word: &str) -> Result<Self, PortError> {
        number(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(words: &[&str]) -> String {
        match PortSet::parse(words) {
            Ok(set) => set.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn port_sets_read_ranges_and_say_what_is_wrong() {
        let cases: &[(&[&str], &str)] = &[
            (&["7000-7002"], "7000-7002"),
            (&["7002", "7000-7001", "7010"], "7000-7002, 7010"),
            (&["55535"], "55535"),
            (&["55536"], "port 55536 leaves no room for its bus port: use 1-55535 (the bus port is 10000 higher)"),
            (&["0"], "port 0 leaves no room for its bus port: use 1-55535 (the bus port is 10000 higher)"),
            (&["7000-"], "\"\" is neither a port like 7000 nor a range like 7000-7005"),
            (&["7000-6999"], "the range \"7000-6999\" ends before it begins"),
            (&["7000-7002", "7001"], "port 7001 is listed twice"),
            (
                &["7000", "17000"],
                "port 17000 cannot be used together with port 7000: 17000 would be the bus port of 7000",
            ),
        ];
        for (words, expected) in cases {
            assert_eq!(say(words), *expected, "{words:?}");
        }
    }
}
