//! One connection: handshake, hello, then control frames and streams until it ends.

use std::sync::Arc;

use quinn::{Connecting, Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use wharf_node::{Credentials, Node, Presence, Principal};
use wharf_protocol::ErrorCode;
use wharf_protocol::frame::{self, Frame, Goodbye, Hello, Limits, Refusal, Welcome};
use wharf_transport::FrameReader;

use crate::consumers::Consumers;
use crate::ended::{Ended, write};
use crate::{Config, certificate, consumer, publisher, reader, tap, transactor};

/// The longest body of a frame before it is known who sends it, and of any on the control stream.
const CONTROL_BYTES_MAX: usize = 16 * 1024;

/// How long the last frame of a stream may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that was let in, and the places it takes.
pub(crate) struct Handshake {
    pub(crate) connecting: Connecting,
    /// Among the connections, until it ends.
    pub(crate) place: OwnedSemaphorePermit,
    /// Among the handshakes, until it has said who it is.
    pub(crate) handshaking: OwnedSemaphorePermit,
}

/// What every stream of a connection needs.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) node: Node,
    pub(crate) principal: Principal,
    pub(crate) config: Arc<Config>,
    pub(crate) consumers: Consumers,
    /// For the datagrams of its taps.
    pub(crate) connection: Connection,
}

impl Guest {
    /// Refuses more credit than a subscription may have at once.
    pub(crate) fn check_credit(&self, messages: u64) -> Result<(), Ended> {
        let max = self.config.credit_max;
        if messages <= max.into() {
            return Ok(());
        }
        let reason = format!("credit for {messages} messages is over the {max} allowed");
        Err(Ended::refused(ErrorCode::TooLarge, reason))
    }
}

/// The control stream.
struct Control {
    send: SendStream,
    reader: FrameReader,
}

/// Serves one connection from its handshake to its end.
pub(crate) async fn serve(handshake: Handshake, node: Node, config: Arc<Config>, stop: CancellationToken) {
    let Handshake { connecting, place: _place, handshaking } = handshake;
    let peer = connecting.remote_address();
    let due = tokio::time::Instant::now() + config.hello;
    let Ok(Ok(connection)) = timeout_at(due, connecting).await else {
        tracing::debug!(%peer, "no handshake");
        return;
    };
    let Ok(greeted) = timeout_at(due, greet(&connection, &node, &config)).await else {
        return close(&connection, ErrorCode::Unauthenticated, "no hello came in time");
    };
    drop(handshaking);
    let (control, principal, _presence) = match greeted {
        Ok(greeted) => greeted,
        Err((send, ended)) => return turn_away(&connection, send, ended).await,
    };
    tracing::debug!(%peer, principal = principal.name(), "connected");
    let consumers = Consumers::default();
    let guest = Guest { node, principal, config, consumers, connection: connection.clone() };
    attend(&connection, control, guest, stop).await;
    tracing::debug!(%peer, "disconnected");
}

/// Takes the control stream and the hello on it, and says welcome.
async fn greet(
    connection: &Connection,
    node: &Node,
    config: &Config,
) -> Result<(Control, Principal, Presence), (Option<SendStream>, Ended)> {
    let (mut send, receive) = connection.accept_bi().await.map_err(|_| (None, Ended::Lost))?;
    let mut reader = FrameReader::new(receive, CONTROL_BYTES_MAX).with_patience(config.frame);
    let welcomed = async {
        let hello = match reader.next().await? {
            Some(Frame::Hello(hello)) => hello,
            Some(other) => return Err(Ended::unexpected(&other, "connection that has not said Hello")),
            None => return Err(Ended::Lost),
        };
        let principal = recognise(connection, node, &hello)?;
        let presence = principal.enter()?;
        write(&mut send, &Frame::Welcome(welcome(config))).await?;
        Ok((principal, presence))
    };
    match welcomed.await {
        Ok((principal, presence)) => Ok((Control { send, reader }, principal, presence)),
        Err(ended) => Err((Some(send), ended)),
    }
}

/// Who says hello, by its token or the certificate of the handshake.
fn recognise(connection: &Connection, node: &Node, hello: &Hello) -> Result<Principal, Ended> {
    if !hello.versions.contains(&frame::VERSION) {
        let reason =
            format!("this broker speaks version {}, the client {:?}", frame::VERSION, hello.versions);
        return Err(Ended::refused(ErrorCode::Malformed, reason));
    }
    let identity =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = identity.and_then(|chain| chain.first().map(certificate::fingerprint));
    let credentials = Credentials { token: hello.token.as_deref(), certificate: certificate.as_deref() };
    node.authenticate(credentials).ok_or_else(|| {
        let reason = match (&hello.token, &certificate) {
            (None, None) => "neither a token nor a certificate was given",
            _ => "nobody is known by the token or certificate that was given",
        };
        Ended::refused(ErrorCode::Unauthenticated, reason)
    })
}

fn welcome(config: &Config) -> Welcome {
    let limits = Limits {
        frame_bytes_max: u32::try_from(config.frame_bytes_max()).expect("16 MiB at most"),
        unconfirmed_max: publisher::UNCONFIRMED_MAX,
        credit_max: config.credit_max,
        streams_max: config.streams_max,
    };
    Welcome { server: concat!("wharf/", env!("CARGO_PKG_VERSION")).into(), version: frame::VERSION, limits }
}

/// Serves control frames and streams until the connection ends or the door closes.
async fn attend(connection: &Connection, mut control: Control, guest: Guest, stop: CancellationToken) {
    // Aborted when dropped: no stream outlives its connection.
    let mut streams = JoinSet::new();
    let ended = loop {
        tokio::select! {
            ended = control.next() => match ended {
                Ok(true) => {}
                Ok(false) => return connection.close(VarInt::from_u32(0), b"goodbye"),
                Err(ended) => break ended,
            },
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    streams.spawn(serve_stream(send, receive, guest.clone()));
                }
                Err(_) => return,
            },
            Some(_) = streams.join_next() => {}
            () = stop.cancelled() => break Ended::refused(ErrorCode::Closing, "the broker is stopping"),
        }
    };
    if stop.is_cancelled() {
        let goodbye = Frame::Goodbye(Goodbye { reason: "the broker is stopping".into() });
        let _ = timeout(FAREWELL, write(&mut control.send, &goodbye)).await;
        return close(connection, ErrorCode::Closing, "the broker is stopping");
    }
    turn_away(connection, Some(control.send), ended).await;
}

impl Control {
    /// Serves one control frame; `false` when the client is done.
    ///
    /// # Cancel safety
    /// A pong may be lost.
    async fn next(&mut self) -> Result<bool, Ended> {
        match self.reader.next().await? {
            Some(Frame::Ping(nonce)) => write(&mut self.send, &Frame::Pong(nonce)).await.map(|()| true),
            Some(Frame::Pong(_)) => Ok(true),
            Some(Frame::Goodbye(_)) | None => Ok(false),
            Some(other) => Err(Ended::unexpected(&other, "control")),
        }
    }
}

/// Serves one stream by the role that its first frame names.
async fn serve_stream(mut send: SendStream, receive: RecvStream, guest: Guest) {
    let mut reader =
        FrameReader::new(receive, guest.config.frame_bytes_max()).with_patience(guest.config.frame);
    let first = match reader.next().await {
        Ok(Some(first)) => Ok(first),
        Ok(None) => return,
        Err(error) => Err(error.into()),
    };
    let served = match first {
        Ok(Frame::OpenPublisher(open)) => publisher::serve(&mut send, &mut reader, open, &guest).await,
        Ok(Frame::Subscribe(subscribe)) => consumer::serve(&mut send, &mut reader, subscribe, &guest).await,
        Ok(Frame::SubscribeTopic(subscribe)) => tap::serve(&mut send, &mut reader, subscribe, &guest).await,
        Ok(Frame::OpenTransactor(open)) => transactor::serve(&mut send, &mut reader, open, &guest).await,
        Ok(Frame::OpenReader(open)) => reader::serve(&mut send, &mut reader, open, &guest).await,
        Ok(other) => Err(Ended::unexpected(&other, "stream without a role")),
        Err(ended) => Err(ended),
    };
    if let Err(Ended::Refused(refusal)) = served {
        tracing::debug!(principal = guest.principal.name(), code = ?refusal.code, reason = %refusal, "stream refused");
        reader.stop(refusal.code.into());
        last_word(&mut send, refusal).await;
    }
}

/// Tells the client why, on the stream and in the connection's end.
async fn turn_away(connection: &Connection, send: Option<SendStream>, ended: Ended) {
    let Ended::Refused(refusal) = ended else {
        return connection.close(VarInt::from_u32(0), b"");
    };
    tracing::info!(peer = %connection.remote_address(), code = ?refusal.code, reason = %refusal, "connection refused");
    let (code, reason) = (refusal.code, refusal.reason.clone());
    if let Some(mut send) = send {
        last_word(&mut send, refusal).await;
    }
    close(connection, code, &reason);
}

/// Writes the error that ends a stream, and waits a moment for its arrival.
async fn last_word(send: &mut SendStream, refusal: Refusal) {
    let said = async {
        if write(send, &Frame::Error(refusal)).await.is_ok() && send.finish().is_ok() {
            let _ = send.stopped().await;
        }
    };
    let _ = timeout(FAREWELL, said).await;
}

fn close(connection: &Connection, code: ErrorCode, reason: &str) {
    connection.close(u32::from(u16::from(code)).into(), reason.as_bytes());
}
