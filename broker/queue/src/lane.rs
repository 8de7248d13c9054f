//! Lanes: a queue's ready messages split by key or by tenant, and which lane gives the next one.
//!
//! ```text
//! by key                                              by tenant
//!   backlog  … k1 k2 k1 k3 …   not looked at yet        t1  ▪▪▪▪▪▪▪▪▪▪▪   in flight 3, work 5,200 ms
//!   line     k4 k9             next of a free lane      t2  ▪             in flight 0, work    40 ms ← next
//!   parked   k1 ▪▪  k2 ▪       behind one in flight     t3  ▪▪            in flight 1, work     0 ms
//! ```
//!
//! **By key**, a lane with a message in flight, or with one that rests after a failure, is blocked. A message
//! of a blocked lane is parked when its turn would come, and the first of a lane goes back to the line when
//! nothing of the lane is in flight any more. At most [`PARKED_MAX`] are parked ahead of their turn.
//!
//! **By tenant**, every ready message lies in its lane. The lane with the least *load* gives the next one:
//! the processing time of late, halved every [`LOAD_PERIOD_MS`], and a second for each message in flight. A tenant
//! that floods the queue has the greatest load, so its own messages wait and the others' do not.
//!
//! A lane is known by 32 bits of a hash. Two keys that share them share a lane, and that costs only time.

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::{Message, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::seeded::{self, Fault};
use crate::{Order, QueuePolicy};

mod packed;

/// The most messages that are parked because their key's turn has not come. With so many the queue looks no
/// further, though messages of other keys may wait behind them, until one of them goes.
pub const PARKED_MAX: usize = 65_536;
/// How many tenants that have nothing in their lanes are remembered by the time that they took.
pub const TENANTS_REMEMBERED_MAX: usize = 65_536;
/// After so long, the time that a tenant took counts half.
pub const LOAD_PERIOD_MS: u64 = 1 << LOAD_PERIOD_BITS;
const LOAD_PERIOD_BITS: u32 = 12;
/// A message in flight counts like so much time taken.
const LOAD_IN_FLIGHT_MS: u64 = 1_000;

/// Which lane a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(pub(crate) u32);

impl LaneId {
    /// Without a key: in order with nobody. In a fair queue, the tenant of messages that name none.
    pub(crate) const NONE: Self = Self(0);

    /// The lane of a message under a policy.
    pub(crate) fn of(message: &Message, policy: &QueuePolicy) -> Self {
        let value = match (&policy.fair_by, policy.order) {
            (Some(header), _) => message.headers.get(header),
            (None, Order::Key) => message.key.as_deref(),
            (None, Order::Fifo) => None,
        };
        value.map_or(Self::NONE, Self::named)
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits of the hash are what is kept")]
    fn named(value: &[u8]) -> Self {
        Self((xxh3_64(value) as u32).max(1))
    }
}

/// The lanes of a queue whose policy asks for them. What is ready in them is named by its rank.
#[derive(Debug)]
pub(crate) enum Lanes {
    Keys(Keys),
    Tenants(Tenants),
}

/// Lanes of which one message at a time is in flight.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// How many messages of a lane are in flight or rest after a failure; not zero.
    blocked: BTreeMap<LaneId, u32>,
    parked: BTreeSet<(LaneId, u64)>,
    /// The ranks of `parked`.
    ranks: BTreeSet<u64>,
}

/// Lanes that share consumers fairly.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    waiting: BTreeSet<(LaneId, u64)>,
    known: BTreeMap<LaneId, Tenant>,
    /// Load and lane of all that have something waiting: the first is next.
    turns: BTreeSet<(u64, LaneId)>,
    /// The period in which loads were last brought up to date all together.
    period: u64,
}

/// What a tenant has and had in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tenant {
    waiting: u64,
    in_flight: u64,
    /// Milliseconds that its messages were in flight, halved with every period, as of `at`.
    work_ms: u64,
    at: Timestamp,
}

impl Lanes {
    /// The lanes that a policy asks for.
    pub(crate) fn asked_for(policy: &QueuePolicy) -> Option<Self> {
        match (&policy.fair_by, policy.order) {
            (Some(_), _) => Some(Self::Tenants(Tenants::default())),
            (None, Order::Key) => Some(Self::Keys(Keys::default())),
            (None, Order::Fifo) => None,
        }
    }

    /// A ready message was taken for a consumer.
    pub(crate) fn depart(&mut self, lane: LaneId, now: Timestamp) {
        match self {
            Self::Keys(keys) => keys.block(lane),
            Self::Tenants(tenants) => tenants.change(lane, now, |tenant| {
                tenant.in_flight += 1;
                // Deliveries that take no time at all still take turns.
                tenant.work_ms += 1;
            }),
        }
    }

    /// A message is in flight no longer: a parked one whose turn it is then, for the line.
    pub(crate) fn land(&mut self, lane: LaneId, now: Timestamp) -> Option<u64> {
        match self {
            Self::Keys(keys) => keys.unblock(lane),
            Self::Tenants(tenants) => {
                tenants.change(lane, now, |tenant| tenant.in_flight -= 1);
                None
            }
        }
    }

    /// Takes a ready message out of its lane; `false` when it is not there.
    pub(crate) fn remove(&mut self, lane: LaneId, rank: u64) -> bool {
        match self {
            Self::Keys(keys) => keys.parked.remove(&(lane, rank)) && keys.ranks.remove(&rank),
            Self::Tenants(tenants) => tenants.remove(lane, rank),
        }
    }

    pub(crate) fn contains(&self, lane: LaneId, rank: u64) -> bool {
        match self {
            Self::Keys(keys) => keys.parked.contains(&(lane, rank)),
            Self::Tenants(tenants) => tenants.waiting.contains(&(lane, rank)),
        }
    }

    /// The ranks of all that is ready in lanes, in no order that means anything.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = u64> {
        let all = match self {
            Self::Keys(keys) => &keys.parked,
            Self::Tenants(tenants) => &tenants.waiting,
        };
        all.iter().map(|(_, rank)| *rank)
    }

    /// How many messages are ready in lanes.
    pub(crate) fn waiting(&self) -> u64 {
        match self {
            Self::Keys(keys) => keys.parked.len() as u64,
            Self::Tenants(tenants) => tenants.waiting.len() as u64,
        }
    }

    /// How many lanes have a message in flight, or one that blocks them.
    pub(crate) fn in_flight(&self) -> u64 {
        match self {
            Self::Keys(keys) => keys.blocked.len() as u64,
            Self::Tenants(tenants) => {
                tenants.known.values().filter(|tenant| tenant.in_flight > 0).count() as u64
            }
        }
    }

    /// Whether what is said to be in flight or to block a lane is just what is; the lanes of both are given.
    pub(crate) fn count_in_flight(
        &self,
        held: impl Iterator<Item = LaneId>,
        resting: impl Iterator<Item = LaneId>,
    ) -> bool {
        let mut counts: BTreeMap<LaneId, u64> = BTreeMap::new();
        match self {
            Self::Keys(keys) => {
                let blocking = held.chain(resting).filter(|lane| *lane != LaneId::NONE);
                blocking.for_each(|lane| *counts.entry(lane).or_default() += 1);
                counts.into_iter().eq(keys.blocked.iter().map(|(lane, count)| (*lane, u64::from(*count))))
            }
            Self::Tenants(tenants) => {
                held.for_each(|lane| *counts.entry(lane).or_default() += 1);
                let known = tenants.known.iter().filter(|(_, tenant)| tenant.in_flight > 0);
                counts.into_iter().eq(known.map(|(lane, tenant)| (*lane, tenant.in_flight)))
            }
        }
    }

    /// Lets go of all that is ready in lanes.
    pub(crate) fn clear(&mut self) {
        match self {
            Self::Keys(keys) => {
                keys.parked.clear();
                keys.ranks.clear();
            }
            Self::Tenants(tenants) => {
                tenants.waiting.clear();
                tenants.turns.clear();
                tenants.known.values_mut().for_each(|tenant| tenant.waiting = 0);
            }
        }
    }
}

impl Keys {
    pub(crate) fn is_blocked(&self, lane: LaneId) -> bool {
        lane != LaneId::NONE && self.blocked.contains_key(&lane) && !seeded::is(Fault::KeyOrderBroken)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.parked.len() < PARKED_MAX
    }

    pub(crate) fn park(&mut self, lane: LaneId, rank: u64) {
        self.parked.insert((lane, rank));
        self.ranks.insert(rank);
    }

    pub(crate) fn ranks(&self) -> &BTreeSet<u64> {
        &self.ranks
    }

    /// One more message of a lane holds the others up.
    pub(crate) fn block(&mut self, lane: LaneId) {
        if lane != LaneId::NONE {
            *self.blocked.entry(lane).or_default() += 1;
        }
    }

    /// One message less does: the first of those parked, when its turn comes by that.
    pub(crate) fn unblock(&mut self, lane: LaneId) -> Option<u64> {
        if lane == LaneId::NONE {
            return None;
        }
        let count = self.blocked.get_mut(&lane).expect("what is unblocked was blocked");
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.blocked.remove(&lane);
        self.first_if_free(lane)
    }

    /// Takes the first message of a lane that is not blocked.
    pub(crate) fn first_if_free(&mut self, lane: LaneId) -> Option<u64> {
        if self.is_blocked(lane) {
            return None;
        }
        let (_, rank) = *self.parked.range((lane, 0)..=(lane, u64::MAX)).next()?;
        self.parked.remove(&(lane, rank));
        self.ranks.remove(&rank);
        Some(rank)
    }
}

impl Tenant {
    /// Its turn comes after those with less.
    fn load(&self) -> u64 {
        self.work_ms.saturating_add(self.in_flight.saturating_mul(LOAD_IN_FLIGHT_MS))
    }

    /// Brings `work_ms` up to date.
    fn pass_time(&mut self, now: Timestamp) {
        let halvings = (now.0 >> LOAD_PERIOD_BITS) - (self.at.0 >> LOAD_PERIOD_BITS);
        let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
        let more = self.in_flight.saturating_mul(now.0 - self.at.0);
        self.work_ms = self.work_ms.checked_shr(halvings).unwrap_or(0).saturating_add(more);
        self.at = now;
    }

    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }
}

impl Tenants {
    pub(crate) fn add(&mut self, lane: LaneId, rank: u64, now: Timestamp) {
        self.waiting.insert((lane, rank));
        self.change(lane, now, |tenant| tenant.waiting += 1);
    }

    /// Takes the next message: that of the tenant with the least load, by rank.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<u64> {
        self.pass_time(now);
        let (_, lane) = *self.turns.first()?;
        let (_, rank) = *self.of(lane).next().expect("a tenant that has a turn has a message");
        self.remove(lane, rank);
        Some(rank)
    }

    /// The message that goes first when there are too many: of the tenant whose turn is last, the oldest of
    /// the lowest priority. `lowest` is the least rank of a rank's priority.
    pub(crate) fn victim(&self, lowest: impl Fn(u64) -> u64) -> Option<u64> {
        let (_, lane) = *self.turns.last()?;
        let (_, last) = *self.of(lane).next_back()?;
        self.waiting.range((lane, lowest(last))..).next().map(|(_, rank)| *rank)
    }

    fn of(&self, lane: LaneId) -> impl DoubleEndedIterator<Item = &(LaneId, u64)> {
        self.waiting.range((lane, 0)..=(lane, u64::MAX))
    }

    fn remove(&mut self, lane: LaneId, rank: u64) -> bool {
        let found = self.waiting.remove(&(lane, rank));
        if found {
            let at = self.known[&lane].at;
            self.change(lane, at, |tenant| tenant.waiting -= 1);
        }
        found
    }

    /// Once in a period, brings all loads up to date: until then they grow as they change.
    fn pass_time(&mut self, now: Timestamp) {
        let period = now.0 >> LOAD_PERIOD_BITS;
        if period == self.period {
            return;
        }
        self.period = period;
        self.known.values_mut().for_each(|tenant| tenant.pass_time(now));
        self.known.retain(|_, tenant| !tenant.is_idle() || tenant.work_ms > 0);
        self.rebuild_turns();
    }

    fn rebuild_turns(&mut self) {
        let waiting = self.known.iter().filter(|(_, tenant)| tenant.waiting > 0);
        self.turns = waiting.map(|(lane, tenant)| (tenant.load(), *lane)).collect();
    }

    fn change(&mut self, lane: LaneId, now: Timestamp, change: impl FnOnce(&mut Tenant)) {
        let tenant = self.known.entry(lane).or_insert(Tenant { at: now, ..Tenant::default() });
        self.turns.remove(&(tenant.load(), lane));
        tenant.pass_time(now);
        change(tenant);
        if tenant.waiting > 0 {
            self.turns.insert((tenant.load(), lane));
        }
        if tenant.is_idle() && (tenant.work_ms == 0 || self.known.len() > TENANTS_REMEMBERED_MAX) {
            self.known.remove(&lane);
        }
    }
}
