//! A consumer as the bytes of a snapshot.
//!
//! ```text
//! id · queue · attached by · credit · bytes · flags · armed · first tag
//! window:  of each place: 1 held · [offset] · deadline, as steps
//! ```

use wharf_protocol::Timestamp;

use super::RestoreError;
use crate::consumer::Consumer;
use crate::pack::{Packer, Unpacker};
use crate::{ConsumerId, QueueId, State};

/// How far below zero the bytes of a consumer can be: by one message, under 4 GiB.
const BYTES_OVERDRAWN_MAX: i64 = 1 << 32;

pub(super) fn pack(id: ConsumerId, consumer: &Consumer, packer: &mut Packer) {
    packer.number(id.0);
    packer.number(u64::from(consumer.queue.0));
    packer.number(consumer.attached_by);
    packer.number(consumer.credit);
    packer.maybe(consumer.bytes.map(i64::cast_unsigned));
    for flag in [consumer.auto_settle, consumer.notify_empty, consumer.told_empty, consumer.in_line] {
        packer.flag(flag);
    }
    packer.maybe(consumer.armed.map(|at| at.0));
    let (first_tag, window) = consumer.window();
    packer.number(first_tag);
    packer.number(window.len() as u64);
    let (mut last, mut at) = (0, 0);
    for (offset, deadline) in window {
        packer.flag(offset.is_some());
        if let Some(offset) = offset {
            packer.step(last, offset);
            last = offset;
        }
        packer.step(at, deadline.0);
        at = deadline.0;
    }
}

pub(super) fn unpack(
    state: &State,
    unpacker: &mut Unpacker<'_>,
) -> Result<(ConsumerId, Consumer), RestoreError> {
    let id = ConsumerId(unpacker.number()?);
    let queue = QueueId(unpacker.small()?);
    let Some(of) = state.queues.get(&queue) else {
        return Err(RestoreError::Inconsistent("a consumer's queue is not there"));
    };
    let mut consumer = Consumer::new(queue, unpacker.number()?);
    consumer.credit = unpacker.number()?;
    consumer.bytes = unpacker.maybe()?.map(u64::cast_signed);
    if consumer.bytes.is_some_and(|left| left < -BYTES_OVERDRAWN_MAX) {
        return Err(RestoreError::Inconsistent("a consumer took more than one message past its bytes"));
    }
    consumer.auto_settle = unpacker.flag()?;
    consumer.notify_empty = unpacker.flag()?;
    consumer.told_empty = unpacker.flag()?;
    consumer.in_line = unpacker.flag()?;
    consumer.armed = unpacker.maybe()?.map(Timestamp);
    let first_tag = unpacker.number()?;
    let count = unpacker.count()?;
    let mut places = Vec::with_capacity(count);
    let (mut last, mut at) = (0, 0);
    for _ in 0..count {
        let offset = if unpacker.flag()? { Some(unpacker.step(last)?) } else { None };
        if let Some(offset) = offset {
            last = offset;
            if of.backlog.slot(offset).is_none() {
                return Err(RestoreError::Inconsistent("a consumer holds a message that is not there"));
            }
        }
        at = unpacker.step(at)?;
        places.push((offset, Timestamp(at)));
    }
    let due = consumer.armed.is_none_or(|at| at > state.now);
    if consumer.set_window(first_tag, places).is_none() || !due || (consumer.in_line && !consumer.can_take())
    {
        return Err(RestoreError::Inconsistent("a consumer cannot be as it is said to be"));
    }
    Ok((id, consumer))
}
