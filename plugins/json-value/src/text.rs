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
