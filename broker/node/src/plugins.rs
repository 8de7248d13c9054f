//! Plugins: components on disk by their digest, registered in the log by name and version.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wharf_pipeline::{Engine, Plugin, PluginRef};
use wharf_protocol::Name;
use wharf_queue::{Change, Topology};

use crate::view::PluginView;
use crate::{Action, Node, NodeError, Principal};

/// The SHA-256 of a component.
pub(crate) type Digest = [u8; 32];

/// The components that a node has on disk, and those of them that are loaded.
pub(crate) struct Components {
    folder: PathBuf,
    /// By digest.
    loaded: Mutex<HashMap<Digest, Arc<Plugin>>>,
}

impl Components {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, loaded: Mutex::default() })
    }

    /// Loads a component that was just uploaded: checked and compiled, kept on disk.
    async fn add(self: &Arc<Self>, engine: &Engine, wasm: Bytes) -> Result<(Digest, Arc<Plugin>), NodeError> {
        let plugin = load(engine, wasm.clone()).await?;
        let this = Arc::clone(self);
        let digest = Digest::from(Sha256::digest(&wasm));
        let written = tokio::task::spawn_blocking(move || write_durably(&this.path(&digest), &wasm)).await;
        written
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| NodeError::Unavailable(format!("the plugin cannot be stored: {error}")))?;
        self.keep(digest, &plugin);
        Ok((digest, plugin))
    }

    /// The plugin with this digest, loaded from disk when it is not yet.
    pub(crate) async fn get(
        self: &Arc<Self>,
        engine: &Engine,
        digest: &Digest,
    ) -> Result<Arc<Plugin>, NodeError> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(plugin) = loaded {
            return Ok(plugin);
        }
        let path = self.path(digest);
        let read = tokio::task::spawn_blocking(move || fs::read(path)).await.map_err(io::Error::other);
        let wasm = read.flatten().map_err(|error| {
            NodeError::Unavailable(format!("component {} cannot be read: {error}", hex::encode(digest)))
        })?;
        if Sha256::digest(&wasm)[..] != digest[..] {
            let text = format!("component {} on disk is damaged; upload it again", hex::encode(digest));
            return Err(NodeError::Unavailable(text));
        }
        let plugin = load(engine, wasm.into()).await?;
        self.keep(*digest, &plugin);
        Ok(plugin)
    }

    /// Removes the component from memory and disk. One that is missing is removed.
    fn remove(&self, digest: &Digest) {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        if let Err(error) = fs::remove_file(self.path(digest))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, digest = hex::encode(digest), "a removed plugin's file stays");
        }
    }

    fn keep(&self, digest: Digest, plugin: &Arc<Plugin>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(digest, Arc::clone(plugin));
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.wasm", hex::encode(digest)))
    }
}

impl Node {
    /// Takes a component as version `version` of plugin `name`: checks it, compiles it, stores it.
    ///
    /// The same bytes again are fine.
    ///
    /// # Errors
    /// What is wrong with the component; the version exists with other bytes; too large; not allowed.
    pub async fn put_plugin(
        &self,
        who: &Principal,
        name: Name,
        version: Name,
        wasm: Bytes,
    ) -> Result<PluginView, NodeError> {
        who.check(Action::LoadPlugin)?;
        if wasm.len() > self.config().plugin_bytes_max {
            let max = self.config().plugin_bytes_max;
            return Err(NodeError::TooLarge(format!(
                "the component has {} bytes, over the limit of {max}",
                wasm.len()
            )));
        }
        let (digest, plugin) = self.components().add(self.engine(), wasm).await?;
        let change = Change::PutPlugin {
            name: name.clone(),
            version: version.clone(),
            digest,
            bytes: plugin.bytes() as u64,
            kinds: plugin.kinds().iter().map(ToString::to_string).collect(),
            summary: plugin.description().summary.clone(),
            by: who.name().to_owned(),
        };
        self.shard().change(change).await?;
        self.plugin_view(&name, version.as_str())
    }

    /// Every version of every plugin.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn plugins(&self, who: &Principal) -> Result<Vec<PluginView>, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology().clone();
        Ok(topology
            .plugins()
            .map(|(name, version, plugin)| PluginView::new(&topology, name, version, plugin))
            .collect())
    }

    /// One version of a plugin; the newest by upload when none is named.
    ///
    /// # Errors
    /// No such plugin; not allowed.
    pub async fn plugin(
        &self,
        who: &Principal,
        name: &Name,
        version: Option<&str>,
    ) -> Result<PluginView, NodeError> {
        who.check(Action::Administer)?;
        let version = match version {
            Some(version) => version.to_owned(),
            None => newest(&self.shard().topology(), name)?.to_string(),
        };
        let mut view = self.plugin_view(name, &version)?;
        let digest = self.plugin_digest(name, &version)?;
        let plugin = self.components().get(self.engine(), &digest).await?;
        view.config_schema = plugin.description().config_schema.clone();
        view.reads = Some(plugin.description().reads.clone());
        view.needs = Some(plugin.needs().to_vec());
        Ok(view)
    }

    /// Forgets a version that no pipeline uses.
    ///
    /// # Errors
    /// No such version; a pipeline's version names it; not allowed.
    pub async fn remove_plugin(&self, who: &Principal, name: &Name, version: &Name) -> Result<(), NodeError> {
        who.check(Action::LoadPlugin)?;
        let view = self.plugin_view(name, version.as_str())?;
        if let Some(user) = view.used_by.first() {
            return Err(NodeError::Conflict(format!("plugin {name}@{version} is used by pipeline {user}")));
        }
        let digest = self.plugin_digest(name, version.as_str())?;
        self.shard().change(Change::RemovePlugin { name: name.clone(), version: version.clone() }).await?;
        let shared = self.shard().topology().plugins().any(|(_, _, other)| other.digest == digest);
        if !shared {
            self.components().remove(&digest);
        }
        Ok(())
    }

    fn plugin_digest(&self, name: &Name, version: &str) -> Result<Digest, NodeError> {
        let topology = self.shard().topology();
        let plugin = topology.plugin(name.as_str(), version);
        let missing = || NodeError::NotFound { kind: "plugin", name: format!("{name}@{version}") };
        plugin.map(|plugin| plugin.digest).ok_or_else(missing)
    }

    fn plugin_view(&self, name: &Name, version: &str) -> Result<PluginView, NodeError> {
        let topology = self.shard().topology().clone();
        let missing = || NodeError::NotFound { kind: "plugin", name: format!("{name}@{version}") };
        let plugin = topology.plugin(name.as_str(), version).ok_or_else(missing)?;
        let version: Name = version.parse().map_err(|_| missing())?;
        Ok(PluginView::new(&topology, name, &version, plugin))
    }
}

/// `plugin` with a version: the one it names, or the one uploaded last.
pub(crate) fn pin(topology: &Topology, plugin: &PluginRef) -> Result<(PluginRef, Digest), NodeError> {
    let version = match &plugin.version {
        Some(version) => version.clone(),
        None => newest(topology, &plugin.name)?,
    };
    let missing = || NodeError::NotFound { kind: "plugin", name: format!("{}@{version}", plugin.name) };
    let known = topology.plugin(plugin.name.as_str(), version.as_str()).ok_or_else(missing)?;
    Ok((PluginRef { name: plugin.name.clone(), version: Some(version) }, known.digest))
}

fn newest(topology: &Topology, name: &Name) -> Result<Name, NodeError> {
    let versions = topology.plugins().filter(|(each, _, _)| *each == name);
    let newest = versions.max_by_key(|(_, version, plugin)| (plugin.at, (*version).clone()));
    let missing = || NodeError::NotFound { kind: "plugin", name: name.to_string() };
    newest.map(|(_, version, _)| version.clone()).ok_or_else(missing)
}

async fn load(engine: &Engine, wasm: Bytes) -> Result<Arc<Plugin>, NodeError> {
    let engine = engine.clone();
    let loaded = tokio::task::spawn_blocking(move || engine.load(&wasm)).await;
    match loaded {
        Ok(plugin) => plugin.map_err(|error| NodeError::Invalid(crate::error::chain(&error))),
        Err(error) => Err(NodeError::Invalid(format!("loading the plugin failed: {error}"))),
    }
}

/// Writes beside, syncs, renames, syncs the folder.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let beside = path.with_extension("part");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
