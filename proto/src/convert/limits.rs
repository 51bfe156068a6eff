//! Limits: on the wire 0 is none, and a message without any is not sent.

use super::{Result, wrong};
use crate::{Cpus, Limits, Memory, wire};

/// To the wire.
pub(super) fn wire(limits: Limits) -> Option<wire::Limits> {
    (!limits.is_none()).then(|| wire::Limits {
        memory_bytes: limits.memory.map_or(0, Memory::bytes),
        cpu_hundredths: limits.cpus.map_or(0, Cpus::hundredths),
    })
}

/// From the wire.
pub(super) fn read(limits: Option<wire::Limits>) -> Result<Limits> {
    let wire::Limits { memory_bytes, cpu_hundredths } = limits.unwrap_or_default();
    let memory = (memory_bytes > 0).then(|| Memory::new(memory_bytes)).transpose();
    let cpus = (cpu_hundredths > 0).then(|| Cpus::new(cpu_hundredths)).transpose();
    Ok(Limits {
        memory: memory.map_err(|error| wrong("limits.memory_bytes", error))?,
        cpus: cpus.map_err(|error| wrong("limits.cpu_hundredths", error))?,
    })
}

#[cfg(test)]
mod tests {
    use crate::{Limits, wire};

    #[test]
    fn limits_out_of_their_range_are_refused_by_name() {
        let read = |memory_bytes, cpu_hundredths| {
            let limits = Some(wire::Limits { memory_bytes, cpu_hundredths });
            super::read(limits).map_err(|error| error.field)
        };
        assert_eq!(read(0, 0), Ok(Limits::default()));
        assert_eq!(read(1, 0), Err("limits.memory_bytes".into()));
        assert_eq!(read(1 << 30, 4), Err("limits.cpu_hundredths".into()));
        assert_eq!(super::wire(Limits::default()), None);
    }
}
