//! How long the function itself takes, for `wharf plugin bench --native` to compare the component with.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::harness::{Harness, Input, Setup, Subject, Tested, native, wire};

/// The variable that names the file with the [`Order`].
pub const ORDER: &str = "WHARF_BENCH_ORDER";

/// What the answer, nanoseconds a message, stands behind on its line.
pub const ANSWER: &str = "wharf-baseline: ";

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The stage.
    pub setup: Setup,
    /// One batch.
    pub messages: Vec<wire::Message>,
    /// For how long.
    pub milliseconds: u64,
}

impl<P: Tested> Harness<P> {
    /// Measures the function for `wharf plugin bench --native DIR`, which runs the ignored tests of the plugin in `DIR`
    /// whose names contain `baseline`; without it there is nothing to do.
    ///
    /// ```ignore
    /// #[test]
    /// #[ignore = "for `wharf plugin bench --native`"]
    /// fn baseline() {
    ///     Harness::<StripPii>::native().baseline();
    /// }
    /// ```
    ///
    /// # Panics
    /// If the plugin refuses the configuration, or the order cannot be read.
    #[expect(clippy::print_stdout, reason = "the answer is a line on standard output")]
    pub fn baseline(&self) {
        let Some(order) = std::env::var_os(ORDER) else { return };
        match measure::<P>(Path::new(&order)) {
            Ok(nanoseconds) => println!("\n{ANSWER}{nanoseconds}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Nanoseconds a message: the median of the batches.
fn measure<P: Tested>(order: &Path) -> Result<u64, String> {
    let bytes = std::fs::read(order).map_err(|error| format!("cannot read {}: {error}", order.display()))?;
    let order: Order = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let inputs = order.messages.iter().map(Input::try_from).collect::<Result<Vec<_>, _>>()?;
    let mut subject = native::Native::<P>::default();
    let mut taken = Vec::new();
    let end = Instant::now() + Duration::from_millis(order.milliseconds);
    while taken.is_empty() || Instant::now() < end {
        let outcomes = subject.run(&order.setup, &inputs).map_err(|error| error.to_string())?;
        let time = outcomes.first().map_or(Duration::ZERO, |outcome| outcome.usage.time);
        taken.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / inputs.len().max(1) as u64);
    }
    taken.sort_unstable();
    Ok(taken[taken.len() / 2])
}
