//! Times and the spans between them: `timestamp('2026-11-23T12:00:00Z') - timestamp(payload.at) > duration('24h')`.
//!
//! A time is in the years 1 to 9999 and a span within ±315,576,000,000 s, both in nanoseconds, as the language has them.
//! Zones are offsets, `+01:00`; those with names need a database of a megabyte.

use std::any::Any;
use std::cmp::Ordering;

use cel_lang::common::traits::{Adder, Comparer, Negator, Subtractor};
use cel_lang::common::types::{CelInt, CelString, DURATION_TYPE, TIMESTAMP_TYPE, Type};
use cel_lang::common::value::{CowVal, StaticVal, Val};
use cel_lang::{DeclarationError, Env, ExecutionError};

const SECOND: i128 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// The beginning of the year 1, and of the year 10,000, in seconds after 1970 began.
const TIMES: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// How long a span may be, in seconds.
const SPAN_MAX: i128 = 315_576_000_000;

static TIMESTAMP: Type = TIMESTAMP_TYPE;
static DURATION: Type = DURATION_TYPE;

/// A time: nanoseconds after 1970 began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(i128);

/// A span of time: nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duration(i128);

/// The time that a text of RFC 3339 is.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let read = json_value::from_rfc3339(text);
    let (seconds, nanoseconds) =
        read.ok_or_else(|| format!("`{text}` is no time as RFC 3339 writes it: 2026-11-23T12:00:00Z"))?;
    Timestamp::new(i128::from(seconds) * SECOND + i128::from(nanoseconds)).map_err(str::to_owned)
}

/// The span that a text is: numbers with units, `1h30m`, `-1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let shape =
        || format!("`{text}` is no duration: numbers with h, m, s, ms, us or ns, as in 1h30m or 1.5s");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest == "0" {
        return Ok(Duration(0));
    }
    if rest.is_empty() {
        return Err(shape());
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let (number, behind) =
            rest.split_at(rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(shape)?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len()));
        sum = sum.saturating_add(part(number, unit).ok_or_else(shape)?);
        rest = behind;
    }
    Duration::new(sign * sum).map_err(str::to_owned)
}

/// So many of a unit, in nanoseconds; what is less than one is cut off.
fn part(number: &str, unit: &str) -> Option<i128> {
    /// Digits of a number that can matter: past them it is out of bounds, or less than a nanosecond.
    const DIGITS_MAX: usize = 18;

    let unit = match unit {
        "h" => 3600 * SECOND,
        "m" => 60 * SECOND,
        "s" => SECOND,
        "ms" => 1_000_000,
        "us" | "µs" => 1000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > DIGITS_MAX || fraction.contains('.') {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(DIGITS_MAX)];
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    Some(value(whole)? * unit + value(fraction)? * unit / 10_i128.pow(u32::try_from(fraction.len()).ok()?))
}

impl Timestamp {
    fn new(nanoseconds: i128) -> Result<Self, &'static str> {
        let seconds = i64::try_from(nanoseconds.div_euclid(SECOND)).ok();
        let within = seconds.is_some_and(|seconds| TIMES.contains(&seconds));
        if within { Ok(Self(nanoseconds)) } else { Err("the time is not in the years 1 to 9999") }
    }

    fn seconds(self) -> i64 {
        i64::try_from(self.0.div_euclid(SECOND)).expect("it is in the years 1 to 9999")
    }

    fn nanoseconds(self) -> u32 {
        u32::try_from(self.0.rem_euclid(SECOND)).expect("it is less than a second")
    }

    /// As RFC 3339 writes it, in UTC.
    fn text(self) -> String {
        json_value::rfc3339(self.seconds(), self.nanoseconds()).expect("it is in the years 1 to 9999")
    }
}

impl Duration {
    fn new(nanoseconds: i128) -> Result<Self, &'static str> {
        let within = (-SPAN_MAX * SECOND..=SPAN_MAX * SECOND).contains(&nanoseconds);
        if within { Ok(Self(nanoseconds)) } else { Err("the duration is over 10,000 years") }
    }

    /// In seconds, as protobuf's JSON writes it: `1.5s`.
    fn text(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.abs() / SECOND, self.0.abs() % SECOND);
        let fraction = format!(".{rest:09}");
        format!("{sign}{whole}{}s", fraction.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What both are to the interpreter.
macro_rules! value {
    ($of:ty, $cel:ident, $($more:tt)*) => {
        impl Val for $of {
            fn get_type(&self) -> &Type {
                &$cel
            }

            fn cel_type() -> &'static Type {
                &$cel
            }

            fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
            where
                Self: 'v,
            {
                Some(self)
            }

            fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
            where
                Self: 'v,
            {
                Some(self)
            }

            fn as_comparer(&self) -> Option<&dyn Comparer> {
                Some(self)
            }

            fn equals(&self, other: &dyn Val) -> bool {
                other.downcast_ref::<Self>() == Some(self)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
            where
                Self: 'v,
            {
                Box::new(*self)
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }

            $($more)*
        }

        impl StaticVal for $of {}

        impl Comparer for $of {
            fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
                let other = other.downcast_ref::<Self>().ok_or_else(|| unfit("compare", self, other))?;
                Ok(self.cmp(other))
            }
        }
    };
}

value!(Timestamp, TIMESTAMP,);
value!(
    Duration,
    DURATION,
    fn as_negator<'b, 'v>(&'b self) -> Option<&'b (dyn Negator + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }
);

impl Adder for Timestamp {
    fn add<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let span = other.downcast_ref::<Duration>().ok_or_else(|| unfit("_+_", self, other))?;
        made("_+_", Self::new(self.0 + span.0))
    }
}

impl Subtractor for Timestamp {
    fn sub<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        if let Some(time) = other.downcast_ref::<Self>() {
            return made("_-_", Duration::new(self.0 - time.0));
        }
        let span = other.downcast_ref::<Duration>().ok_or_else(|| unfit("_-_", self, other))?;
        made("_-_", Self::new(self.0 - span.0))
    }
}

impl Adder for Duration {
    fn add<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        if let Some(time) = other.downcast_ref::<Timestamp>() {
            return made("_+_", Timestamp::new(self.0 + time.0));
        }
        let span = other.downcast_ref::<Self>().ok_or_else(|| unfit("_+_", self, other))?;
        made("_+_", Self::new(self.0 + span.0))
    }
}

impl Subtractor for Duration {
    fn sub<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let span = other.downcast_ref::<Self>().ok_or_else(|| unfit("_-_", self, other))?;
        made("_-_", Self::new(self.0 - span.0))
    }
}

impl Negator for Duration {
    fn negate<'b, 'v>(&'b self) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        // As many seconds below zero as above can be.
        Ok(Box::new(Self(-self.0)))
    }
}

fn made<'b, 'v>(
    function: &str,
    value: Result<impl Val + 'v, &'static str>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    value.map(CowVal::owned).map_err(|error| ExecutionError::function_error(function, error))
}

fn unfit(function: &str, one: &dyn Val, other: &dyn Val) -> ExecutionError {
    let types = [one, other].map(|value| value.get_type().name().to_owned());
    ExecutionError::no_such_overload(function, types.to_vec())
}

/// Declares the functions.
pub(crate) fn add(env: &mut Env) -> Result<(), DeclarationError> {
    use cel_lang::{add_member_overload, add_overload};

    add_overload!(env, fn time_of_text: (CelString<'_>) -> Result<Timestamp>, name = "timestamp", id = "string_to_timestamp")?;
    add_overload!(env, fn time_of_seconds: (CelInt) -> Result<Timestamp>, name = "timestamp", id = "int64_to_timestamp")?;
    add_overload!(env, fn same_time: (Timestamp) -> Timestamp, name = "timestamp", id = "timestamp_to_timestamp")?;
    add_overload!(env, fn span_of_text: (CelString<'_>) -> Result<Duration>, name = "duration", id = "string_to_duration")?;
    add_overload!(env, fn same_span: (Duration) -> Duration, name = "duration", id = "duration_to_duration")?;
    add_overload!(env, fn text_of_time: (Timestamp) -> CelString<'_>, name = "string", id = "timestamp_to_string")?;
    add_overload!(env, fn text_of_span: (Duration) -> CelString<'_>, name = "string", id = "duration_to_string")?;
    add_overload!(env, fn seconds_of_time: (Timestamp) -> CelInt, name = "int", id = "timestamp_to_int64")?;
    /// An accessor of times, in UTC and in a zone.
    macro_rules! field {
        ($utc:ident, $zoned:ident, $name:literal, $field:expr) => {
            fn $utc(time: &Timestamp) -> Result<CelInt, ExecutionError> {
                at(time, "Z", $name, $field)
            }
            fn $zoned(time: &Timestamp, zone: &CelString<'_>) -> Result<CelInt, ExecutionError> {
                at(time, zone.inner(), $name, $field)
            }
            add_member_overload!(env, fn $utc: (Timestamp) -> Result<CelInt>, name = $name)?;
            add_member_overload!(env, fn $zoned: (Timestamp, CelString<'_>) -> Result<CelInt>, name = $name)?;
        };
    }
    field!(full_year, full_year_in, "getFullYear", |local| local.number(0..4));
    field!(month, month_in, "getMonth", |local| local.number(5..7) - 1);
    field!(date, date_in, "getDate", |local| local.number(8..10));
    field!(day_of_month, day_of_month_in, "getDayOfMonth", |local| local.number(8..10) - 1);
    field!(day_of_year, day_of_year_in, "getDayOfYear", Local::day_of_year);
    field!(day_of_week, day_of_week_in, "getDayOfWeek", |local| (local.days() + 4).rem_euclid(7));
    field!(hours, hours_in, "getHours", |local| local.number(11..13));
    field!(minutes, minutes_in, "getMinutes", |local| local.number(14..16));
    field!(seconds, seconds_in, "getSeconds", |local| local.number(17..19));
    field!(milliseconds, milliseconds_in, "getMilliseconds", |local| local.milliseconds);
    /// An accessor of spans: all of one in this unit, cut off.
    macro_rules! unit {
        ($function:ident, $name:literal, $unit:expr) => {
            fn $function(span: &Duration) -> CelInt {
                CelInt::from(i64::try_from(span.0 / $unit).expect("10,000 years have fewer milliseconds"))
            }
            add_member_overload!(env, fn $function: (Duration) -> CelInt, name = $name)?;
        };
    }
    unit!(in_hours, "getHours", 3600 * SECOND);
    unit!(in_minutes, "getMinutes", 60 * SECOND);
    unit!(in_seconds, "getSeconds", SECOND);
    unit!(in_milliseconds, "getMilliseconds", SECOND / 1000);
    Ok(())
}

fn time_of_text(text: &CelString<'_>) -> Result<Timestamp, ExecutionError> {
    timestamp(text.inner()).map_err(|error| ExecutionError::function_error("timestamp", error))
}

fn time_of_seconds(seconds: &CelInt) -> Result<Timestamp, ExecutionError> {
    let time = Timestamp::new(i128::from(*seconds.inner()) * SECOND);
    time.map_err(|error| ExecutionError::function_error("timestamp", error))
}

fn same_time(time: &Timestamp) -> Timestamp {
    *time
}

fn span_of_text(text: &CelString<'_>) -> Result<Duration, ExecutionError> {
    duration(text.inner()).map_err(|error| ExecutionError::function_error("duration", error))
}

fn same_span(span: &Duration) -> Duration {
    *span
}

fn text_of_time(time: &Timestamp) -> CelString<'static> {
    CelString::from(time.text())
}

fn text_of_span(span: &Duration) -> CelString<'static> {
    CelString::from(span.text())
}

fn seconds_of_time(time: &Timestamp) -> CelInt {
    CelInt::from(time.seconds())
}

/// A time on the clock and calendar of a zone.
struct Local {
    seconds: i64,
    milliseconds: i64,
    /// `2026-11-23T12:00:00Z`, with the zone's own numbers.
    text: String,
}

impl Local {
    fn number(&self, digits: std::ops::Range<usize>) -> i64 {
        self.text[digits].parse().expect("RFC 3339 has digits there")
    }

    fn days(&self) -> i64 {
        self.seconds.div_euclid(DAY_SECONDS)
    }

    fn day_of_year(&self) -> i64 {
        let first = json_value::from_rfc3339(&format!("{}-01-01T00:00:00Z", &self.text[..4]));
        let (first, _) = first.expect("it is the year's first day");
        self.days() - first.div_euclid(DAY_SECONDS)
    }
}

/// A field of a time in a zone: `Z`, `UTC`, or an offset such as `+01:00`.
fn at(
    time: &Timestamp,
    zone: &str,
    function: &str,
    field: fn(&Local) -> i64,
) -> Result<CelInt, ExecutionError> {
    let seconds = time.seconds()
        + offset(zone).ok_or_else(|| {
            let error = format!("`{zone}` is no zone: UTC, or an offset such as +01:00");
            ExecutionError::function_error(function, error)
        })?;
    let text = json_value::rfc3339(seconds, 0);
    let text = text.ok_or_else(|| {
        ExecutionError::function_error(function, "the time is not in the years 0 to 9999 there")
    })?;
    Ok(CelInt::from(field(&Local { seconds, milliseconds: i64::from(time.nanoseconds() / 1_000_000), text })))
}

fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "UTC" | "") {
        return Some(0);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str, max: i64| {
        let number = text.parse().ok().filter(|number| (0..=max).contains(number));
        number.filter(|_: &i64| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Some(sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60))
}
