//! A moment, as it is written in records and frames.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// The state machine never reads a clock: whoever owns the log stamps each record, and never with less
/// than the stamp before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock's reading; 1970 when the clock is set before it.
    pub fn wall_clock() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// This moment plus `delay`, or the end of time.
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            ms / 3_600_000,
            ms / 60_000 % 60,
            ms / 1000 % 60,
            ms % 1000
        )
    }
}

/// Why a text is not a [`Timestamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a moment since 1970; write 2026-11-22T18:30:00Z, 2026-11-22T19:30:00.5+01:00, or milliseconds since 1970"
)]
pub struct ParseTimestampError(String);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// RFC 3339, to the millisecond (what is finer is cut off), or milliseconds since 1970.
    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        let milliseconds = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
        let parsed = milliseconds.unwrap_or_else(|| rfc_3339(text));
        parsed.map(Self).ok_or_else(|| ParseTimestampError(text.to_owned()))
    }
}

/// Milliseconds since 1970 of `1996-12-19T16:39:57.25-08:00` (RFC 3339 §5.6).
fn rfc_3339(text: &str) -> Option<u64> {
    let (date_time, rest) = text.split_at_checked("1996-12-19T16:39:57".len())?;
    let at = |range: std::ops::Range<usize>| number(date_time.get(range)?);
    let (year, month, day) = (at(0..4)?, at(5..7)?, at(8..10)?);
    let (hour, minute, second) = (at(11..13)?, at(14..16)?, at(17..19)?);
    let marks = [4, 7, 10, 13, 16].map(|at| date_time.as_bytes()[at]);
    let separated = matches!(marks, [b'-', b'-', b'T' | b't' | b' ', b':', b':']);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is the second after it: days have 86,400 here.
    if !separated || !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
            let (fraction, zone) = rest.split_at(digits);
            (number(&format!("{fraction:0<3}")[..3])?, zone)
        }
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from((seconds - offset_seconds(zone)?) * 1_000 + fraction).ok()
}

/// How far ahead of UTC a zone is: `Z`, `+01:00`, `-08:30`.
fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, hours_minutes) = zone.split_at_checked(1)?;
    let (hours, minutes) = hours_minutes.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if (zone.len(), hours > 23, minutes > 59) != ("+01:00".len(), false, false) {
        return None;
    }
    match sign {
        "+" => Some(hours * 3_600 + minutes * 60),
        "-" => Some(-hours * 3_600 - minutes * 60),
        _ => None,
    }
}

fn number(digits: &str) -> Option<i64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Days from 1970-01-01 to a Gregorian date: the way back of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The Gregorian date of a day counted from 1970-01-01, by 400-year eras of 146,097 days.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(951_782_400_123).to_string(), "2000-02-29T00:00:00.123Z");
        assert_eq!(Timestamp(1_795_305_599_999).to_string(), "2026-11-21T23:59:59.999Z");
    }

    #[test]
    fn every_day_of_four_centuries_is_read_as_it_was_printed() {
        for day in 0..146_097 {
            let moment = Timestamp(day * 86_400_000 + 4_711_815);
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }

    #[test]
    fn a_moment_may_have_an_offset_a_fraction_or_be_a_number() {
        for (text, expected) in [
            ("1996-12-19T16:39:57-08:00", 851_042_397_000),
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("1937-01-01T12:00:27.87+00:20", 0),
            ("2026-11-22t19:30:00.5+01:00", 1_795_372_200_500),
            ("2026-11-22 18:30:00.123456789z", 1_795_372_200_123),
            ("1795372200000", 1_795_372_200_000),
        ] {
            let parsed = text.parse::<Timestamp>().map_or(0, |moment| moment.0);
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "tomorrow",
            "-5",
            "2026-11-22",
            "2026-11-22T18:30:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T18:30:00.Z",
            "2026-11-22T18:30:00+1:00",
            "2026-11-22T18:30:00+24:00",
            "+026-11-22T18:30:00Z",
            "2026-11-22T18:30:00Zulu",
            "99999999999999999999999",
            "ü026-11-22T18:30:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_no_moment_and_never_a_panic(text in "[-0-9TZ:.+ ü]{0,30}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
