//! Watching topics: live messages, at most once.

mod tally;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};
use wharf_protocol::frame::{Frame, Refusal, SubscribeTopic};
use wharf_protocol::{Message, Pattern};
use wharf_transport::{FrameReader, ReadError};

use crate::datagrams::Inbound;
use crate::link::{self, Backoff, Ended, Link, Up, unexpected};
use crate::{Client, ConsumeError};
use tally::{Run, Tally};

/// Batches of messages that wait for the user. When they are full the stream is not read, and the broker drops
/// what the tap misses.
const BATCHES_MAX: usize = 16;

/// Datagrams whose messages become one batch.
const BATCH_DATAGRAMS_MAX: usize = 64;

/// Live messages: a [`Stream`], or call [`next`](Self::next). Nothing is kept for a tap: what comes too fast,
/// or while the connection is down, is missed.
#[derive(Debug)]
pub struct Tap {
    batches: mpsc::Receiver<Vec<Message>>,
    ready: std::vec::IntoIter<Message>,
    tally: Arc<Tally>,
    /// Inboxes live in the client, and keep it no more alive than it does itself.
    _client: Option<Client>,
}

impl Tap {
    /// The next message; `None` when the client is closed or the broker ended the tap.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// How many messages are missing before the last that came by [datagrams](OpenTap::datagrams): lost on the way,
    /// too many for this reader or overtaken by it. Those that are only late are taken off again when they come.
    ///
    /// What was published while the connection was down is not counted, and of a tap without datagrams nothing is.
    pub fn missed(&self) -> u64 {
        self.tally.missed()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = self.ready.next() {
                return Poll::Ready(Some(message));
            }
            match self.batches.poll_recv(cx) {
                Poll::Ready(Some(batch)) => self.ready = batch.into_iter(),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for Tap {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_message(cx)
    }
}

/// A tap about to be opened: await it, and the broker has taken it.
#[derive(Debug)]
#[must_use = "it is opened by awaiting it"]
pub struct OpenTap {
    client: Client,
    pattern: String,
    datagrams: bool,
}

impl OpenTap {
    pub(crate) fn new(client: Client, pattern: &str) -> Self {
        Self { client, pattern: pattern.to_owned(), datagrams: false }
    }

    /// Takes the messages as datagrams: one that is lost is not sent again and holds none of the others up, and one
    /// that is late comes after them. Those that are missing [are counted](Tap::missed).
    ///
    /// A message that fits into no datagram of the path (about 1,400 bytes between machines) comes on a stream, and all
    /// of them do where the broker or the path has no datagrams.
    pub fn datagrams(mut self) -> Self {
        self.datagrams = true;
        self
    }
}

impl IntoFuture for OpenTap {
    type Output = Result<Tap, ConsumeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut tap = open_unowned(&self.client, self.pattern.parse()?, self.datagrams).await?;
            tap._client = Some(self.client);
            Ok(tap)
        })
    }
}

/// Opens a tap that does not keep its client alive.
pub(crate) async fn open_unowned(
    client: &Client,
    pattern: Pattern,
    datagrams: bool,
) -> Result<Tap, ConsumeError> {
    let (sender, batches) = mpsc::channel(BATCHES_MAX);
    let (opened, first) = oneshot::channel();
    let (backoff, tally) = (Backoff::new(client.pause_max()), Arc::<Tally>::default());
    let link = client.link();
    let role = Role {
        pattern,
        datagrams,
        tally: Arc::clone(&tally),
        batches: sender,
        opened: Some(opened),
        link,
        backoff,
    };
    client.spawn(role.run());
    first.await.map_err(|_| ConsumeError::Closed)??;
    Ok(Tap { batches, ready: Vec::new().into_iter(), tally, _client: None })
}

/// The tap's task.
struct Role {
    pattern: Pattern,
    datagrams: bool,
    tally: Arc<Tally>,
    batches: mpsc::Sender<Vec<Message>>,
    /// Told once how the first attempt went.
    opened: Option<oneshot::Sender<Result<(), ConsumeError>>>,
    link: Link,
    backoff: Backoff,
}

impl Role {
    async fn run(mut self) {
        let (stop, batches) = (self.link.stop.clone(), self.batches.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = batches.closed() => {}
            () = self.keep_watching() => {}
        }
    }

    async fn keep_watching(&mut self) {
        loop {
            let ended = match self.link.up().await {
                Ok(up) => self.watch(&up).await,
                Err(refusal) => Ended::Refused(refusal),
            };
            match ended {
                Ended::Refused(refusal) if link::is_final(&refusal) => return self.give_up(refusal),
                ended => tracing::debug!(reason = %ended, "tap's stream over, opening another"),
            }
            self.backoff.wait().await;
        }
    }

    fn give_up(&mut self, refusal: Refusal) {
        match self.opened.take() {
            // Nobody there any more is as good.
            Some(opened) => drop(opened.send(Err(ConsumeError::Refused(refusal)))),
            None => tracing::warn!(pattern = %self.pattern, reason = %refusal, "the broker ended a tap"),
        }
    }

    async fn watch(&mut self, up: &Up) -> Ended {
        // The number is known to this end before the broker can use it.
        let inbound = self.datagrams.then(|| up.datagrams.register());
        let datagrams = inbound.as_ref().map(|inbound| inbound.tap);
        let first = Frame::SubscribeTopic(SubscribeTopic { pattern: self.pattern.clone(), datagrams });
        let (_send, reader, inbound) = match up.open(&first).await {
            Ok((send, reader, Frame::Tapped(tapped))) => (send, reader, inbound.filter(|_| tapped.datagrams)),
            Ok((.., other)) => return unexpected(&other),
            Err(ended) => return ended,
        };
        self.backoff.reset();
        if let Some(opened) = self.opened.take() {
            // Nobody there any more is noticed by the closed channel.
            let _ = opened.send(Ok(()));
        }
        let ended = match inbound {
            Some(inbound) => self.receive_both(reader, inbound).await,
            None => self.receive(reader).await,
        };
        ended.err().unwrap_or_else(|| Ended::Lost("the broker ended the stream".into()))
    }

    /// Hands on what comes on the stream, until it ends.
    async fn receive(&self, mut reader: FrameReader) -> Result<(), Ended> {
        loop {
            let mut batch = Vec::new();
            while let Some(frame) = reader.ready().map_err(ReadError::from)? {
                match frame {
                    Frame::Tap(message) => batch.push(message),
                    Frame::Error(refusal) => return Err(Ended::Refused(refusal)),
                    other => return Err(unexpected(&other)),
                }
            }
            self.hand_on(batch).await?;
            if !reader.fill().await? {
                return Ok(());
            }
        }
    }

    /// Hands on what comes as datagrams and on the stream, until that ends.
    async fn receive_both(&self, mut reader: FrameReader, mut inbound: Inbound) -> Result<(), Ended> {
        let (mut run, mut datagrams) = (Run::new(Arc::clone(&self.tally)), Vec::new());
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                frame = reader.next() => match frame? {
                    Some(Frame::TapNumbered { number, message }) => {
                        run.came(number, 1);
                        batch.push(message);
                    }
                    Some(Frame::Error(refusal)) => return Err(Ended::Refused(refusal)),
                    Some(other) => return Err(unexpected(&other)),
                    None => return Ok(()),
                },
                _ = inbound.waiting.recv_many(&mut datagrams, BATCH_DATAGRAMS_MAX) => {
                    for datagram in datagrams.drain(..) {
                        run.came(datagram.first, datagram.messages.len() as u64);
                        batch.extend(datagram.messages);
                    }
                }
            }
            self.hand_on(batch).await?;
        }
    }

    async fn hand_on(&self, batch: Vec<Message>) -> Result<(), Ended> {
        if !batch.is_empty() && self.batches.send(batch).await.is_err() {
            return Err(Ended::Lost("nobody watches".into()));
        }
        Ok(())
    }
}
