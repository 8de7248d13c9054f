//! A batch through a plugin, one message after another: in a component, and natively in tests.

use crate::bindings::imports::wharf::plugin::types::View;
use crate::bindings::{enrich, route, transform, validate};
use crate::host::{Batch, Emitter, end_message};
use crate::plugin::Headers;
use crate::{
    Enricher, Failure, Fields, Message, Out, Plugin, Problem, Route, Router, Stage, Transformed, Transformer,
    Validator, config,
};

use enrich::exports::wharf::plugin::enrich::Verdict as Enriched;
use route::exports::wharf::plugin::route::Verdict as Routed;
use transform::exports::wharf::plugin::transform::Verdict as Transform;
use validate::exports::wharf::plugin::validate::Verdict as Validated;

pub(crate) fn init<P: Plugin>(stage: &Stage, config: &str) -> Result<P, Problem> {
    P::init(config::parse_config(config)?, stage)
}

/// Says that a message is done with.
fn ended<T>(said: Result<T, Failure>) -> Result<T, Failure> {
    end_message(said.is_ok());
    said
}

pub(crate) fn validate<P: Validator>(plugin: &P, reads: &Fields, view: &View, all: &Batch) -> Vec<Validated> {
    Message::each(view, reads, all)
        .map(|message| match ended(plugin.validate(&message)) {
            Ok(()) => Validated::Accept,
            Err(failure) => Validated::Fail(failure.into()),
        })
        .collect()
}

pub(crate) fn route<P: Router>(plugin: &P, reads: &Fields, view: &View, all: &Batch) -> Vec<Routed> {
    Message::each(view, reads, all)
        .map(|message| match ended(plugin.route(&message)) {
            Ok(Route::Pass) => Routed::Pass,
            Ok(Route::Drop) => Routed::Drop,
            Ok(Route::To(outputs)) => Routed::To(outputs.into_iter().map(|output| output.0).collect()),
            Err(failure) => Routed::Fail(failure.into()),
        })
        .collect()
}

pub(crate) fn transform<P: Transformer>(
    plugin: &mut P,
    reads: &Fields,
    view: &View,
    all: &Batch,
    emitter: &Emitter,
) -> Vec<Transform> {
    Message::each(view, reads, all)
        .map(|message| {
            let mut out = Out { emitter, parent: message.index(), emitted: false };
            match ended(plugin.transform(&message, &mut out)) {
                // What was emitted is never lost to a slip in the value returned.
                Ok(Transformed::Emitted) | Ok(_) if out.emitted => Transform::Emitted,
                Ok(Transformed::Keep) => Transform::Keep,
                Ok(Transformed::Emitted | Transformed::Drop) => Transform::Drop,
                Err(failure) => Transform::Fail(failure.into()),
            }
        })
        .collect()
}

pub(crate) fn enrich<P: Enricher>(plugin: &P, reads: &Fields, view: &View, all: &Batch) -> Vec<Enriched> {
    Message::each(view, reads, all)
        .map(|message| {
            let mut headers = Headers::default();
            match ended(plugin.enrich(&message, &mut headers)) {
                Ok(()) if headers.0.is_empty() => Enriched::Unchanged,
                Ok(()) => Enriched::Set(headers.0),
                Err(failure) => Enriched::Fail(failure.into()),
            }
        })
        .collect()
}
