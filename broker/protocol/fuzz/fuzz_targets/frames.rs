//! Any bytes: frames or an error, and what is read can be written and is read again the same.
//!
//! ```text
//! cargo +nightly fuzz run frames fuzz/corpus/frames fuzz/seeds -- -max_total_time=60
//! ```
//!
//! The seeds are replayed by `tests/fuzz_seeds.rs` with the stable compiler; an input that once broke the decoder
//! is added to them.

#![no_main]

use bytes::{BufMut as _, BytesMut};
use libfuzzer_sys::fuzz_target;
use wharf_protocol::frame::{Decoder, FRAME_BYTES_DEFAULT, Frame};

fuzz_target!(|bytes: &[u8]| {
    let frames = read(bytes);
    let mut again = BytesMut::new();
    for frame in &frames {
        frame.encode(&mut again);
    }
    assert_eq!(read(&again), frames);
});

/// The frames up to the first error or the end.
fn read(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    decoder.buffer().put_slice(bytes);
    std::iter::from_fn(|| decoder.next_frame().ok().flatten()).collect()
}
