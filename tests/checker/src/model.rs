//! Random commands against a naive reference model of the state machine (`tests/model`).

use std::time::Instant;

use anyhow::Result;

use crate::report::{Case, Report, Tally, Violation};
use crate::spread::{self, Plan, Trial};

/// Commands in one case.
const COMMANDS: usize = 60;

/// Runs the check; cases are histories.
///
/// # Errors
/// When the machine does not let the check do its work.
pub fn run(plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    // One place a seed: the model has its own chances.
    let plan = Plan { last: 1, ..*plan };
    let mut report = spread::run(&plan, Report::new("model", "histories"), compare)?;
    report.took = begun.elapsed();
    Ok(report)
}

async fn compare(Case { seed, .. }: Case) -> Trial {
    let mut trial = Trial::default();
    match wharf_model::check(seed, COMMANDS) {
        Ok(tally) => {
            trial.tally = Tally { ok: tally.ok, failed: tally.refused, unknown: 0 };
            trial.figures = vec![
                ("delivered", tally.delivered),
                ("redelivered", tally.redelivered),
                ("acked", tally.acked),
                ("dead-lettered", tally.dead_lettered),
                ("expired", tally.expired),
                ("dropped", tally.dropped),
                ("moved", tally.moved),
                ("appended to streams", tally.appended),
                ("passed by groups", tally.passed),
                ("partitions assigned", tally.assigned),
                ("given up by groups", tally.given_up),
                ("transactions committed", tally.committed),
                ("dead letters resolved", tally.resolved),
            ];
        }
        Err(disagreement) => trial.violations.push(Violation::new("model", disagreement.to_string())),
    }
    trial
}
