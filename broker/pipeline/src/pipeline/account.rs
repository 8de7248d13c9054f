//! A run of one message with an account: what each stage was given, said and changed, and what the run hung on.

use std::sync::Arc;

use wharf_protocol::Timestamp;

use crate::instance::{Answer, Report};
use crate::memory::{Remembering, Shared, lock};
use crate::pipeline::stages::Stages;
use crate::trace::Step;
use crate::{Circumstances, Item, Memory, OnFailure, Problem, Processed, Recall, Traced, Verdict};

impl Stages {
    /// The way of a batch, for one message, with an account of each step.
    pub(super) fn trace(&self, item: Item, now: Timestamp, memory: Arc<dyn Memory>) -> Traced {
        let remembering = self.remembers.then(|| Remembering::begin(memory));
        self.account(item, now, remembering.as_ref())
    }

    /// As [`process_remembering`](Self::process_remembering) with one message, with an account of each step.
    pub(super) fn trace_remembering(
        &self,
        item: Item,
        now: Timestamp,
        memory: Arc<dyn Memory>,
    ) -> (Traced, Recall) {
        let remembering = Remembering::begin(memory);
        let traced = self.account(item, now, Some(&remembering));
        let came_through = !matches!(traced.processed, Processed::Failed(_));
        let recall = lock(&remembering).end_message(came_through);
        (traced, recall)
    }

    fn account(&self, item: Item, now: Timestamp, remembering: Option<&Shared>) -> Traced {
        let mut circumstances = Circumstances { now, ..Circumstances::default() };
        let mut flow = self.flow(vec![item]);
        let mut steps = Vec::new();
        for stage in &self.row {
            for unit in std::mem::take(&mut flow.units) {
                let mut reports = Vec::new();
                let given = unit.clone();
                let mut answers = stage.run(&Arc::new(vec![unit.clone()]), now, remembering, &mut reports);
                let answer = answers.pop().unwrap_or(Answer::Keep);
                let (verdict, problem) = said(&answer, stage.policy);
                let first = flow.units.len();
                flow.take(stage, unit, answer);
                let mut report = reports.pop().unwrap_or_else(Report::default);
                circumstances.lent.append(&mut report.lent);
                steps.push(Step::new(stage, &given, verdict, problem, &flow.units[first..], report));
            }
            flow.settle();
        }
        self.meter();
        if let Some(remembering) = remembering {
            circumstances.reads = lock(remembering).reads();
        }
        circumstances.lent.sort_unstable();
        circumstances.lent.dedup();
        let processed = flow.finish().processed.pop().unwrap_or_else(|| self.host_failure());
        Traced { processed, steps, circumstances }
    }
}

fn said(answer: &Answer, policy: OnFailure) -> (Verdict, Option<Problem>) {
    let failed = |verdict, problem: Problem| match policy {
        OnFailure::Bypass => (Verdict::Bypassed, Some(problem)),
        OnFailure::Reject | OnFailure::DeadLetter => (verdict, Some(problem)),
    };
    match answer {
        Answer::Keep => (Verdict::Passed, None),
        Answer::Drop => (Verdict::Dropped, None),
        Answer::To(_) => (Verdict::Routed, None),
        Answer::Headers(_) | Answer::Emitted(_) => (Verdict::Changed, None),
        Answer::Retry(problem, _) => (Verdict::Retry, Some(problem.clone())),
        Answer::Reject(problem) => failed(Verdict::Rejected, problem.clone()),
        Answer::Fault(fault, message) => failed(Verdict::Fault, fault.problem(message.clone())),
    }
}
