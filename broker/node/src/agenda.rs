//! Which occurrences of which schedules are to be published: decided without a clock or a task.
//!
//! While all is well each occurrence is published, in order. Of those that were missed, because the broker was
//! down or nothing could be stored, the last one alone is published, late.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_protocol::{Message, Name, Timestamp};
use wharf_queue::Schedule;

use crate::timetable::Timetable;

/// An occurrence that is later than this counts as missed: a clock that jumps a month makes no flood.
const LATE_MAX: Duration = Duration::from_secs(60);
/// The pause after an occurrence that could not be stored; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The schedules that run, and how far each one is.
#[derive(Debug, Default)]
pub(crate) struct Agenda(BTreeMap<Name, Item>);

#[derive(Debug)]
struct Item {
    schedule: Schedule,
    timetable: Timetable,
    message: Message,
    /// What comes after the last occurrence that is done with; `None`: nothing ever.
    next: Option<Timestamp>,
    /// Occurrences may have been missed: only the last of them counts.
    behind: bool,
    /// How often the one that is due could not be stored.
    refusals: u32,
    retry_at: Timestamp,
}

/// One message of one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occurrence {
    pub(crate) schedule: Name,
    /// When it was due.
    pub(crate) at: Timestamp,
    /// What the schedule says is to be published.
    pub(crate) message: Message,
}

impl Agenda {
    /// Takes up `schedules`: each with the last of its occurrences that is stored. One that runs already goes
    /// on; one that cannot be read is left out, and told of.
    pub(crate) fn update(
        &mut self,
        schedules: Vec<(Name, Schedule, Option<Timestamp>)>,
    ) -> Vec<(Name, String)> {
        let mut before = std::mem::take(&mut self.0);
        let mut unreadable = Vec::new();
        for (name, schedule, last) in schedules.into_iter().filter(|(_, schedule, _)| !schedule.paused) {
            let item = match before.remove(&name) {
                Some(item) if item.schedule == schedule => Ok(item),
                _ => Item::new(schedule, last),
            };
            match item {
                Ok(item) => drop(self.0.insert(name, item)),
                Err(problem) => unreadable.push((name, problem)),
            }
        }
        unreadable
    }

    /// What is to be published at `now`, at most one occurrence of each schedule.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Occurrence> {
        let due = self.0.iter().filter_map(|(name, item)| {
            let (schedule, at) = (name.clone(), item.due(now)?);
            Some(Occurrence { schedule, at, message: item.message.clone() })
        });
        due.collect()
    }

    /// When [`due`](Self::due) has something to say next; `None`: never, as it is.
    pub(crate) fn wakes_at(&self) -> Option<Timestamp> {
        self.0.values().filter_map(|item| Some(item.next?.max(item.retry_at))).min()
    }

    /// An occurrence is done with: stored, or refused for good.
    pub(crate) fn done(&mut self, schedule: &Name, at: Timestamp) {
        if let Some(item) = self.0.get_mut(schedule) {
            item.next = item.timetable.next(at);
            (item.behind, item.refusals, item.retry_at) = (false, 0, Timestamp(0));
        }
    }

    /// An occurrence could not be stored at `now`: it is tried again, until the next one takes its place.
    pub(crate) fn held_back(&mut self, schedule: &Name, now: Timestamp) {
        if let Some(item) = self.0.get_mut(schedule) {
            item.behind = true;
            item.retry_at = now.after(RETRY_MAX.min(RETRY_MIN * (1 << item.refusals.min(6))));
            item.refusals += 1;
        }
    }
}

impl Item {
    fn new(schedule: Schedule, last: Option<Timestamp>) -> Result<Self, String> {
        let timetable = Timetable::new(&schedule.cron, &schedule.time_zone).map_err(|e| e.to_string())?;
        let message = Message::decode(schedule.message.clone()).map_err(|e| e.to_string())?;
        let next = timetable.next(last.unwrap_or_default().max(schedule.since));
        let (refusals, retry_at) = (0, Timestamp(0));
        Ok(Self { schedule, timetable, message, next, behind: true, refusals, retry_at })
    }

    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.next.filter(|next| *next <= now && self.retry_at <= now)?;
        if !self.behind && now.since(next) <= LATE_MAX {
            return Some(next);
        }
        // The last one is no earlier than the next: both are of one timetable.
        Some(self.timetable.last(now).map_or(next, |last| last.max(next)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn schedule(cron: &'static str, since: &str) -> Schedule {
        let mut message = BytesMut::new();
        Message::new("reports.daily".parse().expect("a topic"), "go").encode(&mut message);
        let message = message.freeze();
        let (cron, time_zone) = (cron.into(), "UTC".into());
        Schedule { cron, time_zone, message, paused: false, since: at(since), by: "ann".into() }
    }

    fn name() -> Name {
        "daily".parse().expect("a name")
    }

    fn agenda(cron: &'static str, since: &str, last: Option<&str>) -> Agenda {
        let mut agenda = Agenda::default();
        let unreadable = agenda.update(vec![(name(), schedule(cron, since), last.map(at))]);
        assert_eq!(unreadable, []);
        agenda
    }

    /// Publishes all that is due until `now` and tells when each was.
    fn publish(agenda: &mut Agenda, now: &str) -> Vec<String> {
        let mut published = Vec::new();
        while let Some(due) = agenda.due(at(now)).pop() {
            published.push(due.at.to_string());
            agenda.done(&due.schedule, due.at);
        }
        published
    }

    #[test]
    fn each_occurrence_is_published_once_when_it_is_due() {
        let mut agenda = agenda("*/20 * * * * *", "2026-01-01T00:00:00Z", None);
        assert_eq!(agenda.wakes_at(), Some(at("2026-01-01T00:00:20Z")));
        assert_eq!(publish(&mut agenda, "2026-01-01T00:00:19.999Z"), [""; 0]);
        assert_eq!(publish(&mut agenda, "2026-01-01T00:00:20Z"), ["2026-01-01T00:00:20.000Z"]);
        assert_eq!(publish(&mut agenda, "2026-01-01T00:00:20Z"), [""; 0]);
        assert_eq!(
            publish(&mut agenda, "2026-01-01T00:01:05Z"),
            ["2026-01-01T00:00:40.000Z", "2026-01-01T00:01:00.000Z"],
            "a broker that is a little late leaves none out"
        );
    }

    #[test]
    fn of_those_that_were_missed_the_last_one_is_published() {
        let mut agenda = agenda("0 * * * *", "2026-01-01T00:00:00Z", Some("2026-01-02T10:00:00Z"));
        assert_eq!(publish(&mut agenda, "2026-01-04T12:30:00Z"), ["2026-01-04T12:00:00.000Z"]);
        assert_eq!(agenda.wakes_at(), Some(at("2026-01-04T13:00:00Z")));
        assert_eq!(
            publish(&mut agenda, "2026-01-09T00:10:00Z"),
            ["2026-01-09T00:00:00.000Z"],
            "a clock jumped"
        );
    }

    #[test]
    fn of_those_that_a_short_stop_missed_the_last_one_is_published() {
        let mut agenda = agenda("*/20 * * * * *", "2026-01-01T00:00:00Z", Some("2026-01-01T00:00:20Z"));
        assert_eq!(publish(&mut agenda, "2026-01-01T00:01:05Z"), ["2026-01-01T00:01:00.000Z"]);
        assert_eq!(publish(&mut agenda, "2026-01-01T00:01:45Z").len(), 2, "it is on time again");
    }

    #[test]
    fn a_restart_repeats_nothing_and_a_new_schedule_makes_up_for_nothing() {
        let mut known = agenda("0 * * * *", "2026-01-01T00:00:00Z", Some("2026-01-04T12:00:00Z"));
        assert_eq!(publish(&mut known, "2026-01-04T12:30:00Z"), [""; 0]);
        let mut new = agenda("0 * * * *", "2026-01-04T12:10:00Z", Some("2026-01-01T00:00:00Z"));
        assert_eq!(publish(&mut new, "2026-01-04T12:30:00Z"), [""; 0]);
    }

    #[test]
    fn one_that_is_held_back_is_tried_again_until_the_next_takes_its_place() {
        let mut agenda = agenda("* * * * *", "2026-01-01T00:00:00Z", None);
        let now = at("2026-01-01T00:01:00Z");
        assert_eq!(agenda.due(now).len(), 1);
        agenda.held_back(&name(), now);
        assert_eq!(agenda.due(now), []);
        assert_eq!(agenda.wakes_at(), Some(at("2026-01-01T00:01:01Z")));
        agenda.held_back(&name(), at("2026-01-01T00:01:01Z"));
        assert_eq!(agenda.wakes_at(), Some(at("2026-01-01T00:01:03Z")), "the pause doubles");

        assert_eq!(publish(&mut agenda, "2026-01-01T00:04:10Z"), ["2026-01-01T00:04:00.000Z"]);
    }

    #[test]
    fn what_is_paused_gone_or_unreadable_does_not_run() {
        let mut agenda = agenda("* * * * *", "2026-01-01T00:00:00Z", None);
        let paused = Schedule { paused: true, ..schedule("* * * * *", "2026-01-01T00:00:00Z") };
        agenda.update(vec![(name(), paused, None)]);
        assert_eq!(agenda.wakes_at(), None);

        let unknown =
            Schedule { time_zone: "Mars/Olympus".into(), ..schedule("* * * * *", "2026-01-01T00:00:00Z") };
        let unreadable = agenda.update(vec![(name(), unknown, None)]);
        assert!(unreadable[0].1.contains("Mars/Olympus"));
        assert_eq!(agenda.wakes_at(), None);
    }

    #[test]
    fn a_change_of_another_schedule_does_not_set_one_back() {
        let mut agenda = agenda("* * * * *", "2026-01-01T00:00:00Z", None);
        publish(&mut agenda, "2026-01-01T00:01:00Z");
        // Its last occurrence may not have been asked for yet.
        agenda.update(vec![(name(), schedule("* * * * *", "2026-01-01T00:00:00Z"), None)]);
        assert_eq!(agenda.wakes_at(), Some(at("2026-01-01T00:02:00Z")));
    }
}
