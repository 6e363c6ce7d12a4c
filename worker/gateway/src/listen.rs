//! The ports, taken before anything slow begins.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use thiserror::Error;

/// Where the gateway listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// Address of both ports.
    pub host: IpAddr,
    /// Port of the interface; 0 lets the system choose.
    pub http_port: u16,
    /// Port of `/metrics`; 0 lets the system choose.
    pub metrics_port: u16,
}

/// Bounds of what clients may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once; further ones wait until one of them ends.
    pub most: usize,
    /// How long a connection may take to bring the head of a request, from its beginning or the end of
    /// the request before: one that brings none for so long is closed. A body may pause as long.
    pub header_timeout: Duration,
}

impl Default for ConnectionLimits {
    /// 4096 connections, and 75 seconds for a head: as long as other servers keep idle connections.
    fn default() -> Self {
        Self { most: 4096, header_timeout: Duration::from_secs(75) }
    }
}

/// Why the gateway cannot serve.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// Somebody else has the port.
    #[error("cannot listen on {address}: the port is already in use; choose another {key}")]
    PortInUse {
        /// Host and port.
        address: SocketAddr,
        /// The deployment's key for it.
        key: &'static str,
    },
    /// The system refused the address.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// Host and port.
        address: SocketAddr,
        /// The deployment's key for it.
        key: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A port that was taken can't be used.
    #[error("serving HTTP failed: {0}")]
    Serve(#[source] std::io::Error),
}

/// Both ports, bound: clients may connect, and wait until [`serve`](crate::serve()) answers.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) http: TcpListener,
    pub(crate) metrics: TcpListener,
}

impl Listeners {
    /// Takes both ports.
    ///
    /// # Errors
    /// [`GatewayError::PortInUse`] or [`GatewayError::Listen`], naming the address.
    pub fn bind(config: &ListenConfig) -> Result<Self, GatewayError> {
        Ok(Self {
            http: bind(config.host, config.http_port, "server.http_port")?,
            metrics: bind(config.host, config.metrics_port, "server.metrics_port")?,
        })
    }

    /// Where the interface is.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where `/metrics` is.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn metrics_address(&self) -> std::io::Result<SocketAddr> {
        self.metrics.local_addr()
    }
}

fn bind(host: IpAddr, port: u16, key: &'static str) -> Result<TcpListener, GatewayError> {
    let address = SocketAddr::new(host, port);
    // The standard library sets SO_REUSEADDR, so connections of an earlier run in TIME_WAIT don't
    // count as in use.
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => GatewayError::PortInUse { address, key },
        _ => GatewayError::Listen { address, key, source },
    })?;
    listener.set_nonblocking(true).map_err(|source| GatewayError::Listen {
        address,
        key,
        source,
    })?;
    Ok(listener)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn config(http_port: u16, metrics_port: u16) -> ListenConfig {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        ListenConfig { host, http_port, metrics_port }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let first = Listeners::bind(&config(0, 0)).unwrap();
        let address = first.metrics_address().unwrap();
        let error = Listeners::bind(&config(0, address.port())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address}: the port is already in use; choose another \
                 server.metrics_port"
            )
        );
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let host = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let error = Listeners::bind(&ListenConfig { host, ..config(0, 0) }).unwrap_err();
        assert!(matches!(error, GatewayError::Listen { .. }));
        assert!(error.to_string().contains("192.0.2.1:0 (server.http_port)"), "{error}");
    }
}
