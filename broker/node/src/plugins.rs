//! Plugins: components registered in the log by name and version. Their bytes are in [`crate::components`].

use std::collections::HashSet;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wharf_pipeline::{PipelineSpec, PluginRef};
use wharf_protocol::Name;
use wharf_queue::{Change, Topology};

use crate::components::{Components, Digest};
use crate::signature::Signature;
use crate::view::{Collected, CollectedPlugin, PluginView};
use crate::{Action, Node, NodeError, Principal};

/// How many versions and files one collection removes at most.
pub const COLLECTED_MAX: usize = 256;

/// A component on its way in.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The plugin's name.
    pub name: Name,
    /// Its version.
    pub version: Name,
    /// The component.
    pub wasm: Bytes,
    /// Who vouches for it.
    pub signature: Option<Signature>,
}

/// A component that is known to be sound: it comes with the broker's own binary.
#[derive(Clone, Debug)]
pub struct KnownPlugin {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Name,
    /// What it can be.
    pub kinds: Vec<String>,
    /// One line for listings.
    pub summary: String,
    /// The component.
    pub wasm: Bytes,
}

impl Node {
    /// Takes a component that comes with the broker, without compiling it: that is left to its first use, so that a
    /// broker with many plugins that nobody uses starts as quickly as one without.
    ///
    /// # Errors
    /// The version exists with other bytes; the disk or the log does not take it.
    pub async fn register_plugin(&self, plugin: KnownPlugin) -> Result<(), NodeError> {
        let KnownPlugin { name, version, kinds, summary, wasm } = plugin;
        let digest = Digest::from(Sha256::digest(&wasm));
        if self.has_plugin(&name, &version, &digest)? && self.components().is_there(digest).await {
            return Ok(());
        }
        let (bytes, by) = (wasm.len() as u64, Principal::system().name().to_owned());
        let held = self.components().hold().await;
        self.components().write(digest, wasm).await?;
        let change = Change::PutPlugin { name, version, digest, bytes, kinds, summary, by };
        self.shard().change(change).await?;
        drop(held);
        Ok(())
    }

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
        self.upload_plugin(who, Upload { name, version, wasm, signature: None }).await
    }

    /// As [`put_plugin`](Self::put_plugin), with a signature where there is one.
    ///
    /// # Errors
    /// Those, and a signature that is wrong, or missing where plugins have to be signed.
    pub async fn upload_plugin(&self, who: &Principal, upload: Upload) -> Result<PluginView, NodeError> {
        who.check(Action::LoadPlugin)?;
        let Upload { name, version, wasm, signature } = upload;
        let (bytes, max) = (wasm.len(), self.config().plugin_bytes_max);
        if bytes > max {
            let reason = format!("the component has {bytes} bytes, over the limit of {max}");
            return Err(NodeError::TooLarge(reason));
        }
        let digest = Digest::from(Sha256::digest(&wasm));
        // What comes with the broker is as good as the broker.
        if !who.is_system() {
            self.check_foreign(&name)?;
            let judged = self.components().judge(&digest, signature.as_ref());
            judged.map_err(|error| NodeError::Invalid(error.to_string()))?;
        }
        if self.has_plugin(&name, &version, &digest)? && self.components().is_there(digest).await {
            self.components().sign(digest, signature).await?;
            return self.plugin_view(&name, version.as_str());
        }
        let named = |error| match error {
            NodeError::Invalid(reason) => NodeError::Invalid(format!("plugin {name} {version}: {reason}")),
            other => other,
        };
        let plugin = self.components().load(self.engine(), wasm.clone()).await.map_err(named)?;
        let change = Change::PutPlugin {
            name: name.clone(),
            version: version.clone(),
            digest,
            bytes: plugin.bytes() as u64,
            kinds: plugin.kinds().iter().map(ToString::to_string).collect(),
            summary: plugin.description().summary.clone(),
            by: who.name().to_owned(),
        };
        let held = self.components().hold().await;
        self.components().store(digest, wasm, signature, &plugin).await?;
        self.shard().change(change).await?;
        drop(held);
        let mut view = self.plugin_view(&name, version.as_str())?;
        view.describe(&plugin);
        Ok(view)
    }

    /// Whether this version is there, and with this component.
    ///
    /// # Errors
    /// It is there with another.
    fn has_plugin(&self, name: &Name, version: &Name, digest: &Digest) -> Result<bool, NodeError> {
        let topology = self.shard().topology();
        match topology.plugin(name.as_str(), version.as_str()) {
            None => Ok(false),
            Some(known) if known.digest == *digest => Ok(true),
            Some(known) => Err(NodeError::Conflict(format!(
                "plugin {name} {version} is there with other bytes: its digest is {}, and that of these is {}; a \
                 version never changes, so give them a new one",
                hex::encode(known.digest),
                hex::encode(digest)
            ))),
        }
    }

    /// Every version of every plugin.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn plugins(&self, who: &Principal) -> Result<Vec<PluginView>, NodeError> {
        may_look(who)?;
        let topology = self.shard().topology().clone();
        Ok(topology
            .plugins()
            .map(|(name, version, plugin)| {
                let signer = self.components().signer(&plugin.digest);
                PluginView::new(&topology, name, version, plugin, signer)
            })
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
        may_look(who)?;
        let version = match version {
            Some(version) => version.to_owned(),
            None => newest(&self.shard().topology(), name)?.to_string(),
        };
        let mut view = self.plugin_view(name, &version)?;
        let digest = self.plugin_digest(name, &version)?;
        let plugin = self.components().get(self.engine(), &digest).await?;
        view.describe(&plugin);
        Ok(view)
    }

    /// Forgets a version that no pipeline uses.
    ///
    /// # Errors
    /// No such version; a pipeline's version names it; not allowed.
    pub async fn remove_plugin(&self, who: &Principal, name: &Name, version: &Name) -> Result<(), NodeError> {
        who.check(Action::LoadPlugin)?;
        // What a pipeline is about to be applied with stays.
        let _changing = self.pipelines_in_use().hold_changes().await;
        let _held = self.components().hold().await;
        let view = self.plugin_view(name, version.as_str())?;
        if !who.is_system() && view.by == Principal::system().name() {
            return Err(NodeError::Conflict(format!("plugin {name}@{version} comes with Wharf, and stays")));
        }
        if let Some(user) = view.used_by.first() {
            return Err(NodeError::Conflict(format!("plugin {name}@{version} is used by pipeline {user}")));
        }
        self.forget_plugin(name, version).await
    }

    /// Refuses the name of a plugin that comes with the broker: whose file names it would get another one.
    fn check_foreign(&self, name: &Name) -> Result<(), NodeError> {
        let system = Principal::system();
        let comes = self
            .shard()
            .topology()
            .plugins()
            .any(|(each, _, plugin)| each == name && plugin.by == system.name());
        match comes {
            true => Err(NodeError::Conflict(format!(
                "plugin {name} comes with Wharf; choose another name for yours"
            ))),
            false => Ok(()),
        }
    }

    /// Removes versions that no version of a pipeline has in a stage, files that no record names, and machine code of
    /// neither; at most [`COLLECTED_MAX`] of each. What comes with the broker stays. With `dry_run`, only tells.
    ///
    /// # Errors
    /// Not allowed; the folder cannot be read; the node is stopping.
    pub async fn collect_plugins(&self, who: &Principal, dry_run: bool) -> Result<Collected, NodeError> {
        who.check(Action::LoadPlugin)?;
        let _changing = self.pipelines_in_use().hold_changes().await;
        let _held = self.components().hold().await;
        let topology = self.shard().topology().clone();
        let used = used_by_pipelines(&topology);
        let system = Principal::system();
        let unused = topology.plugins().filter(|(name, version, plugin)| {
            let exact = PluginRef { name: (*name).clone(), version: Some((*version).clone()) };
            plugin.by != system.name() && !used.contains(&exact)
        });
        let mut unused: Vec<CollectedPlugin> = unused
            .map(|(name, version, plugin)| CollectedPlugin {
                name: name.clone(),
                version: version.clone(),
                digest: hex::encode(plugin.digest),
                bytes: plugin.bytes,
            })
            .collect();
        let more = unused.len() > COLLECTED_MAX;
        unused.truncate(COLLECTED_MAX);
        if !dry_run {
            for plugin in &unused {
                self.forget_plugin(&plugin.name, &plugin.version).await?;
            }
        }
        let known: HashSet<Digest> = topology.plugins().map(|(_, _, plugin)| plugin.digest).collect();
        let strays = self.components().strays(&known, COLLECTED_MAX).map_err(|error| {
            NodeError::Unavailable(format!("the folder of plugins cannot be read: {error}"))
        })?;
        if !dry_run {
            strays.iter().for_each(|stray| self.components().remove_file(&stray.path));
            let left = self.shard().topology().clone();
            let left: HashSet<String> =
                left.plugins().map(|(_, _, plugin)| hex::encode(plugin.digest)).collect();
            self.engine().forget_compiled(&left);
        }
        Ok(Collected {
            stray_bytes: strays.iter().map(|stray| stray.bytes).sum(),
            strays: strays.len() as u64,
            plugins: unused,
            more,
            dry_run,
        })
    }

    /// Removes a version, and its component when no other version is the same.
    async fn forget_plugin(&self, name: &Name, version: &Name) -> Result<(), NodeError> {
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
        let signer = self.components().signer(&plugin.digest);
        Ok(PluginView::new(&topology, name, &version, plugin, signer))
    }
}

/// Whether every plugin of `spec` may run here: signed where that is required, or of the broker's own.
///
/// # Errors
/// The first that may not, and why.
pub(crate) fn check_signers(
    components: &Components,
    topology: &Topology,
    spec: &PipelineSpec,
) -> Result<(), NodeError> {
    if !components.signatures_required() {
        return Ok(());
    }
    for stage in &spec.stages {
        let (pinned, digest) = pin(topology, &stage.plugin)?;
        let version = pinned.version.as_ref().map(Name::as_str).unwrap_or_default();
        let known = topology.plugin(pinned.name.as_str(), version);
        let own = known.is_some_and(|plugin| plugin.by == Principal::system().name());
        let signer = components.signer(&digest);
        if !own && !matches!(signer, crate::signature::Signer::Trusted { .. }) {
            return Err(NodeError::Invalid(format!(
                "stage {}: plugin {pinned} is signed by {signer}, and this broker runs plugins of trusted signers \
                 only (plugins.require-signed); sign it and push it again with its signature",
                stage.name()
            )));
        }
    }
    Ok(())
}

/// Every plugin that a version of a pipeline has in a stage.
fn used_by_pipelines(topology: &Topology) -> HashSet<PluginRef> {
    let versions = topology.pipelines().flat_map(|(_, pipeline)| pipeline.versions.values());
    let specs = versions.filter_map(|version| PipelineSpec::from_toml(&version.spec).ok());
    specs.flat_map(|spec| spec.stages.into_iter().map(|stage| stage.plugin)).collect()
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

/// Who may load plugins may see what there is.
fn may_look(who: &Principal) -> Result<(), NodeError> {
    who.check(Action::LoadPlugin).or_else(|_| who.check(Action::Administer))
}
