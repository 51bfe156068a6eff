//! Addresses of one's own: 127.0.x.0/24, so that every world can use the same ports.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
};

/// Where the lease is held: a port that nothing else in a world uses.
const GUARD: (u8, u16) = (254, 7699);
/// 127.0.0.0/24 belongs to the machine and to the demo.
const SUBNETS: std::ops::RangeInclusive<u32> = 1..=250;

/// A leased subnet. The lease is a listening socket: it ends with the process, however that ends, and leaves no file.
#[derive(Debug)]
pub struct Subnet {
    third: u8,
    _guard: TcpListener,
}

impl Subnet {
    /// Leases one that no other process, and no other test of this one, has.
    ///
    /// # Panics
    /// When all are taken.
    pub fn lease() -> Self {
        // Test binaries that start together begin their search apart.
        let begin = process::id();
        let count = SUBNETS.count() as u32;
        let mut candidates = (0..count).map(|nth| (SUBNETS.start() + (begin + nth) % count) as u8);
        let take = |third: u8| {
            let guard = TcpListener::bind((Ipv4Addr::new(127, 0, third, GUARD.0), GUARD.1)).ok()?;
            Some(Self { third, _guard: guard })
        };
        candidates.find_map(take).expect("all subnets 127.0.1-250.0/24 are leased; are hundreds of tests running?")
    }

    /// One address of it, 1-253.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        assert!((1..GUARD.0).contains(&host), "host {host} is not 1-253");
        Ipv4Addr::new(127, 0, self.third, host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_leases_are_equal() {
        let leases: Vec<Subnet> = (0..20).map(|_| Subnet::lease()).collect();
        let addresses: std::collections::BTreeSet<_> = leases.iter().map(|lease| lease.address(1)).collect();
        assert_eq!(addresses.len(), leases.len());
    }
}
