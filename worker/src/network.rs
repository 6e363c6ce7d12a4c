//! The network that MPI uses between nodes.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// `launch.interface` as Open MPI takes it: a name stays as it is; of an address, which it does not take,
/// the name of the interface that has it, or that is in its network, since one address is only one node's.
/// `None` if this node has no such interface.
pub(crate) fn of_mpi(wanted: &str) -> Option<String> {
    let Ok(address) = wanted.parse() else { return Some(wanted.to_owned()) };
    let all = getifaddrs().ok()?.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP));
    let own: Vec<Own> = all.filter_map(Own::new).collect();
    interface_of(address, &own).map(str::to_owned)
}

/// An address of an interface of this node.
#[derive(Clone, Debug)]
struct Own {
    interface: String,
    address: IpAddr,
    mask: IpAddr,
}

impl Own {
    fn new(found: InterfaceAddress) -> Option<Self> {
        let (address, mask) = (ip(found.address?)?, ip(found.netmask?)?);
        Some(Self { interface: found.interface_name, address, mask })
    }

    fn network_has(&self, other: IpAddr) -> bool {
        match (self.address, self.mask, other) {
            (IpAddr::V4(own), IpAddr::V4(mask), IpAddr::V4(other)) => own & mask == other & mask,
            (IpAddr::V6(own), IpAddr::V6(mask), IpAddr::V6(other)) => own & mask == other & mask,
            _ => false,
        }
    }
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn interface_of(address: IpAddr, own: &[Own]) -> Option<&str> {
    let exact = own.iter().find(|own| own.address == address);
    let near = || own.iter().find(|own| own.network_has(address));
    exact.or_else(near).map(|own| own.interface.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_interface_of_its_network() {
        let own = |interface: &str, address: &str, mask: &str| Own {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            mask: mask.parse().unwrap(),
        };
        let own = [
            own("lo", "127.0.0.1", "255.0.0.0"),
            own("eth0", "10.0.0.5", "255.255.255.0"),
            own("eth0", "fd00::5", "ffff:ffff:ffff:ffff::"),
            own("ib0", "10.0.0.9", "255.255.255.255"),
        ];
        let of = |address: &str| interface_of(address.parse().unwrap(), &own);
        assert_eq!(of("10.0.0.5"), Some("eth0"));
        assert_eq!(of("10.0.0.9"), Some("ib0"), "one that has it goes first");
        assert_eq!(of("10.0.0.7"), Some("eth0"), "another node's");
        assert_eq!(of("fd00::7"), Some("eth0"));
        assert_eq!(of("10.1.0.5"), None);
    }

    #[test]
    fn names_stay_and_addresses_of_this_machine_are_found() {
        assert_eq!(of_mpi("ib0").as_deref(), Some("ib0"));
        assert_eq!(of_mpi("127.0.0.1").as_deref(), Some("lo"));
    }
}
