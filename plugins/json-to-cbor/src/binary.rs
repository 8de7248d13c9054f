//! The bytes of integers of more than 64 bits.

/// The bytes of the number that `digits` are, the most significant first, without zeros before them.
pub(crate) fn binary(digits: &str) -> Vec<u8> {
    // The least significant byte first.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut bytes {
            let sum = u32::from(*byte) * 10 + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.reverse();
    bytes
}

/// One less than a number that is not zero: the value of tag 3 is -1 less its bytes.
pub(crate) fn minus_one(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    if bytes.first() == Some(&0) {
        bytes.remove(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_number() {
        assert_eq!(binary("255"), [255]);
        assert_eq!(binary(&u128::MAX.to_string()), [255; 16]);
        assert_eq!(binary("18446744073709551616"), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(minus_one(vec![1, 0, 0]), [255, 255]);
        assert_eq!(minus_one(vec![2, 0]), [1, 255]);
    }
}
