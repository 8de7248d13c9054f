//! QUIC as both ends of Wharf set it up: the socket, the settings of a connection, frames on a stream.
//!
//! quinn is generous by default: an unbounded receive window, 65,536 half-open connections. Here each of its
//! bounds has a name. Between processes of one machine, packets of 16 KB instead of 1.4 KB more than double the
//! rate, but only when both ends expect them: that is why the settings lie in one place.

mod endpoint;
mod reset;
mod settings;
mod socket;
mod stream;

pub use endpoint::{client, server};
pub use settings::{Path, Streams, transport};
pub use stream::{FrameReader, ReadError, WRITE_BYTES};
