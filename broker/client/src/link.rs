//! The connection, and its being taken up again: one task on the client's thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, SendStream, VarInt};
use rand::Rng as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wharf_protocol::ErrorCode;
use wharf_protocol::frame::{self, FRAME_BYTES_MAX, Frame, Goodbye, Hello, Limits, Refusal, Welcome};
use wharf_transport::{FrameReader, Path, ReadError, Streams};

use crate::datagrams::Datagrams;
use crate::{ConnectError, ConnectOptions, trust};

/// The pause after the first failure; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(25);

/// How long a client that is closed waits for the answers to what it has sent.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a closed connection's last packet may take to leave.
const FAREWELL: Duration = Duration::from_millis(200);

/// A view of the connection for the tasks of publishers, consumers and taps.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    state: watch::Receiver<State>,
    pub(crate) stop: CancellationToken,
}

#[derive(Clone, Debug)]
enum State {
    Down,
    Up(Up),
    Refused(Refusal),
}

/// A connection that stands.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    connection: Connection,
    pub(crate) limits: Limits,
    pub(crate) datagrams: Datagrams,
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The broker said why.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// It, or its connection, is gone.
    #[error("lost: {0}")]
    Lost(String),
}

/// Whether trying again can only be answered the same.
pub(crate) fn is_final(refusal: &Refusal) -> bool {
    use ErrorCode::{Closing, Internal, Unavailable};
    !matches!(refusal.code, Unavailable | Closing | Internal)
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Lost(match error {
            ReadError::Lost(source) => source.to_string(),
            other => other.to_string(),
        })
    }
}

impl From<quinn::WriteError> for Ended {
    fn from(error: quinn::WriteError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Link {
    /// The connection, once it stands; the refusal when it never will.
    pub(crate) async fn up(&mut self) -> Result<Up, Refusal> {
        let stands = |state: &State| match state {
            State::Up(up) => up.connection.close_reason().is_none(),
            State::Refused(_) => true,
            State::Down => false,
        };
        match self.state.wait_for(stands).await.as_deref() {
            Ok(State::Up(up)) => Ok(up.clone()),
            Ok(State::Refused(refusal)) => Err(refusal.clone()),
            Ok(State::Down) | Err(_) => Err(closed()),
        }
    }
}

fn closed() -> Refusal {
    Refusal { code: ErrorCode::Closing, reason: "the client was closed".into() }
}

impl Up {
    /// Opens a stream whose role `first` names, and waits for the answer.
    pub(crate) async fn open(&self, first: &Frame) -> Result<(SendStream, FrameReader, Frame), Ended> {
        let lost = |error: ConnectionError| Ended::Lost(error.to_string());
        let (mut send, receive) = self.connection.open_bi().await.map_err(lost)?;
        let mut out = BytesMut::new();
        first.encode(&mut out);
        send.write_chunk(out.freeze()).await?;
        let mut reader = FrameReader::new(receive, FRAME_BYTES_MAX);
        match reader.next().await? {
            Some(Frame::Error(refusal)) => Err(Ended::Refused(refusal)),
            Some(frame) => Ok((send, reader, frame)),
            None => Err(Ended::Lost("the stream ended at once".into())),
        }
    }
}

/// A frame that has no place where it came.
pub(crate) fn unexpected(frame: &Frame) -> Ended {
    Ended::Lost(format!("the broker sent {} where it has no place", frame.name()))
}

/// Growing pauses with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(max: Duration) -> Self {
        Self { pause: PAUSE_MIN, max }
    }

    /// The next failure waits little again.
    pub(crate) fn reset(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// Waits between half the pause and all of it: clients that were cut off together come back apart.
    pub(crate) async fn wait(&mut self) {
        let share = rand::rng().random_range(0.5..=1.0);
        sleep(self.pause.mul_f64(share)).await;
        self.pause = (self.pause * 2).min(self.max);
    }
}

/// Keeps the connection up on the client's thread until `stop`.
pub(crate) struct Keeper {
    options: ConnectOptions,
    tls: Arc<quinn::crypto::rustls::QuicClientConfig>,
    state: watch::Sender<State>,
    stop: CancellationToken,
    roles: TaskTracker,
}

/// One connection and its control stream.
struct Dialled {
    endpoint: Endpoint,
    up: Up,
    send: SendStream,
    reader: FrameReader,
}

impl Keeper {
    pub(crate) fn new(
        options: ConnectOptions,
        stop: CancellationToken,
        roles: TaskTracker,
    ) -> Result<(Self, Link), ConnectError> {
        let tls = Arc::new(trust::tls(&options)?);
        let (state, view) = watch::channel(State::Down);
        let link = Link { state: view, stop: stop.clone() };
        Ok((Self { options, tls, state, stop, roles }, link))
    }

    /// Connects, tells `first` how that went, and goes on until `stop`.
    pub(crate) async fn run(self, first: oneshot::Sender<Result<(), ConnectError>>) {
        let mut dialled = match self.dial().await {
            Ok(dialled) => dialled,
            Err(error) => {
                let _ = first.send(Err(error));
                return;
            }
        };
        self.state.send_replace(State::Up(dialled.up.clone()));
        let _ = first.send(Ok(()));
        loop {
            let drained = async {
                self.stop.cancelled().await;
                self.roles.close();
                let _ = timeout(DRAIN, self.roles.wait()).await;
            };
            let ended = tokio::select! {
                () = drained => return dialled.leave().await,
                ended = attend(&mut dialled.send, &mut dialled.reader) => ended,
                ended = dialled.up.datagrams.sort(&dialled.up.connection) => ended,
            };
            self.state.send_replace(State::Down);
            dialled.up.connection.close(VarInt::from_u32(0), b"");
            if let Ended::Refused(refusal) = &ended
                && is_final(refusal)
            {
                return self.give_up(refusal.clone());
            }
            tracing::warn!(address = self.options.address, reason = %ended, "connection lost, taking it up again");
            dialled = tokio::select! {
                dialled = self.redial() => match dialled {
                    Ok(dialled) => dialled,
                    Err(refusal) => return self.give_up(refusal),
                },
                () = self.stop.cancelled() => return,
            };
            tracing::info!(address = self.options.address, "connected again");
            self.state.send_replace(State::Up(dialled.up.clone()));
        }
    }

    fn give_up(&self, refusal: Refusal) {
        tracing::error!(address = self.options.address, %refusal, "the connection is over");
        self.state.send_replace(State::Refused(refusal));
    }

    /// Tries until it succeeds or is refused for good.
    async fn redial(&self) -> Result<Dialled, Refusal> {
        let mut backoff = Backoff::new(self.options.pause_max);
        loop {
            backoff.wait().await;
            match self.dial().await {
                Ok(dialled) => return Ok(dialled),
                Err(ConnectError::Refused(refusal)) if is_final(&refusal) => return Err(refusal),
                Err(error) => tracing::debug!(%error, "not yet"),
            }
        }
    }

    /// One attempt: the addresses of the name in their order, within the timeout.
    async fn dial(&self) -> Result<Dialled, ConnectError> {
        let address = &self.options.address;
        let resolved = tokio::net::lookup_host(address).await;
        let unknown = |source| ConnectError::Address { address: address.clone(), source: Arc::new(source) };
        let mut last = unknown(std::io::Error::other("the name has no address"));
        for peer in resolved.map_err(unknown)? {
            match timeout(self.options.timeout, self.dial_one(peer)).await {
                Ok(Err(refused @ ConnectError::Refused(_))) => return Err(refused),
                Ok(Err(error)) => last = error,
                Ok(Ok(dialled)) => return Ok(dialled),
                Err(_) => {
                    let waited = self.options.timeout;
                    last = ConnectError::Unreachable { address: peer.to_string(), waited };
                }
            }
        }
        Err(last)
    }

    async fn dial_one(&self, peer: SocketAddr) -> Result<Dialled, ConnectError> {
        let failed = |reason: String| ConnectError::Failed { address: self.options.address.clone(), reason };
        let endpoint = wharf_transport::client(peer).map_err(|error| ConnectError::Start(Arc::new(error)))?;
        let mut config = ClientConfig::new(Arc::clone(&self.tls) as _);
        config.transport_config(wharf_transport::transport(Path::to(peer), Streams::None));
        let connecting = endpoint
            .connect_with(config, peer, self.options.expected_name())
            .map_err(|error| failed(error.to_string()))?;
        let connection = connecting.await.map_err(|error| failed(error.to_string()))?;
        let (welcome, send, reader) =
            self.greet(&connection).await.map_err(|ended| match refusal(&connection) {
                Some(refusal) => ConnectError::Refused(refusal),
                None => match ended {
                    Ended::Refused(refusal) => ConnectError::Refused(refusal),
                    Ended::Lost(reason) => failed(reason),
                },
            })?;
        tracing::debug!(server = welcome.server, version = welcome.version, "welcome");
        let up = Up { connection, limits: welcome.limits, datagrams: Datagrams::default() };
        Ok(Dialled { endpoint, up, send, reader })
    }

    async fn greet(&self, connection: &Connection) -> Result<(Welcome, SendStream, FrameReader), Ended> {
        let limits = Limits { frame_bytes_max: 0, unconfirmed_max: 0, credit_max: 0, streams_max: 0 };
        let hello = Frame::Hello(Hello {
            versions: vec![frame::VERSION],
            client: self.options.name.clone(),
            token: self.options.token.clone(),
        });
        let up = Up { connection: connection.clone(), limits, datagrams: Datagrams::default() };
        let (send, reader, answer) = up.open(&hello).await?;
        match answer {
            Frame::Welcome(welcome) => Ok((welcome, send, reader)),
            other => Err(unexpected(&other)),
        }
    }
}

impl Dialled {
    /// Closes the connection in good order.
    async fn leave(mut self) {
        let mut out = BytesMut::new();
        Frame::Goodbye(Goodbye { reason: "the client is done".into() }).encode(&mut out);
        let _ = timeout(FAREWELL, self.send.write_chunk(out.freeze())).await;
        self.up.connection.close(VarInt::from_u32(0), b"done");
        let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }
}

/// Serves the control stream until the connection is over.
async fn attend(send: &mut SendStream, reader: &mut FrameReader) -> Ended {
    loop {
        match reader.next().await {
            Ok(Some(Frame::Ping(nonce))) => {
                let mut out = BytesMut::new();
                Frame::Pong(nonce).encode(&mut out);
                if let Err(error) = send.write_chunk(out.freeze()).await {
                    return error.into();
                }
            }
            Ok(Some(Frame::Pong(_))) => {}
            Ok(Some(Frame::Goodbye(goodbye))) => return Ended::Lost(goodbye.reason),
            Ok(Some(Frame::Error(refusal))) => return Ended::Refused(refusal),
            Ok(Some(other)) => return unexpected(&other),
            Ok(None) => return Ended::Lost("the control stream ended".into()),
            Err(error) => return error.into(),
        }
    }
}

/// What the broker said as it closed `connection`, if it did and gave an error.
fn refusal(connection: &Connection) -> Option<Refusal> {
    let Some(ConnectionError::ApplicationClosed(close)) = connection.close_reason() else { return None };
    let code = u16::try_from(close.error_code.into_inner()).ok()?;
    let code = ErrorCode::try_from(code).ok()?;
    Some(Refusal { code, reason: String::from_utf8_lossy(&close.reason).into_owned() })
}
