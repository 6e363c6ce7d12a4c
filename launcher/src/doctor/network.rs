//! Addresses and ports.

use std::net::{SocketAddr, TcpListener};

use shardrun_wire::own_address;

use super::{Finding, Patient};
use crate::nodes;

pub(super) fn look(patient: &Patient<'_>) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![interface(patient)?];
    if let Some(deployment) = patient.deployment.filter(|_| patient.computes()) {
        let server = &deployment.server;
        for (key, port) in
            [("server.http_port", server.http_port), ("server.metrics_port", server.metrics_port)]
        {
            findings.push(listening(key, SocketAddr::new(server.host, port)));
        }
    }
    Ok(findings)
}

/// The address at which other nodes reach this one.
fn interface(patient: &Patient<'_>) -> anyhow::Result<Finding> {
    const WHAT: &str = "network";
    let host = nodes::host()?;
    let wanted = patient.deployment.and_then(|it| it.launch.interface.as_deref());
    Ok(match own_address(wanted, &host) {
        Ok(address) if address.is_loopback() => Finding::warning(
            WHAT,
            format!("launch.interface names loopback, {address}: other nodes can't reach {host}"),
            "name the interface of the cluster's network, unless all ranks are on one node",
        ),
        Ok(address) => Finding::ok(WHAT, format!("other nodes reach {host} at {address}")),
        Err(error) if wanted.is_some() => Finding::failure(
            WHAT,
            error.to_string(),
            "let launch.interface name an interface that every node has",
        ),
        Err(error) => Finding::warning(
            WHAT,
            error.to_string(),
            "on one node that is no harm; several need a network between them",
        ),
    })
}

/// Whether the deployment can have a port.
fn listening(key: &str, address: SocketAddr) -> Finding {
    if address.port() == 0 {
        return Finding::ok(key, "any free one");
    }
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(key, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::failure(
            key,
            format!("{address} is in use"),
            format!(
                "end what listens there (`ss -ltnp`), or set {key} to another one, or to 0 for any"
            ),
        ),
        Err(error) => Finding::failure(
            key,
            format!("{address} can't be had: {error}"),
            format!("set server.host to an address of this machine, or {key} to a port above 1023"),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn a_port_that_somebody_has_is_a_failure() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let found = listening("server.http_port", address);
        assert_eq!((found.grade, found.found), (Grade::Failure, format!("{address} is in use")));
        assert!(found.advice.unwrap().contains("set server.http_port to another one"));
        drop(taken);
        assert_eq!(listening("server.http_port", address).grade, Grade::Ok);
        assert_eq!(listening("server.http_port", "127.0.0.1:0".parse().unwrap()).grade, Grade::Ok);
    }
}
