//! The messages of a tap, packed into datagrams.

use bytes::BytesMut;
use quinn::{Connection, SendDatagramError, SendStream};
use wharf_protocol::frame::{self, TAP_DATAGRAM_BYTES, TapDatagram};
use wharf_protocol::{ErrorCode, Message};

use crate::ended::Ended;

/// Numbers the messages of one tap and sends them, as many in a datagram as fit.
///
/// Sending waits for room among the connection's datagrams. Meanwhile the tap misses what is too much for it, as any
/// slow one does: nothing piles up here.
pub(super) struct Datagrams {
    tap: u32,
    connection: Connection,
    /// The number of the next message.
    next: u64,
    /// The datagram under way, and the number of its first message; empty when there is none.
    packed: BytesMut,
    first: u64,
}

impl Datagrams {
    pub(super) fn new(tap: u32, connection: Connection) -> Self {
        Self { tap, connection, next: 1, packed: BytesMut::new(), first: 1 }
    }

    /// Sends `messages`, before which the tap has missed so many; on `stream` what is too long for a datagram.
    pub(super) async fn send(
        &mut self,
        missed: u64,
        messages: impl Iterator<Item = Message>,
        stream: &mut SendStream,
    ) -> Result<(), Ended> {
        self.next += missed;
        for message in messages {
            let (number, bytes) = (self.next, TapDatagram::message_bytes(&message));
            self.next += 1;
            let room = self.connection.max_datagram_size().unwrap_or(0);
            if !self.packed.is_empty() && self.packed.len() + bytes > room {
                self.flush().await?;
            }
            if TAP_DATAGRAM_BYTES + bytes > room {
                let mut out = BytesMut::with_capacity(bytes);
                frame::encode_tap_numbered(number, &message, &mut out);
                stream.write_chunk(out.freeze()).await?;
                continue;
            }
            if self.packed.is_empty() {
                self.first = number;
                self.packed.reserve(room);
                TapDatagram::begin(self.tap, self.first, &mut self.packed);
            }
            frame::encode_tap(&message, &mut self.packed);
        }
        self.flush().await
    }

    /// Sends the datagram under way.
    async fn flush(&mut self) -> Result<(), Ended> {
        if self.packed.is_empty() {
            return Ok(());
        }
        match self.connection.send_datagram_wait(self.packed.split().freeze()).await {
            Ok(()) => Ok(()),
            Err(error @ SendDatagramError::TooLarge) => {
                // The path takes less than a moment ago. The client counts what is missing.
                tracing::debug!(tap = self.tap, first = self.first, %error, "a datagram is lost");
                Ok(())
            }
            Err(SendDatagramError::ConnectionLost(_)) => Err(Ended::Lost),
            Err(error) => Err(Ended::refused(ErrorCode::Internal, format!("sending a datagram: {error}"))),
        }
    }
}
