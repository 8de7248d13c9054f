//! Bytes and times as text, which is how JSON has them.

use serde::Deserialize;

/// How bytes become text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bytes {
    /// RFC 4648 §4, with padding.
    #[default]
    Base64,
    /// RFC 4648 §5, without padding.
    Base64url,
    /// RFC 4648 §8, in lower case.
    Hex,
}

impl Bytes {
    /// The text of `bytes`.
    ///
    /// ```
    /// use json_value::Bytes;
    ///
    /// assert_eq!(Bytes::Base64.encode(b"\xfb\xff"), "+/8=");
    /// assert_eq!(Bytes::Base64url.encode(b"\xfb\xff"), "-_8");
    /// assert_eq!(Bytes::Hex.encode(b"\xfb\xff"), "fbff");
    /// ```
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Base64 => base64(bytes, STANDARD, true),
            Self::Base64url => base64(bytes, URL, false),
            Self::Hex => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
            }
        }
    }

    /// The bytes that `text` stands for; base64 of either alphabet, padded or not, where it is base64.
    ///
    /// ```
    /// use json_value::Bytes;
    ///
    /// assert_eq!(Bytes::Base64.decode("-_8").as_deref(), Some(&b"\xfb\xff"[..]));
    /// assert_eq!(Bytes::Base64.decode("+/8="), Bytes::Base64.decode("-_8"));
    /// assert_eq!(Bytes::Hex.decode("FBff").as_deref(), Some(&b"\xfb\xff"[..]));
    /// assert_eq!(Bytes::Base64.decode("a"), None);
    /// ```
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Base64 | Self::Base64url => unbase64(text.trim_end_matches('=').as_bytes()),
            Self::Hex => {
                let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
                let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
                Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
            }
        }
    }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=chunk.len() {
            text.push(char::from(alphabet[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
        if padded {
            text.extend(std::iter::repeat_n('=', 3 - chunk.len()));
        }
    }
    text
}

fn unbase64(digits: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut bits = 0;
        for &digit in chunk {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        // Two digits hold one byte, three hold two; one holds none.
        let whole = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

/// The time that is `seconds` after 1970 began, as RFC 3339 writes it in UTC; a fraction where there are nanoseconds.
/// `None` outside of the years 0 to 9999, which it has no text for.
///
/// ```
/// assert_eq!(json_value::rfc3339(0, 0).as_deref(), Some("1970-01-01T00:00:00Z"));
/// assert_eq!(json_value::rfc3339(1_709_210_096, 250_000_000).as_deref(), Some("2024-02-29T12:34:56.25Z"));
/// assert_eq!(json_value::rfc3339(-1, 0).as_deref(), Some("1969-12-31T23:59:59Z"));
/// ```
pub fn rfc3339(seconds: i64, nanoseconds: u32) -> Option<String> {
    const DAY: i64 = 86_400;
    const YEARS_400: i64 = 146_097;
    // Days since 1 March of the year 0: leap days are then the last of a year.
    let days = seconds.div_euclid(DAY) + 719_468;
    let (era, of_era) = (days.div_euclid(YEARS_400), days.rem_euclid(YEARS_400));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    if !(0..=9999).contains(&year) || nanoseconds >= 1_000_000_000 {
        return None;
    }
    let of_day = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanoseconds > 0 {
        let fraction = format!(".{nanoseconds:09}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    Some(text)
}

/// What [`rfc3339`] writes, and other times as RFC 3339 has them, with a fraction of up to nine digits and an offset:
/// seconds after 1970 began, and nanoseconds. `None` for any other text, and for a leap second.
///
/// ```
/// assert_eq!(json_value::from_rfc3339("2024-02-29T13:34:56.25+01:00"), Some((1_709_210_096, 250_000_000)));
/// assert_eq!(json_value::from_rfc3339("2023-02-29T00:00:00Z"), None);
/// ```
pub fn from_rfc3339(text: &str) -> Option<(i64, u32)> {
    let (date, rest) = text.split_at_checked(19)?;
    let bytes = date.as_bytes();
    let separated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separated.iter().any(|&(at, separator)| bytes[at].to_ascii_uppercase() != separator) {
        return None;
    }
    let year = digits(&date[..4])?;
    let two = |at: usize| date.get(at..at + 2).and_then(digits);
    let (month, day, hour, minute, second) = (two(5)?, two(8)?, two(11)?, two(14)?, two(17)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = [31, 28 + i64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_index = usize::try_from(month - 1).ok()?;
    if !(1..=*days_of_month.get(month_index)?).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanoseconds, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at(length);
            let known = (1..=9).contains(&length).then(|| digits(&format!("{fraction:0<9}"))).flatten()?;
            (known, zone)
        }
    };
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let before = days_of_month[..month_index].iter().sum::<i64>();
    // Days since 1 January of the year 0, which is a leap year.
    let since = |year: i64| year * 365 + if year > 0 { leap_days(year - 1) + 1 } else { 0 };
    let days = since(year) - since(1970) + before + day - 1;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset(zone)?, u32::try_from(nanoseconds).ok()?))
}

/// How many seconds a zone is before UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (sign, zone) = zone.split_at_checked(1)?;
    let (hours, minutes) =
        zone.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let seconds = (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)?;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_written_is_read_again() {
        for day in (-719_528_i64..2_932_896).step_by(97) {
            let seconds = day * 86_400 + (day * 7919).rem_euclid(86_400);
            let text = rfc3339(seconds, 5).expect("it has four digits of a year");
            assert_eq!(from_rfc3339(&text), Some((seconds, 5)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567890Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+24:00",
            "+024-01-01T00:00:00Z",
            "\u{e9}24-01-01T00:00:00Z",
        ] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
    }
}
