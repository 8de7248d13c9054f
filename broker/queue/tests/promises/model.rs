//! The state machine against its reference and against its own history.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use wharf_protocol::{Receipt, Timestamp};
use wharf_queue::{Effect, QueueId, Stamped, State};

use crate::history::History;
use crate::random::{self, commands};
use crate::reference::{Model, Place};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_state_does_what_the_model_does(
        commands in commands(1..40), restore_every in 1usize..12,
    ) {
        let (mut state, mut model, mut history) = (State::default(), Model::default(), History::default());
        let mut log: Vec<Stamped> = Vec::new();
        let mut effects = Vec::new();
        let creations = (0..3).map(|queue| (0, random::create(queue))).collect::<Vec<_>>();
        for step in 0..creations.len() + commands.len() {
            let (wait, record) = match commands.get(step.wrapping_sub(creations.len())) {
                Some(command) => (command.wait, random::record(&state, command)),
                None => creations[step].clone(),
            };
            let stamped = Stamped { at: Timestamp(state.now().0 + wait), record };
            let index = state.applied() + 1;
            state.apply(index, &stamped, &mut effects);
            let expected = model.apply(index, &stamped);

            history.check(index, &stamped, &effects, &state);
            for (id, _) in model.consumers.iter().filter(|(_, consumer)| consumer.auto_settle) {
                history.auto_settled(*id);
            }
            prop_assert_eq!(bare(std::mem::take(&mut effects)), expected, "record {}: {:?}", index, &stamped.record);
            state.verify();
            counts(&state, &model)?;
            if step % restore_every == 0 {
                let restored = State::restore(&state.snapshot()).expect("a snapshot");
                prop_assert_eq!(restored.hash(), state.hash(), "I11: through a snapshot");
                state = restored;
            }
            log.push(stamped);
        }
        let mut replayed = State::default();
        for (index, stamped) in (1..).zip(&log) {
            replayed.apply(index, stamped, &mut Vec::new());
        }
        prop_assert_eq!(replayed.hash(), state.hash(), "I11: from the log alone");
    }
}

/// A generator whose commands never meet proves nothing.
#[test]
fn random_commands_deliver_settle_bury_and_redrive() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut delivered, mut acked, mut dead, mut expired, mut redriven) = (0, 0, 0, 0, 0);
    for _ in 0..200 {
        let commands = commands(59..60).new_tree(&mut runner).expect("a tree").current();
        let mut state = State::default();
        for queue in 0..3 {
            let stamped = Stamped { at: Timestamp(0), record: random::create(queue) };
            state.apply(state.applied() + 1, &stamped, &mut Vec::new());
        }
        for command in &commands {
            let at = Timestamp(state.now().0 + command.wait);
            let stamped = Stamped { at, record: random::record(&state, command) };
            state.apply(state.applied() + 1, &stamped, &mut Vec::new());
        }
        for queue in state.queues() {
            delivered += queue.delivered;
            acked += queue.acked;
            dead += queue.dead_lettered;
            expired += queue.expired;
            redriven += queue.redriven;
        }
    }
    let counts = [delivered, acked, dead, expired, redriven];
    assert!(counts.into_iter().zip([1_000, 200, 100, 30, 10]).all(|(is, least)| is >= least), "{counts:?}");
}

/// Effects without the sentences for people that the model does not write.
fn bare(mut effects: Vec<Effect>) -> Vec<Effect> {
    for effect in &mut effects {
        match effect {
            Effect::Refused(refusal) => refusal.reason.clear(),
            Effect::Receipt(Receipt::Rejected(rejection)) => rejection.reason.clear(),
            _ => {}
        }
    }
    effects
}

fn counts(state: &State, model: &Model) -> Result<(), TestCaseError> {
    for (id, queue) in &model.queues {
        let view = state.queue(&queue.name).expect("there");
        let count =
            |place: fn(&Place) -> bool| queue.messages.iter().filter(|m| place(&m.place)).count() as u64;
        prop_assert_eq!(view.id, QueueId(*id));
        prop_assert_eq!(view.ready, count(|place| *place == Place::Ready));
        prop_assert_eq!(view.leased, count(|place| *place == Place::Leased));
        prop_assert_eq!(view.delayed, count(|place| matches!(place, Place::Delayed(_))));
        prop_assert_eq!(view.settled, count(|place| *place == Place::Gone));
        prop_assert_eq!(view.enqueued, queue.messages.len() as u64);
        let mut ready: Vec<_> = (0..).zip(&queue.messages).filter(|(_, m)| m.place == Place::Ready).collect();
        ready.sort_by_key(|(offset, message)| (31 - message.priority, *offset));
        let ready: Vec<u64> = ready.into_iter().map(|(offset, _)| offset).collect();
        let peeked: Vec<u64> = state.peek(&queue.name, usize::MAX).iter().map(|each| each.offset).collect();
        prop_assert_eq!(peeked, ready);
    }
    prop_assert_eq!(state.queues().len(), model.queues.len());
    Ok(())
}
