//! What a door is told, each bound named.

use std::net::SocketAddr;
use std::time::Duration;

use wharf_protocol::frame::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX};

use crate::Certificate;

/// Settings of a [`Door`](crate::Door). `Config::new(address, certificate)` has every default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Who it is.
    pub certificate: Certificate,
    /// The longest body of a frame that it takes.
    pub frame_bytes_max: usize,
    /// Connections at once; more are refused.
    pub connections_max: usize,
    /// Connections whose handshake is under way; above a quarter of it, clients must first show that they receive
    /// at the address they send from.
    pub handshakes_max: usize,
    /// Streams of one connection, the control stream included.
    pub streams_max: u32,
    /// The most credit that one consumer may hold.
    pub credit_max: u32,
    /// How long a connection may take to say who it is.
    pub hello: Duration,
    /// How long the rest of a frame may take once its beginning is there.
    pub frame: Duration,
    /// How long a stopping door waits for its connections to end.
    pub drain: Duration,
}

impl Config {
    /// Every default.
    pub fn new(address: SocketAddr, certificate: Certificate) -> Self {
        Self {
            address,
            certificate,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            connections_max: 10_000,
            handshakes_max: 512,
            streams_max: 64,
            credit_max: 65_536,
            hello: Duration::from_secs(5),
            frame: Duration::from_secs(10),
            drain: Duration::from_secs(2),
        }
    }

    /// The bound of a frame, itself within what the protocol allows.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.min(FRAME_BYTES_MAX)
    }
}
