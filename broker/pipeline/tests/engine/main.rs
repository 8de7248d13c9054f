//! What the engine promises, shown with a plugin that misbehaves as its messages ask.

mod answers;
mod breaking;
mod contract;
mod harness;
mod here;
mod limits;
mod loading;
mod preparing;
mod recording;
mod remembering;
mod stand;
mod tracing;
