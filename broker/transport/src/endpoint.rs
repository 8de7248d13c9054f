//! Endpoints: a socket that speaks QUIC.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, Runtime as _, ServerConfig, TokioRuntime};

use crate::reset;
use crate::settings::{LOOPBACK_MTU, Path};
use crate::socket::{self, Batched};

/// An endpoint that accepts connections at `address`.
///
/// `secret` stays the same over restarts and is nobody else's, as the key of the certificate: clients of a broker
/// that crashed are told so at once by the next one with the same secret.
///
/// Called within the tokio runtime that is to drive it; one with a single thread of its own is the fastest.
///
/// # Errors
/// When the address cannot be bound.
pub fn server(address: SocketAddr, config: ServerConfig, secret: &[u8]) -> io::Result<Endpoint> {
    open(address, Some(config), reset::config(secret))
}

/// An endpoint for connections to `peer`. Called as [`server`].
///
/// # Errors
/// When no socket can be bound.
pub fn client(peer: SocketAddr) -> io::Result<Endpoint> {
    let local: IpAddr = match (peer, Path::to(peer)) {
        (SocketAddr::V4(_), Path::Loopback) => Ipv4Addr::LOCALHOST.into(),
        (SocketAddr::V4(_), Path::Network) => Ipv4Addr::UNSPECIFIED.into(),
        (SocketAddr::V6(peer), Path::Loopback) if *peer.ip() == Ipv6Addr::LOCALHOST => {
            peer.ip().to_owned().into()
        }
        (SocketAddr::V6(_), _) => Ipv6Addr::UNSPECIFIED.into(),
    };
    open(SocketAddr::new(local, 0), None, EndpointConfig::default())
}

fn open(
    address: SocketAddr,
    server: Option<ServerConfig>,
    mut config: EndpointConfig,
) -> io::Result<Endpoint> {
    let runtime = Arc::new(TokioRuntime);
    let socket = runtime.wrap_udp_socket(socket::bind(address)?)?;
    config.max_udp_payload_size(LOOPBACK_MTU).expect("over the minimum of 1,200");
    Endpoint::new_with_abstract_socket(config, server, Arc::new(Batched::new(socket)), runtime)
}
