//! How long a plugin takes: the same messages again and again, on one instance, one thread.

use std::sync::Arc;
use std::time::Duration;

use wharf_protocol::Timestamp;

use super::{Given, Harness, HarnessError, NOW, Request, Response};
use crate::{Engine, EngineConfig, Item, Memory};

/// How many rounds are kept; a measurement ends with them.
const ROUNDS_MAX: usize = 200_000;

/// What messages took, in batches of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Messages in a round, which is all of them.
    pub messages: usize,
    /// Calls of the plugin in a round: fewer than messages where it takes batches.
    pub calls: usize,
    /// How many rounds were run.
    pub rounds: usize,
    /// Nanoseconds a message, everything in the engine counted: packing, the call, reading the answers.
    pub whole: Spread,
    /// Nanoseconds a message in calls of the plugin, values carried in and out counted.
    pub call: Spread,
}

/// The middle and the edges of many measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// Half were less.
    pub median: u64,
    /// One in a hundred was more.
    pub p99: u64,
}

/// One round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) whole: Duration,
    pub(crate) call: Duration,
    pub(crate) calls: usize,
}

impl Harness {
    /// A harness that counts no fuel, as the broker does not: for times.
    ///
    /// # Errors
    /// As [`Harness::open`].
    pub fn open_for_times(wasm: &bytes::Bytes) -> Result<Self, HarnessError> {
        let config = EngineConfig { threads: 1, instances: 4, ..EngineConfig::default() };
        let engine = Engine::new(config)?;
        let plugin = engine.load(wasm)?;
        Ok(Self { engine, plugin, lent: super::Lent::default(), stage: None })
    }

    /// Runs the messages of `request` in batches of `batch` for `time`, after a tenth of it to warm up.
    ///
    /// # Errors
    /// What [`Harness::answer`] would answer, where that is no run.
    pub fn measure(&mut self, request: &Request, batch: usize, time: Duration) -> Result<Measured, Response> {
        let items: Result<Vec<Item>, String> = request.messages.iter().map(super::Message::item).collect();
        let items = items.map_err(Response::Error)?;
        let batches: Vec<Vec<Item>> = items.chunks(batch.max(1)).map(<[Item]>::to_vec).collect();
        let memory: Arc<dyn Memory> = Arc::new(Given::of(&request.kv).map_err(Response::Error)?);
        self.lend(&request.lent).map_err(Response::Error)?;
        let pipeline = self.pipeline(request).map_err(Response::from)?;
        let now = request.now_ms.map_or(NOW, Timestamp);
        pipeline.run_rounds(&batches, now, &memory, time / 10, ROUNDS_MAX);
        let rounds = pipeline.run_rounds(&batches, now, &memory, time, ROUNDS_MAX);
        let each = |taken: fn(&Round) -> Duration| {
            let messages = items.len().max(1) as u128;
            let nanoseconds = |round| u64::try_from(taken(round).as_nanos() / messages).unwrap_or(u64::MAX);
            Spread::of(rounds.iter().map(nanoseconds).collect())
        };
        Ok(Measured {
            messages: items.len(),
            calls: rounds.last().map_or(0, |round| round.calls),
            rounds: rounds.len(),
            whole: each(|round| round.whole),
            call: each(|round| round.call),
        })
    }
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |per_cent: usize| {
            let last = values.len().saturating_sub(1);
            values.get(last * per_cent / 100).copied().unwrap_or_default()
        };
        Self { min: at(0), median: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_middle_and_its_edges() {
        let spread = Spread::of((1..=101).rev().collect());
        assert_eq!(spread, Spread { min: 1, median: 51, p99: 100 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
