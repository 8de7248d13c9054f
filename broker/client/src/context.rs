//! The file that tells the programs on a machine how to reach its broker.
//!
//! ```toml
//! address = "127.0.0.1:7411"
//! admin = "http://127.0.0.1:7412"
//! token = "…"
//! certificate = "/var/lib/wharf/certificate.pem"   # a path, or the PEM text itself
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::{Deserialize, Serialize};

use crate::{ConnectOptions, Trust};

/// What the file holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Where the broker's QUIC door is, `host:port`.
    pub address: String,
    /// Where its admin API is, a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// The secret by which the broker knows this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The broker's certificate or its authority's: a path, relative to this file, or PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// Why a context file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is none.
    #[error(
        "there is no context file {0:?}: start a broker with `wharf serve`, or name the file in WHARF_CONTEXT"
    )]
    Missing(PathBuf),
    /// Neither `WHARF_CONTEXT`, `XDG_CONFIG_HOME` nor `HOME` says where it is.
    #[error("name the context file in WHARF_CONTEXT: neither XDG_CONFIG_HOME nor HOME is set")]
    Nowhere,
    /// It cannot be read or written.
    #[error("{path:?}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not what a context file is.
    #[error("{path:?} is not a context file")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl Context {
    /// `$WHARF_CONTEXT`, or `wharf/context.toml` in `$XDG_CONFIG_HOME` or `~/.config`.
    ///
    /// # Errors
    /// [`ContextError::Nowhere`].
    pub fn default_path() -> Result<PathBuf, ContextError> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set("WHARF_CONTEXT") {
            return Ok(path);
        }
        let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        Ok(config.ok_or(ContextError::Nowhere)?.join("wharf").join("context.toml"))
    }

    /// Reads the file at the [default path](Self::default_path).
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn load() -> Result<Self, ContextError> {
        Self::read(&Self::default_path()?)
    }

    /// Reads the file at `path`, and the certificate that it names.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(path: &Path) -> Result<Self, ContextError> {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ContextError::Missing(path.to_owned()),
            _ => ContextError::Io { path: path.to_owned(), source },
        })?;
        let mut context: Self = toml::from_str(&text)
            .map_err(|source| ContextError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        if let Some(certificate) = context.certificate.as_mut().filter(|text| !is_pem(text)) {
            let file = path.parent().unwrap_or(Path::new("")).join(&*certificate);
            *certificate =
                fs::read_to_string(&file).map_err(|source| ContextError::Io { path: file, source })?;
        }
        Ok(context)
    }

    /// Writes the file at `path`, readable by its owner alone, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ContextError> {
        let failed = |source| ContextError::Io { path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let beside = path.with_extension("toml.new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    }

    /// How to reach the broker.
    pub fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(&self.address);
        options.trust = self.certificate.clone().map(Trust::Authority);
        options.token.clone_from(&self.token);
        options
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Context")
            .field("address", &self.address)
            .field("admin", &self.admin)
            .field("token", &token)
            .finish_non_exhaustive()
    }
}

fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(certificate: &str) -> Context {
        Context {
            address: "127.0.0.1:7411".into(),
            admin: Some("http://127.0.0.1:7412".into()),
            token: Some("sesame".into()),
            certificate: Some(certificate.into()),
        }
    }

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wharf/context.toml");
        context(PEM).write(&path).expect("written");
        assert_eq!(Context::read(&path).expect("read"), context(PEM));
    }

    #[test]
    fn only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("context.toml");
        context(PEM).write(&path).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_may_be_a_path_beside_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("certificate.pem"), PEM).expect("written");
        let path = folder.path().join("context.toml");
        context("certificate.pem").write(&path).expect("written");
        assert_eq!(Context::read(&path).expect("read"), context(PEM));
    }

    #[test]
    fn a_missing_file_and_an_unknown_key_say_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("context.toml");
        let error = Context::read(&path).expect_err("missing");
        assert!(error.to_string().contains("wharf serve"));
        fs::write(&path, "adress = \"a:1\"").expect("written");
        let ContextError::Syntax { source, .. } = Context::read(&path).expect_err("misspelt") else {
            panic!("a syntax error");
        };
        assert!(source.to_string().contains("adress"));
    }
}
