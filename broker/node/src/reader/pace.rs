//! The pace of a reader that delivers with the pauses with which the messages were stored.

use tokio::time::Instant;
use wharf_protocol::Timestamp;

/// When which message is to be delivered: as long after the first as it was stored after that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    origin: Option<(Timestamp, Instant)>,
}

impl Pace {
    /// When a message stored at `at` is to be delivered.
    pub(super) fn due(&mut self, at: Timestamp, now: Instant) -> Instant {
        let (first, begun) = *self.origin.get_or_insert((at, now));
        begun + at.since(first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pauses_count_from_the_first_message_however_late_the_others_are_looked_at() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let late = begun + Duration::from_secs(60);

        assert_eq!(pace.due(Timestamp(5_000), begun), begun, "the first comes at once");
        assert_eq!(pace.due(Timestamp(7_500), late), begun + Duration::from_millis(2_500));
        assert_eq!(pace.due(Timestamp(5_000), late), begun, "no pause, no wait");
    }
}
