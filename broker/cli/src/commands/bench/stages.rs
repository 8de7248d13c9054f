//! What stages cost a message, in this process and without a network: in Wasm, beside the same code natively.
//!
//! CPU time of all threads, everything counted: making the batch, the hop to a guest's thread, packing, the call, the
//! answers. Of several rounds the best: what others do on the machine only adds.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use wharf_pipeline::{Compiler, Engine, EngineConfig, Item, Pipeline, PipelineSpec, Plugin, Processed};
use wharf_plugin::Plugin as _;
use wharf_protocol::{HeadersBuilder, Message, Timestamp};

use crate::orders::Order;
use crate::output;
use crate::own_broker::resident_bytes;

const ROUND: Duration = Duration::from_millis(200);
const ROUNDS: usize = 7;

/// Orders that take turns, so that no branch predictor learns one by heart.
const ORDERS: u64 = 256;

/// The batch for which everything but batches is compared: as many messages as one call takes.
const BATCH: usize = 64;

const IDLE_PIPELINES: usize = 1000;

/// One stage each; `{name}` is the pipeline's.
const XML_TO_JSON: &str = "name = \"{name}\"\n[[stage]]\nplugin = \"xml-to-json\"\n";
const JSON_SCHEMA: &str = "name = \"{name}\"\n[[stage]]\nplugin = \"json-schema\"\n";
const ROUTE_BY: &str = "name = \"{name}\"\n[[stage]]\nplugin = \"route-by\"\noutputs = { eu = \"topic:eu\" }\n\
                        [stage.config]\nby = { header = \"region\" }\nroutes = { eu = [\"eu\"] }\n\
                        otherwise = \"pass\"\n";

/// The engine, and the plugins that are measured.
struct Stand {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    orders: Vec<String>,
}

/// Measures and prints. Blocks: not for a thread that drives tasks.
pub(super) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let config = || EngineConfig {
        cache: Some(folder.path().join("cache")),
        compiler: Compiler::InProcess,
        ..EngineConfig::default()
    };
    let stand = Stand {
        engine: Engine::new(config())?,
        runtime: tokio::runtime::Builder::new_current_thread().build()?,
        orders: (0..ORDERS).map(|number| Order { number, bytes_min: 1024 }.xml()).collect(),
    };
    output::note("measuring stages…");
    stand.predicate()?;
    let xml = stand.xml_to_json()?;
    let schema = stand.json_schema()?;
    stand.three_stages(xml, schema)?;
    stand.idle_pipelines()?;
    drop(stand);
    loading(&config())
}

impl Stand {
    /// A header decides: the plugin is never given the payload. It routes what has the header's value, which costs more
    /// than to let pass what has not.
    fn predicate(&self) -> anyhow::Result<()> {
        let spec = ROUTE_BY.replace("route-by\"", "route-by\"\nfresh = true");
        let (reused, fresh) = (self.pipeline(&[ROUTE_BY])?, self.pipeline(&[&spec])?);
        let (none, all) = (self.items(&self.orders), self.items_of(&self.orders, "eu"));
        let halves: Vec<Item> = none
            .iter()
            .step_by(2)
            .zip(all.iter().step_by(2))
            .flat_map(|(a, b)| [a.clone(), b.clone()])
            .collect();
        for batch in [1, 16, 64, 256] {
            let us = self.cost(&reused, &halves, batch)?;
            let more = if batch == BATCH {
                let [none, all] = [self.cost(&reused, &none, batch)?, self.cost(&reused, &all, batch)?];
                let fresh = self.cost(&fresh, &halves, batch)?;
                format!("; none {none:.2}, all {all:.2}; a fresh instance for each batch {fresh:.2}")
            } else {
                String::new()
            };
            line(format_args!(
                "predicate on a header, half of them routed, batch {batch:>3}   {us:.2} µs/msg{more}"
            ))?;
        }
        Ok(())
    }

    fn xml_to_json(&self) -> anyhow::Result<f64> {
        let pipeline = self.pipeline(&[XML_TO_JSON])?;
        let config = xml_to_json::Config::default();
        self.compare("xml-to-json, 1 KiB", &pipeline, &self.orders, |xml| {
            xml_to_json::convert(xml, &config).map(drop).map_err(|problem| problem.message)
        })
    }

    fn json_schema(&self) -> anyhow::Result<f64> {
        let pipeline = self.pipeline(&[&with_schema()])?;
        let config = serde_json::from_value(json!({ "schema": order_schema() }))?;
        let stage = wharf_plugin::Stage::default();
        let plugin = json_schema::JsonSchema::init(config, &stage)
            .map_err(|problem| anyhow::anyhow!("{}", problem.message))?;
        self.compare("json-schema, the same order as JSON", &pipeline, &self.json()?, |json| {
            let json_schema::Unique(value) = serde_json::from_str(json).map_err(|error| error.to_string())?;
            plugin.check(&value).map_err(|problem| problem.message)
        })
    }

    /// One pipeline of three stages, and the sum of what each costs in a pipeline of its own.
    fn three_stages(&self, xml: f64, schema: f64) -> anyhow::Result<()> {
        let all = self.pipeline(&[XML_TO_JSON, &with_schema(), ROUTE_BY])?;
        let router = self.pipeline(&[ROUTE_BY])?;
        let alone = self.cost(&router, &self.items(&self.json()?), BATCH)?;
        let sum = xml + schema + alone;
        let together = self.cost(&all, &self.items(&self.orders), BATCH)?;
        let more = (together / sum - 1.0) * 100.0;
        line(format_args!(
            "three stages   {together:.2} µs/msg, the sum of each alone {sum:.2}: {more:+.0} %"
        ))
    }

    fn idle_pipelines(&self) -> anyhow::Result<()> {
        let plugin = self.load("route-by")?;
        let before = resident_bytes(std::process::id())?;
        let prepare = |number: usize| {
            let spec = PipelineSpec::from_toml(&ROUTE_BY.replace("{name}", &format!("idle-{number}")))?;
            anyhow::Ok(self.engine.prepare(spec, vec![Arc::clone(&plugin)])?)
        };
        let idle = (0..IDLE_PIPELINES).map(prepare).collect::<anyhow::Result<Vec<_>>>()?;
        let more = resident_bytes(std::process::id())?.saturating_sub(before);
        line(format_args!("{} idle pipelines   {} MiB", idle.len(), more >> 20))
    }

    /// The stages of several one-stage specs, in one pipeline.
    fn pipeline(&self, specs: &[&str]) -> anyhow::Result<Arc<Pipeline>> {
        let mut all = PipelineSpec::from_toml(&specs[0].replace("{name}", "bench"))?;
        for more in &specs[1..] {
            all.stages.extend(PipelineSpec::from_toml(&more.replace("{name}", "bench"))?.stages);
        }
        let plugins = all.stages.iter().map(|stage| self.load(stage.plugin.name.as_str()));
        let plugins = plugins.collect::<anyhow::Result<_>>()?;
        Ok(self.engine.prepare(all, plugins)?)
    }

    fn load(&self, name: &str) -> anyhow::Result<Arc<Plugin>> {
        Ok(self.engine.load(&component(name)?.into())?)
    }

    fn json(&self) -> anyhow::Result<Vec<String>> {
        let config = xml_to_json::Config { numbers: true, ..xml_to_json::Config::default() };
        let json = self.orders.iter().map(|xml| {
            let json = xml_to_json::convert(xml, &config);
            Ok(String::from_utf8(json.map_err(|problem| anyhow::anyhow!("{}", problem.message))?)?)
        });
        json.collect()
    }

    fn items(&self, payloads: &[String]) -> Vec<Item> {
        self.items_of(payloads, "some value")
    }

    fn items_of(&self, payloads: &[String], region: &str) -> Vec<Item> {
        let mut headers = HeadersBuilder::default();
        for name in ["content-type", "tenant", "trace"] {
            headers.set(name, "some value");
        }
        headers.set("region", region);
        let headers = headers.build().expect("they are small");
        let item = |payload: &String| {
            let mut message = Message::new("orders".parse().expect("a topic"), payload.clone().into_bytes());
            message.headers = headers.clone();
            Item::new(message)
        };
        payloads.iter().map(item).collect()
    }

    /// Prints what a pipeline costs beside the same code natively, and gives the pipeline's microseconds. Both take
    /// turns: what the machine gives drifts, by more than half within a minute.
    fn compare(
        &self,
        what: &str,
        pipeline: &Pipeline,
        payloads: &[String],
        native: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<f64> {
        let batches = batches(&self.items(payloads), BATCH);
        let natively = || {
            let run = |payload| native(std::hint::black_box(payload));
            payloads.iter().try_for_each(|payload| run(payload)).map_err(anyhow::Error::msg)?;
            Ok(payloads.len())
        };
        let [wasm, native] = best([&|| self.through(pipeline, &batches), &natively])?;
        let ratio = wasm / native;
        line(format_args!("{what}   {wasm:.2} µs/msg, natively {native:.2}: {ratio:.2} × native"))?;
        Ok(wasm)
    }

    /// Microseconds of CPU a message, through the pipeline in batches.
    fn cost(&self, pipeline: &Pipeline, items: &[Item], batch: usize) -> anyhow::Result<f64> {
        let batches = batches(items, batch);
        let [us] = best([&|| self.through(pipeline, &batches)])?;
        Ok(us)
    }

    /// Takes all batches through the pipeline, which lets each of them pass, and counts their messages.
    fn through(&self, pipeline: &Pipeline, batches: &[Vec<Item>]) -> anyhow::Result<usize> {
        for batch in batches {
            let processed = self.runtime.block_on(pipeline.run(batch.clone(), Timestamp(1)));
            let failed = processed.iter().find(|each| !matches!(each, Processed::Passed(_)));
            ensure!(failed.is_none(), "a stage did not let an order pass: {failed:?}");
        }
        Ok(batches.iter().map(Vec::len).sum())
    }
}

/// How long a plugin takes to load that was compiled before: each time in another engine, as after a restart.
fn loading(config: &EngineConfig) -> anyhow::Result<()> {
    for name in ["route-by", "json-schema", "xml-to-json"] {
        let wasm = component(name)?.into();
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let engine = Engine::new(config.clone())?;
            let started = Instant::now();
            engine.load(&wasm)?;
            best = best.min(started.elapsed());
        }
        line(format_args!("loading {name}, compiled before   {:.1} ms", best.as_secs_f64() * 1e3))?;
    }
    Ok(())
}

#[cfg(feature = "bundled-plugins")]
fn component(name: &str) -> anyhow::Result<&'static [u8]> {
    let plugin =
        wharf_bundle::find(name).with_context(|| format!("{name} is not among the bundled plugins"))?;
    Ok(plugin.wasm)
}

#[cfg(not(feature = "bundled-plugins"))]
fn component(name: &str) -> anyhow::Result<&'static [u8]> {
    anyhow::bail!("{name} is measured from the bundled plugins, which this binary was built without")
}

/// What the orders of this benchmark look like as JSON.
fn order_schema() -> Value {
    let item = json!({
        "type": "object",
        "required": ["@sku", "title", "quantity", "price"],
        "properties": {
            "@sku": { "type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$" },
            "title": { "type": "string", "minLength": 1 },
            "quantity": { "type": ["integer", "string"] },
            "price": { "type": ["number", "string"] }
        }
    });
    json!({
        "type": "object",
        "required": ["order"],
        "properties": { "order": {
            "type": "object",
            "required": ["@id", "@currency", "customer", "items"],
            "properties": {
                "@currency": { "enum": ["EUR", "USD"] },
                "customer": { "type": "object", "required": ["name", "country"] },
                "items": { "type": "object", "properties": { "item": {
                    "anyOf": [item.clone(), { "type": "array", "items": item }]
                } } }
            }
        } }
    })
}

fn with_schema() -> String {
    format!("{JSON_SCHEMA}[stage.config]\nschema = {}\n", inline(&order_schema()))
}

/// A value as TOML writes it within a line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{name:?} = {}", inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
        scalar => scalar.to_string(),
    }
}

fn batches(items: &[Item], size: usize) -> Vec<Vec<Item>> {
    items.chunks(size).map(<[Item]>::to_vec).collect()
}

/// Microseconds of CPU a message of each of these, which take turns, in its best round; each says how many it did.
fn best<const N: usize>(turns: [&dyn Fn() -> anyhow::Result<usize>; N]) -> anyhow::Result<[f64; N]> {
    let mut best = [f64::INFINITY; N];
    for _ in 0..ROUNDS {
        for (turn, best) in turns.iter().zip(&mut best) {
            let (started, before, mut messages) = (Instant::now(), cpu()?, 0);
            while started.elapsed() < ROUND {
                messages += turn()?;
            }
            #[expect(clippy::cast_precision_loss, reason = "some millions")]
            let us = (cpu()? - before).as_secs_f64() * 1e6 / messages as f64;
            *best = best.min(us);
        }
    }
    Ok(best)
}

/// What all threads of this process have used, by the scheduler's own count, in nanoseconds and not in ticks.
fn cpu() -> anyhow::Result<Duration> {
    let tasks = fs::read_dir("/proc/self/task").context("reading this process's CPU time")?;
    let ns = tasks.flatten().filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Ok(Duration::from_nanos(ns.sum()))
}

fn line(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    output::line(text)
}
