//! Compiled plugins, kept from one process to the next: a file each, which is mapped and not read into memory.
//!
//! ```text
//! seal.key   32 random bytes
//! KEY        machine code, as wasmtime writes it · seal, 32 bytes: keyed BLAKE3 of KEY and the code
//! KEY        SHA-256 of the component in hexadecimal, '-', hash of wasmtime's version and settings
//! ```
//!
//! The code runs with the rights of the broker, so what was not sealed here is not used: the folder and the key are
//! the broker's own, and a file that was changed, or has another's name, does not open. It is compiled again then,
//! which is why nothing here is synced to the disk. A file is written under another name and never changed, so that
//! what is mapped stays as it is when newer code takes its place, or nobody needs it any more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use blake3::Hasher;

const SEAL_BYTES: usize = blake3::OUT_LEN;
const KEY_FILE: &str = "seal.key";

pub(crate) struct Cache {
    folder: PathBuf,
    seal_key: [u8; blake3::KEY_LEN],
    /// How many files were begun, so that no two threads write one.
    begun: AtomicU64,
}

impl Cache {
    /// The cache in `folder`; with no cache at all, plugins are compiled at each start.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        Self::try_open(folder)
            .inspect_err(|error| {
                tracing::warn!(%error, folder = %folder.display(), "compiled plugins are not kept");
            })
            .ok()
    }

    /// Where the code under `key` is, if it is there and its seal is good.
    pub(crate) fn find(&self, key: &str) -> Option<PathBuf> {
        let path = self.folder.join(key);
        match self.is_sealed(key, &path) {
            Ok(true) => return Some(path),
            Ok(false) => tracing::warn!(key, "a compiled plugin has a bad seal, and is compiled again"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(key, %error, "a compiled plugin is not readable, and is compiled again")
            }
        }
        None
    }

    /// Keeps `code`; when that fails, it is compiled again next time.
    pub(crate) fn put(&self, key: &str, code: &[u8]) {
        let new = self.folder.join(format!("{key}.{}.new", self.begun.fetch_add(1, Relaxed)));
        let seal = self.sealing(key).update(code).finalize();
        let kept =
            write(&new, &[code, seal.as_bytes()]).and_then(|()| fs::rename(&new, self.folder.join(key)));
        if let Err(error) = kept {
            tracing::warn!(%error, "a compiled plugin was not kept");
            let _ = fs::remove_file(&new);
        }
    }

    /// Drops the code under every key that is not to be kept, and whatever else is in the folder; what cannot be
    /// dropped stays.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        let is_kept = |name: &str| name == KEY_FILE || keep(name);
        let dropped = fs::read_dir(&self.folder).and_then(|mut entries| {
            entries.try_for_each(|entry| {
                let entry = entry?;
                match entry.file_name().to_str() {
                    Some(name) if is_kept(name) => Ok(()),
                    _ if entry.file_type()?.is_dir() => fs::remove_dir_all(entry.path()),
                    _ => fs::remove_file(entry.path()),
                }
            })
        });
        if let Err(error) = dropped {
            tracing::warn!(%error, "compiled plugins that nobody uses were not dropped");
        }
    }

    fn try_open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let seal_key = read_or_make_key(&folder.join(KEY_FILE))?;
        Ok(Self { folder: folder.to_owned(), seal_key, begun: AtomicU64::new(0) })
    }

    fn is_sealed(&self, key: &str, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let Some(code_bytes) = file.metadata()?.len().checked_sub(SEAL_BYTES as u64) else {
            return Ok(false);
        };
        let mut sealing = self.sealing(key);
        sealing.update_reader(Read::by_ref(&mut file).take(code_bytes))?;
        let mut seal = [0; SEAL_BYTES];
        file.read_exact(&mut seal)?;
        // In a time that does not depend on where they differ.
        Ok(sealing.finalize() == seal)
    }

    /// A seal that covers the key, and not yet the code.
    fn sealing(&self, key: &str) -> Hasher {
        let mut sealing = Hasher::new_keyed(&self.seal_key);
        sealing.update(&(key.len() as u64).to_le_bytes()).update(key.as_bytes());
        sealing
    }
}

/// The key of all seals. One of another length is damaged, and begins anew with all that it sealed.
fn read_or_make_key(path: &Path) -> io::Result<[u8; blake3::KEY_LEN]> {
    match fs::read(path) {
        Ok(key) => match key.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => {
                tracing::warn!(path = %path.display(), "the key of compiled plugins is damaged; all are compiled again");
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; blake3::KEY_LEN] = rand::random();
    let new = path.with_extension("new");
    write(&new, &[&key])?;
    fs::rename(new, path)?;
    Ok(key)
}

/// A file of these parts that only its owner can read.
fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(cache: &Cache, key: &str) -> Option<Vec<u8>> {
        let mut file = fs::read(cache.find(key)?).expect("it is there");
        file.truncate(file.len() - SEAL_BYTES);
        Some(file)
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache");
        Cache::open(&path).expect("it opens").put("k", b"code");
        let cache = Cache::open(&path).expect("it opens again");
        assert_eq!(code(&cache, "k").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.find("other"), None);
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!([mode(&path.join("k")), mode(&path.join(KEY_FILE))], [0o600; 2]);
    }

    #[test]
    fn what_is_not_kept_is_gone_with_whatever_else_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("it opens");
        cache.put("aa-1", b"code");
        cache.put("bb-1", b"code");
        fs::write(folder.path().join("aa-1.0.new"), b"half of th").expect("a file");
        fs::create_dir_all(folder.path().join("older/things")).expect("a folder");
        cache.retain(|key| key == "aa-1");
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("read").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["aa-1", KEY_FILE]);
        assert_eq!(
            code(&Cache::open(folder.path()).expect("it opens"), "aa-1").as_deref(),
            Some(&b"code"[..])
        );
    }

    #[test]
    fn a_changed_cut_or_moved_file_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("it opens");
        cache.put("k", b"code");
        let sealed = fs::read(folder.path().join("k")).expect("it is there");
        fs::write(folder.path().join("moved"), &sealed).expect("a file");
        assert_eq!(cache.find("moved"), None);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            fs::write(folder.path().join("k"), &changed).expect("a file");
            assert_eq!(cache.find("k"), None, "byte {place} changed");
            fs::write(folder.path().join("k"), &sealed[..place]).expect("a file");
            assert_eq!(cache.find("k"), None, "cut at {place}");
        }
        cache.put("k", b"code");
        assert!(cache.find("k").is_some(), "it is compiled again, and kept");
    }

    #[test]
    fn a_damaged_key_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        Cache::open(folder.path()).expect("it opens").put("k", b"code");
        fs::write(folder.path().join(KEY_FILE), b"short").expect("a file");
        let cache = Cache::open(folder.path()).expect("it begins anew");
        assert_eq!(cache.find("k"), None);
        cache.put("k", b"code");
        let again = Cache::open(folder.path()).expect("it opens");
        assert_eq!(code(&again, "k").as_deref(), Some(&b"code"[..]));
    }
}
