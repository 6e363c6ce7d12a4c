//! Networks of 256 addresses for clusters, out of the private ones.

use std::net::Ipv4Addr;

/// A network 10.231.N.0/24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet(u8);

impl Subnet {
    /// All of them; different processes begin with different ones.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let first = std::process::id() as u8;
        (0..=u8::MAX).map(move |step| Self(first.wrapping_add(step)))
    }

    /// The name of this machine's link into the network: who makes it has the network, until the link
    /// is gone.
    pub(super) fn link(self) -> String {
        format!("shardrun{}", self.0)
    }

    /// This machine's own address there.
    pub(super) fn host(self) -> Ipv4Addr {
        self.address(254)
    }

    pub(super) fn login(self) -> Ipv4Addr {
        self.address(200)
    }

    /// The address of node `number`, which is 1 or more.
    pub(super) fn node(self, number: usize) -> Ipv4Addr {
        self.address(u8::try_from(number).expect("clusters have few nodes"))
    }

    fn address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.0, last)
    }

    /// Whether this machine sends packets for it somewhere already, as `routes`, /proc/net/route, says.
    /// Where it sends everything else to doesn't count.
    pub(super) fn is_routed(self, routes: &str) -> bool {
        let own = u32::from(self.address(0));
        routes.lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Numbers as they are in memory, the first byte of an address first.
            let number = |field: usize| {
                let number = u32::from_str_radix(fields.get(field)?, 16).ok()?;
                Some(u32::from_be_bytes(number.to_le_bytes()))
            };
            let (Some(destination), Some(mask)) = (number(1), number(7)) else { return false };
            let mask = mask & 0xFFFF_FF00;
            mask != 0 && own & mask == destination & mask
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    fn routes(destination: &str, mask: &str) -> String {
        format!("{HEAD}eth0\t{destination}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn networks_in_use_are_left_alone() {
        let ours = Subnet(7);
        assert!(!ours.is_routed(HEAD));
        assert!(!ours.is_routed(&routes("00000000", "00000000")), "the default route");
        assert!(!ours.is_routed(&routes("0008E70A", "00FFFFFF")), "10.231.8.0/24");
        assert!(ours.is_routed(&routes("0007E70A", "00FFFFFF")), "10.231.7.0/24");
        assert!(ours.is_routed(&routes("0000000A", "000000FF")), "10.0.0.0/8");
        assert!(ours.is_routed(&routes("0507E70A", "FFFFFFFF")), "10.231.7.5/32");
    }

    #[test]
    fn there_are_enough_and_each_once() {
        let mut all: Vec<u8> = Subnet::all().map(|subnet| subnet.0).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
        // The kernel's limit.
        assert!(Subnet::all().all(|subnet| subnet.link().len() < 16));
    }
}
