//! One log and the state folded from it: drain, write together, sync once, apply, carry out.
//!
//! A [`Shard`] is the handle. The thread behind it (`shard/owner.rs`) is where confirms come from: nobody is
//! told "stored" before the log has it as durably as its queue promises. What a consumer is to get is laid in its
//! [`Outlet`].
//!
//! No network, no plugins, no access rules: what comes in here is decided. So the checks of durability drive
//! this very code on a disk that forgets.

mod error;
mod outlet;
#[cfg(feature = "seeded-faults")]
pub mod seeded;
#[cfg(not(feature = "seeded-faults"))]
#[expect(dead_code, unreachable_pub, reason = "planted in checks only")]
mod seeded;
mod shard;
mod stream;

pub use error::{OpenError, ShardError};
pub use outlet::{Closed, Outgoing, Outlet, Taken};
pub use shard::{Changed, Claimed, Committed, Member, Membership, Options, Seen, Shard};
pub use stream::{STREAM_READ_MESSAGES_MAX, StreamMessage, StreamRead, StreamRun, Tail};
