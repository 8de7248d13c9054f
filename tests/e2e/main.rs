//! What crosses rooms: a real node with real components.

mod broker;
mod bundled;
mod letters;
mod pipelines;
mod reruns;
mod sequels;
mod share;
mod swap;
mod traces;
mod trials;
mod upload;
mod way_out;
