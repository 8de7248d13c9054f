//! The engine: wasmtime, configured once a process, with the threads, the ticker and the instances it may have.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::bindings::Host_;
use crate::cache::Cache;
use crate::compile;
use crate::host::Host;
use crate::stage::Stage;
use crate::ticker::Ticker;
use crate::worker::{Workers, aside};
use crate::{
    CompileError, Compiler, Library, Limits, LoadError, Memories, Pipeline, PipelineSpec, Plugin,
    PrepareError, wasi,
};

/// How many elements a table may have.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;

/// How much of an instance's memory stays mapped for the next one, instead of going back to the system.
const KEEP_RESIDENT_BYTES: usize = 2 * 1024 * 1024;

/// How many core instances, memories and tables a component may have: a plugin in Rust has one of each and a few small
/// shims; one in JavaScript or Python brings a language's runtime, and stubs of WASI with memories of their own.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;
const MEMORIES_PER_COMPONENT_MAX: u32 = 3;
const TABLES_PER_COMPONENT_MAX: u32 = 16;

/// How many tables are set aside for each memory, which is what an instance is counted by.
const TABLES_PER_MEMORY: u32 = 2;

/// How many components that are as large as allowed fit, however few instances there may be: a harness keeps an instance
/// for each stage that it tests.
const LARGE_COMPONENTS: u32 = 4;

/// How many slots a component takes that is as large as allowed.
const LARGE_COMPONENT_SLOTS: u32 = TABLES_PER_COMPONENT_MAX / TABLES_PER_MEMORY;
const _: () = assert!(MEMORIES_PER_COMPONENT_MAX <= LARGE_COMPONENT_SLOTS);

/// How many instances the metered engine of another one may have: one run at a time goes through it, and what waits to be
/// used again makes room.
const METERED_INSTANCES: u32 = 16;

/// How to make an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The bounds on guest code.
    pub limits: Limits,
    /// How many threads run guest code. A pipeline never holds all of them, so that one whose plugin loops
    /// does not stop the others; hence one more than there are cores.
    pub threads: usize,
    /// How many instances may live at once, at work or waiting to be used again. One with several memories counts as
    /// often as it has memories: each has 4 GiB of addresses set aside, of the 128 TiB of a process.
    pub instances: u32,
    /// The folder where compiled plugins are kept, private to the broker; `None`: they are compiled again in
    /// each process.
    pub cache: Option<PathBuf>,
    /// Who compiles.
    pub compiler: Compiler,
    /// Counts fuel: exact, the same in each run, and slower. For harnesses.
    pub fuel: bool,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("the plugin engine does not start: {0}")]
pub struct EngineError(String);

/// Runs plugins. Cheap to clone; one a process.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<Host>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) fuel: bool,
    pub(crate) library: Library,
    pub(crate) memories: OnceLock<Arc<dyn Memories>>,
    pub(crate) ticker: Ticker,
    pub(crate) workers: Workers,
    pub(crate) threads: usize,
    /// Linear memory of all living instances.
    pub(crate) guest_bytes: Arc<AtomicUsize>,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
    /// The same engine counting fuel, once somebody asked for it.
    metered: Mutex<Option<Engine>>,
    slots_taken: Arc<AtomicUsize>,
    slots_max: usize,
    /// Stages whose idle instances can be given up when there are too many.
    stages: Mutex<Vec<Weak<Stage>>>,
}

/// The right to one living instance.
pub(crate) struct Slots {
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            limits: Limits::default(),
            threads: cores + 1,
            instances: 1000,
            cache: None,
            compiler: Compiler::InProcess,
            fuel: false,
        }
    }
}

impl Engine {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let cache = config.cache.as_deref().and_then(Cache::open).map(Arc::new);
        Self::start(config, Library::default(), cache)
    }

    /// The same engine, counting fuel: for runs that are told, not for traffic.
    ///
    /// It lends what this one lends, keeps its code in the same cache under keys of its own, compiles a plugin when that is
    /// loaded into it, and has one thread. It is started once, when it is first asked for, and ends with this one. Plugins
    /// and pipelines of one are not of the other. What its pipelines remember is their runs' to say.
    ///
    /// # Errors
    /// What this machine lacks for another engine.
    pub fn metered(&self) -> Result<Self, EngineError> {
        if self.inner.fuel {
            return Ok(self.clone());
        }
        let mut metered = self.inner.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metered) = &*metered {
            return Ok(metered.clone());
        }
        let config = EngineConfig {
            limits: self.limits().clone(),
            threads: 1,
            instances: METERED_INSTANCES,
            cache: None,
            compiler: self.inner.compiler.clone(),
            fuel: true,
        };
        let engine = Self::start(config, self.library().clone(), self.inner.cache.clone())?;
        Ok(metered.insert(engine).clone())
    }

    /// Whether it counts fuel.
    pub fn is_metered(&self) -> bool {
        self.inner.fuel
    }

    fn start(config: EngineConfig, library: Library, cache: Option<Arc<Cache>>) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let io_failed = |error: std::io::Error| EngineError(error.to_string());
        let threads = config.threads.max(1);
        let instances = config.instances.max(u32::try_from(threads).unwrap_or(u32::MAX));
        let slots = instances.max(instances.min(LARGE_COMPONENTS) * LARGE_COMPONENT_SLOTS);
        let (wasmtime, slots) = with_room(&config, slots).map_err(failed)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::link(&mut linker).map_err(failed)?;
        Host_::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host).map_err(failed)?;

        let inner = Inner {
            ticker: Ticker::start(wasmtime.clone()).map_err(io_failed)?,
            workers: Workers::start(threads).map_err(io_failed)?,
            wasmtime,
            linker,
            limits: Arc::new(config.limits),
            fuel: config.fuel,
            library,
            memories: OnceLock::new(),
            threads,
            guest_bytes: Arc::default(),
            compiler: config.compiler,
            cache,
            metered: Mutex::default(),
            slots_taken: Arc::default(),
            slots_max: slots as usize,
            stages: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The bounds on guest code.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// What is lent to stages by name.
    pub fn library(&self) -> &Library {
        &self.inner.library
    }

    /// Says where pipelines remember, for those that are prepared from now on; without it, every run begins with
    /// nothing. A second call changes nothing.
    pub fn remember_in(&self, memories: Arc<dyn Memories>) {
        let _ = self.inner.memories.set(memories);
    }

    /// Checks, compiles and describes a component. Blocks for as long as compiling takes.
    ///
    /// # Errors
    /// What is wrong with the component, and what to do.
    pub fn load(&self, wasm: &Bytes) -> Result<Arc<Plugin>, LoadError> {
        let loaded = aside(|| Plugin::load(&self.inner, wasm)).map_err(|_| LoadError::Host)?;
        loaded.map(Arc::new)
    }

    /// Drops the machine code of every component whose digest is not among `kept`.
    pub fn forget_compiled(&self, kept: &HashSet<String>) {
        if let Some(cache) = &self.inner.cache {
            cache.retain(|key| kept.contains(compile::digest_of(key)));
        }
    }

    /// Makes `spec` ready to run, with one plugin a stage. Blocks while each stage takes its configuration.
    ///
    /// Failures and traces name a stage's plugin as `spec` does: resolve `name` to `name@version` before.
    ///
    /// # Errors
    /// The first stage that does not fit its plugin, and why.
    pub fn prepare(
        &self,
        spec: PipelineSpec,
        plugins: Vec<Arc<Plugin>>,
    ) -> Result<Arc<Pipeline>, PrepareError> {
        let prepared =
            aside(|| Pipeline::prepare(&self.inner, spec, plugins)).map_err(|_| PrepareError::Host)?;
        prepared.map(Arc::new)
    }
}

impl Inner {
    /// Machine code for `wasm`, from the cache where it is there.
    pub(crate) fn compile(&self, digest: &str, wasm: &[u8]) -> Result<Component, CompileError> {
        let key = compile::cache_key(&self.wasmtime, digest);
        if let Some(file) = self.cache.as_ref().and_then(|cache| cache.find(&key))
            && let Ok(component) = compile::map(&self.wasmtime, &file)
        {
            return Ok(component);
        }
        let code = self.compiler.compile(&self.wasmtime, &self.limits, self.fuel, wasm)?;
        let component = compile::deserialize(&self.wasmtime, &code)?;
        if let Some(cache) = &self.cache {
            cache.put(&key, &code);
        }
        Ok(component)
    }

    /// The right to an instance that needs so many [slots](slots_of).
    pub(crate) fn take_slots(&self, count: usize) -> Result<Slots, String> {
        let take = || {
            let room = |taken: usize| taken.checked_add(count).filter(|taken| *taken <= self.slots_max);
            self.slots_taken.fetch_update(SeqCst, SeqCst, room).ok()
        };
        if take().is_none() {
            for stage in self.living_stages() {
                stage.drop_idle();
            }
            take().ok_or_else(|| format!("all {} plugin instances are at work", self.slots_max))?;
        }
        Ok(Slots { taken: Arc::clone(&self.slots_taken), count })
    }

    pub(crate) fn add_stage(&self, stage: &Arc<Stage>) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.retain(|stage| stage.strong_count() > 0);
        stages.push(Arc::downgrade(stage));
    }

    fn living_stages(&self) -> Vec<Arc<Stage>> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, SeqCst);
    }
}

/// How many places an instance of `component` takes in the pool: one for each memory, and for every two tables.
pub(crate) fn slots_of(component: &Component) -> usize {
    let needed = component.resources_required().map_or(LARGE_COMPONENT_SLOTS, |resources| {
        resources.num_memories.max(resources.num_tables.div_ceil(TABLES_PER_MEMORY)).max(1)
    });
    // One that needs more is refused when it is instantiated.
    needed.min(LARGE_COMPONENT_SLOTS) as usize
}

/// What compiled code depends on: the same in the broker and in the child that compiles for it.
pub(crate) fn settings(limits: &Limits, fuel: bool) -> Config {
    let mut settings = Config::new();
    settings.strategy(Strategy::Cranelift);
    settings.concurrency_support(false);
    settings.epoch_interruption(true);
    settings.consume_fuel(fuel);
    settings.max_wasm_stack(limits.stack_bytes);
    // Runs repeat bit by bit, on any machine.
    settings.cranelift_nan_canonicalization(true);
    settings.wasm_relaxed_simd(false);
    settings
}

/// wasmtime's engine with room for so many slots; for fewer where a process gets fewer addresses (`ulimit -v`, processors
/// with 39 bits of them).
fn with_room(config: &EngineConfig, wanted: u32) -> wasmtime::Result<(wasmtime::Engine, u32)> {
    let mut settings = settings(&config.limits, config.fuel);
    let mut slots = wanted;
    loop {
        settings.allocation_strategy(pool(&config.limits, slots));
        match wasmtime::Engine::new(&settings) {
            Ok(engine) => {
                if slots < wanted {
                    tracing::warn!(
                        slots,
                        wanted,
                        "fewer plugin instances fit: this process gets few addresses"
                    );
                }
                return Ok((engine, slots));
            }
            Err(error) if slots <= LARGE_COMPONENT_SLOTS => {
                return Err(error.context("guests need 40 GiB of addresses, not of memory; see `ulimit -v`"));
            }
            Err(_) => slots = (slots / 2).max(LARGE_COMPONENT_SLOTS),
        }
    }
}

fn pool(limits: &Limits, slots: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots);
    // Only counted by the pool, not set aside: never what there is too little of.
    pool.total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_COMPONENT_MAX));
    pool.total_memories(slots);
    pool.total_tables(slots.saturating_mul(TABLES_PER_MEMORY));
    pool.max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX);
    pool.max_memories_per_component(MEMORIES_PER_COMPONENT_MAX);
    pool.max_tables_per_component(TABLES_PER_COMPONENT_MAX);
    pool.max_memory_size(limits.memory_bytes);
    pool.table_elements(TABLE_ELEMENTS_MAX);
    pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
    pool.table_keep_resident(KEEP_RESIDENT_BYTES);
    pool.pagemap_scan(Enabled::Auto);
    InstanceAllocationStrategy::Pooling(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker has one engine; a test binary has as many as it has brokers.
    #[test]
    fn sixteen_engines_fit_a_process() {
        let engines: Vec<Engine> =
            (0..16).map(|_| Engine::new(EngineConfig::default()).expect("an engine")).collect();
        let wanted = EngineConfig::default().instances as usize;
        assert!(engines.iter().all(|engine| engine.inner.slots_max == wanted), "with room for all instances");
    }
}
