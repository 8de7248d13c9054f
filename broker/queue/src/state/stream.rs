//! Streams: what they keep, messages appended, policies changed.

use wharf_protocol::{Message, MessageId, Name};

use super::State;
use crate::effect::Refusal;
use crate::stream::{Place, Stream};
use crate::{Change, Effect, GroupView, QueueId, StreamView, Waiting};

/// Where messages of a partition lie, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPlaces {
    /// In order; in a compacted stream with gaps.
    pub places: Vec<Waiting>,
    /// The first offset that is kept.
    pub first: u64,
    /// The offset that the next message gets.
    pub next: u64,
}

impl State {
    /// One stream in numbers.
    pub fn stream(&self, name: &str) -> Option<StreamView> {
        Some(self.stream_named(name)?.view())
    }

    /// All streams in numbers, by number.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = StreamView> {
        self.streams.values().map(Stream::view)
    }

    /// All groups of a stream in numbers, by name.
    pub fn groups(&self, stream: &str) -> Vec<GroupView> {
        let Some(stream) = self.stream_named(stream) else { return Vec::new() };
        stream.groups.keys().filter_map(|name| stream.group_view(name)).collect()
    }

    /// At most `max` messages of a partition from offset `from` on; `None` when there is no such partition.
    pub fn read_stream(
        &self,
        stream: QueueId,
        partition: u16,
        from: u64,
        max: usize,
    ) -> Option<StreamPlaces> {
        let partition = self.streams.get(&stream)?.partitions.get(usize::from(partition))?;
        let waiting = |(offset, place): (u64, Place)| Waiting { offset, id: place.id, stored_at: place.at };
        let places = partition.read(from, max).into_iter().map(waiting).collect();
        Some(StreamPlaces { places, first: partition.first(), next: partition.next })
    }

    /// The offset in each partition that `start` means now; `None` when there is no such stream.
    pub fn offsets_at(&self, stream: QueueId, start: crate::Start) -> Option<Vec<u64>> {
        let stream = self.streams.get(&stream)?;
        Some((0..stream.partitions.len()).map(|number| stream.offset_of(number, start)).collect())
    }

    /// Partition and place of the last message of a key, in a stream that knows its keys.
    pub fn last_of_key(&self, stream: &str, key: &[u8]) -> Option<(u16, Waiting)> {
        self.stream_named(stream)?.last(key)
    }

    /// Adds a message to a stream, if `stream` is one that is there.
    pub(super) fn append_to_stream(&mut self, id: MessageId, stream: QueueId, message: &Message) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let appended = stream.append(id, self.now, message, &mut self.live, &mut self.timers);
        self.appended.push((stream.id, appended.0));
    }

    /// Tells which partitions have more than before this record.
    pub(super) fn tell_appended(&mut self, effects: &mut Vec<Effect>) {
        self.appended.sort_unstable();
        self.appended.dedup();
        for (stream, partition) in self.appended.drain(..) {
            let Some(known) = self.streams.get(&stream) else { continue };
            let next = known.partitions[usize::from(partition)].next;
            effects.push(Effect::Appended { stream, partition, next });
        }
    }

    /// Gives up what a partition does not keep any more.
    pub(super) fn retain(&mut self, stream: QueueId, partition: u16) {
        let stream = self.streams.get_mut(&stream).expect("a stream's timers go with it");
        stream.partitions[usize::from(partition)].armed = None;
        stream.retain(partition, self.now, &mut self.live, &mut self.timers);
    }

    /// Does what a change of topology, which is made, means for the streams.
    pub(super) fn change_streams(
        &mut self,
        change: &Change,
        deleted: Option<QueueId>,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            Change::CreateStream { name, policy } => {
                let id = self.topology.stream(name.as_str()).expect("just made").id;
                self.streams.entry(id).or_insert_with(|| Stream::new(id, name.clone(), policy.clone()));
            }
            Change::SetStreamPolicy { name, policy, .. } => {
                let id = self.topology.stream(name.as_str()).expect("the topology knows it").id;
                let stream = self.streams.get_mut(&id).expect("every declared stream is there");
                stream.set_policy(policy.clone(), self.now, &mut self.live, &mut self.timers);
            }
            Change::DeleteStream { .. } => {
                let id = deleted.expect("the topology knew it");
                let stream = self.streams.remove(&id).expect("every declared stream is there");
                stream.abandon(&mut self.live, &mut self.timers);
                for member in stream.groups.values().flat_map(|group| &group.members) {
                    self.members.remove(member);
                    effects.push(Effect::Cancelled { consumer: *member });
                }
                effects.push(Effect::StreamDeleted { stream: id });
            }
            _ => {}
        }
    }

    pub(super) fn verify_streams(&self) {
        self.streams.values().for_each(Stream::verify);
        assert_eq!(self.streams.len(), self.topology.streams().len(), "every declared stream is there");
        for (id, stream) in &self.streams {
            let info = self.topology.stream(stream.name.as_str()).expect("every stream is declared");
            assert_eq!((info.id, &info.policy), (*id, &stream.policy), "stream {}: as declared", stream.name);
            for (name, group) in &stream.groups {
                let mine = self.members.iter().filter(|(_, at)| (at.0, &at.1) == (*id, name));
                assert!(mine.map(|(member, _)| member).eq(&group.members), "group {name}: members");
            }
        }
    }

    fn stream_named(&self, name: &str) -> Option<&Stream> {
        self.streams.get(&self.topology.stream(name)?.id)
    }

    /// The stream of that name, to change it.
    pub(super) fn known_stream(&mut self, name: &Name) -> Result<&mut Stream, Refusal> {
        let unknown = || Refusal::not_found("stream", name);
        let id = self.topology.stream(name.as_str()).ok_or_else(unknown)?.id;
        Ok(self.streams.get_mut(&id).expect("every declared stream is there"))
    }
}
