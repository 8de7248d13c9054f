//! JSON text, appended to bytes.

/// A character that XML does not allow, as JSON would have to escape it.
#[derive(Debug)]
pub(crate) struct ControlCharacter(pub(crate) u8);

/// Appends `text` as a string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) -> Result<(), ControlCharacter> {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !ESCAPED[usize::from(byte)] {
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
    out.push(b'"');
    Ok(())
}

static ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        escaped[control] = true;
        control += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

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
}
