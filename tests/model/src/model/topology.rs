//! What is declared beside queues and streams: bindings, schedules, and how long message ids are remembered.

use std::time::Duration;

use wharf_protocol::{ErrorCode, Name, Pattern, Session, Stored, Topic};
use wharf_queue::{Deduplication, Effect, Schedule};

use super::Model;

impl Model {
    pub(super) fn bind(&mut self, pattern: &Pattern, to: &Name, pipeline: Option<&Name>) {
        let known = self.named(to.as_str()).or_else(|| self.stream_named(to));
        // There are no pipelines here.
        if known.is_none() || pipeline.is_some() {
            return self.refuse(ErrorCode::NotFound);
        }
        if self.bindings.insert((pattern.clone(), to.clone())) {
            self.effects.push(Effect::TopologyChanged);
        }
    }

    pub(super) fn unbind(&mut self, pattern: &Pattern, to: &Name) {
        match self.bindings.remove(&(pattern.clone(), to.clone())) {
            true => self.effects.push(Effect::TopologyChanged),
            false => self.refuse(ErrorCode::NotFound),
        }
    }

    /// Where messages of a topic go, each place by the first binding that leads there.
    pub(crate) fn resolve(&self, topic: &Topic) -> Vec<(Pattern, Name)> {
        let words: Vec<&str> = topic.as_str().split('.').collect();
        let mut found: Vec<(Pattern, Name)> = Vec::new();
        for (pattern, to) in &self.bindings {
            let wanted: Vec<&str> = pattern.as_str().split('.').collect();
            if matches(&wanted, &words) && !found.iter().any(|(_, known)| known == to) {
                found.push((pattern.clone(), to.clone()));
            }
        }
        found
    }

    pub(super) fn put_schedule(&mut self, name: &Name, new: Schedule) {
        if wharf_protocol::Message::decode(new.message.clone()).is_err() {
            return self.refuse(ErrorCode::Malformed);
        }
        let what = |schedule: &Schedule| {
            (schedule.cron.clone(), schedule.time_zone.clone(), schedule.message.clone())
        };
        if self.schedules.get(name).map(what) != Some(what(&new)) {
            self.schedules.insert(name.clone(), new);
            self.effects.push(Effect::TopologyChanged);
        }
    }

    pub(super) fn pause_schedule(&mut self, name: &Name, paused: bool) {
        let Some(schedule) = self.schedules.get_mut(name) else { return self.refuse(ErrorCode::NotFound) };
        if schedule.paused != paused {
            schedule.paused = paused;
            if !paused {
                schedule.since = self.now;
            }
            self.effects.push(Effect::TopologyChanged);
        }
    }

    pub(super) fn remove_schedule(&mut self, name: &Name) {
        match self.schedules.remove(name) {
            Some(_) => self.effects.push(Effect::TopologyChanged),
            None => self.refuse(ErrorCode::NotFound),
        }
    }

    pub(super) fn set_deduplication(&mut self, new: &Deduplication) {
        if new.window_ms == 0 || new.max == 0 {
            return self.refuse(ErrorCode::Malformed);
        }
        let changed = self.deduplication != *new;
        self.deduplication = *new;
        while self.ids.len() as u64 > new.max {
            self.ids.remove(0);
        }
        self.forget_ids();
        if changed {
            self.effects.push(Effect::TopologyChanged);
        }
    }

    /// Forgets message ids that are older than the window.
    pub(super) fn forget_ids(&mut self) {
        let (now, window) = (self.now, Duration::from_millis(self.deduplication.window_ms));
        self.ids.retain(|(at, ..)| at.after(window) > now);
    }

    pub(super) fn known_id(&self, key: u128) -> Option<Stored> {
        self.ids.iter().find(|(_, known, _)| *known == key).map(|(.., stored)| *stored)
    }

    pub(super) fn remember_id(&mut self, key: u128, stored: Stored) {
        if self.ids.len() as u64 >= self.deduplication.max {
            self.ids.remove(0);
        }
        self.ids.push((self.now, key, stored));
    }

    pub(super) fn remember_sequence(&mut self, session: &Session, stored: Stored) {
        let known = self.producers.entry(session.producer.0).or_default();
        if known.0 != session.epoch {
            *known = (session.epoch, Default::default());
        }
        known.1.insert(session.sequence, stored);
    }

    /// A new life of a producer begins, and goes on where the last one stopped.
    pub(super) fn claim(&mut self, producer: u128) {
        let known = self.producers.entry(producer).or_default();
        known.0 += 1;
        let last_sequence = known.1.last_key_value().map_or(0, |(last, _)| *last);
        self.effects.push(Effect::Claimed { epoch: known.0, last_sequence });
    }
}

/// `*` is one word, `#` any number of them.
fn matches(pattern: &[&str], words: &[&str]) -> bool {
    match pattern.split_first() {
        None => words.is_empty(),
        Some((&"#", rest)) => (0..=words.len()).any(|skipped| matches(rest, &words[skipped..])),
        Some((word, rest)) => words
            .split_first()
            .is_some_and(|(first, more)| (*word == "*" || word == first) && matches(rest, more)),
    }
}
