//! The seeds of the fuzz target, replayed: one of every kind of frame, and inputs that once broke the decoder.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::{BufMut as _, BytesMut};
use wharf_protocol::frame::{Decoder, FRAME_BYTES_DEFAULT, Frame};

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = std::fs::read_dir(folder).expect("the seeds are in the repository");
    files.map(|file| std::fs::read(file.expect("an entry").path()).expect("a readable file")).collect()
}

/// The frames up to the first error or the end.
fn read(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    decoder.buffer().put_slice(bytes);
    std::iter::from_fn(|| decoder.next_frame().ok().flatten()).collect()
}

#[test]
fn what_a_seed_holds_is_written_back_the_same() {
    for seed in seeds() {
        let frames = read(&seed);
        let mut again = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut again));
        assert_eq!(read(&again), frames);
    }
}

#[test]
fn the_seeds_hold_every_kind_of_frame() {
    let kinds: BTreeSet<_> = seeds().iter().flat_map(|seed| read(seed)).map(|frame| frame.name()).collect();
    assert_eq!(kinds.len(), 21, "{kinds:?}");
}

#[test]
fn no_beginning_of_a_seed_is_a_panic() {
    for seed in seeds() {
        for length in 0..seed.len() {
            read(&seed[..length]);
        }
    }
}
