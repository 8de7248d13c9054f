//! What a check tells: how much it tried, how that ended, and what it found.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// How operations ended. A check in which most of them fail proves nothing, so this is always told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Confirmed.
    pub ok: u64,
    /// Refused: nothing was done.
    pub failed: u64,
    /// Without an answer: done or not.
    pub unknown: u64,
}

/// How one operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Confirmed.
    Ok,
    /// Refused: nothing was done.
    Failed,
    /// Without an answer: done or not.
    #[default]
    Unknown,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: `lost`, `duplicated`, …
    pub promise: &'static str,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    /// A broken promise and what showed it.
    pub fn new(promise: &'static str, seen: impl Into<String>) -> Self {
        Self { promise, seen: seen.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.seen)
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its name, as on the command line.
    pub check: &'static str,
    /// How many trials.
    pub cases: u64,
    /// What a trial is.
    pub unit: &'static str,
    /// How the operations of all trials ended.
    pub tally: Tally,
    /// The same by kinds of operations, for a check that has several.
    pub kinds: Vec<(&'static str, Tally)>,
    /// Other figures worth a line.
    pub figures: Vec<(&'static str, u64)>,
    /// Broken promises, each with the case that shows it.
    pub violations: Vec<(Case, Violation)>,
    /// How long it took.
    pub took: Duration,
}

/// What repeats one trial: `--seed` and, where a trial has a place, `--at`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// What the trial's chances are drawn from.
    pub seed: u64,
    /// The operation, byte or cycle at which something happens.
    pub at: u64,
}

/// Violations that are printed; the rest is counted.
const VIOLATIONS_SHOWN_MAX: usize = 10;

impl Tally {
    /// Counts one operation.
    pub fn count(&mut self, answer: Answer) {
        match answer {
            Answer::Ok => self.ok += 1,
            Answer::Failed => self.failed += 1,
            Answer::Unknown => self.unknown += 1,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.unknown += other.unknown;
    }
}

impl Report {
    /// A report with nothing in it yet.
    pub fn new(check: &'static str, unit: &'static str) -> Self {
        Self { check, unit, ..Self::default() }
    }

    /// Adds to the figure of that name.
    pub fn add(&mut self, name: &'static str, count: u64) {
        match self.figures.iter_mut().find(|(known, _)| *known == name) {
            Some((_, figure)) => *figure += count,
            None => self.figures.push((name, count)),
        }
    }

    /// Takes in what another part of the same check found.
    pub fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.tally += other.tally;
        other.figures.into_iter().for_each(|(name, count)| self.add(name, count));
        self.violations.extend(other.violations);
        self.took = self.took.max(other.took);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { ok, failed, unknown } = self.tally;
        writeln!(f, "{:<12} {:>12} {}", self.check, grouped(self.cases), self.unit)?;
        for (name, count) in [("ok", ok), ("failed", failed), ("unknown", unknown)] {
            writeln!(f, "  {name:<30} {:>14}", grouped(count))?;
        }
        for (kind, Tally { ok, failed, unknown }) in &self.kinds {
            let [ok, failed, unknown] = [ok, failed, unknown].map(|count| grouped(*count));
            writeln!(f, "    {kind:<28} {ok:>14} ok {failed:>9} failed {unknown:>9} unknown")?;
        }
        for (name, count) in &self.figures {
            writeln!(f, "  {name:<30} {:>14}", grouped(*count))?;
        }
        writeln!(f, "  {:<30} {:>14}", "violations", grouped(self.violations.len() as u64))?;
        writeln!(f, "  {:<30} {:>12.1} s", "took", self.took.as_secs_f64())?;
        for (case, violation) in self.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
            writeln!(f, "  ! {violation}")?;
            writeln!(f, "    again: wharf-checker {} --seed {} --at {}", self.check, case.seed, case.at)?;
        }
        Ok(())
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_operations_ended_and_how_to_repeat_a_violation() {
        let mut report = Report::new("crash", "points");
        (report.cases, report.tally.ok) = (5_000, 1_234_567);
        report.add("crashed again", 2);
        report.add("crashed again", 1);
        report.violations.push((Case { seed: 3, at: 17 }, Violation::new("lost", "1/2 from orders")));

        let text = report.to_string();

        for told in ["5,000 points", "1,234,567", "crashed again                               3"] {
            assert!(text.contains(told), "{told:?} in {text}");
        }
        assert!(text.contains("! lost: 1/2 from orders\n    again: wharf-checker crash --seed 3 --at 17"));
    }
}
