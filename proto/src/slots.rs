//! Hash slots: ranges of them, how they are dealt out, and keys that fall into them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How many there are (`CLUSTER_SLOTS` in cluster.h, all versions).
pub const SLOTS: u16 = 16_384;

/// Not a range of slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of slots within 0-16383")]
pub struct SlotError(pub String);

/// A run of slots, first and last included; never empty, never out of 0-16383.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotRange {
    first: u16,
    last: u16,
}

impl SlotRange {
    /// From its ends.
    pub fn new(first: u16, last: u16) -> Result<Self, SlotError> {
        if first <= last && last < SLOTS { Ok(Self { first, last }) } else { Err(SlotError(format!("{first}-{last}"))) }
    }

    /// The range of shard `nth` of `shards`: edge i lies at round(i * 16384 / shards), so sizes differ by one at most.
    /// None if there is no such shard, or more shards than slots.
    pub fn of_shard(nth: usize, shards: usize) -> Option<Self> {
        let edge = |i: usize| (i * 2 * usize::from(SLOTS) + shards) / (2 * shards);
        if nth >= shards || shards > usize::from(SLOTS) {
            return None;
        }
        let (first, next) = (edge(nth), edge(nth + 1));
        Self::new(u16::try_from(first).ok()?, u16::try_from(next.checked_sub(1)?).ok()?).ok()
    }

    /// The first slot.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last slot.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many slots: 1-16384.
    pub fn len(self) -> u16 {
        self.last - self.first + 1
    }

    /// Never; here because everything with a `len` has one.
    pub fn is_empty(self) -> bool {
        false
    }

    /// Whether the slot lies in it.
    pub fn contains(self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }
}

impl fmt::Display for SlotRange {
    /// As CLUSTER NODES writes it: `0-5460`, or `7` alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl FromStr for SlotRange {
    type Err = SlotError;
    fn from_str(text: &str) -> Result<Self, SlotError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => Self::new(first, last),
            _ => Err(SlotError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SlotRange {
    type Error = SlotError;
    fn try_from(text: String) -> Result<Self, SlotError> {
        text.parse()
    }
}

impl From<SlotRange> for String {
    fn from(range: SlotRange) -> Self {
        range.to_string()
    }
}

/// Several ranges as one word: `0-5460,5470`; empty for none.
pub fn ranges_text(ranges: &[SlotRange]) -> String {
    ranges.iter().map(SlotRange::to_string).collect::<Vec<_>>().join(",")
}

/// Sorts ranges and joins those that touch, so that equal sets are equal lists.
pub fn normal(mut ranges: Vec<SlotRange>) -> Vec<SlotRange> {
    ranges.sort();
    let mut joined: Vec<SlotRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => before.last = before.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

/// The slot of a key: CRC16 of the key, or of what stands between the first `{` and the next `}` if that is not empty
/// (`keyHashSlot` in cluster.c, all versions).
pub fn key_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&b| b == b'}').filter(|&close| close > 0).map(|close| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// A key in the range, `prefix` followed by a tag in braces. Keys are tried in order, so the same question has the same
/// answer; a range of n slots takes about 16384 / n tries.
pub fn key_in(prefix: &str, range: SlotRange) -> String {
    let mut nth: u64 = 0;
    loop {
        let key = format!("{prefix}{{{nth}}}");
        if range.contains(key_slot(key.as_bytes())) {
            return key;
        }
        nth += 1;
    }
}

/// CRC16-CCITT (XModem): polynomial 0x1021, start 0, not reflected (crc16.c, all versions).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_where_the_seed_procedure_saw_them_fall() {
        // The redirects printed in the procedure that people follow by hand.
        for (key, slot) in [("key", 12_539), ("name", 5_798), ("adress", 1_562), ("key2", 4_998)] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"user1000"));
        assert_eq!(key_slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
    }

    #[test]
    fn shards_tile_the_slots_and_differ_by_one() {
        for shards in 1..=1000 {
            let ranges: Vec<_> = (0..shards).map(|nth| SlotRange::of_shard(nth, shards).unwrap()).collect();
            let mut next = 0;
            for range in &ranges {
                assert_eq!(range.first(), next, "{shards} shards");
                next = range.last() + 1;
            }
            assert_eq!(next, SLOTS);
            let sizes: Vec<_> = ranges.iter().map(|range| range.len()).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{shards} shards");
        }
        assert_eq!(SlotRange::of_shard(3, 3), None);
    }

    #[test]
    fn every_slot_has_a_key() {
        for slot in (0..SLOTS).step_by(97) {
            let range = SlotRange::new(slot, slot).unwrap();
            assert_eq!(key_slot(key_in("muster:", range).as_bytes()), slot);
        }
    }

    #[test]
    fn touching_ranges_join() {
        let text = |words: &[&str]| ranges_text(&normal(words.iter().map(|w| w.parse().unwrap()).collect()));
        assert_eq!(text(&["5-9", "0-4", "11", "12-13"]), "0-9,11-13");
        assert!("5-4".parse::<SlotRange>().is_err());
        assert!("0-16384".parse::<SlotRange>().is_err());
    }
}
