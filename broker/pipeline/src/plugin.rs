//! A plugin: a component that was checked, compiled and asked to describe itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, InstancePre};

use crate::bindings::exports::wharf::plugin::{enrich, lifecycle, reading, route, transform, validate};
use crate::engine::{Inner, slots_of};
use crate::host::{Host, Rights};
use crate::instance::Instance;
use crate::text::printable;
use crate::{CompileError, Kind, Need, Reads, ReadsError, wasi};

/// The version of the contract that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.1";

/// How long a plugin's line about itself may be.
pub const SUMMARY_BYTES_MAX: usize = 512;

/// How long the JSON Schema of a plugin's configuration may be.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// The most time that a plugin may take to describe itself or to take its configuration: more than a call,
/// because it happens once, and because the first entry touches every page.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(2);

/// How much is said of a component that does not fit the contract.
const SHAPE_BYTES_MAX: usize = 2048;

const OURS: &str = "wharf:plugin/";

/// What of the contract can be imported.
const IMPORTED: [&str; 11] =
    ["types", "emit", "log", "config", "clock", "random", "metrics", "lookup", "kv", "schema", "secrets"];

/// A plugin that is ready to be a stage. Dropped with the last pipeline that uses it.
pub struct Plugin {
    pub(crate) pre: InstancePre<Host>,
    pub(crate) indices: Indices,
    /// How many slots an instance takes.
    pub(crate) slots: usize,
    digest: String,
    kinds: Vec<Kind>,
    needs: Vec<Need>,
    description: Description,
    imports: Vec<String>,
    contract: String,
    bytes: usize,
}

/// Where the exports are.
pub(crate) struct Indices {
    pub(crate) lifecycle: lifecycle::GuestIndices,
    pub(crate) reading: Option<reading::GuestIndices>,
    pub(crate) validate: Option<validate::GuestIndices>,
    pub(crate) route: Option<route::GuestIndices>,
    pub(crate) transform: Option<transform::GuestIndices>,
    pub(crate) enrich: Option<enrich::GuestIndices>,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// One line for listings.
    pub summary: String,
    /// Which fields it reads.
    pub reads: Reads,
    /// A JSON Schema of its configuration.
    pub config_schema: Option<String>,
}

/// Why bytes are not a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Over the limit.
    #[error("the component has {bytes} bytes; at most {max} are taken")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// Not WebAssembly at all.
    #[error("this is not WebAssembly; a plugin is a component, as `wharf plugin build` makes it")]
    NotWasm,
    /// WebAssembly, but not a component.
    #[error(
        "this is a core module, not a component; build for the target wasm32-wasip2, as `wharf plugin build` does"
    )]
    CoreModule,
    /// It does not compile.
    #[error("the component does not compile")]
    Compile(#[from] CompileError),
    /// It imports what no plugin gets.
    #[error(
        "the component imports {0}, which plugins do not get: they have no files, network, processes or \
         environment. Remove what uses it, or the crate that drags it in"
    )]
    ForbiddenImport(String),
    /// It was made for another version of the contract.
    #[error(
        "the component needs {needs}, and this broker serves wharf:plugin up to {CONTRACT_VERSION}, which has no \
         such interface; rebuild it with an SDK of that version, or upgrade the broker"
    )]
    Contract {
        /// The interface that it needs.
        needs: String,
    },
    /// No kind that this host knows.
    #[error(
        "the component is no plugin: it exports {exports}, and a plugin exports wharf:plugin/lifecycle and at \
         least one of validate, route, transform and enrich"
    )]
    NotAPlugin {
        /// What it exports.
        exports: String,
    },
    /// The names are right and the types are not.
    #[error("the component does not fit the contract wharf:plugin {CONTRACT_VERSION}: {0}")]
    Shape(String),
    /// It broke when it was asked to describe itself.
    #[error("the plugin broke when it was asked to describe itself: {0}")]
    Describe(String),
    /// What it says that it reads is out of bounds.
    #[error(transparent)]
    Reads(#[from] ReadsError),
    /// The line about itself is longer than a line.
    #[error("the plugin's summary has {0} bytes; at most {SUMMARY_BYTES_MAX}")]
    Summary(usize),
    /// The schema of its configuration is longer than anybody reads.
    #[error("the schema of the plugin's configuration has {0} bytes; at most {SCHEMA_BYTES_MAX}")]
    Schema(usize),
    /// The host failed.
    #[error("the host failed while it loaded the plugin")]
    Host,
}

impl Plugin {
    pub(crate) fn load(engine: &Arc<Inner>, wasm: &Bytes) -> Result<Self, LoadError> {
        check_preamble(wasm, engine.limits.component_bytes)?;
        let digest = hex::encode(Sha256::digest(wasm));
        let component = engine.compile(&digest, wasm)?;
        let needs = check_imports(engine, &component)?;
        let exports = Exports::check(engine, &component)?;
        let pre = engine.linker.instantiate_pre(&component).map_err(shape)?;
        let indices = Indices::find(&pre, &exports).map_err(shape)?;
        let mut plugin = Self {
            pre,
            indices,
            slots: slots_of(&component),
            digest,
            kinds: exports.kinds,
            needs,
            description: Description::default(),
            imports: import_names(engine, &component),
            contract: contract_version(engine, &component),
            bytes: wasm.len(),
        };
        plugin.description = plugin.describe(engine)?;
        Ok(plugin)
    }

    /// Its SHA-256, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// As what it can be used; never empty.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// What it imports beside its world: each is to be granted by the stages that use it.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Everything that it imports, ours and WASI's, by the names in the component: `wharf:plugin/clock@0.1.0`.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The version of the contract that it was made for.
    pub fn contract(&self) -> &str {
        &self.contract
    }

    /// How large the component is, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What of the host it uses, by the names that a stage grants: `log`, `clock`. A plugin imports only what it calls.
    pub fn uses(&self) -> Vec<String> {
        let ours = self.imports.iter().filter_map(|name| name.strip_prefix(OURS));
        let interfaces = ours.map(|name| name.split('@').next().unwrap_or(name));
        // The values that calls carry are nobody's to grant.
        interfaces.filter(|name| !["types", "emit"].contains(name)).map(str::to_owned).collect()
    }

    fn describe(&self, engine: &Arc<Inner>) -> Result<Description, LoadError> {
        let broke = |broken: crate::instance::Broken| LoadError::Describe(broken.message);
        let mut instance =
            Instance::start(engine, self, &Rights::default(), START_DEADLINE).map_err(broke)?;
        let description = instance.describe(engine, START_DEADLINE).map_err(broke)?;
        description.checked()
    }
}

impl Description {
    /// Within its bounds, and safe to print.
    fn checked(mut self) -> Result<Self, LoadError> {
        self.reads.check()?;
        if self.summary.len() > SUMMARY_BYTES_MAX {
            return Err(LoadError::Summary(self.summary.len()));
        }
        match &self.config_schema {
            Some(schema) if schema.len() > SCHEMA_BYTES_MAX => Err(LoadError::Schema(schema.len())),
            _ => {
                self.summary = printable(&self.summary, SUMMARY_BYTES_MAX);
                Ok(self)
            }
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", &self.digest)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl Indices {
    fn find(pre: &InstancePre<Host>, exports: &Exports) -> wasmtime::Result<Self> {
        let has = |kind| exports.kinds.contains(&kind);
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            reading: exports.reading.then(|| reading::GuestIndices::new(pre)).transpose()?,
            validate: has(Kind::Validator).then(|| validate::GuestIndices::new(pre)).transpose()?,
            route: has(Kind::Router).then(|| route::GuestIndices::new(pre)).transpose()?,
            transform: has(Kind::Transformer).then(|| transform::GuestIndices::new(pre)).transpose()?,
            enrich: has(Kind::Enricher).then(|| enrich::GuestIndices::new(pre)).transpose()?,
        })
    }
}

/// Eight bytes tell a component from a module: magic, version, layer.
fn check_preamble(wasm: &[u8], bytes_max: usize) -> Result<(), LoadError> {
    if wasm.len() > bytes_max {
        return Err(LoadError::TooLarge { bytes: wasm.len(), max: bytes_max });
    }
    match wasm {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotWasm),
    }
}

/// Refuses what no plugin gets, and tells what this one needs.
fn check_imports(engine: &Inner, component: &Component) -> Result<Vec<Need>, LoadError> {
    let mut needs = Vec::new();
    for (name, _) in component.component_type().imports(&engine.wasmtime) {
        let interface = name.split('@').next().unwrap_or(name);
        if name.starts_with(OURS) {
            check_version(name)?;
            if !IMPORTED.contains(&&interface[OURS.len()..]) {
                return Err(LoadError::Contract { needs: name.to_owned() });
            }
            needs.extend(Need::ALL.into_iter().find(|need| need.interface() == &interface[OURS.len()..]));
        } else if !wasi::ALLOWED.contains(&interface) {
            return Err(LoadError::ForbiddenImport(name.to_owned()));
        }
    }
    needs.sort_unstable();
    needs.dedup();
    Ok(needs)
}

fn import_names(engine: &Inner, component: &Component) -> Vec<String> {
    component.component_type().imports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect()
}

/// The version of its `lifecycle`, which every plugin has.
fn contract_version(engine: &Inner, component: &Component) -> String {
    let component = component.component_type();
    let mut exports = component.exports(&engine.wasmtime);
    let version = exports.find_map(|(name, _)| name.strip_prefix(OURS)?.strip_prefix("lifecycle@"));
    version.unwrap_or_default().to_owned()
}

/// What of the contract it exports.
struct Exports {
    kinds: Vec<Kind>,
    /// Whether it says of each stage what it reads there.
    reading: bool,
}

impl Exports {
    fn check(engine: &Inner, component: &Component) -> Result<Self, LoadError> {
        let exports: Vec<String> =
            component.component_type().exports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect();
        let ours = || exports.iter().filter(|name| name.starts_with(OURS));
        for name in ours() {
            check_version(name)?;
        }
        let has = |interface: &str| {
            ours().any(|name| name[OURS.len()..].split('@').next().is_some_and(|each| each == interface))
        };
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| has(kind.interface())).collect();
        if kinds.is_empty() || !has("lifecycle") {
            let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            return Err(LoadError::NotAPlugin { exports });
        }
        Ok(Self { kinds, reading: has("reading") })
    }
}

/// A newer version of the contract is not served: its plugins may count on what is not here. In 0.x a minor
/// version is a track of its own, as Cargo and the component model have it.
fn check_version(name: &str) -> Result<(), LoadError> {
    let parts = |text: &str| {
        let mut parts = text.split('.').map(str::parse::<u32>);
        let mut part = || parts.next()?.ok();
        Some((part()?, part()?, part()?))
    };
    let spoken = parts(CONTRACT_VERSION);
    let needed = name.split_once('@').and_then(|(_, version)| parts(version));
    match (needed, spoken) {
        (Some((major, minor, patch)), Some((our_major, our_minor, our_patch)))
            if (major, minor) == (our_major, our_minor) && patch <= our_patch =>
        {
            Ok(())
        }
        _ => Err(LoadError::Contract { needs: name.to_owned() }),
    }
}

fn shape(error: wasmtime::Error) -> LoadError {
    LoadError::Shape(printable(&format!("{error:#}"), SHAPE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_contract_is_refused_by_name() {
        assert!(check_version("wharf:plugin/log@0.1.0").is_ok());
        assert!(check_version("wharf:plugin/log@0.1.1").is_ok());
        for newer in
            ["wharf:plugin/log@0.1.2", "wharf:plugin/log@0.2.0", "wharf:plugin/log@1.0.0", "wharf:plugin/log"]
        {
            let error = check_version(newer).expect_err("not spoken here").to_string();
            assert!(error.contains(newer) && error.contains(CONTRACT_VERSION), "{error}");
        }
    }

    #[test]
    fn the_first_bytes_tell_what_it_is() {
        assert!(matches!(check_preamble(b"hello, world", 100), Err(LoadError::NotWasm)));
        assert!(matches!(check_preamble(b"\0asm\x01\0\0\0", 100), Err(LoadError::CoreModule)));
        assert!(matches!(
            check_preamble(b"\0asm\x0d\0\x01\0", 4),
            Err(LoadError::TooLarge { bytes: 8, max: 4 })
        ));
        assert!(check_preamble(b"\0asm\x0d\0\x01\0", 100).is_ok());
    }
}
