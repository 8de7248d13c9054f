//! Which broker the commands speak to: the one in the context file.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use wharf_client::{Client, Context};

use crate::admin::Admin;

/// The way to a broker, read from the context file when it is first needed.
pub(crate) struct Connection {
    /// As given by `--context` or `WHARF_CONTEXT`.
    path: Option<PathBuf>,
}

impl Connection {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// The broker's admin API.
    pub(crate) fn admin(&self) -> anyhow::Result<Admin> {
        let (path, context) = self.context()?;
        let base = context.admin.with_context(|| {
            format!("{} does not say where the admin API is: admin = \"http://…\"", path.display())
        })?;
        ensure!(
            base.starts_with("http://"),
            "{}: the admin API is spoken to over http://, not {base:?}; from another machine, through a tunnel: \
             ssh -L 6421:127.0.0.1:6421 HOST",
            path.display()
        );
        Ok(Admin::new(&base, context.token.as_deref().unwrap_or_default()))
    }

    /// A client of the broker, connected.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let (_, context) = self.context()?;
        let name = concat!("wharf ", env!("CARGO_PKG_VERSION"));
        Ok(Client::connect(context.connect_options().name(name)).await?)
    }

    /// Where the context file is, or is to be.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.path {
            Some(path) => Ok(path.clone()),
            None => Ok(Context::default_path()?),
        }
    }

    fn context(&self) -> anyhow::Result<(PathBuf, Context)> {
        let path = self.path()?;
        let context = Context::read(&path)?;
        Ok((path, context))
    }
}
