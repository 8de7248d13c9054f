//! Watching topics: live messages, at most once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};
use wharf_protocol::frame::{Frame, Refusal, SubscribeTopic};
use wharf_protocol::{Message, Pattern};

use crate::link::{self, Backoff, Ended, Link, Up, unexpected};
use crate::{Client, ConsumeError};

/// Batches of messages that wait for the user. When they are full the stream is not read, and the broker drops
/// what the tap misses.
const BATCHES_MAX: usize = 16;

/// Live messages: a [`Stream`], or call [`next`](Self::next). Nothing is kept for a tap: what comes too fast,
/// or while the connection is down, is missed.
#[derive(Debug)]
pub struct Tap {
    batches: mpsc::Receiver<Vec<Message>>,
    ready: std::vec::IntoIter<Message>,
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

/// Opens a tap and waits until the broker has taken it.
pub(crate) async fn open(client: &Client, pattern: Pattern) -> Result<Tap, ConsumeError> {
    let mut tap = open_unowned(client, pattern).await?;
    tap._client = Some(client.clone());
    Ok(tap)
}

/// A tap that does not keep its client alive.
pub(crate) async fn open_unowned(client: &Client, pattern: Pattern) -> Result<Tap, ConsumeError> {
    let (sender, batches) = mpsc::channel(BATCHES_MAX);
    let (opened, first) = oneshot::channel();
    let backoff = Backoff::new(client.pause_max());
    let role = Role { pattern, batches: sender, opened: Some(opened), link: client.link(), backoff };
    client.spawn(role.run());
    first.await.map_err(|_| ConsumeError::Closed)??;
    Ok(Tap { batches, ready: Vec::new().into_iter(), _client: None })
}

/// The tap's task.
struct Role {
    pattern: Pattern,
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
        let first = Frame::SubscribeTopic(SubscribeTopic { pattern: self.pattern.clone() });
        let (_send, mut reader) = match up.open(&first).await {
            Ok((send, reader, Frame::Tapped(_))) => (send, reader),
            Ok((.., other)) => return unexpected(&other),
            Err(ended) => return ended,
        };
        self.backoff.reset();
        if let Some(opened) = self.opened.take() {
            // Nobody there any more is noticed by the closed channel.
            let _ = opened.send(Ok(()));
        }
        loop {
            let mut batch = Vec::new();
            loop {
                match reader.ready() {
                    Ok(Some(Frame::Tap(message))) => batch.push(message),
                    Ok(Some(Frame::Error(refusal))) => return Ended::Refused(refusal),
                    Ok(Some(other)) => return unexpected(&other),
                    Ok(None) => break,
                    Err(error) => return Ended::Lost(error.to_string()),
                }
            }
            if !batch.is_empty() && self.batches.send(batch).await.is_err() {
                return Ended::Lost("nobody watches".into());
            }
            match reader.fill().await {
                Ok(true) => {}
                Ok(false) => return Ended::Lost("the broker ended the stream".into()),
                Err(error) => return error.into(),
            }
        }
    }
}
