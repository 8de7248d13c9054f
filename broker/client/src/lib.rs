//! The Wharf client: publish with confirms, consume with acks, ask and answer.
//!
//! ```no_run
//! use wharf_client::{Client, ConsumeOptions, Message};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The broker on this machine, by the file that `wharf serve` wrote.
//! let client = Client::from_context().await?;
//!
//! let publisher = client.publisher().await?;
//! let confirm = publisher.publish(Message::new("orders.eu".parse()?, "<order/>")).await?;
//! let stored = confirm.await?; // it would survive a crash
//!
//! let mut consumer = client.consume("orders", ConsumeOptions::default()).await?;
//! while let Some(delivery) = consumer.next().await {
//!     println!("{}: {} bytes", delivery.message.topic, delivery.message.payload.len());
//!     delivery.ack(); // sent with its neighbours; await it to know that it is durable
//! }
//! # Ok(()) }
//! ```
//!
//! A lost connection is taken up again, with growing pauses: unconfirmed messages are sent again under their
//! sequence numbers, which the broker stores once; subscriptions resume, and what was delivered and not yet
//! acknowledged comes again.
//!
//! A client runs on one thread of its own, whatever runtime the program has. Handles are cheap to clone and may be
//! used from any task.

mod client;
mod consumer;
mod context;
mod datagrams;
mod error;
mod link;
mod options;
mod publisher;
mod request;
mod shared_state;
mod stream;
mod tap;
mod transaction;
mod trust;

pub use client::Client;
pub use consumer::{ConsumeOptions, Consumer, Delivery, Settle, ack_all, dead_letter_all, nack_all};
pub use context::{Context, ContextError};
pub use error::{CommitError, ConnectError, ConsumeError, PublishError, RequestError, SettleError};
pub use options::ConnectOptions;
pub use publisher::{Confirm, Confirmed, OpenPublisher, Publisher};
pub use stream::{ReadOptions, Stream};
pub use tap::{OpenTap, Tap};
pub use transaction::{CommitReceipt, Transaction};
pub use trust::Trust;

pub use wharf_protocol::frame::Refusal;
pub use wharf_protocol::{
    Death, DeathCause, ErrorCode, Headers, HeadersBuilder, Message, MessageId, Name, Part, Pattern,
    PipelineVersion, QueueName, Rejection, Start, Stored, Timestamp, Topic,
};

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The code of the page about queues compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/queues.md")]
struct Queues;
