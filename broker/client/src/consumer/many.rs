//! Settling many deliveries together.

use std::time::Duration;

use super::{Delivery, Settle};
use crate::SettleError;

/// Acks all of these, and waits until that is durable. They travel together.
///
/// # Errors
/// The first that failed; the others are settled all the same.
pub async fn ack_all(deliveries: impl IntoIterator<Item = Delivery>) -> Result<(), SettleError> {
    all(deliveries.into_iter().map(Delivery::ack)).await
}

/// Nacks all of these, and waits until that is durable: each is delivered again, at the earliest after `delay`;
/// `None` leaves that to the queue's retry policy.
///
/// # Errors
/// As [`ack_all`].
pub async fn nack_all(
    deliveries: impl IntoIterator<Item = Delivery>,
    delay: Option<Duration>,
) -> Result<(), SettleError> {
    all(deliveries.into_iter().map(|delivery| delivery.nack(delay))).await
}

/// Lays all of these in the dead-letter queue for one reason, and waits until that is durable.
///
/// # Errors
/// As [`ack_all`].
pub async fn dead_letter_all(
    deliveries: impl IntoIterator<Item = Delivery>,
    reason: &str,
) -> Result<(), SettleError> {
    all(deliveries.into_iter().map(|delivery| delivery.dead_letter(reason))).await
}

/// Begins every settlement before it waits for the first.
async fn all(settles: impl Iterator<Item = Settle>) -> Result<(), SettleError> {
    let mut outcome = Ok(());
    for settle in settles.collect::<Vec<_>>() {
        outcome = outcome.and(settle.await);
    }
    outcome
}
