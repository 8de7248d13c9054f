//! What the text of a number means in a format whose numbers have a width.

use std::io::Write as _;

/// A whole number, by the narrowest of the two common widths that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integer {
    /// Below zero, or not above `i64::MAX`.
    Signed(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    /// Past both.
    TooLarge,
}

/// The whole number that a JSON number is; `None` where it has a fraction or exponent.
///
/// ```
/// use json_value::{Integer, integer};
///
/// assert_eq!(integer("18446744073709551615"), Some(Integer::Unsigned(u64::MAX)));
/// assert_eq!(integer("18446744073709551616"), Some(Integer::TooLarge));
/// assert_eq!(integer("1.0"), None);
/// ```
pub fn integer(text: &str) -> Option<Integer> {
    // Minus zero is a zero only where zeros have no sign.
    if text == "-0" || text.contains(['.', 'e', 'E']) {
        return None;
    }
    let signed = text.parse().map(Integer::Signed);
    Some(signed.or_else(|_| text.parse().map(Integer::Unsigned)).unwrap_or(Integer::TooLarge))
}

/// Whether a number is a whole one, however it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// It is, and this is it.
    Exact(i128),
    /// It is not.
    Fraction,
    /// It is, of more than 128 bits.
    TooLarge,
}

/// The whole number that a JSON number stands for, by its digits and through no float: `7.0`, `70e-1` and `0.7e1` are 7.
/// `None` where the text is no JSON number. Takes a time that grows with the text, whatever its exponent.
///
/// ```
/// use json_value::{Whole, whole};
///
/// assert_eq!(whole("9007199254740993.0"), Some(Whole::Exact(9007199254740993)));
/// assert_eq!((whole("7.5"), whole("7e-1")), (Some(Whole::Fraction), Some(Whole::Fraction)));
/// assert_eq!((whole("1e999999999999"), whole("07")), (Some(Whole::TooLarge), None));
/// ```
pub fn whole(text: &str) -> Option<Whole> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, power(exponent)?),
        None => (unsigned, 0),
    };
    let (before, after) = match mantissa.split_once('.') {
        Some((before, after)) => (before, some_digits(after)?),
        None => (mantissa, ""),
    };
    if some_digits(before)?.len() > 1 && before.starts_with('0') {
        return None;
    }
    // Without the zeros at the end, of which each is one more in the exponent: 7.0 is 70e-1 is 7e0.
    let after = after.trim_end_matches('0');
    let trimmed = if after.is_empty() { before.trim_end_matches('0') } else { before };
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let exponent = exponent.saturating_sub(length(after)).saturating_add(length(before) - length(trimmed));
    let mut digits = trimmed.bytes().chain(after.bytes()).skip_while(|&digit| digit == b'0').peekable();
    if digits.peek().is_none() {
        return Some(Whole::Exact(0));
    }
    if exponent < 0 {
        return Some(Whole::Fraction);
    }
    let sign = if negative { -1 } else { 1 };
    let own = digits.try_fold(0_i128, |number, digit| {
        number.checked_mul(10)?.checked_add(sign * i128::from(digit - b'0'))
    });
    // It is not zero: at the thirty-ninth step at the latest it is too large.
    let scaled = own.and_then(|own| (0..exponent).try_fold(own, |number, _| number.checked_mul(10)));
    Some(scaled.map_or(Whole::TooLarge, Whole::Exact))
}

/// The exponent; past all that can matter, the largest or smallest there is.
fn power(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let power = some_digits(digits)?.parse().unwrap_or(i64::MAX);
    Some(if negative { -power } else { power })
}

fn some_digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// The double that is nearest to a JSON number; `None` where it is past them all.
///
/// ```
/// assert_eq!(json_value::real("0.1"), Some(0.1));
/// assert_eq!(json_value::real("1e400"), None);
/// ```
pub fn real(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether a float of so many bits of precision holds a JSON number without rounding it. A number with a fraction or
/// exponent stands for the nearest float, as everywhere.
///
/// ```
/// use json_value::is_exact;
///
/// assert!(is_exact("9007199254740992", 53) && !is_exact("9007199254740993", 53));
/// assert!(is_exact("0.1", 24));
/// ```
pub fn is_exact(text: &str, precision: u32) -> bool {
    let bits = match integer(text) {
        None => return true,
        Some(Integer::Signed(number)) => number.unsigned_abs(),
        Some(Integer::Unsigned(number)) => number,
        Some(Integer::TooLarge) => return false,
    };
    bits == 0 || u64::BITS - bits.leading_zeros() - bits.trailing_zeros() <= precision
}

/// Writes the shortest JSON number that reads back as `number`; `false`, and nothing is written, for what JSON has no
/// number for: NaN and the infinities.
///
/// ```
/// let mut out = Vec::new();
/// assert!(json_value::write_f64(&mut out, 1e300) && !json_value::write_f64(&mut out, f64::NAN));
/// assert_eq!(out, b"1e300");
/// ```
pub fn write_f64(out: &mut Vec<u8>, number: f64) -> bool {
    if number.is_finite() {
        write!(out, "{number:?}").expect("memory can be written");
    }
    number.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_so_however_it_is_written() {
        for (text, number) in [
            ("0", 0),
            ("-0.0", 0),
            ("0e99999999999999999999", 0),
            ("7", 7),
            ("7.0", 7),
            ("7e0", 7),
            ("-7.000E+00", -7),
            ("0.0007e4", 7),
            ("7000e-3", 7),
            ("70.5e1", 705),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("18446744073709551615e0", i128::from(u64::MAX)),
            ("-170141183460469231731687303715884105728", i128::MIN),
        ] {
            assert_eq!(whole(text), Some(Whole::Exact(number)), "{text}");
        }
        for text in ["7.5", "-0.1", "1e-1", "70.05e1", "1e-99999999999999999999", "9007199254740993.0000001"]
        {
            assert_eq!(whole(text), Some(Whole::Fraction), "{text}");
        }
        for text in ["1e39", "1e99999999999999999999", "170141183460469231731687303715884105728"] {
            assert_eq!(whole(text), Some(Whole::TooLarge), "{text}");
        }
        for text in [
            "", "-", "+7", "07", "-07.0", "7.", ".7", "7e", "7e+", "7e1.0", " 7", "7 ", "0x7", "7_0",
            "\u{663}", "NaN",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
