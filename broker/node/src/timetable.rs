//! When a schedule is due: a cron expression, read by the clock of a time zone.
//!
//! Five fields (minute, hour, day of month, month, day of week), or six with seconds in front; `@hourly` and its
//! kin. What names a time of day follows the clocks as people do: a time that a zone skips in spring is due when
//! the clock has jumped, and one that comes twice in autumn is due the first time only. What repeats (`*/10 * * * *`)
//! goes on through both.

use std::fmt;

use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;
use wharf_protocol::Timestamp;

/// The moments that a cron expression names in a time zone.
#[derive(Clone)]
pub(crate) struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

/// Why a text is no timetable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimetableError {
    /// The expression is not one.
    #[error(
        "{cron:?} is not a cron expression ({problem}); `0 9 * * MON-FRI` is one: minute, hour, day, month, weekday"
    )]
    Cron { cron: String, problem: String },
    /// Nobody knows the zone.
    #[error("there is no time zone {0:?}; give its IANA name: UTC, Europe/Berlin, America/New_York")]
    Zone(String),
}

impl Timetable {
    /// The timetable of `cron` in the zone with this IANA name.
    pub(crate) fn new(cron: &str, zone: &str) -> Result<Self, TimetableError> {
        let parsed = cron.parse::<Cron>().map_err(|error| {
            let problem = error.to_string().trim_end_matches('.').to_owned();
            TimetableError::Cron { cron: cron.to_owned(), problem }
        })?;
        let zone = TimeZone::get(zone).map_err(|_| TimetableError::Zone(zone.to_owned()))?;
        Ok(Self { cron: parsed, zone })
    }

    /// The first moment after `after`; `None`: there will be none.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        moment(&self.cron.find_next_occurrence(&self.at(after)?, false).ok()?)
    }

    /// The last moment until `until`, itself included; `None`: there was none.
    pub(crate) fn last(&self, until: Timestamp) -> Option<Timestamp> {
        moment(&self.cron.find_previous_occurrence(&self.at(until)?, true).ok()?)
    }

    /// The expression in words.
    pub(crate) fn describe(&self) -> String {
        self.cron.describe().trim_end_matches('.').to_owned()
    }

    /// What the clock shows in this zone.
    fn at(&self, moment: Timestamp) -> Option<Zoned> {
        let moment = jiff::Timestamp::from_millisecond(i64::try_from(moment.0).ok()?).ok()?;
        Some(moment.to_zoned(self.zone.clone()))
    }
}

fn moment(zoned: &Zoned) -> Option<Timestamp> {
    u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Timestamp)
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.cron.as_str(), self.zone.iana_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    /// The next `count` moments after `from`.
    fn moments(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let table = Timetable::new(cron, zone).expect("a timetable");
        let first = table.next(at(from));
        std::iter::successors(first, |last| table.next(*last)).take(count).map(|at| at.to_string()).collect()
    }

    #[test]
    fn nine_in_the_morning_stays_nine_when_the_clocks_change() {
        let summer = moments("0 9 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(
            summer,
            ["2026-03-28T08:00:00.000Z", "2026-03-29T07:00:00.000Z", "2026-03-30T07:00:00.000Z"]
        );
        let winter = moments("0 9 * * *", "America/New_York", "2026-10-31T00:00:00Z", 3);
        assert_eq!(
            winter,
            ["2026-10-31T13:00:00.000Z", "2026-11-01T14:00:00.000Z", "2026-11-02T14:00:00.000Z"]
        );
    }

    #[test]
    fn a_time_that_is_skipped_in_spring_is_due_when_the_clock_has_jumped() {
        // In Berlin, 02:00 to 03:00 is not there on 2026-03-29: 03:00 is 01:00 UTC.
        let nights = moments("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            nights,
            ["2026-03-28T01:30:00.000Z", "2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_in_autumn_is_due_once() {
        // In Berlin, 02:00 to 03:00 is there twice on 2026-10-25: first from 00:00 UTC, then from 01:00 UTC.
        let nights = moments("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(nights, ["2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]);
    }

    #[test]
    fn what_repeats_goes_on_through_a_change_of_the_clocks() {
        for change in ["2026-03-29T00:00:00Z", "2026-10-24T23:00:00Z"] {
            let halves = moments("*/30 * * * *", "Europe/Berlin", change, 8);
            let halves: Vec<Timestamp> = halves.iter().map(|text| at(text)).collect();
            assert!(halves.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1_800_000), "{halves:?}");
        }
    }

    #[test]
    fn the_last_moment_is_the_one_that_the_next_would_find() {
        for (cron, zone) in [
            ("30 2 * * *", "Europe/Berlin"),
            ("*/30 * * * *", "Europe/Berlin"),
            ("0 0 1 * *", "Asia/Kolkata"),
            ("15 1 * * SUN", "America/New_York"),
        ] {
            let table = Timetable::new(cron, zone).expect("a timetable");
            let mut known = table.next(at("2025-12-31T00:00:00Z")).expect("a moment");
            while known < at("2027-01-01T00:00:00Z") {
                let next = table.next(known).expect("a moment");
                assert_eq!(table.last(known), Some(known), "{cron}: itself");
                assert_eq!(table.last(Timestamp(next.0 - 1)), Some(known), "{cron}: until {next}");
                known = next;
            }
        }
    }

    #[test]
    fn seconds_may_stand_in_front() {
        let moments = moments("*/20 * * * * *", "UTC", "2026-01-01T00:00:00.500Z", 3);
        assert_eq!(
            moments,
            ["2026-01-01T00:00:20.000Z", "2026-01-01T00:00:40.000Z", "2026-01-01T00:01:00.000Z"]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let wrong = |cron, zone| Timetable::new(cron, zone).expect_err("refused").to_string();
        assert!(wrong("61 * * * *", "UTC").contains("0 9 * * MON-FRI"));
        assert!(wrong("", "UTC").contains("is not a cron expression"));
        assert!(wrong("@daily", "Mars/Olympus").contains("Europe/Berlin"));
    }

    #[test]
    fn a_date_that_never_comes_is_found_out() {
        let table = Timetable::new("0 0 30 2 *", "UTC").expect("it can be read");
        assert_eq!(table.next(at("2026-01-01T00:00:00Z")), None);
        assert_eq!(table.last(at("2026-01-01T00:00:00Z")), None);
    }
}
