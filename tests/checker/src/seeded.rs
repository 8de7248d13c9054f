//! Faults of our own, planted one at a time: each must be caught by one of the checks.
//!
//! What a check is worth is shown by what it finds. The faults and their names are documented where they are planted:
//! the modules `seeded` of wharf-log, wharf-queue and wharf-shard.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{Plan, Report, crash, damage, faults, model};

/// Cases of each check for one fault.
const CASES: u64 = 6_000;
/// Cases between two looks at whether the fault is caught.
const BATCH: u64 = 500;

/// A fault and what caught it.
#[derive(Debug)]
pub struct Caught {
    /// Its name.
    pub fault: String,
    /// Which check, after about how many cases, and what it said.
    pub by: Option<(&'static str, u64, String)>,
    /// How long that took.
    pub took: Duration,
}

/// All faults and what caught each.
#[derive(Debug, Default)]
pub struct Table(pub Vec<Caught>);

impl Table {
    /// How many were caught.
    pub fn caught(&self) -> usize {
        self.0.iter().filter(|caught| caught.by.is_some()).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:<8} {:>8}  said", "fault", "check", "cases")?;
        for Caught { fault, by, .. } in &self.0 {
            match by {
                Some((check, cases, said)) => {
                    let said: String = said.lines().next().unwrap_or_default().chars().take(72).collect();
                    writeln!(f, "{fault:<32} {check:<8} {cases:>8}  {said}")?;
                }
                None => writeln!(f, "{fault:<32} NOT CAUGHT")?,
            }
        }
        writeln!(f, "{} of {} caught", self.caught(), self.0.len())
    }
}

/// Plants each fault, and runs the checks until one catches it.
///
/// # Errors
/// When the machine does not let a check do its work.
pub fn run(seed: u64) -> Result<Table> {
    // Many a fault is caught by an assertion; its report is the table.
    std::panic::set_hook(Box::new(|_| {}));
    let mut table = Table::default();
    for fault in wharf_log::seeded::Fault::ALL {
        wharf_log::seeded::plant(Some(fault));
        table.0.push(hunt(format!("log: {}", fault.name()), seed)?);
    }
    wharf_log::seeded::plant(None);
    for fault in wharf_queue::seeded::Fault::ALL {
        wharf_queue::seeded::plant(Some(fault));
        table.0.push(hunt(format!("queue: {}", fault.name()), seed)?);
    }
    wharf_queue::seeded::plant(None);
    for fault in wharf_shard::seeded::Fault::ALL {
        wharf_shard::seeded::plant(Some(fault));
        table.0.push(hunt(format!("shard: {}", fault.name()), seed)?);
    }
    wharf_shard::seeded::plant(None);
    Ok(table)
}

fn hunt(fault: String, seed: u64) -> Result<Caught> {
    let begun = Instant::now();
    let checks: [fn(&Plan) -> Result<Report>; 4] = [model::run, crash::run, faults::run, damage::run];
    for batch in 0..CASES / BATCH {
        for check in checks {
            // Each batch begins with another run.
            let report = check(&Plan::new(BATCH, seed + batch * BATCH))?;
            if let Some((_, violation)) = report.violations.first() {
                let by = Some((report.check, batch * BATCH + report.cases, violation.to_string()));
                return Ok(Caught { fault, by, took: begun.elapsed() });
            }
        }
    }
    Ok(Caught { fault, by: None, took: begun.elapsed() })
}
