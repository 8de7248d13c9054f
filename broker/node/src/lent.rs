//! What an operator lends to plugins by name: reference tables, schemas and secrets.
//!
//! ```text
//! DATA/lent/HEX.data    the content of tables and schemas by its SHA-256: written and synced before the record
//!                       that says that it is in use
//! DATA/secrets.toml     one `name = "value"` a line, readable by its owner alone; never written, never shown
//! ```
//!
//! A table is JSON, an object of keys and values, or CSV, `key,value` a line. A string's value is its text, any
//! other value of JSON its JSON.

mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wharf_pipeline::{Grant, Library, PipelineSpec, Schema, Secret, Table};
use wharf_protocol::{Name, Timestamp};
use wharf_queue::{Change, Lent, Topology};

use crate::components::write_durably;
use crate::{Action, Node, NodeError, Principal};

pub use wharf_queue::LentKind;

/// The largest content of a table or schema.
pub const LENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest file of secrets.
const SECRETS_BYTES_MAX: u64 = 1024 * 1024;
/// The file of secrets in the data folder.
const SECRETS_FILE: &str = "secrets.toml";

/// How a table or schema is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LentFormat {
    /// A table: an object. A schema: whatever a plugin takes it for.
    Json,
    /// A table: `key,value` a line.
    Csv,
    /// A schema in any other language.
    Other,
}

/// A table or schema, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentView {
    /// Its name.
    pub name: Name,
    /// 1 for the first of its name.
    pub version: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub digest: String,
    /// The size of its content.
    pub bytes: u64,
    /// How it is written: `json`, `csv`, `other`.
    pub format: String,
    /// How many keys it has; of a table.
    pub keys: Option<u64>,
    /// Who put it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Pipelines with a version whose stages are granted it.
    pub used_by: Vec<Name>,
    /// Why it cannot be read, when it cannot.
    pub problem: Option<String>,
}

/// Lends all that the log knows and the file of secrets holds. What cannot be read is lent as such: a plugin that
/// asks for it is told, and the pipelines run.
pub(crate) fn open(library: &Library, data: &Path, topology: &Topology) {
    for kind in [LentKind::Table, LentKind::Schema] {
        for (name, lent) in topology.all_lent(kind) {
            let read = read(data, lent).and_then(|content| lend(library, kind, name, lent, content));
            if let Err(reason) = read {
                tracing::error!(%name, kind = kind.word(), reason, "it cannot be read; upload it again");
                match kind {
                    LentKind::Table => library.spoil_table(name.clone(), &reason),
                    LentKind::Schema => library.spoil_schema(name.clone(), &reason),
                }
            }
        }
    }
    if let Err(reason) = lend_secrets(library, data) {
        tracing::error!(reason, "no secret is lent");
    }
}

/// Puts the content of a table or schema into the library.
fn lend(library: &Library, kind: LentKind, name: &Name, lent: &Lent, content: Bytes) -> Result<(), String> {
    let version = lent.version;
    match kind {
        LentKind::Table => {
            library.put_table(name.clone(), Table::new(version, table::entries(&lent.format, &content)?))
        }
        LentKind::Schema => library.put_schema(name.clone(), Schema { version, bytes: content }),
    }
    Ok(())
}

fn read(data: &Path, lent: &Lent) -> Result<Bytes, String> {
    let path = path(data, &lent.digest);
    let content = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match Sha256::digest(&content)[..] == lent.digest {
        true => Ok(content.into()),
        false => Err(format!("{} is damaged", path.display())),
    }
}

fn path(data: &Path, digest: &[u8; 32]) -> PathBuf {
    data.join("lent").join(format!("{}.data", hex::encode(digest)))
}

/// Lends what `secrets.toml` holds, where there is one, and no secret that it does not.
fn lend_secrets(library: &Library, data: &Path) -> Result<(), String> {
    let path = data.join(SECRETS_FILE);
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            library.put_secrets(BTreeMap::new());
            return Ok(());
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong("others may read it; run `chmod 600` on it".to_owned()));
    }
    if metadata.len() > SECRETS_BYTES_MAX {
        return Err(wrong(format!("it is over {SECRETS_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    // What the parser says may show the line, and the line a secret.
    let secrets: BTreeMap<Name, String> =
        toml::from_str(&text).map_err(|_| wrong("it is not one `name = \"value\"` a line".to_owned()))?;
    library.put_secrets(secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect());
    Ok(())
}

/// Refuses a pipeline whose stages are granted what is not there.
pub(crate) fn check_grants(
    library: &Library,
    data: &Path,
    topology: &Topology,
    spec: &PipelineSpec,
) -> Result<(), NodeError> {
    // Secrets that came since the start.
    if spec.stages.iter().flat_map(|stage| &stage.grants).any(|grant| matches!(grant, Grant::Secret(_))) {
        lend_secrets(library, data).map_err(NodeError::Invalid)?;
    }
    for stage in &spec.stages {
        for grant in &stage.grants {
            let (there, how) = match grant {
                Grant::Lookup(name) => (
                    topology.lent(LentKind::Table, name.as_str()).is_some(),
                    format!("no lookup table {name}; `wharf lookup put {name} FILE` uploads one"),
                ),
                Grant::Schema(name) => (
                    topology.lent(LentKind::Schema, name.as_str()).is_some(),
                    format!("no schema {name}; `wharf schema put {name} FILE` uploads one"),
                ),
                Grant::Secret(name) => (
                    library.has_secret(name),
                    format!("no secret {name}; add {name} = \"…\" to {SECRETS_FILE} in the data folder"),
                ),
                _ => continue,
            };
            if !there {
                let stage = stage.name();
                return Err(NodeError::Invalid(format!(
                    "stage {stage} is granted {grant}, and there is {how}"
                )));
            }
        }
    }
    Ok(())
}

impl Node {
    /// Lends `content` as table or schema `name`, in place of the one before. Running stages see it at their next
    /// call.
    ///
    /// # Errors
    /// What is wrong with the content, and in which line; too large; not allowed.
    pub async fn put_lent(
        &self,
        who: &Principal,
        kind: LentKind,
        name: Name,
        format: LentFormat,
        content: Bytes,
    ) -> Result<LentView, NodeError> {
        who.check(Action::Administer)?;
        let bytes = content.len();
        if bytes > LENT_BYTES_MAX {
            let text = format!("a {} of {bytes} bytes is over the limit of {LENT_BYTES_MAX}", kind.word());
            return Err(NodeError::TooLarge(text));
        }
        if kind == LentKind::Table {
            let wrong = |problem| NodeError::Invalid(format!("table {name}: {problem}"));
            let entries = table::entries(format.word(), &content).map_err(wrong)?;
            table::check_keys(&entries).map_err(wrong)?;
        }
        let digest: [u8; 32] = Sha256::digest(&content).into();
        let to = path(&self.config().data, &digest);
        let kept = content.clone();
        let written = tokio::task::spawn_blocking(move || {
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            write_durably(&to, &kept)
        });
        let written = written.await.map_err(io::Error::other).flatten();
        written.map_err(|error| NodeError::Unavailable(format!("it cannot be stored: {error}")))?;

        let _one_at_a_time = self.lending().lock().await;
        let before = self.shard().topology().lent(kind, name.as_str()).cloned();
        let (word, by) = (format.word().to_owned(), who.name().to_owned());
        self.shard()
            .change(Change::Lend { kind, name: name.clone(), digest, bytes: bytes as u64, format: word, by })
            .await?;
        let topology = self.shard().topology().clone();
        let lent = topology.lent(kind, name.as_str()).ok_or_else(|| missing(kind, &name))?;
        lend(self.engine().library(), kind, &name, lent, content).map_err(NodeError::Invalid)?;
        if let Some(before) = before {
            self.sweep(&topology, &before.digest);
        }
        self.lent(who, kind, &name)
    }

    /// Takes back a table or schema that no pipeline is granted.
    ///
    /// # Errors
    /// No such one; a pipeline is granted it; not allowed.
    pub async fn remove_lent(&self, who: &Principal, kind: LentKind, name: &Name) -> Result<(), NodeError> {
        let known = self.lent(who, kind, name)?;
        if let Some(pipeline) = known.used_by.first() {
            let text = format!(
                "a version of pipeline {pipeline} is granted {} {name}; remove the pipeline first",
                kind.word()
            );
            return Err(NodeError::Conflict(text));
        }
        let _one_at_a_time = self.lending().lock().await;
        let before = self.shard().topology().lent(kind, name.as_str()).cloned();
        self.shard().change(Change::TakeBack { kind, name: name.clone() }).await?;
        match kind {
            LentKind::Table => self.engine().library().remove_table(name),
            LentKind::Schema => self.engine().library().remove_schema(name),
        }
        if let Some(before) = before {
            self.sweep(&self.shard().topology(), &before.digest);
        }
        Ok(())
    }

    /// All tables, or all schemas.
    ///
    /// # Errors
    /// Not allowed.
    pub fn all_lent(&self, who: &Principal, kind: LentKind) -> Result<Vec<LentView>, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology();
        Ok(topology.all_lent(kind).map(|(name, lent)| self.lent_view(&topology, kind, name, lent)).collect())
    }

    /// One table or schema.
    ///
    /// # Errors
    /// No such one; not allowed.
    pub fn lent(&self, who: &Principal, kind: LentKind, name: &Name) -> Result<LentView, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology();
        let lent = topology.lent(kind, name.as_str()).ok_or_else(|| missing(kind, name))?;
        Ok(self.lent_view(&topology, kind, name, lent))
    }

    /// The content of a table or schema, as it was uploaded.
    ///
    /// # Errors
    /// No such one; it cannot be read; not allowed.
    pub async fn lent_content(
        &self,
        who: &Principal,
        kind: LentKind,
        name: &Name,
    ) -> Result<Bytes, NodeError> {
        who.check(Action::Administer)?;
        let known = self.shard().topology().lent(kind, name.as_str()).cloned();
        let (lent, data) = (known.ok_or_else(|| missing(kind, name))?, self.config().data.clone());
        let read = tokio::task::spawn_blocking(move || read(&data, &lent)).await;
        read.map_err(|error| NodeError::Unavailable(error.to_string()))?.map_err(NodeError::Unavailable)
    }

    fn lent_view(&self, topology: &Topology, kind: LentKind, name: &Name, lent: &Lent) -> LentView {
        let grant = match kind {
            LentKind::Table => Grant::Lookup(name.clone()),
            LentKind::Schema => Grant::Schema(name.clone()),
        };
        let uses = |pipeline: &wharf_queue::Pipeline| {
            let specs =
                pipeline.versions.values().filter_map(|each| PipelineSpec::from_toml(&each.spec).ok());
            specs.flat_map(|spec| spec.stages).any(|stage| stage.grants.contains(&grant))
        };
        let used_by = topology.pipelines().filter(|(_, pipeline)| uses(pipeline));
        let (keys, problem) = self.engine().library().look(&grant);
        LentView {
            name: name.clone(),
            version: lent.version,
            digest: hex::encode(lent.digest),
            bytes: lent.bytes,
            format: lent.format.clone(),
            keys,
            by: lent.by.clone(),
            at: lent.at,
            used_by: used_by.map(|(name, _)| name.clone()).collect(),
            problem,
        }
    }

    /// Removes a content that nothing is any more.
    fn sweep(&self, topology: &Topology, digest: &[u8; 32]) {
        let is = |kind| topology.all_lent(kind).any(|(_, lent)| lent.digest == *digest);
        if is(LentKind::Table) || is(LentKind::Schema) {
            return;
        }
        if let Err(error) = fs::remove_file(path(&self.config().data, digest))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, digest = hex::encode(digest), "the file of what is lent no more stays");
        }
    }
}

impl LentFormat {
    fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Other => "other",
        }
    }
}

fn missing(kind: LentKind, name: &Name) -> NodeError {
    NodeError::NotFound { kind: kind.word(), name: name.to_string() }
}
