//! The components of plugins on disk, by their SHA-256, and those that are loaded.
//!
//! ```text
//! plugins/
//!   DIGEST.wasm    a component
//!   DIGEST.sig     who vouches for it, one line
//!   DIGEST.part    one that was being written when the broker stopped
//! ```
//!
//! A file is whole and synced before the record that names it. A crash between the two leaves a file that no record
//! names: it harms nothing, the same upload finds it, and a collection removes it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Semaphore};
use wharf_pipeline::{Engine, Plugin};

use crate::NodeError;
use crate::signature::{Signature, SignatureError, Signer, Trust};

/// The SHA-256 of a component.
pub(crate) type Digest = [u8; 32];

/// How many components are checked and compiled at once: each may take as much memory as its limit says.
const LOADS_MAX: usize = 2;

/// How many plugins stay loaded that no pipeline uses, for who is about to use them.
const RECENT_MAX: usize = 8;

const COMPONENT: &str = "wasm";
const SIGNATURE: &str = "sig";
const PARTIAL: &str = "part";

/// The components that a node has.
pub(crate) struct Components {
    folder: PathBuf,
    trust: Trust,
    loaded: Mutex<Loaded>,
    loads: Semaphore,
    /// Held from a file to its record, so that no collection comes between.
    storing: AsyncMutex<()>,
}

/// Plugins live as long as a pipeline uses them; the latest a little longer.
#[derive(Default)]
struct Loaded {
    by_code: HashMap<Code, Weak<Plugin>>,
    recent: VecDeque<Arc<Plugin>>,
}

/// What a plugin was compiled from, and to: code that counts fuel is other code, of another engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Code {
    digest: Digest,
    metered: bool,
}

/// A file that no record names.
#[derive(Debug)]
pub(crate) struct Stray {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Components {
    pub(crate) fn open(folder: PathBuf, trust: Trust) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let loads = Semaphore::new(LOADS_MAX);
        Ok(Self { folder, trust, loaded: Mutex::default(), loads, storing: AsyncMutex::default() })
    }

    /// Who signed the component, if that is good enough here.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn judge(
        &self,
        digest: &Digest,
        signature: Option<&Signature>,
    ) -> Result<Signer, SignatureError> {
        self.trust.judge(digest, signature)
    }

    /// Who signed a component that is here. A signature that was damaged on disk is nobody's.
    pub(crate) fn signer(&self, digest: &Digest) -> Signer {
        let signature = fs::read_to_string(self.path(digest, SIGNATURE)).ok();
        let signature = signature.and_then(|text| text.parse::<Signature>().ok());
        let trust = Trust { required: false, ..self.trust.clone() };
        trust.judge(digest, signature.as_ref()).unwrap_or(Signer::Nobody)
    }

    /// Whether only signed plugins may be used.
    pub(crate) fn signatures_required(&self) -> bool {
        self.trust.required
    }

    /// Checks and compiles `wasm`, a few at a time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) async fn load(&self, engine: &Engine, wasm: Bytes) -> Result<Arc<Plugin>, NodeError> {
        let _turn = self.loads.acquire().await;
        let engine = engine.clone();
        let loaded = tokio::task::spawn_blocking(move || engine.load(&wasm)).await;
        match loaded {
            Ok(plugin) => plugin.map_err(|error| NodeError::Invalid(crate::error::chain(&error))),
            Err(error) => Err(NodeError::Invalid(format!("loading the plugin failed: {error}"))),
        }
    }

    /// Keeps collections away until the record of what is stored is written.
    pub(crate) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.storing.lock().await
    }

    /// Writes a component that was checked, durably, its signature first.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) async fn store(
        &self,
        digest: Digest,
        wasm: Bytes,
        signature: Option<Signature>,
        plugin: &Arc<Plugin>,
    ) -> Result<(), NodeError> {
        self.sign(digest, signature).await?;
        self.write(digest, wasm).await?;
        self.keep(Code { digest, metered: false }, plugin);
        Ok(())
    }

    /// Writes a component, durably: whoever uses it first has it checked and compiled.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) async fn write(&self, digest: Digest, wasm: Bytes) -> Result<(), NodeError> {
        let path = self.path(&digest, COMPONENT);
        on_disk(move || if is_there(&path, &digest) { Ok(()) } else { write_durably(&path, &wasm) }).await
    }

    /// Whether the component is on disk, and whole.
    pub(crate) async fn is_there(&self, digest: Digest) -> bool {
        let path = self.path(&digest, COMPONENT);
        tokio::task::spawn_blocking(move || is_there(&path, &digest)).await.unwrap_or(false)
    }

    /// Keeps the signature of a component.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) async fn sign(&self, digest: Digest, signature: Option<Signature>) -> Result<(), NodeError> {
        let Some(signature) = signature else { return Ok(()) };
        let path = self.path(&digest, SIGNATURE);
        on_disk(move || write_durably(&path, format!("{signature}\n").as_bytes())).await
    }

    /// The plugin with this digest in `engine`, loaded from disk when it is not yet.
    ///
    /// # Errors
    /// The file is gone or damaged; it does not load.
    pub(crate) async fn get(&self, engine: &Engine, digest: &Digest) -> Result<Arc<Plugin>, NodeError> {
        let code = Code { digest: *digest, metered: engine.is_metered() };
        let loaded = self.lock().by_code.get(&code).and_then(Weak::upgrade);
        if let Some(plugin) = loaded {
            return Ok(plugin);
        }
        let (path, expected) = (self.path(digest, COMPONENT), *digest);
        let read = tokio::task::spawn_blocking(move || {
            let wasm = fs::read(path)?;
            let whole = Sha256::digest(&wasm)[..] == expected;
            Ok((wasm, whole))
        });
        let read = read.await.map_err(io::Error::other).flatten();
        let (wasm, whole) = read.map_err(|error| {
            NodeError::Unavailable(format!("component {} cannot be read: {error}", hex::encode(digest)))
        })?;
        if !whole {
            let text = format!("component {} on disk is damaged; upload it again", hex::encode(digest));
            return Err(NodeError::Unavailable(text));
        }
        let plugin = self.load(engine, wasm.into()).await?;
        self.keep(code, &plugin);
        Ok(plugin)
    }

    /// Removes a component and its signature. What is missing is removed.
    pub(crate) fn remove(&self, digest: &Digest) {
        let mut loaded = self.lock();
        loaded.by_code.retain(|code, _| code.digest != *digest);
        let text = hex::encode(digest);
        loaded.recent.retain(|plugin| plugin.digest() != text);
        drop(loaded);
        for kind in [COMPONENT, SIGNATURE] {
            self.remove_file(&self.path(digest, kind));
        }
    }

    /// Removes a file of the folder; one that is missing is removed.
    pub(crate) fn remove_file(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "a plugin's file stays");
        }
    }

    /// At most `max` files that are of none of `known`. What is not a plugin's file is somebody else's, and stays.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn strays(&self, known: &HashSet<Digest>, max: usize) -> io::Result<Vec<Stray>> {
        let mut strays = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if strays.len() < max && is_stray(&path, known) {
                let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                strays.push(Stray { path, bytes });
            }
        }
        strays.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(strays)
    }

    fn keep(&self, code: Code, plugin: &Arc<Plugin>) {
        let mut loaded = self.lock();
        loaded.by_code.retain(|_, plugin| plugin.strong_count() > 0);
        loaded.by_code.insert(code, Arc::downgrade(plugin));
        if loaded.recent.len() >= RECENT_MAX {
            loaded.recent.pop_front();
        }
        loaded.recent.push_back(Arc::clone(plugin));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &Digest, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", hex::encode(digest)))
    }
}

fn is_stray(path: &Path, known: &HashSet<Digest>) -> bool {
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut digest = Digest::default();
    match hex::decode_to_slice(stem, &mut digest) {
        Ok(()) => kind == PARTIAL || ([COMPONENT, SIGNATURE].contains(&kind) && !known.contains(&digest)),
        Err(_) => false,
    }
}

async fn on_disk(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), NodeError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| NodeError::Unavailable(format!("the plugin cannot be stored: {error}")))
}

/// Whether the file is there and whole: a damaged one is written again.
fn is_there(path: &Path, digest: &Digest) -> bool {
    fs::read(path).is_ok_and(|bytes| Sha256::digest(bytes)[..] == digest[..])
}

/// Writes beside, syncs, renames, syncs the folder.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(PARTIAL);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_plugins_that_nobody_knows_are_strays() {
        let folder = tempfile::tempdir().expect("a folder");
        let components = Components::open(folder.path().to_owned(), Trust::default()).expect("it opens");
        let (known, unknown) = ([1; 32], [2; 32]);
        for digest in [&known, &unknown] {
            for kind in [COMPONENT, SIGNATURE] {
                write_durably(&components.path(digest, kind), b"x").expect("written");
            }
        }
        fs::write(components.path(&known, PARTIAL), b"xyz").expect("written");
        fs::write(folder.path().join("README"), b"mine").expect("written");
        fs::write(folder.path().join("notes.wasm"), b"mine").expect("written");

        let strays = components.strays(&HashSet::from([known]), 10).expect("readable");
        let names: Vec<_> = strays.iter().map(|stray| stray.path.clone()).collect();
        let expected = [(&known, PARTIAL), (&unknown, SIGNATURE), (&unknown, COMPONENT)]
            .map(|(d, k)| components.path(d, k));
        assert_eq!(names, expected);
        assert_eq!(strays[0].bytes, 3);
        assert_eq!(components.strays(&HashSet::new(), 2).expect("readable").len(), 2, "bounded");
    }
}
