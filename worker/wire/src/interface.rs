//! Which of a machine's addresses other nodes reach it at.

use std::net::{IpAddr, ToSocketAddrs as _};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use thiserror::Error;

/// Why no address can be given to other nodes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InterfaceError {
    /// The machine has nothing of this name or address.
    #[error("launch.interface is {wanted:?}; this machine ({host}) has {have}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// This machine.
        host: String,
        /// What it has instead.
        have: String,
    },
    /// All that is up is loopback.
    #[error(
        "no network interface of {host} is up but loopback, which other nodes don't reach; if all \
         of them are on this machine, name it: launch.interface = \"lo\""
    )]
    OnlyLoopback {
        /// This machine.
        host: String,
    },
    /// The system does not tell.
    #[error("cannot list the network interfaces of {host}: {reason}")]
    Unlisted {
        /// This machine.
        host: String,
        /// Why.
        reason: String,
    },
}

/// An address of an interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    interface: String,
    address: IpAddr,
    /// How many of its bits are the network's.
    bits: u32,
}

impl Own {
    /// All of this machine.
    fn all() -> nix::Result<Vec<Self>> {
        let up = getifaddrs()?.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP));
        let own = up.filter_map(|it| {
            let (address, mask) = (ip(it.address?)?, it.netmask.and_then(ip));
            let bits = mask.map_or(0, |mask| match mask {
                IpAddr::V4(mask) => mask.to_bits().count_ones(),
                IpAddr::V6(mask) => mask.to_bits().count_ones(),
            });
            Some(Self { interface: it.interface_name, address, bits })
        });
        Ok(own.collect())
    }

    fn network_has(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// `launch.interface` as Open MPI's parameters `*_if_include` take it, on every node: a name is as it is; an
/// address, which they would ignore, is the network that it is in, since one address is only one node's.
/// `None` if this machine is in no such network.
#[must_use]
pub fn mpi_network(wanted: &str) -> Option<String> {
    match wanted.parse() {
        Ok(address) => network_of(address, &Own::all().ok()?),
        Err(_) => Some(wanted.to_owned()),
    }
}

fn network_of(address: IpAddr, own: &[Own]) -> Option<String> {
    let exact = own.iter().find(|own| own.address == address);
    let own = exact.or_else(|| own.iter().find(|own| own.network_has(address)))?;
    Some(match address {
        IpAddr::V4(_) => format!("{address}/{}", own.bits),
        // Open MPI 4.1 reads networks of the older kind only.
        IpAddr::V6(_) => own.interface.clone(),
    })
}

/// The address of this machine, called `host`, that other nodes reach: that of the interface that is
/// `wanted`, or that address itself; otherwise the one that the host's name stands for, or the first
/// one, loopback excepted.
///
/// # Errors
/// [`InterfaceError`] if there is none.
pub fn own_address(wanted: Option<&str>, host: &str) -> Result<IpAddr, InterfaceError> {
    let unlisted = |error: nix::Error| InterfaceError::Unlisted {
        host: host.into(),
        reason: error.to_string(),
    };
    let mut own = Own::all().map_err(unlisted)?;
    own.retain(|own| !is_link_local(own.address));
    let named = match wanted {
        Some(_) => Vec::new(),
        // A name that nobody resolves says nothing.
        None => (host, 0)
            .to_socket_addrs()
            .map(|all| all.map(|it| it.ip()).collect())
            .unwrap_or_default(),
    };
    choose(&own, wanted, host, &named)
}

/// Picks one of `own`; `named` is what the host's name stands for.
fn choose(
    own: &[Own],
    wanted: Option<&str>,
    host: &str,
    named: &[IpAddr],
) -> Result<IpAddr, InterfaceError> {
    // The older kind first: networks of clusters have it.
    let first = |fits: &dyn Fn(&Own) -> bool| {
        let fitting = || own.iter().filter(|own| fits(own)).map(|own| own.address);
        fitting().find(IpAddr::is_ipv4).or_else(|| fitting().next())
    };
    if let Some(wanted) = wanted {
        let address: Option<IpAddr> = wanted.parse().ok();
        let found = first(&|own| own.interface == wanted || Some(own.address) == address);
        return found.ok_or_else(|| {
            let have: Vec<_> =
                own.iter().map(|own| format!("{} ({})", own.interface, own.address)).collect();
            InterfaceError::Unknown {
                wanted: wanted.into(),
                host: host.into(),
                have: have.join(", "),
            }
        });
    }
    first(&|own| !own.address.is_loopback() && named.contains(&own.address))
        .or_else(|| first(&|own| !own.address.is_loopback()))
        .ok_or_else(|| InterfaceError::OnlyLoopback { host: host.into() })
}

/// Such an address means something on its own link only.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn own(list: &[(&str, &str)]) -> Vec<Own> {
        let own = |(interface, address): &(&str, &str)| Own {
            interface: (*interface).into(),
            address: address.parse().unwrap(),
            bits: 16,
        };
        list.iter().map(own).collect()
    }

    fn chosen(wanted: Option<&str>, named: &[&str]) -> String {
        let own = own(&[
            ("lo", "127.0.0.1"),
            ("eth0", "fd00::5"),
            ("eth0", "10.0.0.5"),
            ("ib0", "10.1.0.5"),
        ]);
        let named: Vec<_> = named.iter().map(|address| address.parse().unwrap()).collect();
        match choose(&own, wanted, "n5", &named) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_named_counts_most() {
        assert_eq!(chosen(Some("ib0"), &[]), "10.1.0.5");
        assert_eq!(chosen(Some("eth0"), &[]), "10.0.0.5");
        assert_eq!(chosen(Some("fd00::5"), &[]), "fd00::5");
        assert_eq!(chosen(Some("lo"), &[]), "127.0.0.1");
        assert_eq!(
            chosen(Some("eth9"), &[]),
            "launch.interface is \"eth9\"; this machine (n5) has lo (127.0.0.1), eth0 (fd00::5), \
             eth0 (10.0.0.5), ib0 (10.1.0.5)"
        );
    }

    #[test]
    fn otherwise_the_hosts_name_and_then_the_first() {
        assert_eq!(chosen(None, &["10.1.0.5"]), "10.1.0.5");
        assert_eq!(chosen(None, &["127.0.1.1"]), "10.0.0.5");
        assert_eq!(chosen(None, &["192.0.2.1"]), "10.0.0.5");
        let loopback = own(&[("lo", "127.0.0.1")]);
        let error = choose(&loopback, None, "n5", &["127.0.0.1".parse().unwrap()]).unwrap_err();
        assert_eq!(error, InterfaceError::OnlyLoopback { host: "n5".into() });
    }

    #[test]
    fn for_mpi_an_address_is_the_network_that_other_nodes_are_in_too() {
        let own = own(&[("eth0", "10.0.0.5"), ("ib0", "10.1.0.5"), ("ib0", "fd00::5")]);
        let of = |address: &str| network_of(address.parse().unwrap(), &own);
        assert_eq!(of("10.1.0.5").as_deref(), Some("10.1.0.5/16"));
        assert_eq!(of("10.1.7.9").as_deref(), Some("10.1.7.9/16"), "another node's");
        assert_eq!(of("fd00::9").as_deref(), Some("ib0"));
        assert_eq!(of("10.2.0.5"), None);
    }

    #[test]
    fn this_machine_has_loopback() {
        assert!(own_address(Some("127.0.0.1"), "here").unwrap().is_loopback());
        assert_eq!(mpi_network("127.0.0.1").as_deref(), Some("127.0.0.1/8"));
        assert_eq!(mpi_network("ib0").as_deref(), Some("ib0"));
    }
}
