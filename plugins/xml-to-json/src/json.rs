//! JSON text, appended to bytes.

/// A character that XML does not allow, as JSON would have to escape it.
#[derive(Debug)]
pub(crate) struct ControlCharacter(pub(crate) u8);

/// Appends `text` as a string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) -> Result<(), ControlCharacter> {
    out.push(b'"');
    if is_plain(text.as_bytes()) {
        append(out, text.as_bytes());
    } else {
        escape(out, text.as_bytes())?;
    }
    out.push(b'"');
    Ok(())
}

/// Appends bytes as they are. Most are short: a copy of a length that is known when this is compiled becomes a load and
/// a store, and one of any length a call, which in Wasm leaves the guest.
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let end = out.len() + bytes.len();
    if bytes.len() > SHORT_BYTES_MAX {
        out.extend_from_slice(bytes);
    } else if let Some(last) = bytes.last_chunk::<8>() {
        for eight in bytes.as_chunks::<8>().0 {
            out.extend_from_slice(eight);
        }
        out.truncate(end - 8);
        out.extend_from_slice(last);
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        out.extend_from_slice(first);
        out.truncate(end - 4);
        out.extend_from_slice(last);
    } else {
        out.extend(bytes);
    }
}

/// Longer copies are worth a call.
const SHORT_BYTES_MAX: usize = 64;

/// Whether nothing in it needs an escape. Eight bytes at a time, and the last eight once more, in part.
fn is_plain(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let eights = bytes.as_chunks::<8>().0;
        return eights.iter().chain([last]).all(|eight| is_plain_word(u64::from_le_bytes(*eight)));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return is_plain_word(u64::from(first) << 32 | u64::from(last));
    }
    bytes.iter().all(|&byte| !is_escaped(byte))
}

/// The same of eight bytes at once: in each that needs an escape, one of these subtractions sets the highest bit.
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |bytes: u64, limit: u8| bytes.wrapping_sub(ONES * u64::from(limit)) & !bytes;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | is(b'"') | is(b'\\')) & HIGH == 0
}

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ControlCharacter> {
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !is_escaped(byte) {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        out.extend_from_slice(match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            control => return Err(ControlCharacter(control)),
        });
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(())
}

/// Whether `text` is a number as JSON writes it (RFC 8259 §6), and a finite one: `007`, `+1` and `1e999` are not.
pub(crate) fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let (whole, rest) = digits(unsigned);
    if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
        return false;
    }
    let rest = match rest.split_first() {
        Some((b'.', fraction)) => match digits(fraction) {
            ([], _) => return false,
            (_, rest) => rest,
        },
        _ => rest,
    };
    match rest.split_first() {
        None => true,
        Some((b'e' | b'E', exponent)) => {
            let exponent = match exponent.split_first() {
                Some((b'+' | b'-', exponent)) => exponent,
                _ => exponent,
            };
            matches!(digits(exponent), ([_, ..], [])) && text.parse::<f64>().is_ok_and(f64::is_finite)
        }
        Some(_) => false,
    }
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_json_writes_is_a_number() {
        for number in ["0", "-0", "7", "-12", "1.50", "0.1", "1e3", "2E-7", "12345678901234567890"] {
            assert!(is_number(number), "{number}");
        }
        for text in
            ["", "-", "007", "+1", "1.", ".5", "1e", "1e+", "0x1", "1 2", "1e999", "NaN", "Infinity", "1,5"]
        {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn strings_are_what_serde_json_reads() {
        for text in ["", "plain", "a\"b\\c\nd\re\tf", "Größe €"] {
            let mut out = Vec::new();
            string(&mut out, text).expect("no control character");
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        assert!(string(&mut Vec::new(), "\u{1}").is_err());
    }

    #[test]
    fn an_escape_is_seen_wherever_it_stands() {
        for length in 0..40 {
            let plain = "é".repeat(length / 2) + &"x".repeat(length % 2);
            for at in (0..=length).filter(|&at| plain.is_char_boundary(at)) {
                for special in ["", "\"", "\\", "\n"] {
                    let text = plain[..at].to_owned() + special + &plain[at..];
                    let mut out = b"before".to_vec();
                    string(&mut out, &text).expect("no control character");
                    assert_eq!(serde_json::from_slice::<String>(&out[6..]).unwrap(), text);
                }
                let text = plain[..at].to_owned() + "\u{1f}" + &plain[at..];
                assert!(string(&mut Vec::new(), &text).is_err(), "{length} {at}");
            }
        }
    }

    #[test]
    fn bytes_of_any_length_are_appended() {
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).collect();
            let mut out = b"before".to_vec();
            append(&mut out, &bytes);
            assert_eq!(out[6..], bytes, "{length}");
        }
    }
}
