//! Durations, sizes and headers, as people write them.

use std::time::Duration;

use wharf_protocol::Timestamp;

/// A duration: a number and a unit, `500ms`, `30s`, `5m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err("a duration is a number and a unit: 500ms, 30s, 5m, 2h or 7d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a duration starts with a whole number: 30s".to_owned())?;
    number.checked_mul(scale).map(Duration::from_millis).ok_or_else(|| "that is too long".into())
}

/// A number of bytes: `4096`, `64KiB`, `16MiB`, `2GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err("a size is a number of bytes, or one with KiB, MiB or GiB: 64MiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a size starts with a whole number: 64MiB".to_owned())?;
    number.checked_mul(scale).ok_or_else(|| "that is too large".into())
}

/// A rate of messages a second: `100/s`, `6000/m`, `360000/h`; at least one a second.
pub(crate) fn rate(text: &str) -> Result<u32, String> {
    const SHAPE: &str = "a rate is a number and a time: 100/s, 6000/m";
    let (number, time) = text.split_once('/').unwrap_or((text, "s"));
    let number: u32 = number.parse().map_err(|_| SHAPE.to_owned())?;
    let seconds = match time {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(SHAPE.into()),
    };
    match number / seconds {
        0 => Err("that is less than one a second".into()),
        per_second => Ok(per_second),
    }
}

/// A share: `5%`, `0.5%` or `5`, in percent.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent = number.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| format!("{text:?} is no share; one is 0% to 100%, such as 2.5%"))
}

/// A moment, or how long ago it was: `2026-11-22T18:30:00Z`, milliseconds since 1970, `10m`.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = duration(text) {
        let ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(Timestamp(Timestamp::wall_clock().0.saturating_sub(ms)));
    }
    text.parse().map_err(|error| format!("{error}; or how long ago: 10m"))
}

/// A header: `name=value`; the value may be empty and may hold `=`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is name=value".into()),
    }
}

/// `duration`, written with the largest unit that leaves a whole number.
pub(crate) fn show_duration(ms: u64) -> String {
    match ms {
        0 => "0s".into(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A time that was measured, to what a person cares for: `350 ms`, `2.5 s`, `4 min`.
pub(crate) fn show_time(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

/// A number of bytes with one decimal: `14.2 KiB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// So many of something: `1 message`, `2 messages`, `3 keys`, `4 entries`. `what` is a word that takes an s, or ies for a y
/// behind a consonant.
pub(crate) fn show_count(count: u64, what: &str) -> String {
    let stem = what.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    match (count, stem) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "s", "30", "1.5s", "-1s", "5 m", "99999999999999999999s", "999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_duration_prints_as_it_is_written() {
        for text in ["500ms", "30s", "5m", "2h", "7d"] {
            let ms = u64::try_from(duration(text).expect("a duration").as_millis()).expect("small");
            assert_eq!(show_duration(ms), text);
        }
    }

    #[test]
    fn one_is_one_of_something_and_all_else_are_several() {
        let counts = [0, 1, 2].map(|count| show_count(count, "file"));
        assert_eq!(counts, ["0 files", "1 file", "2 files"]);
        assert_eq!([1, 3].map(|count| show_count(count, "entry")), ["1 entry", "3 entries"]);
        assert_eq!([1, 3].map(|count| show_count(count, "key")), ["1 key", "3 keys"]);
    }

    #[test]
    fn a_size_may_have_a_unit() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert!(bytes("64MB").is_err());
        assert_eq!(show_bytes(14_540), "14.2 KiB");
    }

    #[test]
    fn a_rate_is_a_number_and_a_time() {
        assert_eq!((rate("100/s"), rate("6000/m"), rate("7")), (Ok(100), Ok(100), Ok(7)));
        for wrong in ["", "fast", "1/d", "59/m", "-1/s", "0/s"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_header_splits_at_the_first_equals_sign() {
        assert_eq!(header("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(header("a="), Ok(("a".into(), String::new())));
        assert!(header("=b").is_err());
        assert!(header("a").is_err());
    }
}
