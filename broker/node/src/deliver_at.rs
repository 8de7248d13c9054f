//! `wharf-deliver-at`: a message that names the moment of its delivery.

use std::time::Duration;

use wharf_protocol::{DELIVER_AT, ErrorCode, Rejection, Timestamp};

/// Turns the header's value, where there is one, into a delay from `now` on. A moment that has passed is no delay; of a
/// delay and a moment, the later counts.
///
/// # Errors
/// The header is not a moment.
pub(crate) fn hold_back(
    held: &mut Option<Duration>,
    value: Option<&[u8]>,
    now: Timestamp,
) -> Result<(), Rejection> {
    let Some(value) = value else { return Ok(()) };
    let text = String::from_utf8_lossy(value);
    let moment: Timestamp = text.parse().map_err(|error| Rejection {
        code: ErrorCode::Malformed,
        stage: None,
        reason: format!("header {DELIVER_AT}: {error}"),
        retry_after_ms: None,
    })?;
    let delay = moment.since(now);
    if delay > Duration::ZERO {
        *held = Some(held.unwrap_or_default().max(delay));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_back(at: &str, delay: Option<Duration>) -> Option<Duration> {
        let mut held = delay;
        hold_back(&mut held, Some(at.as_bytes()), Timestamp(1_000_000)).expect("a moment");
        held
    }

    #[test]
    fn a_moment_ahead_is_a_delay_and_one_that_has_passed_is_none() {
        assert_eq!(held_back("1005000", None), Some(Duration::from_secs(5)));
        assert_eq!(held_back("1970-01-01T00:16:45Z", None), Some(Duration::from_secs(5)));
        assert_eq!(held_back("1000000", None), None);
        assert_eq!(held_back("999999", None), None);
    }

    #[test]
    fn of_a_delay_and_a_moment_the_later_counts() {
        let delay = Some(Duration::from_secs(7));
        assert_eq!(held_back("1005000", delay), delay);
        assert_eq!(held_back("1009000", delay), Some(Duration::from_secs(9)));
        assert_eq!(held_back("1", delay), delay);
    }

    #[test]
    fn what_is_no_moment_is_refused_and_says_what_one_is() {
        let rejection = hold_back(&mut None, Some(b"tomorrow"), Timestamp(0)).expect_err("refused");
        assert_eq!(rejection.code, ErrorCode::Malformed);
        assert!(rejection.reason.contains("wharf-deliver-at") && rejection.reason.contains("2026-"));
    }
}
