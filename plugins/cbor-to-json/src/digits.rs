//! The decimal digits of integers of more than 64 bits.

/// What each limb holds: nine decimal digits.
const LIMB: u64 = 1_000_000_000;

/// The digits of the number that `bytes` are, the most significant first.
pub(crate) fn decimal(bytes: &[u8]) -> String {
    // The least significant limb first.
    let mut limbs: Vec<u64> = vec![0];
    for &byte in bytes {
        let mut carry = u64::from(byte);
        for limb in &mut limbs {
            let sum = *limb * 256 + carry;
            *limb = sum % LIMB;
            carry = sum / LIMB;
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let (most, rest) = limbs.split_last().expect("there is one limb at least");
    let mut text = most.to_string();
    for limb in rest.iter().rev() {
        text.push_str(&format!("{limb:09}"));
    }
    text
}

/// Adds one to a number in decimal digits: the value of tag 3 is -1 less its bytes.
pub(crate) fn plus_one(digits: &str) -> String {
    let mut digits = digits.as_bytes().to_vec();
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return String::from_utf8(digits).expect("digits are ASCII");
        }
        *digit = b'0';
    }
    format!("1{}", String::from_utf8(digits).expect("digits are ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        assert_eq!(decimal(b""), "0");
        assert_eq!(decimal(b"\x00\xff"), "255");
        assert_eq!(decimal(&u64::MAX.to_be_bytes()), u64::MAX.to_string());
        assert_eq!(decimal(&u128::MAX.to_be_bytes()), u128::MAX.to_string());
        assert_eq!(decimal(&10_u128.pow(27).to_be_bytes()), 10_u128.pow(27).to_string());
        assert_eq!(plus_one("0"), "1");
        assert_eq!(plus_one("199"), "200");
        assert_eq!(plus_one("999"), "1000");
    }
}
