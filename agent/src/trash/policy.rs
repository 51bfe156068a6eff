//! What of the trash is to go: a function of what lies in it, of the time, and of what the operator has said.

use std::{fmt, time::Duration};

use muster_proto::{ClusterId, convert::millis};

use crate::layout::Stamp;

/// A clock that is off by more was set.
const OFF: Duration = Duration::from_secs(3600);
/// What is set aside a little in the future was noted while the clock was being drawn near.
const DRAWN: Duration = Duration::from_secs(60);

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// So long after it was set aside; none is for ever.
    pub keep: Option<Duration>,
    /// So much of all together, in bytes; none is no limit.
    pub most: Option<u64>,
}

/// A directory in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// Whose it is.
    pub stamp: Stamp,
    /// Of the files in it.
    pub bytes: u64,
    /// Since when it is here, milliseconds since 1970, by this host's clock.
    pub aside_unix_ms: u64,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was kept for so long.
    Age(Duration),
    /// There is more than that.
    Size(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age(keep) => write!(f, "it was kept for {} h (trash.keep_hours)", keep.as_secs() / 3600),
            Self::Size(most) => write!(f, "there was more than {} GiB (trash.keep_gib)", most >> 30),
        }
    }
}

/// When the policy deletes it by its age, milliseconds since 1970; never, where it keeps things for ever.
pub fn until(entry: &Entry, policy: Policy) -> Option<u64> {
    Some(entry.aside_unix_ms.saturating_add(millis(policy.keep?)))
}

/// What goes now, and why. By age where the clock is believed; by size what never formed, then the oldest that did,
/// until the rest is small enough. What is wanted stays, and counts; so does the newest formed life of a cluster that
/// is being rebuilt, which size does not end: it is what an undo needs.
pub fn overdue(
    entries: &[Entry],
    is_wanted: impl Fn(&Stamp) -> bool,
    is_rebuilt: impl Fn(ClusterId) -> bool,
    now_unix_ms: u64,
    by_age: bool,
    policy: Policy,
) -> Vec<(&Entry, Why)> {
    let is_old = |entry: &Entry| by_age && until(entry, policy).is_some_and(|until| until <= now_unix_ms);
    let mut gone: Vec<(&Entry, Why)> = Vec::new();
    let (mut sum, mut left) = (0_u64, Vec::new());
    for entry in entries {
        match policy.keep {
            Some(keep) if is_old(entry) && !is_wanted(&entry.stamp) => gone.push((entry, Why::Age(keep))),
            _ => {
                sum = sum.saturating_add(entry.bytes);
                left.push(entry);
            }
        }
    }
    let Some(most) = policy.most else { return gone };
    let newest = |cluster: ClusterId| {
        let formed = entries.iter().map(|entry| &entry.stamp).filter(|it| it.formed && it.cluster_id == cluster);
        formed.map(|stamp| stamp.incarnation).max()
    };
    let is_needed = |Stamp { cluster_id, incarnation, formed, .. }: &Stamp| {
        *formed && is_rebuilt(*cluster_id) && newest(*cluster_id) == Some(*incarnation)
    };
    left.retain(|entry| !is_wanted(&entry.stamp) && !is_needed(&entry.stamp));
    left.sort_by_key(|entry| (entry.stamp.formed, entry.aside_unix_ms, &entry.name));
    for entry in left {
        if sum <= most {
            break;
        }
        sum = sum.saturating_sub(entry.bytes);
        gone.push((entry, Why::Size(most)));
    }
    gone
}

/// Whether ages can be told. A clock that was set once is not believed any more: what it said before may be wrong too.
#[derive(Debug)]
pub struct Clock {
    /// What the two clocks said when the agent began: the one that nobody sets, and the one that people read.
    began: (Duration, u64),
    set: Option<String>,
}

impl Clock {
    /// Begins, with what both clocks say.
    pub fn new(monotonic: Duration, unix_ms: u64) -> Self {
        Self { began: (monotonic, unix_ms), set: None }
    }

    /// Looks again; `newest` is when something was set aside last. Why it is not believed, from the first time on.
    pub fn look(&mut self, monotonic: Duration, unix_ms: u64, newest: Option<u64>) -> Result<(), String> {
        let due = self.began.1.saturating_add(millis(monotonic.saturating_sub(self.began.0)));
        let off = due.abs_diff(unix_ms);
        if self.set.is_none() && off > millis(OFF) {
            self.set = Some(format!("the clock was set by {} s", off / 1000));
        }
        if self.set.is_none() && newest.is_some_and(|newest| newest > unix_ms.saturating_add(millis(DRAWN))) {
            self.set = Some("something was set aside in the future, so the clock was set".to_owned());
        }
        self.set.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::Incarnation;

    use super::*;
    use crate::samples::{id, port, stamp};

    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 1_000 * HOUR;

    fn policy(hours: u64, bytes: u64) -> Policy {
        Policy { keep: (hours > 0).then(|| Duration::from_secs(hours * 3600)), most: (bytes > 0).then_some(bytes) }
    }

    /// Set aside so many hours ago, with so many bytes.
    fn entry(name: &str, hours: u64, bytes: u64, formed: bool) -> Entry {
        let nth = name.bytes().next().unwrap();
        let stamp = Stamp { node_id: id(nth), port: port(7000), formed, ..stamp() };
        Entry { name: name.to_owned(), stamp, bytes, aside_unix_ms: NOW - hours * HOUR }
    }

    fn gone(entries: &[Entry], by_age: bool, policy: Policy) -> String {
        let wanted = |stamp: &Stamp| stamp.node_id == id(b'w');
        let gone = overdue(entries, wanted, |_| false, NOW, by_age, policy);
        gone.iter()
            .map(|(entry, why)| format!("{} {}", entry.name, if matches!(why, Why::Age(_)) { "age" } else { "size" }))
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn what_is_old_goes_and_what_is_too_much_goes_what_never_formed_first() {
        let entries = [
            entry("a", 200, 10, true),
            entry("b", 168, 10, false),
            entry("c", 167, 10, true),
            entry("d", 166, 10, false),
            entry("e", 1, 10, true),
            entry("w", 500, 10, true),
        ];
        let cases = [
            (policy(0, 0), true, ""),
            (policy(168, 0), true, "a age, b age"),
            (policy(168, 0), false, ""),
            (policy(0, 60), true, ""),
            (policy(0, 59), true, "b size"),
            (policy(0, 31), false, "b size, d size, a size"),
            (policy(0, 20), true, "b size, d size, a size, c size"),
            (policy(0, 1), true, "b size, d size, a size, c size, e size"),
            (policy(168, 40), true, "a age, b age"),
            (policy(168, 39), true, "a age, b age, d size"),
        ];
        for (policy, by_age, expected) in cases {
            assert_eq!(gone(&entries, by_age, policy), expected, "{policy:?} {by_age}");
        }
    }

    #[test]
    fn size_leaves_a_cluster_that_is_being_rebuilt_its_newest_formed_life() {
        let of = |name, hours, incarnation, formed| {
            let mut entry = entry(name, hours, 10, formed);
            entry.stamp.incarnation = Incarnation(incarnation);
            entry
        };
        let mut other = of("o", 2, 9, true);
        other.stamp.cluster_id = ClusterId(uuid::Uuid::max());
        // The newest by its number, not by its time; both of its directories.
        let entries = [of("a", 1, 1, true), of("b", 9, 2, true), of("c", 3, 2, true), of("d", 1, 3, false), other];
        let gone = |rebuilt: bool, by_age: bool| {
            let is_rebuilt = |cluster| rebuilt && cluster == stamp().cluster_id;
            let gone = overdue(&entries, |_| false, is_rebuilt, NOW, by_age, policy(5, 1));
            gone.iter().map(|(entry, _)| entry.name.as_str()).collect::<String>()
        };
        assert_eq!((gone(true, false), gone(false, false)), ("doa".into(), "dbcoa".into()));
        assert_eq!(gone(true, true), "bdoa", "its age is another matter");
    }

    #[test]
    fn until_when_something_is_kept_is_said() {
        let entry = entry("a", 1, 10, true);
        assert_eq!(until(&entry, policy(0, 10)), None);
        assert_eq!(until(&entry, policy(2, 0)), Some(NOW + HOUR));
        assert_eq!(Why::Age(Duration::from_secs(7200)).to_string(), "it was kept for 2 h (trash.keep_hours)");
        assert_eq!(Why::Size(3 << 30).to_string(), "there was more than 3 GiB (trash.keep_gib)");
    }

    #[test]
    fn a_clock_that_was_set_is_not_believed_again() {
        let ms = Duration::from_millis;
        let begun = || Clock::new(ms(500), NOW);
        let mut clock = begun();
        assert_eq!(clock.look(ms(500 + 10 * HOUR), NOW + 11 * HOUR, Some(NOW)), Ok(()), "an hour is drawn near");
        assert_eq!(clock.look(ms(500 + 10 * HOUR), NOW + 9 * HOUR, None), Ok(()));
        let set = Err("the clock was set by 3600 s".to_owned());
        assert_eq!(clock.look(ms(500 + 10 * HOUR), NOW + 11 * HOUR + 1, None), set);
        assert_eq!(clock.look(ms(500 + 10 * HOUR), NOW + 10 * HOUR, None), set, "set back");
        assert!(begun().look(ms(500 + 10 * HOUR), NOW + 9 * HOUR - 1, None).is_err());
        assert_eq!(begun().look(ms(500), NOW, Some(NOW + 60_000)), Ok(()));
        let mut clock = begun();
        let future = Err("something was set aside in the future, so the clock was set".to_owned());
        assert_eq!(clock.look(ms(500), NOW, Some(NOW + 60_001)), future);
        assert_eq!(clock.look(ms(500), NOW, None), future);
    }
}
