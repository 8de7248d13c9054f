//! What crosses rooms: a real node with real components.

mod broker;
mod pipelines;
mod swap;
mod traces;
mod trials;
mod way_out;
