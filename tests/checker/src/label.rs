//! What a message says of itself, so that whoever gets it knows whose it is and that it is whole.
//!
//! ```text
//! payload   producer u32 | number u64 | filler: 8 to 255 bytes that follow from the two
//! ```

use bytes::Bytes;
use wharf_disk::Random;

/// Which message a payload belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Who published it.
    pub producer: u32,
    /// 1, 2, 3… for each producer, in the order of publishing.
    pub number: u64,
}

impl Label {
    /// The payload that carries this label: of a length and content that follow from it.
    pub fn payload(self) -> Bytes {
        let mut random = Random(u64::from(self.producer).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.number);
        let filler = 8 + random.below(248) as usize;
        let mut payload = Vec::with_capacity(12 + filler);
        payload.extend_from_slice(&self.producer.to_le_bytes());
        payload.extend_from_slice(&self.number.to_le_bytes());
        payload.extend((0..filler).map(|_| random.number() as u8));
        payload.into()
    }

    /// The label of a payload, if it is exactly what [`payload`](Self::payload) makes.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (producer, rest) = payload.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let label = Self { producer: u32::from_le_bytes(*producer), number: u64::from_le_bytes(*number) };
        (label.payload() == payload).then_some(label)
    }

    /// The key that its message has: one of eight of its producer's.
    pub fn key(self) -> u64 {
        self.number % 8
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.producer, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_not_whole_has_no_label() {
        let label = Label { producer: 7, number: 1_234 };
        let payload = label.payload().to_vec();
        assert_eq!(Label::read(&payload), Some(label));

        for at in 0..payload.len() {
            let mut harmed = payload.clone();
            harmed[at] ^= 0x10;
            assert_eq!(Label::read(&harmed), None, "byte {at}");
            assert_eq!(Label::read(&payload[..at]), None, "{at} bytes");
        }
    }
}
