//! What of a host matters to Redis, and whether it is as it should be. Functions of what its agent has seen.
//!
//! Preflight takes the findings of it; `muster hosts --facts` shows all of it.

use muster_proto::{HostName, wire};

use crate::finding::Finding;

/// Clocks further apart than this are said. Redis itself tolerates more; logs of two hosts then cannot be read
/// together.
const SKEW_MS: i64 = 500;
/// Free disk below this is said.
const DISK_LOW: u64 = 1 << 30;
/// Files that a server opens besides its clients (`CONFIG_MIN_RESERVED_FDS` in server.h), and its default `maxclients`.
const OPEN_FILES: u64 = 10_032;
/// Redis' default `tcp-backlog`.
const BACKLOG: u32 = 511;
/// The kernel swaps anonymous memory more readily above this (its default is 60).
const SWAPPINESS: u32 = 10;

/// Something about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub name: &'static str,
    /// As it is.
    pub value: String,
    /// What is wrong with that.
    pub trouble: Option<Finding>,
}

impl From<Fact> for wire::Fact {
    fn from(fact: Fact) -> Self {
        let good = fact.trouble.is_none();
        let (why, cure) = fact.trouble.map(|finding| (finding.message, finding.cure)).unwrap_or_default();
        Self { name: fact.name.to_owned(), value: fact.value, good, why, cure }
    }
}

/// What is wrong with them.
pub fn findings(facts: Vec<Fact>) -> Vec<Finding> {
    facts.into_iter().filter_map(|fact| fact.trouble).collect()
}

/// All that is known of a host.
pub fn all(host: &HostName, facts: &wire::FactsResult, skew_ms: i64) -> Vec<Fact> {
    let kernel = facts.kernel.clone().unwrap_or_default();
    let swappy = (kernel.swappiness > SWAPPINESS).then(|| {
        let message =
            format!("vm.swappiness is {}: a data set may be swapped out while there is memory", kernel.swappiness);
        Finding::warning("SWAPPINESS", "vm.swappiness", message).on(host).cure(tune(host))
    });
    let swappiness = Fact { name: "vm.swappiness", value: kernel.swappiness.to_string(), trouble: swappy };
    let memory = Fact {
        name: "memory",
        value: format!("{} of {} available", bytes(kernel.memory_available_bytes), bytes(kernel.memory_bytes)),
        trouble: None,
    };
    let reserved = Fact {
        name: "ephemeral ports",
        value: match kernel.reserved_ports.as_str() {
            "" => format!("{}-{}", kernel.ephemeral_first, kernel.ephemeral_last),
            reserved => format!("{}-{} but {reserved}", kernel.ephemeral_first, kernel.ephemeral_last),
        },
        trouble: None,
    };
    let scopes = Fact {
        name: "limits",
        value: if kernel.scopes { "enforced by systemd" } else { "not enforced: no systemd runs the agent" }.to_owned(),
        trouble: None,
    };
    let mut all = self::kernel(host, &kernel);
    all.extend([
        swappiness,
        reserved,
        memory,
        scopes,
        disk(host, facts.disk_free_bytes, &facts.disk_error),
        clock(host, skew_ms),
    ]);
    all
}

/// How the kernel is set, as far as every server feels it.
pub fn kernel(host: &HostName, kernel: &wire::KernelFacts) -> Vec<Fact> {
    let fact = |name: &'static str, value: String, wrong: bool, code: &'static str, message: &str, cure: String| Fact {
        name,
        trouble: wrong
            .then(|| Finding::warning(code, name, format!("{name} is {value}: {message}")).on(host).cure(cure)),
        value,
    };
    let pages = &kernel.transparent_hugepage;
    vec![
        fact(
            "vm.overcommit_memory",
            kernel.overcommit_memory.to_string(),
            kernel.overcommit_memory != 1,
            "OVERCOMMIT",
            "a background save can fail for want of memory",
            tune(host),
        ),
        fact(
            "net.core.somaxconn",
            kernel.somaxconn.to_string(),
            kernel.somaxconn < BACKLOG,
            "SOMAXCONN",
            "a burst of clients beyond it is turned away",
            tune(host),
        ),
        fact(
            "transparent_hugepage",
            pages.clone(),
            pages == "always",
            "HUGE_PAGES",
            "forks make latency spikes and cost memory",
            format!("on {host}: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        ),
        fact(
            "RLIMIT_NOFILE",
            kernel.open_files.to_string(),
            kernel.open_files < OPEN_FILES,
            "OPEN_FILES",
            &format!("fewer than {OPEN_FILES} files lower the number of clients"),
            format!("on {host}: raise LimitNOFILE= of muster-agent.service"),
        ),
    ]
}

/// The file system of the base directory.
pub fn disk(host: &HostName, free_bytes: u64, error: &str) -> Fact {
    let trouble = if !error.is_empty() {
        let cure = "make room, or mount it writable, or set another base_dir in the agent's config";
        Some(Finding::fatal("DISK_UNWRITABLE", "base_dir", error).on(host).cure(cure))
    } else if free_bytes < DISK_LOW {
        let message = format!("only {} MiB are free", free_bytes >> 20);
        Some(Finding::warning("DISK_LOW", "base_dir", message).on(host).cure("make room"))
    } else {
        None
    };
    Fact { name: "disk", value: format!("{} free", bytes(free_bytes)), trouble }
}

/// Its clock less the coordinator's.
pub fn clock(host: &HostName, skew_ms: i64) -> Fact {
    let trouble = (skew_ms.abs() > SKEW_MS).then(|| {
        Finding::warning("CLOCK_SKEW", "clock", format!("its clock differs from the coordinator's by {skew_ms} ms"))
            .on(host)
            .cure(format!("on {host}: timedatectl set-ntp true"))
    });
    Fact { name: "clock", value: format!("{skew_ms:+} ms"), trouble }
}

fn tune(host: &HostName) -> String {
    format!("on {host}: muster-agent tune --apply")
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..0x1_0000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn shown(facts: &wire::FactsResult, skew_ms: i64) -> String {
        let line = |fact: Fact| {
            let trouble = fact.trouble.map(|finding| format!(" ! {}; {}", finding.message, finding.cure));
            format!("{}: {}{}\n", fact.name, fact.value, trouble.unwrap_or_default())
        };
        all(&"a".parse().unwrap(), facts, skew_ms).into_iter().map(line).collect()
    }

    #[test]
    fn every_fact_has_a_value_and_the_bad_ones_a_cure() {
        let kernel = wire::KernelFacts {
            overcommit_memory: 1,
            somaxconn: 4096,
            transparent_hugepage: "madvise".into(),
            ephemeral_first: 32_768,
            ephemeral_last: 60_999,
            open_files: 65_536,
            swappiness: 10,
            memory_bytes: 24 << 30,
            memory_available_bytes: 2 << 30,
            scopes: true,
            ..Default::default()
        };
        let good = wire::FactsResult { kernel: Some(kernel), disk_free_bytes: 5 << 30, ..Default::default() };
        expect![[r#"
            vm.overcommit_memory: 1
            net.core.somaxconn: 4096
            transparent_hugepage: madvise
            RLIMIT_NOFILE: 65536
            vm.swappiness: 10
            ephemeral ports: 32768-60999
            memory: 2048 MiB of 24 GiB available
            limits: enforced by systemd
            disk: 5 GiB free
            clock: -3 ms
        "#]]
        .assert_eq(&shown(&good, -3));
        let kernel = wire::KernelFacts {
            transparent_hugepage: "always".into(),
            reserved_ports: "7000-7002".into(),
            swappiness: 60,
            ..Default::default()
        };
        let bad = wire::FactsResult { kernel: Some(kernel), disk_free_bytes: 5 << 20, ..Default::default() };
        expect![[r#"
            vm.overcommit_memory: 0 ! vm.overcommit_memory is 0: a background save can fail for want of memory; on a: muster-agent tune --apply
            net.core.somaxconn: 0 ! net.core.somaxconn is 0: a burst of clients beyond it is turned away; on a: muster-agent tune --apply
            transparent_hugepage: always ! transparent_hugepage is always: forks make latency spikes and cost memory; on a: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled
            RLIMIT_NOFILE: 0 ! RLIMIT_NOFILE is 0: fewer than 10032 files lower the number of clients; on a: raise LimitNOFILE= of muster-agent.service
            vm.swappiness: 60 ! vm.swappiness is 60: a data set may be swapped out while there is memory; on a: muster-agent tune --apply
            ephemeral ports: 0-0 but 7000-7002
            memory: 0 MiB of 0 MiB available
            limits: not enforced: no systemd runs the agent
            disk: 5 MiB free ! only 5 MiB are free; make room
            clock: +501 ms ! its clock differs from the coordinator's by 501 ms; on a: timedatectl set-ntp true
        "#]].assert_eq(&shown(&bad, 501));
    }
}
