//! A door: its socket, its thread, and who comes in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use quinn::{Endpoint, Incoming, ServerConfig, TransportConfig, VarInt};
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wharf_node::Node;
use wharf_transport::{Path, Streams};

use crate::connection::{self, Handshake};
use crate::{CertificateError, Config};

/// Bytes that a client may send before its handshake is looked at; quinn's default is 10 MiB.
const EARLY_BYTES_MAX: u64 = 64 * 1024;

/// The same of all clients together; quinn's default is 100 MiB.
const EARLY_BYTES_MAX_TOTAL: u64 = 16 * 1024 * 1024;

/// An open door. Dropping it closes it as [`close`](Self::close) does, without waiting.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    stop: CancellationToken,
    closed: CancellationToken,
}

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The certificate or key cannot be used.
    #[error("certificate")]
    Certificate(#[from] CertificateError),
    /// The address cannot be listened on.
    #[error("cannot listen on udp {address}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The door's thread could not be started.
    #[error("starting the door's thread")]
    Start(#[source] io::Error),
}

impl Door {
    /// Opens a door onto `node`, which lets clients in until it is [closed](Self::close) or dropped.
    ///
    /// # Errors
    /// Why it does not open.
    pub async fn bind(config: Config, node: Node) -> Result<Self, BindError> {
        let (stop, closed) = (CancellationToken::new(), CancellationToken::new());
        let tls = Arc::new(config.certificate.tls()?);
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(BindError::Start)?;
        let (opened, bound) = oneshot::channel();
        let (address, stopped) = (config.address, stop.clone());
        let finished = closed.clone().drop_guard();
        let run = move || {
            // Dropped last: once the door is closed, its address is free.
            let _finished = finished;
            let runtime = runtime;
            runtime.block_on(async {
                let settings = settings_for(&config, Path::Network, Arc::clone(&tls));
                let secret = config.certificate.key_pem.as_bytes();
                let endpoint = match wharf_transport::server(config.address, settings, secret) {
                    Ok(endpoint) => endpoint,
                    Err(error) => return drop(opened.send(Err(error))),
                };
                let loopback = Arc::new(settings_for(&config, Path::Loopback, tls));
                if opened.send(endpoint.local_addr()).is_ok() {
                    Porter::new(config, node, endpoint, loopback).run(stopped).await;
                }
            });
        };
        thread::Builder::new().name("wharf-quic".into()).spawn(run).map_err(BindError::Start)?;
        let bound = bound.await.unwrap_or_else(|_| Err(io::Error::other("the door's thread ended")));
        let address = bound.map_err(|source| BindError::Bind { address, source })?;
        Ok(Self { address, stop, closed })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more, says goodbye to everybody, and waits until they are gone or the drain time is over.
    pub async fn close(&self) {
        self.stop.cancel();
        self.closed.cancelled().await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Stands at the door: lets connections in, each a task.
struct Porter {
    config: Arc<Config>,
    node: Node,
    endpoint: Endpoint,
    /// For peers on this machine.
    loopback: Arc<ServerConfig>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Porter {
    fn new(config: Config, node: Node, endpoint: Endpoint, loopback: Arc<ServerConfig>) -> Self {
        let connections = Arc::new(Semaphore::new(config.connections_max));
        let handshakes = Arc::new(Semaphore::new(config.handshakes_max));
        Self { config: Arc::new(config), node, endpoint, loopback, connections, handshakes }
    }

    async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                () = stop.cancelled() => break,
            };
            let Some(incoming) = incoming else { break };
            if let Some(handshake) = self.admit(incoming) {
                let (node, config) = (self.node.clone(), Arc::clone(&self.config));
                tasks.spawn(connection::serve(handshake, node, config, stop.clone()));
            }
            while tasks.try_join_next().is_some() {}
        }
        self.endpoint.set_server_config(None);
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(self.config.drain, all).await.is_err() {
            tracing::warn!(left = self.endpoint.open_connections(), "closing connections that did not end");
        }
        self.endpoint.close(VarInt::from_u32(0), b"the broker is stopping");
        let _ = timeout(self.config.drain, self.endpoint.wait_idle()).await;
    }

    /// Begins the handshake, if there is room.
    fn admit(&self, incoming: Incoming) -> Option<Handshake> {
        let crowded = self.handshakes.available_permits() < self.config.handshakes_max * 3 / 4;
        if crowded && !incoming.remote_address_validated() {
            // It costs nothing to be asked again by who does receive there.
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return None;
        }
        let (Some(place), Some(handshaking)) = (take(&self.connections), take(&self.handshakes)) else {
            tracing::debug!(peer = %incoming.remote_address(), "no room for another connection");
            incoming.refuse();
            return None;
        };
        let peer = incoming.remote_address();
        let connecting = match Path::to(peer) {
            Path::Loopback => incoming.accept_with(Arc::clone(&self.loopback)),
            Path::Network => incoming.accept(),
        };
        match connecting {
            Ok(connecting) => Some(Handshake { connecting, place, handshaking }),
            Err(error) => {
                tracing::debug!(%peer, %error, "refused");
                None
            }
        }
    }
}

fn take(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().ok()
}

/// The settings of connections over `path`, each of quinn's bounds set.
fn settings_for(
    config: &Config,
    path: Path,
    tls: Arc<quinn::crypto::rustls::QuicServerConfig>,
) -> ServerConfig {
    let transport: Arc<TransportConfig> =
        wharf_transport::transport(path, Streams::FromPeer(config.streams_max));
    let mut settings = ServerConfig::with_crypto(tls);
    settings
        .transport_config(transport)
        .max_incoming(config.handshakes_max)
        .incoming_buffer_size(EARLY_BYTES_MAX)
        .incoming_buffer_size_total(EARLY_BYTES_MAX_TOTAL);
    settings
}
