//! One living instance of a plugin, and the one way into it.
//!
//! Every entry sets the deadline, catches a panic of the host, and says what broke. An instance that broke is
//! never entered again: its owner drops it.

mod answer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime::{Store, Trap};

use crate::bindings::exports::wharf::plugin::{enrich, lifecycle, reading, route, transform, validate};
use crate::engine::{Inner, Slots};
use crate::host::{Breach, Call, Host, Rights};
use crate::logbook::Written;
use crate::plugin::Plugin;
use crate::ticker::TICK;
use crate::view::{Packed, Packing};
use crate::way::{Way, make_way};
use crate::{Description, Fault, Kind, Problem, Reads};
use answer::Said;

pub(crate) use answer::Answer;

/// How many bytes of what a plugin wrote before it broke are told with the fault.
const LAST_WORDS_BYTES_MAX: usize = 512;

pub(crate) struct Instance {
    store: Store<Host>,
    exports: Exports,
    packed: Packed,
    /// Entered no more once it has fallen to zero.
    pub(crate) calls_left: u32,
    _slots: Slots,
}

struct Exports {
    lifecycle: lifecycle::Guest,
    reading: Option<reading::Guest>,
    validate: Option<validate::Guest>,
    route: Option<route::Guest>,
    transform: Option<transform::Guest>,
    enrich: Option<enrich::Guest>,
}

/// A call that did not come back with answers.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) fault: Fault,
    pub(crate) message: String,
}

/// What a call took and wrote.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) written: Written,
    pub(crate) took: Duration,
    pub(crate) memory_peak_bytes: usize,
    pub(crate) fuel: Option<u64>,
    /// Versions of tables and schemas that were used.
    pub(crate) lent: Vec<(crate::Grant, u64)>,
    pub(crate) counters: std::collections::BTreeMap<String, u64>,
}

impl Instance {
    /// A new instance, not yet initialised.
    pub(crate) fn start(
        engine: &Arc<Inner>,
        plugin: &Plugin,
        rights: &Rights,
        deadline: Duration,
    ) -> Result<Self, Broken> {
        let slots =
            engine.take_slots(plugin.slots).map_err(|message| Broken { fault: Fault::Start, message })?;
        let limits = &engine.limits;
        let host = Host::new(limits, &engine.library, rights, &engine.guest_bytes);
        let mut store = Store::new(&engine.wasmtime, host);
        store.limiter(|host| &mut host.memory);
        store.set_hostcall_fuel(limits.crossing_bytes);
        store.set_max_component_handles(limits.handles);
        let ticks = engine.ticker.ticks();
        store.epoch_deadline_callback(move |context| Ok(context.data().way.look(ticks.look(), make_way)));
        let (entered, _) = enter(engine, &mut store, deadline, |store| {
            let instance = plugin.pre.instantiate(&mut *store)?;
            let indices = &plugin.indices;
            Ok(Exports {
                lifecycle: indices.lifecycle.load(&mut *store, &instance)?,
                reading: indices.reading.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
                validate: indices.validate.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
                route: indices.route.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
                transform: indices.transform.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
                enrich: indices.enrich.as_ref().map(|i| i.load(&mut *store, &instance)).transpose()?,
            })
        });
        let exports = entered.map_err(|broken| match broken.fault {
            Fault::Trap => Broken { fault: Fault::Start, ..broken },
            _ => broken,
        })?;
        Ok(Self { store, exports, packed: Packed::default(), calls_left: u32::MAX, _slots: slots })
    }

    pub(crate) fn describe(&mut self, engine: &Inner, deadline: Duration) -> Result<Description, Broken> {
        let lifecycle = &self.exports.lifecycle;
        let (entered, _) = enter(engine, &mut self.store, deadline, |store| lifecycle.call_describe(store));
        entered.map(|described| Description {
            summary: described.summary,
            reads: Reads {
                topic: described.reads.topic,
                key: described.reads.key,
                payload: described.reads.payload,
                headers: described.reads.headers,
            },
            config_schema: described.config_schema,
        })
    }

    /// Hands the plugin its configuration; the inner error is the plugin's own.
    pub(crate) fn init(
        &mut self,
        engine: &Inner,
        deadline: Duration,
        stage: lifecycle::Stage<'_>,
        config: &str,
    ) -> Result<Result<(), Problem>, Broken> {
        let lifecycle = &self.exports.lifecycle;
        let (entered, _) =
            enter(engine, &mut self.store, deadline, |store| lifecycle.call_init(store, stage, config));
        self.store.data_mut().call.counters.clear();
        Ok(entered?.map_err(Problem::from))
    }

    /// Which fields it reads as it is configured; `None`: what its description says.
    pub(crate) fn reads(&mut self, engine: &Inner, deadline: Duration) -> Result<Option<Reads>, Broken> {
        let Some(reading) = &self.exports.reading else { return Ok(None) };
        let (entered, _) = enter(engine, &mut self.store, deadline, |store| reading.call_reads(store));
        let reading::Fields { topic, key, payload, headers } = entered?;
        Ok(Some(Reads { topic, key, payload, headers }))
    }

    /// Gives the plugin the messages of `call` and takes one answer for each.
    pub(crate) fn process(
        &mut self,
        engine: &Inner,
        deadline: Duration,
        kind: Kind,
        packing: &Packing,
        call: Call,
    ) -> (Result<Vec<Answer>, Broken>, Report) {
        let count = call.count();
        if let Err(bytes) = self.packed.pack(call.items(), packing, call.now()) {
            let message = format!("a batch of {bytes} bytes is more than a plugin can address");
            return (Err(Broken { fault: Fault::Host, message }), Report::default());
        }
        self.store.data_mut().call = call;
        self.calls_left = self.calls_left.saturating_sub(1);

        let (exports, view) = (&self.exports, self.packed.view());
        let (entered, took) = enter(engine, &mut self.store, deadline, |store| {
            let batch = Resource::new_borrow(0);
            match kind {
                Kind::Validator => exports.validate()?.call_validate(store, view, batch).map(Said::Validate),
                Kind::Router => exports.route()?.call_route(store, view, batch).map(Said::Route),
                Kind::Transformer => exports
                    .transform()?
                    .call_transform(store, view, batch, Resource::new_borrow(0))
                    .map(Said::Transform),
                Kind::Enricher => exports.enrich()?.call_enrich(store, view, batch).map(Said::Enrich),
            }
        });

        let fuel = self.store.get_fuel().ok().map(|left| u64::MAX - left);
        let host = self.store.data_mut();
        let call = std::mem::take(&mut host.call);
        let report = Report {
            written: host.logbook.take(),
            took,
            memory_peak_bytes: host.memory.peak_bytes,
            fuel,
            lent: call.borrowed.versions(),
            counters: if entered.is_ok() { call.counters.clone() } else { Default::default() },
        };
        let answers = entered.map_err(|broken| broken.with_last_words(&report.written));
        (answers.and_then(|said| said.checked(call, count, &engine.limits)), report)
    }

    /// Whether so much memory has been taken, and can never be given back, that a new instance is better.
    pub(crate) fn is_bloated(&self, bytes_max: usize) -> bool {
        self.store.data().memory.bytes > bytes_max / 2
    }
}

impl Exports {
    fn validate(&self) -> wasmtime::Result<&validate::Guest> {
        self.validate.as_ref().ok_or_else(not_exported)
    }

    fn route(&self) -> wasmtime::Result<&route::Guest> {
        self.route.as_ref().ok_or_else(not_exported)
    }

    fn transform(&self) -> wasmtime::Result<&transform::Guest> {
        self.transform.as_ref().ok_or_else(not_exported)
    }

    fn enrich(&self) -> wasmtime::Result<&enrich::Guest> {
        self.enrich.as_ref().ok_or_else(not_exported)
    }
}

fn not_exported() -> wasmtime::Error {
    Breach::error(Fault::Start, "the plugin is not of this kind")
}

/// The only way into guest code.
fn enter<T>(
    engine: &Inner,
    store: &mut Store<Host>,
    deadline: Duration,
    call: impl FnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
) -> (Result<T, Broken>, Duration) {
    let _ticking = engine.ticker.running();
    // One tick more: the first may come at once.
    let ticks = u64::try_from(deadline.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX / 2) + 1;
    let (way, first_look) = Way::begin(engine.ticker.ticks().now(), ticks);
    store.data_mut().way = way;
    store.set_epoch_deadline(first_look);
    if engine.fuel {
        let _ = store.set_fuel(u64::MAX);
    }
    let start = Instant::now();
    let entered = catch_unwind(AssertUnwindSafe(|| call(store)));
    let took = start.elapsed();
    let result = match entered {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Broken::from_error(&error, store.data(), deadline)),
        Err(_) => Err(Broken { fault: Fault::Host, message: "the host panicked while it ran it".to_owned() }),
    };
    (result, took)
}

impl Broken {
    fn from_error(error: &wasmtime::Error, host: &Host, deadline: Duration) -> Self {
        if let Some(breach) = error.downcast_ref::<Breach>() {
            return Self { fault: breach.fault, message: breach.message.clone() };
        }
        let limit = |fault, message| Self { fault, message };
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => {
                limit(Fault::Deadline, format!("it took longer than {} ms", deadline.as_millis()))
            }
            Some(Trap::StackOverflow) => limit(Fault::Stack, "it ran out of stack".to_owned()),
            _ if host.memory.refused => {
                let mib = host.memory.bytes_max() / (1024 * 1024);
                limit(Fault::Memory, format!("it asked for more than its {mib} MiB of memory"))
            }
            // A guest keeps locals on a stack in its own memory; below it there is nothing.
            Some(trap @ Trap::MemoryOutOfBounds) => {
                limit(Fault::Trap, format!("it trapped: {trap}; deep recursion ends like this"))
            }
            Some(trap) => limit(Fault::Trap, format!("it trapped: {trap}")),
            None if error.is::<wasmtime_wasi::I32Exit>() => limit(Fault::Trap, "it called exit".to_owned()),
            // These have no type of their own in wasmtime.
            None => match error.root_cause().to_string() {
                cause if cause.contains("fuel allocated for hostcalls") => {
                    let mib = host.limits().crossing_bytes / (1024 * 1024);
                    limit(Fault::Answer, format!("it handed more than {mib} MiB over at once"))
                }
                cause if cause.contains("borrow handles still remain") => {
                    let text =
                        "it did not let go of the batch before it answered; drop every borrowed handle";
                    limit(Fault::Answer, text.to_owned())
                }
                cause => limit(Fault::Answer, cause),
            },
        }
    }

    /// A panic in a Rust plugin writes its message and place before it traps, and how to see more where there is an
    /// environment, which plugins have not.
    fn with_last_words(mut self, written: &Written) -> Self {
        let last = written.lines.iter().filter(|line| line.level == crate::Level::Error);
        let words = last.map(|line| line.text.trim());
        let words: Vec<_> = words
            .filter(|text| !text.is_empty() && !text.starts_with("note: run with `RUST_BACKTRACE=1`"))
            .collect();
        if self.fault == Fault::Trap && !words.is_empty() {
            let mut words = words.join(" ");
            words.truncate(words.floor_char_boundary(LAST_WORDS_BYTES_MAX));
            self.message = format!("its last words: {words}; {}", self.message);
        }
        self
    }
}
