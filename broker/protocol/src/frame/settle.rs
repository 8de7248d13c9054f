//! What became of deliveries, and the answer to that.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Frame, FrameError};
use crate::{Outcome, Settlement};

/// The longest reason of a dead letter that travels; what is longer is cut at a character's end.
pub const REASON_BYTES_MAX: usize = 1024;

const RUN_BYTES: usize = 32;
const ANSWER_BYTES: usize = 8;
const NO_DELAY: u64 = u64::MAX;

const ACK: u8 = 1;
const NACK: u8 = 2;
const DEAD_LETTER: u8 = 3;

/// The answer to a `Settle` frame, whose outcomes would survive a crash, or to a `Renew` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which frame is answered.
    pub number: u64,
    /// The tags that were not leased to this consumer any more, ascending.
    pub stale: Vec<u64>,
}

pub(super) fn write(number: u64, settlements: &[Settlement], out: &mut BytesMut) {
    out.reserve(8 + settlements.len() * RUN_BYTES);
    out.put_u64_le(number);
    for settlement in settlements {
        let (outcome, delay, reason) = match &settlement.outcome {
            Outcome::Ack => (ACK, None, ""),
            Outcome::Nack { delay } => (NACK, *delay, ""),
            Outcome::DeadLetter { reason } => (DEAD_LETTER, None, cut(reason)),
        };
        let delay = delay.map_or(NO_DELAY, |d| u64::try_from(d.as_millis()).unwrap_or(NO_DELAY - 1));
        out.put_u8(outcome);
        out.put_u8(0);
        out.put_u16_le(u16::try_from(reason.len()).expect("a reason was cut to its bound"));
        out.put_u32_le(0);
        out.put_u64_le(settlement.first);
        out.put_u64_le(settlement.last);
        out.put_u64_le(delay);
        out.put_slice(reason.as_bytes());
    }
}

pub(super) fn read(mut body: Bytes) -> Result<Frame, FrameError> {
    const FRAME: &str = "Settle";
    let total = body.len();
    let short = || FrameError::Length { frame: FRAME, length: total };
    if body.len() < 8 {
        return Err(short());
    }
    let number = body.get_u64_le();
    let mut settlements = Vec::new();
    while body.has_remaining() {
        if body.len() < RUN_BYTES {
            return Err(short());
        }
        let mut head = body.split_to(RUN_BYTES);
        let outcome = head.get_u8();
        head.advance(1);
        let reason_bytes = usize::from(head.get_u16_le());
        head.advance(4);
        let (first, last, delay) = (head.get_u64_le(), head.get_u64_le(), head.get_u64_le());
        if last < first {
            return Err(FrameError::Field { frame: FRAME, field: "the last tag of a range", value: last });
        }
        if reason_bytes > REASON_BYTES_MAX || reason_bytes > body.len() {
            return Err(short());
        }
        let reason = body.split_to(reason_bytes);
        let outcome = match outcome {
            ACK => Outcome::Ack,
            NACK => Outcome::Nack { delay: (delay != NO_DELAY).then(|| Duration::from_millis(delay)) },
            DEAD_LETTER => Outcome::DeadLetter {
                reason: String::from_utf8(reason.to_vec()).map_err(|_| FrameError::Body {
                    frame: FRAME,
                    what: "the reason of a dead letter is not UTF-8".into(),
                })?,
            },
            other => {
                return Err(FrameError::Field { frame: FRAME, field: "the outcome", value: other.into() });
            }
        };
        settlements.push(Settlement { first, last, outcome });
    }
    Ok(Frame::Settle { number, settlements })
}

pub(super) fn write_answer(settled: &Settled, out: &mut BytesMut) {
    out.reserve(ANSWER_BYTES + settled.stale.len() * 8);
    out.put_u64_le(settled.number);
    for tag in &settled.stale {
        out.put_u64_le(*tag);
    }
}

pub(super) fn read_answer(frame: &'static str, mut body: Bytes) -> Result<Settled, FrameError> {
    if body.len() < ANSWER_BYTES || !body.len().is_multiple_of(8) {
        return Err(FrameError::Length { frame, length: body.len() });
    }
    let number = body.get_u64_le();
    let mut stale = Vec::with_capacity(body.len() / 8);
    while body.has_remaining() {
        stale.push(body.get_u64_le());
    }
    Ok(Settled { number, stale })
}

/// The longest beginning of `reason` that fits its bound and ends with a whole character.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
