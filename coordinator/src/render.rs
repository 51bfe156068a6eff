//! What people and scripts read: wire values in, text or JSON out.
//!
//! Everything here is a function of its arguments: no clock, no terminal, no colour, no width of a window. Each file
//! has one noun, its text and its JSON side by side, so that a field that is added is added to both. The JSON is an
//! interface that scripts rely on: fields are only ever added, and a value that is not known is `null`, never "".
//!
//! Reading order: [`finding`], [`hosts`], [`plan`], [`operation`], [`status`], [`roll`], [`start`], [`rebuild`],
//! [`trash`], [`protection`], [`ps`], [`events`], [`logs`], [`check`], [`smoke`]; then who may what: [`trust`],
//! [`token`], [`user`], [`whoami`], [`context`], [`second`], [`authority`], [`credentials`], [`audit`].

pub mod audit;
pub mod authority;
pub mod check;
pub mod context;
pub mod credentials;
pub mod events;
pub mod finding;
pub mod hosts;
pub mod logs;
pub mod operation;
pub mod plan;
pub mod protection;
pub mod ps;
pub mod rebuild;
pub mod roll;
pub mod second;
pub mod smoke;
pub mod start;
pub mod status;
pub mod token;
pub mod trash;
pub mod trust;
pub mod user;
pub mod whoami;

use comfy_table::{ContentArrangement, Table, presets};
use muster_proto::{Secret, wire};
use serde::{Serialize, Serializer};

/// One JSON document, indented, with a line break at its end.
pub fn document(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    // Our documents have string keys and no floats: the only two things that serde_json can refuse.
    text.map(|text| text + "\n").unwrap_or_default()
}

/// One JSON document on one line, for streams.
pub fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).map(|text| text + "\n").unwrap_or_default()
}

/// Columns of text, two blanks apart, without a blank at the end of any line.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How long ago, as coarse as an operator needs it.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// How long something took.
pub(crate) fn took(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// How much, in the unit that leaves the fewest digits.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        0x4000_0000..0x100_0000_0000 => format!("{} GiB", tenths(1 << 30)),
        _ => format!("{} TiB", tenths(1 << 40)),
    }
}

/// How often a second, from thousandths: `0.4`, `240`. What is not nothing is not shown as nothing.
pub(crate) fn rate(millihertz: u64) -> String {
    match millihertz {
        0 => "0".to_owned(),
        1..100 => "< 0.1".to_owned(),
        100..10_000 => format!("{}.{}", millihertz / 1000, millihertz % 1000 / 100),
        _ => (millihertz / 1000).to_string(),
    }
}

/// The beginning of a node's id, enough to tell the nodes of a cluster apart.
pub(crate) fn short(node_id: &str) -> String {
    node_id.chars().take(8).collect()
}

/// A moment, in UTC; empty for none.
pub(crate) fn moment(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).ok().filter(|seconds| *seconds > 0);
    seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).map(|at| at.to_string()).unwrap_or_default()
}

/// Slots as Redis writes them: `0-5460,5470`; empty for none.
pub(crate) fn slots(ranges: &[wire::SlotRange]) -> String {
    let one = |range: &wire::SlotRange| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

/// How many slots these are.
pub(crate) fn slot_count(ranges: &[wire::SlotRange]) -> u32 {
    ranges.iter().map(|range| (range.last + 1).saturating_sub(range.first)).sum()
}

/// `127.0.0.1:7000`, and `[::1]:7000`.
pub(crate) fn address(address: &str, port: u32) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// `1 master`, `2 masters`.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The wire's empty text as nothing.
pub(crate) fn some(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A secret in the one document that is made to hold it.
pub(crate) fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// The same, where there may be none.
pub(crate) fn exposed_or_null<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

/// A server binary.
#[derive(Debug, Clone, Serialize)]
pub struct ServerJson {
    path: String,
    flavour: String,
    version: String,
}

impl From<&wire::Server> for ServerJson {
    fn from(server: &wire::Server) -> Self {
        Self { path: server.path.clone(), flavour: server.flavour.clone(), version: server.version.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_durations_read_well() {
        let ages = [
            (0, "0.0 s"),
            (420, "0.4 s"),
            (9_999, "9.9 s"),
            (10_000, "10 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
        ];
        for (ms, text) in ages {
            assert_eq!(age(ms), text);
        }
        for (micros, text) in [(0, "0.0 ms"), (1_490, "1.4 ms"), (10_000, "0.01 s"), (2_345_678, "2.34 s")] {
            assert_eq!(took(micros), text);
        }
        for (millihertz, text) in [(0, "0"), (3, "< 0.1"), (400, "0.4"), (9_990, "9.9"), (240_400, "240")] {
            assert_eq!(rate(millihertz), text);
        }
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (5 << 20, "5 MiB"), (1_288_490_189, "1.2 GiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(3 << 39), "1.5 TiB");
        assert_eq!(moment(0), "");
        assert_eq!(moment(1_795_384_800_123), "2026-11-22T22:00:00Z");
    }

    #[test]
    fn a_table_has_no_blanks_at_its_ends() {
        let text = table(["A", "LONGER"], vec![["wide cell".into(), "x".into()], [String::new(), "y".into()]]);
        assert_eq!(text, "A          LONGER\nwide cell  x\n           y\n");
    }
}
