//! The client against a real broker in the same process.

mod broker;
mod consume;
mod durable;
mod exact;
mod publish;
mod reconnect;
mod refusals;
mod relay;
mod request;
mod streams;
mod taps;
