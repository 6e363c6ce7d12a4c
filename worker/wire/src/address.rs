//! Where a process listens, as it is published: in a variable, a file or a message.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// An address of one of this deployment's processes. As text, and in serde: `unix:/path` or
/// `tcp:10.0.0.1:4711`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A socket of this machine, at an absolute path.
    Unix(PathBuf),
    /// A port; what goes there is encrypted with the run's [`Secret`](crate::Secret).
    Tcp(SocketAddr),
}

/// A text that is no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{text:?} is no address: expected is unix:/absolute/path, or tcp: with a numeric host and a \
     port from 1 to 65535, as in tcp:10.0.0.1:4711 or tcp:[fd00::1]:4711"
)]
pub struct AddressError {
    text: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Some(Self::Unix(path.into())),
            Some(("tcp", address)) => {
                address.parse().ok().filter(|a: &SocketAddr| a.port() != 0).map(Self::Tcp)
            }
            _ => None,
        };
        address.ok_or_else(|| AddressError { text: text.to_owned() })
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_from_their_texts() {
        for text in ["unix:/tmp/a:b c", "tcp:10.0.0.1:4711", "tcp:[fd00::1]:80"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let bytes = postcard::to_stdvec(&address).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(text).unwrap());
            assert_eq!(postcard::from_bytes::<Address>(&bytes).unwrap(), address);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let others = [
            "",
            "/run/lifeline",
            "unix:",
            "unix:lifeline",
            "tcp:",
            "tcp:10.0.0.1",
            "tcp:10.0.0.1:0",
            "tcp:10.0.0.1:65536",
            "tcp:localhost:4711",
            "tcp:fd00::1:80",
            "udp:10.0.0.1:4711",
            "TCP:10.0.0.1:4711",
        ];
        for text in others {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("{text:?} is no address: ")), "{error}");
            let bytes = postcard::to_stdvec(text).unwrap();
            assert!(postcard::from_bytes::<Address>(&bytes).is_err());
        }
    }
}
