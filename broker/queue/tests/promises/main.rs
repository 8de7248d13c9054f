//! What the state machine of delivery promises, seen from outside.
//!
//! Every scenario runs on a [`shard::Shard`], which folds each record three times: as it is, as it was
//! encoded and decoded, and into a state that went through a snapshot before. All must agree, always.

mod consumers;
mod dead_letters;
mod decoding;
mod dedup;
mod delivery;
mod edits;
mod kv;
mod lanes;
mod limits;
mod model;
mod owners;
mod random;
mod resolves;
mod schedules;
mod shard;
mod snapshots;
mod streams;
mod time;
mod topology;
mod transactions;
mod transfers;
