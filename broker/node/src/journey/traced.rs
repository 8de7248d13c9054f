//! The traced ones of a batch: they pass a pipeline one by one, between runs of the others, in the same order.

use std::sync::Arc;
use std::time::Instant;

use wharf_pipeline::{Item, Processed, Traced};
use wharf_protocol::{Message, Name};
use wharf_queue::QueueId;

use super::remembering::changed_meanwhile;
use super::{Journey, Traveller};
use crate::Node;
use crate::pipelines::{Active, Run, Told};
use crate::trace::{Account, Accounts, Given, Pass, Why, name_of};

impl Journey {
    /// Whether one of a group is traced.
    pub(super) fn traces_any(&self, group: &[Traveller]) -> bool {
        !self.traced.is_empty() && group.iter().any(|traveller| self.traced.contains_key(&traveller.origin))
    }

    /// Begins the account of a publication, as it came.
    pub(crate) fn begin_account(&mut self, origin: usize, why: Why, message: &Message) {
        let account = Account::begin(why, self.who.name(), message, self.now);
        self.traced.insert(origin, account);
    }

    /// Keeps the step on which an untraced message failed that is about to be a dead letter, by version `number`.
    pub(super) fn note_failure(
        &mut self,
        traveller: &Traveller,
        pipeline: &Name,
        number: u32,
        processed: &mut Processed,
    ) {
        let Processed::Failed(failure) = processed else { return };
        let Some(step) = failure.step.take().filter(|_| !self.traced.contains_key(&traveller.origin)) else {
            return;
        };
        self.begin_account(traveller.origin, Why::DeadLetter, &traveller.message);
        let account = self.traced.get_mut(&traveller.origin).expect("just begun");
        account.failed_at(pipeline, number, *step, self.now);
    }

    /// The accounts, with where their messages are about to be stored.
    pub(crate) fn close_accounts(&mut self) -> Accounts {
        for (origin, account) in &mut self.traced {
            account.lands(&self.places[*origin].entries, &self.topology);
        }
        std::mem::take(&mut self.traced)
    }
}

impl Node {
    /// Begins the accounts of those of a group that fall in the sample of the pipeline that they are about to pass.
    pub(super) fn sample(&self, journey: &mut Journey, name: &Name, group: &[Traveller]) {
        let share = journey.entered(name).and_then(|active| active.trace_sample());
        let Some(share) = share else { return };
        for traveller in group {
            if !journey.traced.contains_key(&traveller.origin) && self.tracing().sampled(share, journey.now) {
                journey.begin_account(traveller.origin, Why::Sampled, &traveller.message);
            }
        }
    }
}

impl Journey {
    /// Runs a group of which some are traced through one pipeline, held at one version.
    ///
    /// # Errors
    /// Why it does not run.
    pub(super) async fn run_traced(
        &mut self,
        name: &Name,
        on_way_to: Option<QueueId>,
        group: &[Traveller],
    ) -> Result<Run, String> {
        let mut whole: Option<Run> = None;
        let mut rest = group;
        while !rest.is_empty() {
            let is_plain = |traveller: &&Traveller| !self.traced.contains_key(&traveller.origin);
            let plain = rest.iter().take_while(is_plain).count();
            let (now, later) = rest.split_at(plain.max(1));
            rest = later;
            let run = match plain {
                0 => self.run_one_traced(name, on_way_to, &now[0]).await?,
                _ => self.run_untraced(name, now).await?,
            };
            match &mut whole {
                Some(whole) => whole.extend(run),
                None => whole = Some(run),
            }
        }
        Ok(whole.unwrap_or_else(|| Run::of(0, Vec::new())))
    }

    async fn run_untraced(&mut self, name: &Name, group: &[Traveller]) -> Result<Run, String> {
        let active = self.entered(name).ok_or_else(|| gone(name))?;
        if active.remembers() {
            return self.run_remembering(name, group).await;
        }
        let items = group.iter().map(|traveller| Item::new(traveller.message.clone())).collect();
        active.run(items, self.now).await
    }

    async fn run_one_traced(
        &mut self,
        name: &Name,
        on_way_to: Option<QueueId>,
        one: &Traveller,
    ) -> Result<Run, String> {
        let begun_us = self.traced.get(&one.origin).map_or(0, Account::elapsed_us);
        let active = self.entered(name).ok_or_else(|| gone(name))?;
        let (run, told) = match active.remembers() {
            true => self.trace_remembering(name, one).await?,
            false => active.trace(Item::new(one.message.clone()), self.now).await?,
        };
        let on_way_to = on_way_to.and_then(|queue| name_of(&self.topology, queue));
        let (number, now) = (run.number(0), self.now);
        let pass = Pass {
            pipeline: name.clone(),
            number,
            on_way_to,
            begun_us,
            now,
            steps: told.steps,
            given: Given::of(&Item::new(one.message.clone())),
            circumstances: Some(told.circumstances),
            on_way_from: None,
        };
        if let Some(account) = self.traced.get_mut(&one.origin) {
            account.passed(pass, matches!(run.processed[..], [Processed::Dropped { .. }]));
        }
        Ok(run)
    }

    /// As [`run_remembering`](Self::run_remembering) with one message, with an account of each stage.
    async fn trace_remembering(&mut self, name: &Name, one: &Traveller) -> Result<(Run, Told), String> {
        let active = self.entered(name).map(|entered| &**entered);
        let (Some(Active::Ready { number, pipeline, trial }), Some(turn)) = (active, &self.turn) else {
            return Err(changed_meanwhile());
        };
        let items = [Item::new(one.message.clone())];
        let copies = trial.as_ref().map(|trial| (Arc::clone(trial), trial.copies(&items), Instant::now()));
        let (number, [item]) = (*number, items);
        let (traced, recall) = pipeline.trace_remembering(item, self.now, turn.memory(name)).await;
        self.note(one.origin, name, recall);
        let Traced { processed, steps, circumstances } = traced;
        let processed = vec![processed];
        if let Some((trial, copies, began)) = copies {
            trial.show_all(copies, &processed, began.elapsed(), self.now);
        }
        Ok((Run::of(number, processed), Told { steps, circumstances }))
    }
}

fn gone(name: &Name) -> String {
    format!("pipeline {name} is gone")
}
