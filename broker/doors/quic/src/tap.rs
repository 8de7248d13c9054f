//! A tap's stream: live messages out.

use bytes::BytesMut;
use quinn::SendStream;
use wharf_protocol::frame::{self, Frame, SubscribeTopic, Tapped};
use wharf_transport::{FrameReader, WRITE_BYTES};

use crate::connection::Guest;
use crate::ended::{Ended, write};

/// Serves a tap until its client ends it.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    subscribe: SubscribeTopic,
    guest: &Guest,
) -> Result<(), Ended> {
    let pattern = subscribe.pattern.clone();
    let mut tap = guest.node.tap(&guest.principal, subscribe.pattern)?;
    write(send, &Frame::Tapped(Tapped {})).await?;
    let (mut messages, mut out) = (Vec::new(), BytesMut::new());
    loop {
        let missed = tokio::select! {
            missed = tap.next(&mut messages) => missed?,
            frame = reader.next() => match frame? {
                Some(other) => return Err(Ended::unexpected(&other, "tap")),
                None => return Ok(()),
            },
        };
        if missed > 0 {
            tracing::debug!(%pattern, missed, "a tap reads too slowly");
        }
        for message in messages.drain(..) {
            frame::encode_tap(&message, &mut out);
            if out.len() >= WRITE_BYTES {
                send.write_chunk(out.split().freeze()).await?;
            }
        }
        if !out.is_empty() {
            send.write_chunk(out.split().freeze()).await?;
        }
    }
}
