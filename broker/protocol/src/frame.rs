//! Frames: what travels on a stream of a `wharf/1` connection.
//!
//! ```text
//!  0  u32  length of the body
//!  4  u8   kind
//!  5  u8   flags, 0 unless the kind says otherwise
//!  6  u16  zero
//!  8  body
//! ```
//!
//! Integers are little-endian. The head is checked, its length against the reader's bound included, before
//! anything is kept for the body. A body is either a MessagePack map (at most 16 deep, nothing after it; fields
//! that this end does not know are skipped) or, where frames are many, a fixed head and raw bytes:
//!
//! ```text
//! Ping, Pong   u64 nonce
//! Publish      u64 sequence · message
//! Confirm      runs, see `Confirmation`
//! Deliver      u64 tag · u64 offset · u64 index · u64 stored at (ms) · u32 attempt · u16 entry · u16 partition ·
//!              u32 length of the death, 0: none · u32 zero · death (MessagePack) · message
//!              flags bit 0: it may have been delivered before
//! Credit       u32 messages, and that is all; or u32 messages · u32 zero · u64 bytes
//! Settle       u64 number · runs, see `Frame::Settle`
//! Settled      u64 number · stale tags, each u64
//! Empty        nothing
//! Renew        u64 number · ranges of tags, each u64 first · u64 last
//! Renewed      u64 number · stale tags, each u64
//! Tap          message
//! TapNumbered  u64 number · message       see `frame/tap.rs`, which also draws the datagrams of a tap
//! PublishAll, Transact, Transacted   see `frame/transact.rs`
//! ```
//!
//! A stream has one role, which its first frame names; `→` goes to the broker:
//!
//! ```text
//! control    → Hello     ← Welcome | Error         then Ping, Pong and Goodbye both ways
//! consumer   → Subscribe      ← Subscribed | Error ← Deliver… Settled… Renewed… Empty Cancelled
//!                                                  → Credit… Settle… Renew…
//! publisher  → OpenPublisher  ← Opened | Error     → Publish… PublishAll…    ← Confirm…
//! tap        → SubscribeTopic ← Tapped | Error     ← Tap… or TapNumbered…
//! transactor → OpenTransactor ← Opened | Error     → Transact…   ← Transacted…
//! reader     → OpenReader     ← ReaderOpened | Error  ← Deliver… Settled… Empty Cancelled  → Credit… Settle…
//! ```
//!
//! The control stream is the connection's first, and `Hello` comes before any other stream is opened. An
//! [`Refusal`] (`Error`) is the last frame of its stream; on the control stream, of its connection.

mod body;
mod confirm;
mod decoder;
mod deliver;
mod error;
mod head;
mod kind;
mod pack;
mod publish;
mod reader;
mod renew;
mod settle;
mod tap;
#[cfg(test)]
mod tests;
mod transact;
mod versions;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

pub use body::{
    Cancelled, Durable, Goodbye, Hello, Limits, OpenPublisher, OpenTransactor, Opened, ProducerSession,
    Refusal, Subscribe, Subscribed, Welcome,
};
pub use confirm::Confirmation;
pub use decoder::Decoder;
pub use deliver::encode_deliver;
pub use error::FrameError;
pub use head::HEAD_BYTES;
pub use publish::{encode_publish, encode_publish_all};
pub use reader::{OpenReader, ReaderOpened};
pub use settle::{REASON_BYTES_MAX, Settled};
pub use tap::{SubscribeTopic, TAP_DATAGRAM_BYTES, TapDatagram, Tapped, encode_tap, encode_tap_numbered};
pub use transact::{ConsumerSettlement, Transact, Transacted};

use crate::{Delivery, Message, Settlement};
use head::{fixed, framed};
use kind::Kind;

/// The longest body that a reader takes unless it is told otherwise.
pub const FRAME_BYTES_DEFAULT: usize = 1024 * 1024;

/// The longest body that a reader can be told to take.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The protocol that a connection speaks, for TLS's ALPN extension.
pub const ALPN: &[u8] = b"wharf/1";

/// The version of the protocol that this code speaks, for [`Hello`].
pub const VERSION: u16 = 1;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who is calling.
    Hello(Hello),
    /// Come in; this is what is allowed.
    Welcome(Welcome),
    /// Is anybody there?
    Ping(u64),
    /// Yes: the number of the ping.
    Pong(u64),
    /// This end is about to close the connection, in good order.
    Goodbye(Goodbye),
    /// Something is wrong; the stream ends here.
    Error(Refusal),
    /// This stream publishes.
    OpenPublisher(OpenPublisher),
    /// Publish away.
    Opened(Opened),
    /// One message.
    Publish {
        /// Its place in the producer's run.
        sequence: u64,
        /// What is published.
        message: Message,
    },
    /// What became of published messages.
    Confirm(Vec<Confirmation>),
    /// This stream consumes from a queue.
    Subscribe(Subscribe),
    /// The subscription stands.
    Subscribed(Subscribed),
    /// One message, leased to this consumer.
    Deliver(Delivery),
    /// So much more may be delivered.
    Credit {
        /// In messages.
        messages: u32,
        /// In bytes of encoded messages; nothing to a subscription without a bound on them.
        bytes: u64,
    },
    /// What became of deliveries.
    ///
    /// ```text
    ///  0  u8   outcome: 1 ack, 2 nack, 3 dead-letter
    ///  1  u8   zero
    ///  2  u16  length of the reason
    ///  4  u32  zero
    ///  8  u64  first tag
    /// 16  u64  last tag
    /// 24  u64  delay of a nack in milliseconds, 0xffffffffffffffff: as the queue's policy says
    /// 32  reason
    /// ```
    Settle {
        /// By which the answer names this frame: 1, 2, 3… on a stream.
        number: u64,
        /// Ranges of tags, each with its outcome.
        settlements: Vec<Settlement>,
    },
    /// The settle of that number would survive a crash.
    Settled(Settled),
    /// There is nothing left to deliver: the answer to [`Subscribe::until_empty`].
    Empty,
    /// These deliveries are still being worked on: their leases are to begin anew.
    Renew {
        /// By which the answer names this frame: 1, 2, 3… on a stream.
        number: u64,
        /// First and last tags.
        tags: Vec<(u64, u64)>,
    },
    /// The leases of the renew of that number began anew, but for those of the stale tags.
    Renewed(Settled),
    /// The subscription is over.
    Cancelled(Cancelled),
    /// This stream watches topics.
    SubscribeTopic(SubscribeTopic),
    /// Watching.
    Tapped(Tapped),
    /// One message that was published, at most once and not to be settled.
    Tap(Message),
    /// The same, of a tap whose messages travel as [datagrams](TapDatagram), and too long for one.
    TapNumbered {
        /// Its place in the tap's run.
        number: u64,
        /// What was published.
        message: Message,
    },
    /// This stream commits transactions.
    OpenTransactor(OpenTransactor),
    /// What is to happen together or not at all.
    Transact(Transact),
    /// What became of it.
    Transacted(Transacted),
    /// Messages on a publisher's stream that are stored together or not at all, under one sequence.
    PublishAll {
        /// Their place in the producer's run.
        sequence: u64,
        /// What is published.
        messages: Vec<Message>,
    },
    /// This stream reads a stream of messages.
    OpenReader(OpenReader),
    /// Read away.
    ReaderOpened(ReaderOpened),
}

impl Frame {
    /// The frame's name, for messages to people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::Goodbye(_) => "Goodbye",
            Self::Error(_) => "Error",
            Self::OpenPublisher(_) => "OpenPublisher",
            Self::Opened(_) => "Opened",
            Self::Publish { .. } => "Publish",
            Self::Confirm(_) => "Confirm",
            Self::Subscribe(_) => "Subscribe",
            Self::Subscribed(_) => "Subscribed",
            Self::Deliver(_) => "Deliver",
            Self::Credit { .. } => "Credit",
            Self::Settle { .. } => "Settle",
            Self::Settled(_) => "Settled",
            Self::Empty => "Empty",
            Self::Cancelled(_) => "Cancelled",
            Self::Renew { .. } => "Renew",
            Self::Renewed(_) => "Renewed",
            Self::SubscribeTopic(_) => "SubscribeTopic",
            Self::Tapped(_) => "Tapped",
            Self::Tap(_) => "Tap",
            Self::TapNumbered { .. } => "TapNumbered",
            Self::OpenTransactor(_) => "OpenTransactor",
            Self::Transact(_) => "Transact",
            Self::Transacted(_) => "Transacted",
            Self::PublishAll { .. } => "PublishAll",
            Self::OpenReader(_) => "OpenReader",
            Self::ReaderOpened(_) => "ReaderOpened",
        }
    }

    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// If a message in it breaks the bounds of [`Message::encode`], or the body takes 4 GiB.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(body) => framed(out, Kind::Hello, |out| pack::write(body, out)),
            Self::Welcome(body) => framed(out, Kind::Welcome, |out| pack::write(body, out)),
            Self::Ping(nonce) => framed(out, Kind::Ping, |out| out.put_u64_le(*nonce)),
            Self::Pong(nonce) => framed(out, Kind::Pong, |out| out.put_u64_le(*nonce)),
            Self::Goodbye(body) => framed(out, Kind::Goodbye, |out| pack::write(body, out)),
            Self::Error(body) => framed(out, Kind::Error, |out| pack::write(body, out)),
            Self::OpenPublisher(body) => framed(out, Kind::OpenPublisher, |out| pack::write(body, out)),
            Self::Opened(body) => framed(out, Kind::Opened, |out| pack::write(body, out)),
            Self::Publish { sequence, message } => encode_publish(*sequence, message, out),
            Self::Confirm(runs) => framed(out, Kind::Confirm, |out| confirm::write(runs, out)),
            Self::Subscribe(body) => framed(out, Kind::Subscribe, |out| pack::write(body, out)),
            Self::Subscribed(body) => framed(out, Kind::Subscribed, |out| pack::write(body, out)),
            Self::Deliver(delivery) => encode_deliver(delivery, out),
            Self::Credit { messages, bytes } => deliver::write_credit(*messages, *bytes, out),
            Self::Settle { number, settlements } => {
                framed(out, Kind::Settle, |out| settle::write(*number, settlements, out));
            }
            Self::Settled(settled) => framed(out, Kind::Settled, |out| settle::write_answer(settled, out)),
            Self::Empty => framed(out, Kind::Empty, |_| {}),
            Self::Cancelled(body) => framed(out, Kind::Cancelled, |out| pack::write(body, out)),
            Self::Renew { number, tags } => {
                framed(out, Kind::Renew, |out| renew::write(*number, tags, out));
            }
            Self::Renewed(renewed) => framed(out, Kind::Renewed, |out| settle::write_answer(renewed, out)),
            Self::SubscribeTopic(body) => framed(out, Kind::SubscribeTopic, |out| pack::write(body, out)),
            Self::Tapped(body) => framed(out, Kind::Tapped, |out| pack::write(body, out)),
            Self::Tap(message) => encode_tap(message, out),
            Self::TapNumbered { number, message } => encode_tap_numbered(*number, message, out),
            Self::OpenTransactor(body) => framed(out, Kind::OpenTransactor, |out| pack::write(body, out)),
            Self::Transact(body) => framed(out, Kind::Transact, |out| transact::write(body, out)),
            Self::Transacted(body) => framed(out, Kind::Transacted, |out| transact::write_answer(body, out)),
            Self::PublishAll { sequence, messages } => encode_publish_all(*sequence, messages, out),
            Self::OpenReader(body) => framed(out, Kind::OpenReader, |out| pack::write(body, out)),
            Self::ReaderOpened(body) => framed(out, Kind::ReaderOpened, |out| pack::write(body, out)),
        }
    }

    fn decode(kind: Kind, flags: u8, body: Bytes) -> Result<Self, FrameError> {
        if flags != 0 && !(kind == Kind::Deliver && flags == deliver::FLAG_REDELIVERED) {
            return Err(FrameError::Flags { kind: kind as u8, flags });
        }
        Ok(match kind {
            Kind::Hello => Self::Hello(pack::read("Hello", &body)?),
            Kind::Welcome => Self::Welcome(pack::read("Welcome", &body)?),
            Kind::Ping => Self::Ping(fixed("Ping", body, 8)?.get_u64_le()),
            Kind::Pong => Self::Pong(fixed("Pong", body, 8)?.get_u64_le()),
            Kind::Goodbye => Self::Goodbye(pack::read("Goodbye", &body)?),
            Kind::Error => Self::Error(pack::read("Error", &body)?),
            Kind::OpenPublisher => Self::OpenPublisher(pack::read("OpenPublisher", &body)?),
            Kind::Opened => Self::Opened(pack::read("Opened", &body)?),
            Kind::Publish => publish::read(body)?,
            Kind::Confirm => Self::Confirm(confirm::read(body)?),
            Kind::Subscribe => Self::Subscribe(pack::read("Subscribe", &body)?),
            Kind::Subscribed => Self::Subscribed(pack::read("Subscribed", &body)?),
            Kind::Deliver => deliver::read(flags & deliver::FLAG_REDELIVERED != 0, body)?,
            Kind::Credit => deliver::read_credit(body)?,
            Kind::Settle => settle::read(body)?,
            Kind::Settled => Self::Settled(settle::read_answer("Settled", body)?),
            Kind::Renew => renew::read(body)?,
            Kind::Renewed => Self::Renewed(settle::read_answer("Renewed", body)?),
            Kind::Empty => {
                fixed("Empty", body, 0)?;
                Self::Empty
            }
            Kind::Cancelled => Self::Cancelled(pack::read("Cancelled", &body)?),
            Kind::SubscribeTopic => Self::SubscribeTopic(pack::read("SubscribeTopic", &body)?),
            Kind::Tapped => Self::Tapped(pack::read("Tapped", &body)?),
            Kind::OpenReader => Self::OpenReader(pack::read("OpenReader", &body)?),
            Kind::ReaderOpened => Self::ReaderOpened(pack::read("ReaderOpened", &body)?),
            Kind::Tap => Self::Tap(Message::decode(body).map_err(FrameError::Message)?),
            Kind::TapNumbered => tap::read_numbered(body)?,
            Kind::OpenTransactor => Self::OpenTransactor(pack::read("OpenTransactor", &body)?),
            Kind::Transact => Self::Transact(transact::read(body)?),
            Kind::Transacted => Self::Transacted(transact::read_answer(body)?),
            Kind::PublishAll => publish::read_all(body)?,
        })
    }
}
