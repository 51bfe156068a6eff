//! What one instance may take of its host: a spec's `[limits]`, which systemd enforces where it runs the agent.

use std::{fmt, str::FromStr};

use crate::spec::Setting;

/// A limit of one instance each; none where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of its memory, files in the page cache included: beyond it the kernel kills.
    pub memory: Option<Memory>,
    /// Of its processor time: beyond it the server waits.
    pub cpus: Option<Cpus>,
}

/// An amount of memory, 16 MiB to 64 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(u64);

/// An amount of processors, 0.05 to 1024, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(u32);

/// What is wrong with a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not an amount of memory.
    #[error("{0:?} is not an amount of memory like \"4GiB\": a number and KiB, MiB, GiB or TiB")]
    Unit(String),
    /// Less than a server needs, or more than there is.
    #[error("{0} is not 16MiB-64TiB")]
    Memory(Memory),
    /// Less than a heartbeat takes, or more than there are.
    #[error("{0} is not 0.05-1024 processors")]
    Cpus(String),
    /// The server would be killed before it evicts anything.
    #[error(
        "{memory} is not above maxmemory ({maxmemory}), and the server would be killed before it evicts or refuses \
         anything"
    )]
    BelowMaxmemory {
        /// The limit.
        memory: Memory,
        /// As it is written in the settings.
        maxmemory: String,
    },
}

const KIB: u64 = 1 << 10;
const UNITS: [(&str, u64); 4] = [("TiB", KIB << 30), ("GiB", KIB << 20), ("MiB", KIB << 10), ("KiB", KIB)];

impl Limits {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they leave room for what the settings let the server take.
    pub fn fit(&self, settings: &[Setting]) -> Result<(), LimitError> {
        let maxmemory = settings.iter().rfind(|setting| setting.key == "maxmemory").map(|setting| &setting.value);
        match (self.memory, maxmemory) {
            (Some(memory), Some(written)) if redis_bytes(written).is_some_and(|bytes| bytes >= memory.0) => {
                Err(LimitError::BelowMaxmemory { memory, maxmemory: written.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// As `memtoull` in Redis' util.c reads it; what that does not take, the server itself refuses.
fn redis_bytes(written: &str) -> Option<u64> {
    let written = written.trim().to_ascii_lowercase();
    let digits = written.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &written[digits.len()..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => KIB,
        "m" => 1_000_000,
        "mb" => KIB << 10,
        "g" => 1_000_000_000,
        "gb" => KIB << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl Memory {
    /// From bytes.
    pub fn new(bytes: u64) -> Result<Self, LimitError> {
        let range = (16 << 20)..=(64 << 40);
        if range.contains(&bytes) { Ok(Self(bytes)) } else { Err(LimitError::Memory(Self(bytes))) }
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = || LimitError::Unit(text.to_owned());
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        Self::new(number.checked_mul(unit).ok_or_else(wrong)?)
    }
}

/// In the greatest unit that it is a whole number of.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl Cpus {
    /// From hundredths.
    pub fn new(hundredths: u32) -> Result<Self, LimitError> {
        let cpus = Self(hundredths);
        if (5..=102_400).contains(&hundredths) { Ok(cpus) } else { Err(LimitError::Cpus(cpus.to_string())) }
    }

    /// From what a person writes; what is finer than a hundredth is rounded.
    pub fn of(number: f64) -> Result<Self, LimitError> {
        let wrong = || LimitError::Cpus(number.to_string());
        if !(0.0..=1024.0).contains(&number) {
            return Err(wrong());
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in 0-102400")]
        Self::new((number * 100.0).round() as u32).map_err(|_| wrong())
    }

    /// In hundredths.
    pub fn hundredths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_and_said_in_powers_of_two() {
        for (written, bytes) in [("4GiB", 4 << 30), ("16 MiB", 16 << 20), ("65536KiB", 64 << 20), ("64TiB", 64 << 40)] {
            assert_eq!(written.parse().map(Memory::bytes), Ok(bytes), "{written}");
        }
        let said = |bytes| Memory::new(bytes).unwrap().to_string();
        assert_eq!([4 << 30, 1536 << 20, (16 << 20) + 1].map(said), ["4GiB", "1536MiB", "16777217 bytes"]);
        for wrong in ["4GB", "4", "GiB", "-4GiB", "4.5GiB", "99999999999999999TiB", ""] {
            assert!(matches!(wrong.parse::<Memory>(), Err(LimitError::Unit(_))), "{wrong}");
        }
        for wrong in ["15MiB", "0GiB", "65TiB"] {
            assert!(matches!(wrong.parse::<Memory>(), Err(LimitError::Memory(_))), "{wrong}");
        }
    }

    #[test]
    fn processors_are_counted_in_hundredths() {
        for (written, hundredths, said) in
            [(1.5, 150, "1.5"), (2.0, 200, "2"), (0.05, 5, "0.05"), (1024.0, 102_400, "1024")]
        {
            let cpus = Cpus::of(written).unwrap();
            assert_eq!((cpus.hundredths(), cpus.to_string().as_str()), (hundredths, said));
        }
        for wrong in [0.0, 0.04, -1.0, 1024.1, f64::NAN, f64::INFINITY] {
            assert!(Cpus::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_leaves_room_for_maxmemory() {
        let fit = |maxmemory: &str| {
            let settings = [Setting { key: "maxmemory".into(), value: maxmemory.into() }];
            Limits { memory: "1GiB".parse().ok(), cpus: None }.fit(&settings).is_ok()
        };
        for room in ["0", "1073741823", "512mb", "1000m", "1G", "what"] {
            assert!(fit(room), "{room}");
        }
        for none in ["1073741824", "1gb", "1024MB", "2g", "1048576kb"] {
            assert!(!fit(none), "{none}");
        }
        let twice = ["1mb", "2gb"].map(|value| Setting { key: "maxmemory".into(), value: value.into() });
        assert!(Limits { memory: "1GiB".parse().ok(), cpus: None }.fit(&twice).is_err(), "the last one counts");
        assert!(Limits::default().fit(&twice).is_ok());
    }
}
