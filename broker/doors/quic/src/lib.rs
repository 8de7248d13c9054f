//! The QUIC door: what lets clients that speak `wharf/1` in, a thin translation onto a [`Node`].
//!
//! A connection is one task, and so is each of its streams, whose first frame names its role: `publisher`,
//! `consumer`, `tap`, `reader`. A stream that breaks the protocol is answered with an `Error` frame and closed, and
//! nothing else notices; on the control stream that ends the connection.
//!
//! A door runs on one thread of its own: handing packets between threads costs a fifth of the rate.
//!
//! [`Node`]: wharf_node::Node

mod asked;
mod certificate;
mod config;
mod connection;
mod consumer;
mod consumers;
mod door;
mod ended;
mod publisher;
mod reader;
mod tap;
mod transactor;

pub use certificate::{Certificate, CertificateError};
pub use config::Config;
pub use door::{BindError, Door};
