//! x
pub struct Batch;
pub struct Emitter;
