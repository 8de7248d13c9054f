//! What pipelines remember, and how a publication changes it.
//!
//! A publication carries what its pipelines read and what they changed. Nobody but [`apply`](crate::State::apply)
//! changes anything, so what it does when it finds a reading outdated decides for all: the publication is *stale*,
//! nothing of it is stored, and whoever ran its pipelines runs them again. Readings are compared by a hash of what
//! was read, so that a run may read what another message left and the log does not hold yet.
//!
//! Readers elsewhere share the memory and see it as of the last record. They never see half a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{ErrorCode, Kept, Name, Receipt, Rejection, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::effect::Refusal;
use crate::pack::{Packer, Short, Unpacker};

/// What the pipelines of one publication read and changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvPart {
    /// Stale when the record before it was: both came in one batch, and this one is not to overtake it.
    pub follows: bool,
    /// What has to be still so.
    pub reads: Vec<KvRead>,
    /// What is different from then on; the last change of a key counts.
    pub changes: Vec<KvChange>,
}

/// A key that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvRead {
    /// Whose memory.
    pub pipeline: Name,
    /// The key.
    pub key: ByteString,
    /// The [digest](kv_digest) of what was there; `None`: nothing was.
    pub seen: Option<u64>,
}

/// A key that is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvChange {
    /// Whose memory.
    pub pipeline: Name,
    /// The key.
    pub key: ByteString,
    /// What is there from then on; `None`: nothing.
    pub kept: Option<Kept>,
}

/// The memory of all pipelines of a shard, for readers. Cheap to clone: clones share it.
#[derive(Clone, Debug, Default)]
pub struct Kv(Arc<RwLock<Spaces>>);

/// The memory of one pipeline in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvView {
    /// Whose.
    pub pipeline: Name,
    /// How many keys.
    pub keys: u64,
    /// What they take, as [`Kept::cost`] counts it.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Spaces {
    /// None is empty.
    spaces: BTreeMap<Name, Space>,
    /// Follows from the spaces.
    expiring: BTreeSet<(Timestamp, Name, ByteString)>,
    /// The last record that was stale; 0 before any.
    stale_at: u64,
}

#[derive(Debug, Default)]
struct Space {
    kept: BTreeMap<ByteString, Kept>,
    /// Follows from `kept`.
    bytes: u64,
}

/// What a publisher of a stale publication is told when nobody runs its pipelines again.
const STALE: &str = "what its pipelines remember changed while it was on its way; send it again";

/// A hash of what was read, by which a later reading is known to be the same.
pub fn kv_digest(kept: &Kept) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&kept.expires.map_or(u64::MAX, |expires| expires.0).to_le_bytes());
    hash.update(&kept.value);
    hash.digest()
}

/// Whether this is what a stale publication got: its pipelines are to be run again.
pub fn is_stale(receipt: &Receipt) -> bool {
    matches!(receipt, Receipt::Rejected(rejection) if is_stale_rejection(rejection))
}

/// Whether this is what a stale transaction got: its pipelines are to be run again.
pub fn is_stale_rejection(rejection: &Rejection) -> bool {
    rejection.code == ErrorCode::Conflict && rejection.reason == STALE
}

pub(crate) fn stale() -> Refusal {
    Refusal::conflict(STALE)
}

impl Kv {
    /// What `pipeline` remembers under `key`; it may have expired since the last record.
    pub fn get(&self, pipeline: &Name, key: &str) -> Option<Kept> {
        self.read().spaces.get(pipeline)?.kept.get(key).cloned()
    }

    /// What the memory of `pipeline` takes.
    pub fn bytes(&self, pipeline: &Name) -> u64 {
        self.read().spaces.get(pipeline).map_or(0, |space| space.bytes)
    }

    /// At most `max` keys of `pipeline` that begin with `prefix`, from `from` on, in order.
    pub fn list(&self, pipeline: &Name, prefix: &str, from: &str, max: usize) -> Vec<(ByteString, Kept)> {
        let spaces = self.read();
        let Some(space) = spaces.spaces.get(pipeline) else { return Vec::new() };
        let from = ByteString::from(prefix.max(from));
        let keys = space.kept.range(from..).take_while(|(key, _)| key.starts_with(prefix));
        keys.take(max).map(|(key, kept)| (key.clone(), kept.clone())).collect()
    }

    /// Every pipeline that remembers something.
    pub fn views(&self) -> Vec<KvView> {
        let view = |(name, space): (&Name, &Space)| KvView {
            pipeline: name.clone(),
            keys: space.kept.len() as u64,
            bytes: space.bytes,
        };
        self.read().spaces.iter().map(view).collect()
    }

    /// Whether `part`, of record `index`, comes behind one that is stale; then it is stale itself.
    pub(crate) fn is_behind_stale(&self, index: u64, part: &KvPart) -> bool {
        let behind = part.follows && self.read().stale_at + 1 == index;
        if behind {
            self.write().stale_at = index;
        }
        behind
    }

    /// Whether `part`, of record `index`, was run on what is so now. One that was not is remembered as stale.
    pub(crate) fn is_current(&self, index: u64, part: &KvPart) -> bool {
        let mut spaces = self.write();
        let current = part.reads.iter().all(|read| spaces.digest(read) == read.seen);
        if !current {
            spaces.stale_at = index;
        }
        current
    }

    /// Whether `parts`, which happen one after the other in one record, were run on what is so now and on each other.
    pub(crate) fn are_current<'a>(&self, parts: impl IntoIterator<Item = &'a KvPart>) -> bool {
        let spaces = self.read();
        let mut changed: BTreeMap<(&Name, &ByteString), Option<u64>> = BTreeMap::new();
        for part in parts {
            let seen = |read: &KvRead| {
                let own = changed.get(&(&read.pipeline, &read.key)).copied();
                own.unwrap_or_else(|| spaces.digest(read))
            };
            if !part.reads.iter().all(|read| seen(read) == read.seen) {
                return false;
            }
            let changes = part.changes.iter();
            changed
                .extend(changes.map(|each| ((&each.pipeline, &each.key), each.kept.as_ref().map(kv_digest))));
        }
        true
    }

    pub(crate) fn change<'a>(&self, changes: impl IntoIterator<Item = &'a KvChange>) {
        let mut spaces = self.write();
        changes.into_iter().for_each(|change| spaces.change(change));
    }

    /// Forgets what a pipeline remembered.
    pub(crate) fn forget(&self, pipeline: &Name) {
        let mut spaces = self.write();
        spaces.spaces.remove(pipeline);
        spaces.expiring.retain(|(_, name, _)| name != pipeline);
    }

    /// Forgets what has expired.
    pub(crate) fn pass_time(&self, now: Timestamp) {
        if self.next_expiry().is_none_or(|expiry| expiry > now) {
            return;
        }
        let mut spaces = self.write();
        while spaces.expiring.first().is_some_and(|(expires, ..)| *expires <= now) {
            let (_, pipeline, key) = spaces.expiring.pop_first().expect("just seen");
            spaces.change(&KvChange { pipeline, key, kept: None });
        }
    }

    /// When the next value expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.read().expiring.first().map(|(expires, ..)| *expires)
    }

    pub(crate) fn is_empty(&self) -> bool {
        let spaces = self.read();
        spaces.spaces.is_empty() && spaces.stale_at == 0
    }

    pub(crate) fn pack(&self, packer: &mut Packer) {
        let spaces = self.read();
        packer.number(spaces.stale_at);
        packer.number(spaces.spaces.len() as u64);
        for (name, space) in &spaces.spaces {
            packer.bytes(name.as_str().as_bytes());
            packer.number(space.kept.len() as u64);
            for (key, kept) in &space.kept {
                packer.bytes(key.as_bytes());
                packer.bytes(&kept.value);
                packer.maybe(kept.expires.map(|expires| expires.0));
            }
        }
    }

    pub(crate) fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self, Short> {
        fn text<'a>(unpacker: &mut Unpacker<'a>) -> Result<&'a str, Short> {
            std::str::from_utf8(unpacker.bytes()?).map_err(|_| Short)
        }
        let mut spaces = Spaces { stale_at: unpacker.number()?, ..Spaces::default() };
        for _ in 0..unpacker.count()? {
            let pipeline: Name = text(unpacker)?.parse().map_err(|_| Short)?;
            for _ in 0..unpacker.count()? {
                let key = ByteString::from(text(unpacker)?);
                let value = Bytes::copy_from_slice(unpacker.bytes()?);
                let kept = Some(Kept { value, expires: unpacker.maybe()?.map(Timestamp) });
                spaces.change(&KvChange { pipeline: pipeline.clone(), key, kept });
            }
        }
        Ok(Self(Arc::new(RwLock::new(spaces))))
    }

    fn read(&self) -> RwLockReadGuard<'_, Spaces> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Spaces> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spaces {
    /// The digest of what is there now.
    fn digest(&self, read: &KvRead) -> Option<u64> {
        self.spaces.get(&read.pipeline)?.kept.get(&read.key).map(kv_digest)
    }

    fn change(&mut self, change: &KvChange) {
        let KvChange { pipeline, key, kept } = change;
        let space = self.spaces.entry(pipeline.clone()).or_default();
        let before = match kept {
            Some(kept) => {
                space.bytes += kept.cost(key.len());
                space.kept.insert(key.clone(), kept.clone())
            }
            None => space.kept.remove(key),
        };
        if let Some(before) = before {
            space.bytes -= before.cost(key.len());
            if let Some(expires) = before.expires {
                self.expiring.remove(&(expires, pipeline.clone(), key.clone()));
            }
        }
        if let Some(expires) = kept.as_ref().and_then(|kept| kept.expires) {
            self.expiring.insert((expires, pipeline.clone(), key.clone()));
        }
        if space.kept.is_empty() {
            self.spaces.remove(pipeline);
        }
    }
}
