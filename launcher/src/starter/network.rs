//! The network that MPI's own messages take, as Open MPI names networks.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// An address of this machine, its interface, and how many of its bits are the network's.
struct Own {
    interface: String,
    address: IpAddr,
    bits: u32,
}

/// What Open MPI's parameters `*_if_include` take for `launch.interface`, on every node: a name is as it is;
/// an address, which they would ignore, is the network that it is in here.
pub(super) fn of(wanted: &str) -> String {
    let Ok(address) = wanted.parse::<IpAddr>() else { return wanted.to_owned() };
    choose(address, &own())
}

fn own() -> Vec<Own> {
    let listed = getifaddrs().into_iter().flatten();
    let own = listed.filter_map(|it| {
        let (address, mask) = (it.address?, it.netmask?);
        let (address, bits) = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => (v4.ip().into(), mask.as_sockaddr_in()?.ip().to_bits().count_ones()),
            (_, Some(v6)) => (v6.ip().into(), mask.as_sockaddr_in6()?.ip().to_bits().count_ones()),
            (None, None) => return None,
        };
        Some(Own { interface: it.interface_name, address, bits })
    });
    own.collect()
}

fn choose(address: IpAddr, own: &[Own]) -> String {
    let found = own.iter().find(|own| own.address == address);
    match (address, found) {
        (IpAddr::V4(_), Some(own)) => format!("{address}/{}", own.bits),
        // Open MPI 4.1 reads networks of the older kind only.
        (IpAddr::V6(_), Some(own)) => own.interface.clone(),
        // No address of this machine: the supervisor, which listens on it, says so.
        (IpAddr::V4(_), None) => format!("{address}/32"),
        (IpAddr::V6(_), None) => address.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_network_that_other_nodes_are_in_too() {
        let own = |interface: &str, address: &str, bits| Own {
            interface: interface.into(),
            address: address.parse().unwrap(),
            bits,
        };
        let own = [own("ib0", "10.1.2.3", 16), own("ib0", "fd00::1", 64)];
        let choose = |address: &str| choose(address.parse().unwrap(), &own);
        assert_eq!(choose("10.1.2.3"), "10.1.2.3/16");
        assert_eq!(choose("fd00::1"), "ib0");
        assert_eq!(choose("10.9.9.9"), "10.9.9.9/32");
    }

    #[test]
    fn this_machines_loopback_is_known() {
        assert_eq!((of("127.0.0.1"), of("ib0")), ("127.0.0.1/8".into(), "ib0".into()));
    }
}
