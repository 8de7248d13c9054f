//! The exports of a component, carried to the plugin that [`export!`](crate::export) names.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::imports::wharf::plugin::types;
use crate::bindings::outputs::wharf::plugin::emit::Emitter;
use crate::bindings::{enrich, lifecycle, reading, route, transform, validate};
use crate::{Enricher, Fields, Plugin, Router, Transformer, Validator, run};

use enrich::exports::wharf::plugin::enrich as enriching;
use lifecycle::exports::wharf::plugin::lifecycle as life;
use reading::exports::wharf::plugin::reading as reads;
use route::exports::wharf::plugin::route as routing;
use transform::exports::wharf::plugin::transform as transforming;
use validate::exports::wharf::plugin::validate as validating;

/// A component's one plugin; `export!` implements it.
pub trait Component: 'static {
    /// Whose exports these are.
    type Plugin: Plugin;

    /// Where the instance lives: a component has one thread.
    fn instance() -> &'static LocalKey<RefCell<Option<Ready<Self::Plugin>>>>;
}

/// A plugin that has taken its configuration.
pub struct Ready<P> {
    plugin: P,
    /// What the host packs into each call.
    reads: Fields,
}

fn with<C: Component, R>(run: impl FnOnce(&mut C::Plugin, &Fields) -> R) -> R {
    C::instance().with_borrow_mut(|ready| {
        let Ready { plugin, reads } = ready.as_mut().expect("the host calls init first");
        run(plugin, reads)
    })
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
        let plugin: C::Plugin = run::init(&stage.into(), &config)?;
        let reads = plugin.reads();
        C::instance().set(Some(Ready { plugin, reads }));
        Ok(())
    }
}

impl<C: Component> reads::Guest for C {
    fn reads() -> reads::Fields {
        with::<C, _>(|_, reads| reads::Fields {
            topic: reads.topic,
            key: reads.key,
            payload: reads.payload,
            headers: reads.headers.iter().map(|name| String::from(&**name)).collect(),
        })
    }
}

impl<C: Component<Plugin: Validator>> validating::Guest for C {
    fn validate(messages: types::View, all: &types::Batch) -> Vec<validating::Verdict> {
        with::<C, _>(|plugin, reads| run::validate(plugin, reads, &messages, all))
    }
}

impl<C: Component<Plugin: Router>> routing::Guest for C {
    fn route(messages: types::View, all: &types::Batch) -> Vec<routing::Verdict> {
        with::<C, _>(|plugin, reads| run::route(plugin, reads, &messages, all))
    }
}

impl<C: Component<Plugin: Transformer>> transforming::Guest for C {
    fn transform(messages: types::View, all: &types::Batch, out: &Emitter) -> Vec<transforming::Verdict> {
        with::<C, _>(|plugin, reads| run::transform(plugin, reads, &messages, all, out))
    }
}

impl<C: Component<Plugin: Enricher>> enriching::Guest for C {
    fn enrich(messages: types::View, all: &types::Batch) -> Vec<enriching::Verdict> {
        with::<C, _>(|plugin, reads| run::enrich(plugin, reads, &messages, all))
    }
}
