//! Compiled plugins, kept from one process to the next: in sled, because losing any of it costs a moment of
//! compiling and nothing else.
//!
//! ```text
//! key    SHA-256 of the component in hexadecimal, '-', hash of wasmtime's version and settings
//! value  seal, 32 bytes: HMAC-SHA-256 of key and code under `seal.key` · machine code
//! ```
//!
//! The code runs with the rights of the broker, so what was not sealed here is not used: the folder and the
//! key are the broker's own, and a value that was changed, or moved to another key, does not open.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use sha2::{Digest, Sha256};

const SEAL_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
const HASH_BLOCK_BYTES: usize = 64;

/// How much of what it read sled keeps in memory: what is read here is read once.
const SLED_CACHE_BYTES: u64 = 1024 * 1024;

/// How long sled may take to write something down, or to end. On damaged files a flush waits for ever, and the end of
/// the process must not wait with it.
const SLED_TIME_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Cache {
    /// Gone only when the cache is dropped.
    db: Option<sled::Db>,
    key: [u8; KEY_BYTES],
}

impl Cache {
    /// The cache in `folder`. One that will not open is moved aside and begun again; with no cache at all,
    /// plugins are compiled at each start.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        match Self::try_open(folder).or_else(|error| {
            let aside = move_aside(folder)?;
            tracing::warn!(%error, aside = %aside.display(), "the cache of compiled plugins did not open and begins anew");
            Self::try_open(folder)
        }) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "compiled plugins are not kept");
                None
            }
        }
    }

    /// The code under `key`, if it is there and its seal is good.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let value = catch_unwind(AssertUnwindSafe(|| self.db().get(key))).ok()?.ok()??;
        let (seal, code) = value.split_at_checked(SEAL_BYTES)?;
        if !equal(seal, &self.seal(key, code)) {
            tracing::warn!(key, "a compiled plugin in the cache has a bad seal and is not used");
            return None;
        }
        Some(code.to_vec())
    }

    /// Keeps `code`; when that fails, it is compiled again next time.
    pub(crate) fn put(&self, key: &str, code: &[u8]) {
        let mut value = Vec::with_capacity(SEAL_BYTES + code.len());
        value.extend_from_slice(&self.seal(key, code));
        value.extend_from_slice(code);
        let (db, key) = (self.db().clone(), key.to_owned());
        match in_time(move || db.insert(key, value).and_then(|_| db.flush())) {
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::warn!(%error, "a compiled plugin was not kept"),
            None => tracing::warn!("a compiled plugin was not kept: sled panicked, or did not end"),
        }
    }

    /// Drops the code under every key that is not to be kept; what cannot be dropped stays.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            for key in self.db().iter().keys() {
                let key = key?;
                if !std::str::from_utf8(&key).is_ok_and(&keep) {
                    self.db().remove(&key)?;
                }
            }
            sled::Result::Ok(())
        }));
        let db = self.db().clone();
        let dropped = dropped.map(|dropped| dropped.map(|()| in_time(move || db.flush())));
        match dropped {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "compiled plugins that nobody uses were not dropped"),
            Err(_) => tracing::warn!("compiled plugins that nobody uses were not dropped: sled panicked"),
        }
    }

    fn try_open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let key = read_or_make_key(&folder.join("seal.key"))?;
        let config = sled::Config::new()
            .path(folder.join("sled"))
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = opened.map_err(|_| io::Error::other("sled panicked"))?.map_err(io::Error::other)?;
        Ok(Self { db: Some(db), key })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it goes when the cache does")
    }

    fn seal(&self, key: &str, code: &[u8]) -> [u8; SEAL_BYTES] {
        let length = (key.len() as u64).to_le_bytes();
        hmac_sha256(&self.key, &[&length, key.as_bytes(), code])
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let db = self.db.take();
        // What was put is on the disk: nothing is lost when it does not end.
        if in_time(move || drop(db)).is_none() {
            tracing::warn!("the cache of compiled plugins did not close");
        }
    }
}

/// What `work` gives, on a thread of its own: `None` when it panics, or takes longer than [`SLED_TIME_MAX`]; then it is
/// left to itself.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, waiting) = mpsc::sync_channel(1);
    let work = move || {
        // Nobody may wait any more. A panic drops the sender, which says so.
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("wharf-cache".into()).spawn(work).ok()?;
    waiting.recv_timeout(SLED_TIME_MAX).ok()
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    match fs::File::open(path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            key = rand::random();
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&key)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// Out of the way, but not lost to whoever wants to know what happened; only the latest is kept.
fn move_aside(folder: &Path) -> io::Result<PathBuf> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".broken");
    let aside = folder.with_file_name(name);
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::rename(folder, &aside)?;
    Ok(aside)
}

/// RFC 2104, for a key no longer than the hash's block.
fn hmac_sha256(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; SEAL_BYTES] {
    let pad = |with: u8| {
        let mut block = [with; HASH_BLOCK_BYTES];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    for part in parts {
        inner.update(part);
    }
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// In a time that does not depend on where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache");
        Cache::open(&path).expect("it opens").put("k", b"code");
        let cache = Cache::open(&path).expect("it opens again");
        assert_eq!(cache.get("k").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get("other"), None);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("it opens");
        cache.put("aa-1", b"code");
        cache.put("bb-1", b"code");
        cache.retain(|key| key.starts_with("aa"));
        assert_eq!(cache.get("aa-1").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get("bb-1"), None);
    }

    #[test]
    fn a_changed_or_moved_value_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("it opens");
        cache.put("k", b"code");
        let db = cache.db.as_ref().expect("it is open");
        let mut value = db.get("k").expect("sled reads").expect("it is there").to_vec();
        db.insert("moved", value.clone()).expect("sled writes");
        assert_eq!(cache.get("moved"), None);
        *value.last_mut().expect("not empty") ^= 1;
        db.insert("k", value).expect("sled writes");
        assert_eq!(cache.get("k"), None);
    }

    #[test]
    fn a_cache_that_does_not_open_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache");
        fs::create_dir_all(&path).expect("a folder");
        fs::write(path.join("seal.key"), b"short").expect("a file");
        let cache = Cache::open(&path).expect("it begins anew");
        cache.put("k", b"code");
        assert_eq!(cache.get("k").as_deref(), Some(&b"code"[..]));
        assert!(folder.path().join("cache.broken/seal.key").exists());
    }

    #[test]
    fn the_seal_is_hmac_sha256() {
        // RFC 4231, test case 2 with its key padded by zeros, which HMAC does itself.
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(b"Jefe");
        let seal = hmac_sha256(&key, &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex::encode(seal), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
