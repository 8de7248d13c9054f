//! What outlives a broker that crashed: the means to tell its clients that it did (RFC 9000 §10.3).
//!
//! A client of a broker that was killed goes on sending to its address, and the broker that started there since
//! knows nothing of the connection. It answers with a *stateless reset*: a packet that ends in a token that only
//! the broker of before could have made for that connection's id. So the tokens follow from a secret that stays
//! the same over restarts. Without that a client waits out its idle time, half a minute, before it looks for
//! the broker anew.
//!
//! ```text
//! connection id   8 random bytes: nothing in them belongs to one life of the broker
//! reset token     the first 16 bytes of HMAC-SHA-256(key, connection id)
//! key             HMAC-SHA-256(secret, "wharf/1 stateless reset")
//! ```

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac;

/// The least time between two resets. quinn's default of 20 ms would let a thousand clients wait for 20 seconds; a
/// reset is always smaller than the packet that it answers, so it makes no flood larger.
const PAUSE_MIN: Duration = Duration::from_micros(100);

const ID_BYTES: usize = 8;

/// The configuration of an endpoint that can end connections of an earlier one with the same `secret`.
pub(crate) fn config(secret: &[u8]) -> EndpointConfig {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let key = hmac::sign(&root, b"wharf/1 stateless reset");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())));
    config.cid_generator(|| Box::new(Random)).min_reset_interval(PAUSE_MIN);
    config
}

/// Connection ids of which none can be told to be of another life.
struct Random;

impl ConnectionIdGenerator for Random {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
