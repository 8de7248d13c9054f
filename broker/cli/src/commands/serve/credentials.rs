//! What a broker makes at its first start: the administrator's token, and the files by which the commands on the
//! same machine find the broker and are let in.
//!
//! ```text
//! DATA/admin.token     the token, 0600: Authorization: Bearer …
//! DATA/certificate.pem, DATA/key.pem    the QUIC door's, self-signed, 0600
//! DATA/context.toml    addresses, token and certificate, 0600: wharf --context DATA/context.toml
//! ~/.config/wharf/context.toml    the same, for commands without --context (or where --context says)
//! ```

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use wharf_client::Context;
use wharf_node::Identity;

const TOKEN_FILE: &str = "admin.token";
const CONTEXT_FILE: &str = "context.toml";

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// Where a broker is.
pub(super) struct Place {
    /// Its data folder.
    pub(super) data: PathBuf,
    /// Where its QUIC door is, `host:port`.
    pub(super) address: String,
    /// Where its admin API is, a URL.
    pub(super) admin: String,
    /// Its certificate, in PEM.
    pub(super) certificate: String,
}

/// The administrator's token, as it is in the data folder.
pub(super) struct Credentials {
    token: String,
}

impl Credentials {
    /// Reads the token in `data`; makes folder and token when they are missing.
    pub(super) fn open(data: &Path) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
        made.with_context(|| format!("cannot make the data folder {}", data.display()))?;
        let path = data.join(TOKEN_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let token = text.trim().to_owned();
                ensure!(
                    !token.is_empty(),
                    "{} is empty; remove it, and the next start makes a new token",
                    path.display()
                );
                Ok(Self { token })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = random_token()?;
                write_private(&path, &token)?;
                Ok(Self { token })
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Who bears the token.
    pub(super) fn administrator(&self) -> Identity {
        Identity::administrator("admin", hex::encode(Sha256::digest(&self.token)))
    }

    /// Writes the context files, in the data folder and at `path`, where commands look for it.
    ///
    /// What comes back is the one that is best told: a service without a home has only the first.
    pub(super) fn write_contexts(
        self,
        place: &Place,
        path: anyhow::Result<PathBuf>,
    ) -> anyhow::Result<PathBuf> {
        let context = Context {
            address: place.address.clone(),
            admin: Some(place.admin.clone()),
            token: Some(self.token),
            certificate: Some(place.certificate.clone()),
        };
        let beside = place.data.join(CONTEXT_FILE);
        context.write(&beside)?;
        // The newest broker's is the user's: whoever starts a broker wants to speak to it.
        match path.and_then(|path| Ok(context.write(&path).map(|()| path)?)) {
            Ok(path) => Ok(path),
            Err(error) => {
                tracing::warn!("commands need --context {}: {error:#}", beside.display());
                Ok(beside)
            }
        }
    }
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    OsRng.try_fill_bytes(&mut bytes).context("the system has no random bytes")?;
    Ok(hex::encode(bytes))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("a/b");
        let first = Credentials::open(&data).expect("made");
        let second = Credentials::open(&data).expect("read");
        assert_eq!(first.token, second.token);
        assert_eq!(first.token.len(), 2 * TOKEN_BYTES);
        let mode = |path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(data.join(TOKEN_FILE)), mode(data.clone())), (0o600, 0o700));
    }

    #[test]
    fn an_empty_token_lets_nobody_in() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(TOKEN_FILE), "\n").expect("written");
        assert!(Credentials::open(folder.path()).is_err());
    }
}
