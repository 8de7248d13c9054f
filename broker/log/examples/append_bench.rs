//! How fast this machine takes records: `append_bench [RECORDS] [BODY_BYTES] [BATCH] [DIR]`.
//!
//! Appends durably, batch by batch, then reads all back in order. Prints rates and, as the figure that
//! counts, CPU time a record (of the whole process, the thread that prepares segments included).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wharf_log::{Batch, Durability, LocalLog, LogEngine, Options};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(1 << 20), |text| text.parse())?;
    let body_bytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let batch_records: u64 = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let parent = arguments.next().map_or(std::env::current_dir()?, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let body = vec![7; body_bytes];
    let mut batch = Batch::new();

    let mut log = LocalLog::open(dir.path(), Options::default(), &mut |_| Ok(()))?;
    let mut append = |log: &mut LocalLog| -> Result<()> {
        for _ in 0..batch_records {
            batch.push(|out| out.extend_from_slice(&body));
        }
        log.append(log.next(), &mut batch, Durability::Fsync)?;
        Ok(())
    };

    let begun = Measure::begin()?;
    while log.next() <= records {
        append(&mut log)?;
    }
    begun.report("append, fsync, into new segments", log.next() - 1)?;
    let stats = log.stats();
    let mean = stats.syncs.total / stats.syncs.count().max(1) as u32;
    println!("  {} syncs, mean {mean:.0?}, longest {:.0?}", stats.syncs.count(), stats.syncs.longest);

    let records = log.next() - 1;
    let begun = Measure::begin()?;
    let reader = log.reader();
    let indexes: Vec<u64> = (1..=records).collect();
    let mut out = Vec::new();
    for chunk in indexes.chunks(batch_records as usize) {
        out.clear();
        reader.read(chunk, &mut out)?;
    }
    begun.report("read", records)?;

    drop(log);
    let begun = Measure::begin()?;
    let mut log = LocalLog::open(dir.path(), Options::default(), &mut |_| Ok(()))?;
    begun.report("reopen without a snapshot", log.next() - 1)?;

    // From here on old segments become new ones, as in a broker whose messages are consumed.
    for at in [records - 1, records] {
        log.write_snapshot(at, b"state")?;
    }
    log.trim(records)?;
    let (begun, mut appended) = (Measure::begin()?, 0);
    while appended < records {
        append(&mut log)?;
        appended += batch_records;
        if log.stats().segments > 2 {
            log.write_snapshot(log.next() - 1, b"state")?;
            log.trim(log.next())?;
        }
    }
    begun.report("append, fsync, into recycled segments", appended)
}

struct Measure {
    wall: Instant,
    cpu: Duration,
}

impl Measure {
    fn begin() -> Result<Self> {
        Ok(Self { wall: Instant::now(), cpu: cpu()? })
    }

    fn report(self, what: &str, records: u64) -> Result<()> {
        let (wall, cpu) = (self.wall.elapsed(), cpu()? - self.cpu);
        let rate = records as f64 / wall.as_secs_f64();
        let each = cpu.as_secs_f64() * 1e6 / records as f64;
        println!("{what}: {rate:.0} records/s, {each:.2} µs CPU a record ({records} in {wall:.2?})");
        Ok(())
    }
}

/// The CPU time of this process's living threads.
fn cpu() -> Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(Duration::from_nanos(total))
}
