//! Streams as a part of a snapshot.
//!
//! ```text
//! streams:     id · name · for each partition: next offset · what is kept · groups
//! kept, plain: first offset · sealed blocks (bytes · places) · open (bytes · places) · [keys: hash · offset]
//! compacted:   messages (offset, id, stored at: as steps · bytes · key · whether it takes the key away)
//! groups:      name · members · for each partition: floor · settled above it · seen · owner · generation
//! ```

use wharf_protocol::Timestamp;

use super::Stream;
use super::block::{Block, Place};
use super::blocks::Blocks;
use super::group::{Cursor, Group};
use super::keys::Keys;
use super::partition::{Kept, Partition};
use super::slots::{Slot, Slots};
use crate::backlog::{packed, unpacked};
use crate::pack::{Packer, Short, Unpacker};
use crate::purse::Bytes;
use crate::snapshot::RestoreError;
use crate::{ConsumerId, QueueId, Topology};

/// No offset that was ever given out is past this.
const OFFSET_MAX: u64 = 1 << 59;

pub(crate) fn pack<'a>(streams: impl ExactSizeIterator<Item = &'a Stream>, packer: &mut Packer) {
    packer.number(streams.len() as u64);
    for stream in streams {
        packer.number(u64::from(stream.id.0));
        packer.bytes(stream.name.as_str().as_bytes());
        for partition in &stream.partitions {
            pack_partition(partition, packer);
        }
        packer.number(stream.groups.len() as u64);
        for (name, group) in &stream.groups {
            packer.bytes(name.as_str().as_bytes());
            pack_group(group, packer);
        }
    }
}

pub(crate) fn unpack(topology: &Topology, unpacker: &mut Unpacker<'_>) -> Result<Vec<Stream>, RestoreError> {
    let count = unpacker.count()?;
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(unpack_stream(topology, unpacker)?);
    }
    Ok(streams)
}

fn unpack_stream(topology: &Topology, unpacker: &mut Unpacker<'_>) -> Result<Stream, RestoreError> {
    let id = QueueId(unpacker.small()?);
    let name = std::str::from_utf8(unpacker.bytes()?).ok();
    let declared = name.and_then(|name| topology.stream_named(name)).filter(|(_, info)| info.id == id);
    let Some((name, info)) = declared else {
        return Err(RestoreError::Inconsistent("a stream is not declared"));
    };
    let mut stream = Stream::new(id, name.clone(), info.policy.clone());
    for partition in &mut stream.partitions {
        unpack_partition(partition, unpacker)?;
    }
    for _ in 0..unpacker.count()? {
        let name = std::str::from_utf8(unpacker.bytes()?).ok().and_then(|name| name.parse().ok());
        let name = name.ok_or(RestoreError::Inconsistent("a group has no name"))?;
        let group = unpack_group(&stream.partitions, unpacker)?;
        if stream.groups.insert(name, group).is_some() {
            return Err(RestoreError::Inconsistent("a group is there twice"));
        }
    }
    Ok(stream)
}

fn pack_partition(partition: &Partition, packer: &mut Packer) {
    packer.number(partition.next);
    match &partition.kept {
        Kept::Blocks(blocks) => {
            let first = partition.first();
            packer.number(first);
            packer.number(blocks.sealed.len() as u64);
            blocks.sealed.iter().for_each(|block| block.pack(packer));
            packer.flag(!blocks.open.is_empty());
            if !blocks.open.is_empty() {
                Block::seal(0, blocks.open_bytes, &blocks.open).pack(packer);
            }
            if let Some(keys) = &partition.keys {
                packer.number(keys.iter(first).count() as u64);
                for (key, offset) in keys.iter(first) {
                    packer.wide(key);
                    packer.number(offset);
                }
            }
        }
        Kept::Slots(slots) => {
            packer.number(slots.by_offset.len() as u64);
            let (mut last, mut id, mut at) = (0, 0, 0);
            for (offset, slot) in &slots.by_offset {
                packer.number(offset - last);
                packer.step(id, packed(slot.place.id));
                packer.step(at, slot.place.at.0);
                (last, id, at) = (*offset, packed(slot.place.id), slot.place.at.0);
                packer.number(slot.bytes);
                packer.flag(slot.key.is_some());
                slot.key.into_iter().for_each(|key| packer.wide(key));
                packer.flag(slot.tombstone);
            }
        }
    }
}

fn unpack_partition(partition: &mut Partition, unpacker: &mut Unpacker<'_>) -> Result<(), RestoreError> {
    partition.next = unpacker.number()?;
    if partition.next > OFFSET_MAX {
        return Err(RestoreError::Inconsistent("a partition has more offsets than there are"));
    }
    let bytes = match &mut partition.kept {
        Kept::Blocks(blocks) => {
            *blocks = unpack_blocks(partition.next, unpacker)?;
            let first = blocks.first(partition.next).unwrap_or(partition.next);
            partition.messages = partition.next - first;
            let bytes = blocks.sealed.iter().fold(blocks.open_bytes, |b, each| b.saturating_add(each.bytes));
            if let Some(keys) = &mut partition.keys {
                unpack_keys(keys, first..partition.next, unpacker)?;
            }
            bytes
        }
        Kept::Slots(slots) => {
            let keys = partition.keys.get_or_insert_default();
            unpack_slots(slots, keys, partition.next, unpacker)?;
            partition.messages = slots.by_offset.len() as u64;
            slots.by_offset.values().fold(0, |bytes: u64, slot| bytes.saturating_add(slot.bytes))
        }
    };
    if bytes > u64::MAX >> 8 {
        return Err(RestoreError::Inconsistent("a partition has more bytes than there are"));
    }
    partition.bytes = Bytes::of(bytes);
    Ok(())
}

fn unpack_blocks(next: u64, unpacker: &mut Unpacker<'_>) -> Result<Blocks, RestoreError> {
    let mut first = unpacker.number()?;
    let mut blocks = Blocks::default();
    let damaged = || RestoreError::Inconsistent("a block of a stream is not one");
    for _ in 0..unpacker.count()? {
        let block = Block::unpack(first, unpacker).ok_or_else(damaged)?;
        first = block.end();
        blocks.sealed.push_back(block);
    }
    if unpacker.flag()? {
        let open = Block::unpack(first, unpacker).ok_or_else(damaged)?;
        first = open.end();
        (blocks.open, blocks.open_bytes) = (open.places().collect(), open.bytes);
    }
    let risen = blocks.read(0, first).map(|(_, place)| (place.id, place.at)).is_sorted();
    if first != next || !risen {
        return Err(RestoreError::Inconsistent("the blocks of a stream do not follow each other"));
    }
    Ok(blocks)
}

fn unpack_keys(
    keys: &mut Keys,
    kept: std::ops::Range<u64>,
    unpacker: &mut Unpacker<'_>,
) -> Result<(), RestoreError> {
    for _ in 0..unpacker.count()? {
        let (key, offset) = (unpacker.wide()?, unpacker.number()?);
        if !kept.contains(&offset) || keys.put(key, offset).is_some() {
            return Err(RestoreError::Inconsistent("a key of a stream is not where it should be"));
        }
    }
    Ok(())
}

fn unpack_slots(
    slots: &mut Slots,
    keys: &mut Keys,
    next: u64,
    unpacker: &mut Unpacker<'_>,
) -> Result<(), RestoreError> {
    let (mut offset, mut id, mut at) = (0_u64, 0, 0);
    for n in 0..unpacker.count()? {
        let step = unpacker.number()?;
        offset = offset.checked_add(step).filter(|o| *o < next && (n == 0 || step > 0)).ok_or(Short)?;
        id = unpacker.step(id)?;
        at = unpacker.step(at)?;
        let place = Place { id: unpacked(id), at: Timestamp(at) };
        let bytes = unpacker.number()?;
        let key = if unpacker.flag()? { Some(unpacker.wide()?) } else { None };
        if key.is_some_and(|key| keys.put(key, offset).is_some()) {
            return Err(RestoreError::Inconsistent("a compacted stream has a key twice"));
        }
        slots.insert(offset, Slot { place, bytes, key, tombstone: unpacker.flag()? });
    }
    Ok(())
}

fn pack_group(group: &Group, packer: &mut Packer) {
    packer.number(group.members.len() as u64);
    group.members.iter().for_each(|member| packer.number(member.0));
    for cursor in &group.cursors {
        packer.number(cursor.floor);
        packer.number(cursor.ahead.len() as u64);
        let mut from = cursor.floor;
        for (first, last) in &cursor.ahead {
            packer.number(first - from);
            packer.number(last - first);
            from = *last;
        }
        packer.number(cursor.seen);
        packer.maybe(cursor.owner.map(|owner| owner.0));
        packer.number(cursor.generation);
    }
}

fn unpack_group(partitions: &[Partition], unpacker: &mut Unpacker<'_>) -> Result<Group, RestoreError> {
    let mut group = Group::new(partitions.iter().map(|_| 0));
    for _ in 0..unpacker.count()? {
        group.members.insert(ConsumerId(unpacker.number()?));
    }
    for (cursor, partition) in group.cursors.iter_mut().zip(partitions) {
        let floor = unpacker.number()?;
        *cursor = Cursor { floor, ..Cursor::default() };
        let mut from = floor;
        for _ in 0..unpacker.count()? {
            let first = from.checked_add(unpacker.number()?).ok_or(Short)?;
            let last = first.checked_add(unpacker.number()?).ok_or(Short)?;
            if first <= from || last >= partition.next {
                return Err(RestoreError::Inconsistent("a group settled what was not there"));
            }
            cursor.settle(first, last);
            from = last;
        }
        cursor.seen = unpacker.number()?;
        cursor.owner = unpacker.maybe()?.map(ConsumerId);
        cursor.generation = unpacker.number()?;
        let owned = cursor.owner.is_none_or(|owner| group.members.contains(&owner));
        if floor > partition.next || !owned || cursor.owner.is_none() != group.members.is_empty() {
            return Err(RestoreError::Inconsistent("a group is not where it can be"));
        }
    }
    Ok(group)
}
