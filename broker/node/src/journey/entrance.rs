//! Where a message that died on its way comes in again.

use wharf_protocol::{Death, Message, Name};
use wharf_queue::{DEAD_LETTERS, QueueId, Topology};

use super::{Journey, Traveller};

/// Where a dead letter goes on, when a pipeline gave it up before any consumer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// At this pipeline, on its way in; it passed those before it.
    Ingress(Name),
    /// On the bindings into one queue or stream.
    Bindings(Towards),
}

/// The bindings that concern a message which other bindings have taken before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Towards {
    pub(super) queue: QueueId,
    /// The pipeline that gave it up.
    pub(super) pipeline: Name,
}

impl Entrance {
    /// Where a message with this death goes on; `None`: in the queue where it died.
    ///
    /// What a stage gave up on the way to a consumer had been delivered. Of the rest, what died on its way in has the
    /// queue of dead letters as its own, for it had no other; so has what died on a binding into that very queue, which
    /// still has its pipeline.
    pub(crate) fn of(death: &Death, topology: &Topology) -> Option<Self> {
        let stage = death.stage.as_deref().filter(|_| death.attempts == 0)?;
        let pipeline: Name = stage.split('/').next()?.parse().ok()?;
        let queue = topology.backlog(&death.queue);
        let is_its_binding = |queue| {
            let mut bindings = topology.bindings().iter();
            bindings.any(|each| each.queue_id == queue && each.pipeline.as_ref() == Some(&pipeline))
        };
        if death.queue == DEAD_LETTERS && !queue.is_some_and(is_its_binding) {
            return Some(Self::Ingress(pipeline));
        }
        queue.map(|queue| Self::Bindings(Towards { queue, pipeline }))
    }
}

impl Traveller {
    /// A message that goes on from where it died, through what is there now. One whose topic does not pass the pipeline
    /// any more that gave it up passes all those of its topic.
    pub(crate) fn again(origin: usize, message: Message, entrance: Entrance, journey: &mut Journey) -> Self {
        match entrance {
            Entrance::Bindings(towards) => {
                Self { towards: Some(Box::new(towards)), ..Self::new(origin, message) }
            }
            Entrance::Ingress(pipeline) => {
                let pipelines = journey.route(&message.topic).ingress.clone();
                let passed = pipelines.iter().position(|each| *each == pipeline).unwrap_or(0);
                Self { ingress: Some((pipelines, passed)), ..Self::new(origin, message) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::{DeathCause, MessageId, Timestamp};
    use wharf_queue::{Change, Record, Stamped, State};

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn death(queue: &str, stage: Option<&str>, attempts: u32) -> Death {
        Death {
            queue: queue.to_owned(),
            cause: DeathCause::Stage,
            reason: "not JSON".into(),
            stage: stage.map(str::to_owned),
            plugin: None,
            attempts,
            first_at: Timestamp(0),
            last_at: Timestamp(0),
            original: MessageId { index: 0, entry: 0 },
        }
    }

    #[test]
    fn a_letter_goes_on_from_where_it_died() {
        let mut state = State::default();
        let mut change = |change| {
            let stamped = Stamped { at: Timestamp(1), record: Record::Topology(change) };
            state.apply(state.applied() + 1, &stamped, &mut Vec::new());
        };
        change(Change::CreateQueue { name: name("q"), policy: Default::default() });
        change(Change::CreateQueue { name: name(DEAD_LETTERS), policy: Default::default() });
        let apply = |pipeline: &str| Change::ApplyPipeline {
            name: name(pipeline),
            spec: "".into(),
            ingress: None,
            by: "tests".into(),
            note: String::new(),
            delivery: Vec::new(),
        };
        change(apply("graveside"));
        change(Change::Bind {
            pattern: "odd".parse().expect("a pattern"),
            queue: name(DEAD_LETTERS),
            pipeline: Some(name("graveside")),
        });
        let topology = state.topology();
        let towards = |queue: &str, pipeline: &str| {
            let queue = topology.backlog(queue).expect("there");
            Some(Entrance::Bindings(Towards { queue, pipeline: name(pipeline) }))
        };
        let of = |queue, stage, attempts| Entrance::of(&death(queue, stage, attempts), topology);

        assert_eq!(of("q", None, 0), None, "its consumer, time or a limit ended it");
        assert_eq!(of("q", Some("p/json"), 1), None, "a pipeline on its way to a consumer");
        assert_eq!(of("q", Some("p/json"), 0), towards("q", "p"));
        assert_eq!(of("gone", Some("p/json"), 0), None);
        assert_eq!(of(DEAD_LETTERS, Some("p/json"), 0), Some(Entrance::Ingress(name("p"))));
        assert_eq!(of(DEAD_LETTERS, Some("graveside/json"), 0), towards(DEAD_LETTERS, "graveside"));
    }
}
