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
