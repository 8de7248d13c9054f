//! A tap's stream: live messages out, on it or in datagrams beside it.

mod datagrams;

use bytes::BytesMut;
use quinn::SendStream;
use wharf_protocol::Message;
use wharf_protocol::frame::{self, Frame, SubscribeTopic, TAP_DATAGRAM_BYTES, Tapped};
use wharf_transport::{FrameReader, WRITE_BYTES};

use crate::connection::Guest;
use crate::ended::{Ended, write};
use datagrams::Datagrams;

/// Serves a tap until its client ends it.
pub(crate) async fn serve(
    send: &mut SendStream,
    reader: &mut FrameReader,
    subscribe: SubscribeTopic,
    guest: &Guest,
) -> Result<(), Ended> {
    let pattern = subscribe.pattern.clone();
    let mut tap = guest.node.tap(&guest.principal, subscribe.pattern)?;
    let takes_some = || guest.connection.max_datagram_size().is_some_and(|bytes| bytes > TAP_DATAGRAM_BYTES);
    let number = subscribe.datagrams.filter(|_| takes_some());
    let mut datagrams = number.map(|number| Datagrams::new(number, guest.connection.clone()));
    write(send, &Frame::Tapped(Tapped { datagrams: datagrams.is_some() })).await?;
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
        match &mut datagrams {
            Some(datagrams) => datagrams.send(missed, messages.drain(..), send).await?,
            None => send_all(messages.drain(..), send, &mut out).await?,
        }
    }
}

/// Writes `messages` to the stream, many at once.
async fn send_all(
    messages: impl Iterator<Item = Message>,
    send: &mut SendStream,
    out: &mut BytesMut,
) -> Result<(), Ended> {
    for message in messages {
        frame::encode_tap(&message, out);
        if out.len() >= WRITE_BYTES {
            send.write_chunk(out.split().freeze()).await?;
        }
    }
    if !out.is_empty() {
        send.write_chunk(out.split().freeze()).await?;
    }
    Ok(())
}
