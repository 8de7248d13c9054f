//! The settings of a connection, each bound named.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};

/// The payload of a UDP datagram between processes of one machine: four fill the largest that the kernel takes.
pub(crate) const LOOPBACK_MTU: u16 = 16_370;

/// What may be sent on a loopback path before the first acknowledgement. Must exceed the MTU, or the
/// handshake never ends.
const LOOPBACK_WINDOW_BYTES: u64 = 256 * 1024;

/// Bytes of one stream that the other end may send ahead of the reader.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of one connection that the other end may send ahead of the readers.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Bytes of one connection that are sent and not acknowledged.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes of datagrams that a client keeps for its taps; the oldest give way.
const DATAGRAMS_RECEIVED_BYTES: usize = 1024 * 1024;

/// Bytes of datagrams of one connection that wait to be sent; then their taps wait, and miss the oldest messages.
const DATAGRAMS_SENT_BYTES: usize = 256 * 1024;

/// A connection that is silent for so long is lost.
const IDLE: Duration = Duration::from_secs(30);

/// How often a client breaks the silence.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What lies between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The peer is on this machine.
    Loopback,
    /// Anything else.
    Network,
}

impl Path {
    /// The path to `peer`.
    pub fn to(peer: SocketAddr) -> Self {
        let loopback = match peer.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        };
        if loopback { Self::Loopback } else { Self::Network }
    }
}

/// Which end, and so which streams the other may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// The broker: its clients open up to so many at once.
    FromPeer(u32),
    /// A client: the broker opens none.
    None,
}

/// The settings of a connection over `path`.
pub fn transport(path: Path, streams: Streams) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_send_buffer_size(DATAGRAMS_SENT_BYTES)
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("half a minute fits a VarInt")));
    match streams {
        // Datagrams go from the broker to its clients. It takes none itself: one that comes is larger than nothing and
        // breaks the protocol. Without a buffer at all quinn would send none either.
        Streams::FromPeer(count) => {
            config.max_concurrent_bidi_streams(count.into()).datagram_receive_buffer_size(Some(0))
        }
        Streams::None => config
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(Some(DATAGRAMS_RECEIVED_BYTES))
            .keep_alive_interval(Some(KEEP_ALIVE)),
    };
    if path == Path::Loopback {
        let mut congestion = CubicConfig::default();
        congestion.initial_window(LOOPBACK_WINDOW_BYTES);
        config
            .initial_mtu(LOOPBACK_MTU)
            .mtu_discovery_config(None)
            .congestion_controller_factory(Arc::new(congestion));
    }
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for text in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(Path::to(text.parse().expect("an address")), Path::Loopback, "{text}");
        }
        for text in ["10.0.0.1:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(Path::to(text.parse().expect("an address")), Path::Network, "{text}");
        }
    }

    #[test]
    fn the_first_flight_of_a_loopback_path_holds_a_whole_datagram() {
        const { assert!(LOOPBACK_WINDOW_BYTES > LOOPBACK_MTU as u64) }
    }
}
