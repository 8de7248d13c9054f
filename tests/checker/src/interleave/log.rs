//! Readers of a log against a writer that appends, snapshots, compacts and trims.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use shuttle::thread;
use wharf_disk::SimulatedDisk;
use wharf_log::{Batch, Durability, Index, LocalLog, LogEngine, LogReader, Options, ReadError};

/// Records that stay needed from the beginning to the end.
const LIVE: [Index; 3] = [12, 24, 36];
const ROUNDS: u64 = 4;

fn body(index: Index) -> Bytes {
    vec![index as u8; 60].into()
}

fn append(log: &mut LocalLog, count: u64) {
    let next = log.next();
    let mut batch = Batch::new();
    batch.extend((next..next + count).map(body));
    log.append(next, &mut batch, Durability::Os).unwrap();
}

fn is_live(index: Index) -> bool {
    LIVE.contains(&index)
}

/// One order in which things happen: decided by the scheduler, at every lock.
pub(super) fn once() {
    let disk = SimulatedDisk::default();
    let options = Options {
        segment_bytes: 512,
        spares_max: 2,
        prepare_ahead: false,
        // One segment's places: what a reader looked up goes again at once.
        places_bytes_max: 1,
        disk: Arc::new(disk),
    };
    let mut log = LocalLog::open(Path::new("/log"), options, &mut |_| Ok(())).unwrap();
    append(&mut log, 40);

    let readers: Vec<_> = (0..2)
        .map(|number| {
            let reader = log.reader();
            thread::spawn(move || read(&*reader, number))
        })
        .collect();
    let writer = thread::spawn(move || write(log));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    writer.join().unwrap();
}

fn write(mut log: LocalLog) {
    for _ in 0..ROUNDS {
        append(&mut log, 12);
        let last = log.next() - 1;
        for at in [last - 1, last] {
            log.write_snapshot(at, b"state").unwrap();
        }
        while let Some(part) =
            log.compaction(&mut |range| range.filter(|index| is_live(*index)).collect()).unwrap()
        {
            let copying = thread::spawn(move || part.run());
            // Meanwhile the owner goes on.
            append(&mut log, 3);
            log.trim(LIVE[0]).unwrap();
            log.compacted(copying.join().unwrap()).unwrap();
        }
        log.trim(LIVE[0]).unwrap();
    }
}

fn read(reader: &dyn LogReader, number: u64) {
    for round in 0..ROUNDS {
        let mut out = Vec::new();
        reader.read(&LIVE, &mut out).unwrap();
        assert_eq!(out, LIVE.map(body));

        let index = 1 + (round * 17 + number * 5) % 60;
        let mut out = Vec::new();
        match reader.read(&[index], &mut out) {
            Ok(()) => assert_eq!(out, [body(index)]),
            Err(ReadError::Trimmed { .. } | ReadError::Compacted { .. } | ReadError::Unknown { .. }) => {
                assert!(!is_live(index));
            }
            Err(other) => panic!("record {index}: {other}"),
        }
    }
}
