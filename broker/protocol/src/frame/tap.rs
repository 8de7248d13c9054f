//! Live messages, at most once: on the tap's stream, or in datagrams.
//!
//! A client that asks for datagrams names its tap by a number of its own choice, and the broker says in [`Tapped`]
//! whether it sends any. Then every message that concerns the tap has a number: 1, 2, 3… in the order of publishing,
//! also the one that is dropped because the tap reads too slowly. So who receives them can count what is missing. A
//! datagram holds whole messages, as many as fit:
//!
//! ```text
//!  0  u32  the tap
//!  4  u32  zero
//!  8  u64  number of the first message; the others follow it
//! 16  frames `Tap`, to the end
//! ```
//!
//! A message that fits into no datagram of the path travels on the tap's stream, as `TapNumbered`: u64 number ·
//! message. Datagrams overtake each other and what is on the stream, and those that are lost stay lost.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::head::{HEAD_BYTES, at_least, framed};
use super::kind::Kind;
use super::{Frame, FrameError};
use crate::{Message, Pattern};

/// The bytes of a datagram before its frames.
pub const TAP_DATAGRAM_BYTES: usize = 16;

/// Makes a stream a tap's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeTopic {
    /// Which topics.
    pub pattern: Pattern,
    /// Send the messages as [datagrams](TapDatagram), which are to carry this number: one of the client's choice that
    /// no other of its taps on the connection has.
    #[serde(default)]
    pub datagrams: Option<u32>,
}

/// The answer to [`SubscribeTopic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tapped {
    /// Whether messages come as datagrams, where that was asked for: not from a broker or over a path that has none.
    #[serde(default)]
    pub datagrams: bool,
}

/// A datagram of live messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapDatagram {
    /// Whose: the number of [`SubscribeTopic::datagrams`].
    pub tap: u32,
    /// The number of the first message.
    pub first: u64,
    /// At least one.
    pub messages: Vec<Message>,
}

impl TapDatagram {
    /// Begins a datagram in `out`, to which [`encode_tap`] then appends each message.
    pub fn begin(tap: u32, first: u64, out: &mut BytesMut) {
        out.put_u32_le(tap);
        out.put_u32_le(0);
        out.put_u64_le(first);
    }

    /// The bytes that `message` takes in a datagram.
    pub fn message_bytes(message: &Message) -> usize {
        HEAD_BYTES + message.encoded_bytes()
    }

    /// Reads a datagram. Payloads are slices of it, not copies.
    ///
    /// # Errors
    /// What keeps the bytes from being a datagram of a tap.
    pub fn decode(mut body: Bytes) -> Result<Self, FrameError> {
        const FRAME: &str = "TapDatagram";
        at_least(FRAME, &body, TAP_DATAGRAM_BYTES + HEAD_BYTES)?;
        let (tap, zero, first) = (body.get_u32_le(), body.get_u32_le(), body.get_u64_le());
        if zero != 0 {
            let field = "the gap before the number";
            return Err(FrameError::Field { frame: FRAME, field, value: zero.into() });
        }
        let mut messages = Vec::new();
        while !body.is_empty() {
            at_least(FRAME, &body, HEAD_BYTES)?;
            let length = body.get_u32_le() as usize;
            let (kind, flags, reserved) = (body.get_u8(), body.get_u8(), body.get_u16_le());
            if kind != Kind::Tap as u8 {
                return Err(FrameError::Kind(kind));
            }
            if flags != 0 {
                return Err(FrameError::Flags { kind, flags });
            }
            if reserved != 0 {
                return Err(FrameError::Reserved(reserved));
            }
            at_least(FRAME, &body, length)?;
            messages.push(Message::decode(body.split_to(length)).map_err(FrameError::Message)?);
        }
        Ok(Self { tap, first, messages })
    }
}

/// Appends a `Tap` frame to `out` without building a [`Frame`].
///
/// # Panics
/// As [`Message::encode`].
pub fn encode_tap(message: &Message, out: &mut BytesMut) {
    framed(out, Kind::Tap, |out| message.encode(out));
}

/// Appends a `TapNumbered` frame to `out` without building a [`Frame`].
///
/// # Panics
/// As [`Message::encode`].
pub fn encode_tap_numbered(number: u64, message: &Message, out: &mut BytesMut) {
    framed(out, Kind::TapNumbered, |out| {
        out.put_u64_le(number);
        message.encode(out);
    });
}

/// What [`encode_tap_numbered`] has written.
pub(super) fn read_numbered(mut body: Bytes) -> Result<Frame, FrameError> {
    at_least("TapNumbered", &body, 8)?;
    let number = body.get_u64_le();
    let message = Message::decode(body).map_err(FrameError::Message)?;
    Ok(Frame::TapNumbered { number, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payloads: &[&'static str]) -> (TapDatagram, Bytes) {
        let message = |payload: &&'static str| Message::new("a.b".parse().expect("a topic"), *payload);
        let messages: Vec<_> = payloads.iter().map(message).collect();
        let mut out = BytesMut::new();
        TapDatagram::begin(7, 41, &mut out);
        messages.iter().for_each(|message| encode_tap(message, &mut out));
        (TapDatagram { tap: 7, first: 41, messages }, out.freeze())
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written_and_as_long_as_it_was_reckoned() {
        let (expected, bytes) = datagram(&["one", "", "three"]);
        let reckoned: usize = expected.messages.iter().map(TapDatagram::message_bytes).sum();
        assert_eq!(bytes.len(), TAP_DATAGRAM_BYTES + reckoned);
        assert_eq!(TapDatagram::decode(bytes).expect("a datagram"), expected);
    }

    #[test]
    fn a_datagram_that_is_cut_anywhere_is_refused_or_has_fewer_messages() {
        let (whole, bytes) = datagram(&["one", "two"]);
        for length in 0..bytes.len() {
            if let Ok(cut) = TapDatagram::decode(bytes.slice(..length)) {
                assert_eq!(cut.messages, whole.messages[..1], "{length} bytes");
            }
        }
    }

    #[test]
    fn what_is_not_a_tap_frame_has_no_place_in_a_datagram() {
        let (_, bytes) = datagram(&["one"]);
        for (at, byte) in [(4, 1), (TAP_DATAGRAM_BYTES + 4, Kind::Ping as u8), (TAP_DATAGRAM_BYTES + 5, 1)] {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            TapDatagram::decode(changed.into()).expect_err("refused");
        }
    }
}
