//! The exports of a component, carried to the plugin that [`export!`](crate::export) names.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::imports::wharf::plugin::types;
use crate::bindings::outputs::wharf::plugin::emit::Emitter;
use crate::bindings::{enrich, lifecycle, route, transform, validate};
use crate::{Enricher, Plugin, Router, Transformer, Validator, run};

use enrich::exports::wharf::plugin::enrich as enriching;
use lifecycle::exports::wharf::plugin::lifecycle as life;
use route::exports::wharf::plugin::route as routing;
use transform::exports::wharf::plugin::transform as transforming;
use validate::exports::wharf::plugin::validate as validating;

/// A component's one plugin; `export!` implements it.
pub trait Component: 'static {
    /// Whose exports these are.
    type Plugin: Plugin;

    /// Where the instance lives: a component has one thread.
    fn instance() -> &'static LocalKey<RefCell<Option<Self::Plugin>>>;
}

fn with<C: Component, R>(run: impl FnOnce(&mut C::Plugin) -> R) -> R {
    C::instance().with_borrow_mut(|plugin| run(plugin.as_mut().expect("the host calls init first")))
}

impl<C: Component> life::Guest for C {
    fn describe() -> life::Description {
        let reads = C::Plugin::READS;
        life::Description {
            summary: C::Plugin::SUMMARY.to_owned(),
            reads: life::Reads {
                topic: reads.topic,
                key: reads.key,
                payload: reads.payload,
                headers: reads.headers.iter().map(|&name| name.to_owned()).collect(),
            },
            config_schema: C::Plugin::CONFIG_SCHEMA.map(str::to_owned),
        }
    }

    fn init(stage: life::Stage, config: String) -> Result<(), types::Problem> {
        let plugin = run::init(&stage.into(), &config)?;
        C::instance().set(Some(plugin));
        Ok(())
    }
}

impl<C: Component<Plugin: Validator>> validating::Guest for C {
    fn validate(messages: types::View, all: &types::Batch) -> Vec<validating::Verdict> {
        with::<C, _>(|plugin| run::validate(plugin, &messages, all))
    }
}

impl<C: Component<Plugin: Router>> routing::Guest for C {
    fn route(messages: types::View, all: &types::Batch) -> Vec<routing::Verdict> {
        with::<C, _>(|plugin| run::route(plugin, &messages, all))
    }
}

impl<C: Component<Plugin: Transformer>> transforming::Guest for C {
    fn transform(messages: types::View, all: &types::Batch, out: &Emitter) -> Vec<transforming::Verdict> {
        with::<C, _>(|plugin| run::transform(plugin, &messages, all, out))
    }
}

impl<C: Component<Plugin: Enricher>> enriching::Guest for C {
    fn enrich(messages: types::View, all: &types::Batch) -> Vec<enriching::Verdict> {
        with::<C, _>(|plugin| run::enrich(plugin, &messages, all))
    }
}
