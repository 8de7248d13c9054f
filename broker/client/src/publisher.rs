//! Publishing: messages in, confirms out, and whatever is unconfirmed sent again.

mod batch;
mod window;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Notify;
use wharf_protocol::frame::{self, Frame, ProducerSession, Refusal};
use wharf_protocol::{
    KEY_BYTES_MAX, Message, Name, PRIORITY_MAX, PipelineVersion, ProducerId, Receipt, Stored,
    TRANSACTION_MESSAGES_MAX,
};
use wharf_transport::FrameReader;

use crate::link::{self, Backoff, Ended, Link, Up, unexpected};
use crate::{Client, PublishError};
use batch::Batch;
use window::Window;

/// Publishes messages, in order, without waiting for the one before. Cheap to clone.
///
/// Up to 8,192 messages or 16 MiB may be unconfirmed; then [`publish`](Self::publish) waits.
#[derive(Clone, Debug)]
pub struct Publisher {
    shared: Shared,
    _client: Client,
}

impl Publisher {
    pub(crate) fn new(shared: Shared, client: Client) -> Self {
        Self { shared, _client: client }
    }

    /// Takes `message` on its way, waiting while too many are unconfirmed. What comes back resolves once it is
    /// stored:
    ///
    /// ```no_run
    /// # async fn example(publisher: wharf_client::Publisher, message: wharf_client::Message)
    /// #     -> Result<(), wharf_client::PublishError> {
    /// let confirm = publisher.publish(message).await?; // sent, in order
    /// let stored = confirm.await?;                     // durable
    /// # Ok(()) }
    /// ```
    ///
    /// The confirm may be awaited later, or dropped when [`flush`](Self::flush) is enough.
    ///
    /// # Errors
    /// Why it was not sent.
    pub async fn publish(&self, message: Message) -> Result<Confirm, PublishError> {
        self.shared.publish(&message).await
    }

    /// Takes `messages` on their way as one: all of them are stored, in one record, or none is. One that is rejected
    /// rejects all; one whose message id is known is left out. The confirm is that of the whole.
    ///
    /// They come after what was published before, and count as one message: at most 4,096, and no more bytes than
    /// the broker takes in a frame.
    ///
    /// # Errors
    /// Why they were not sent.
    pub async fn publish_all(&self, messages: &[Message]) -> Result<Confirm, PublishError> {
        if messages.len() > TRANSACTION_MESSAGES_MAX {
            let count = messages.len();
            let reason =
                format!("a batch has at most {TRANSACTION_MESSAGES_MAX} messages, this one has {count}");
            return Err(PublishError::Invalid(reason));
        }
        messages.iter().try_for_each(check)?;
        let (batch, sequence) = self.shared.0.push_all(messages).await?;
        Ok(Confirm { batch, sequence })
    }

    /// The last sequence that earlier lives of a [named](OpenPublisher::producer) producer have stored: its first
    /// message now gets the next one. 0 when there were none, and for a producer without a name.
    pub fn last_sequence(&self) -> u64 {
        self.shared.0.begun_after()
    }

    /// Waits until everything published so far is answered.
    ///
    /// # Errors
    /// When the publisher ended before; rejections are told by the confirms alone.
    pub async fn flush(&self) -> Result<(), PublishError> {
        self.shared.0.flush().await
    }
}

/// A publisher about to be opened: await it.
#[derive(Debug)]
#[must_use = "it is opened by awaiting it"]
pub struct OpenPublisher {
    client: Client,
    producer: Option<String>,
    tell_versions: bool,
}

impl OpenPublisher {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, producer: None, tell_versions: false }
    }

    /// Makes it the next life of the producer of that name, of this client's principal.
    ///
    /// Its sequences go on where the last life stopped ([`Publisher::last_sequence`]), so that a program that is
    /// started again knows which of its messages are stored; and whatever still runs under the name is fenced off:
    /// its publisher ends with [`ErrorCode::Fenced`](crate::ErrorCode::Fenced).
    pub fn producer(mut self, name: impl Into<String>) -> Self {
        self.producer = Some(name.into());
        self
    }

    /// Asks which versions of which pipelines handle each message; [`Confirm::versions`] then tells.
    ///
    /// ```no_run
    /// # async fn example(client: wharf_client::Client, message: wharf_client::Message)
    /// #     -> Result<(), wharf_client::PublishError> {
    /// let publisher = client.publisher().tell_versions().await?;
    /// let mut confirm = publisher.publish(message).await?;
    /// (&mut confirm).await?;
    /// for version in confirm.versions() {
    ///     println!("handled by {version}"); // orders/12
    /// }
    /// # Ok(()) }
    /// ```
    pub fn tell_versions(mut self) -> Self {
        self.tell_versions = true;
        self
    }
}

impl IntoFuture for OpenPublisher {
    type Output = Result<Publisher, PublishError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { client, producer, tell_versions } = self;
            let named = |name: String| {
                name.parse().map_err(|error| PublishError::Invalid(format!("producer {name:?}: {error}")))
            };
            let shared = open(&client, producer.map(named).transpose()?, tell_versions).await?;
            Ok(Publisher::new(shared, client))
        })
    }
}

/// Resolves to what became of one message.
#[derive(Debug)]
pub struct Confirm {
    batch: Arc<Batch>,
    sequence: u64,
}

/// The message would survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It was stored now.
    Stored(Stored),
    /// The same sequence or message id was stored before; where, if the broker still knows.
    Duplicate(Option<Stored>),
}

impl Confirmed {
    /// Where it is stored, if the broker still knows.
    pub fn stored(self) -> Option<Stored> {
        match self {
            Self::Stored(stored) => Some(stored),
            Self::Duplicate(stored) => stored,
        }
    }
}

impl Confirm {
    /// The message's number in its publisher's run: 1, 2, 3…
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Which versions of which pipelines handled the message, in order, also when one of them rejected it. Empty until
    /// it is answered, for a duplicate, and unless its publisher [asks](OpenPublisher::tell_versions); those of a
    /// batch are of all its messages.
    pub fn versions(&self) -> Vec<PipelineVersion> {
        self.batch.versions(self.sequence)
    }
}

impl Future for Confirm {
    type Output = Result<Confirmed, PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.batch.poll(self.sequence, cx).map(|answer| match answer? {
            Receipt::Stored(stored) => Ok(Confirmed::Stored(stored)),
            Receipt::Duplicate(stored) => Ok(Confirmed::Duplicate(stored)),
            Receipt::Rejected(rejection) => Err(PublishError::Rejected(rejection)),
        })
    }
}

/// What the handles of a publisher hold; when the last is dropped, its task ends.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Held>);

#[derive(Debug)]
struct Held(Arc<Window>, Arc<Notify>);

impl std::ops::Deref for Held {
    type Target = Window;

    fn deref(&self) -> &Window {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.notify_one();
    }
}

impl Shared {
    pub(crate) async fn publish(&self, message: &Message) -> Result<Confirm, PublishError> {
        check(message)?;
        let (batch, sequence) = self.0.push(message).await?;
        Ok(Confirm { batch, sequence })
    }
}

/// What the encoding would take for a mistake of the program.
pub(crate) fn check(message: &Message) -> Result<(), PublishError> {
    let too_long = |what, bytes| {
        Err(PublishError::Invalid(format!(
            "a {what} takes at most {KEY_BYTES_MAX} bytes, this one takes {bytes}"
        )))
    };
    match message {
        Message { key: Some(key), .. } if key.len() > KEY_BYTES_MAX => too_long("key", key.len()),
        Message { message_id: Some(id), .. } if id.len() > KEY_BYTES_MAX => too_long("message id", id.len()),
        Message { priority, .. } if *priority > PRIORITY_MAX => {
            Err(PublishError::Invalid(format!("priority {priority} is over {PRIORITY_MAX}")))
        }
        _ => Ok(()),
    }
}

/// Opens a publisher and waits until the broker has taken it.
pub(crate) async fn open(
    client: &Client,
    producer: Option<Name>,
    tell_versions: bool,
) -> Result<Shared, PublishError> {
    let session = ProducerSession { producer: ProducerId(rand::random()), epoch: 1 };
    let opening = match producer {
        Some(_) => frame::OpenPublisher { producer, session: None, tell_versions },
        None => frame::OpenPublisher { producer, session: Some(session), tell_versions },
    };
    let (window, dropped) = (Arc::new(Window::new()), Arc::new(Notify::new()));
    let backoff = Backoff::new(client.pause_max());
    let role = Role {
        opening,
        window: Arc::clone(&window),
        dropped: Arc::clone(&dropped),
        link: client.link(),
        backoff,
    };
    client.spawn(role.run());
    let shared = Shared(Arc::new(Held(window, dropped)));
    shared.0.opened().await?;
    Ok(shared)
}

/// The publisher's task.
struct Role {
    /// How it is opened: by its name the first time, by its session from then on.
    opening: frame::OpenPublisher,
    window: Arc<Window>,
    dropped: Arc<Notify>,
    link: Link,
    backoff: Backoff,
}

impl Drop for Role {
    /// However it ends, nobody waits for ever.
    fn drop(&mut self) {
        self.window.close(PublishError::Closed);
    }
}

impl Role {
    async fn run(mut self) {
        let (window, stop, dropped) =
            (Arc::clone(&self.window), self.link.stop.clone(), Arc::clone(&self.dropped));
        let left = async {
            tokio::select! {
                () = stop.cancelled() => window.shut(),
                () = dropped.notified() => {}
            }
            // What is answered by an error is answered as well.
            let _ = window.flush().await;
        };
        tokio::select! {
            () = left => {}
            refusal = self.keep_publishing() => window.close(PublishError::Refused(refusal)),
        }
    }

    /// Publishes over one connection after the other, until the broker refuses for good.
    async fn keep_publishing(&mut self) -> Refusal {
        loop {
            let up = match self.link.up().await {
                Ok(up) => up,
                Err(refusal) => return refusal,
            };
            match self.publish(&up).await {
                Ended::Refused(refusal) if link::is_final(&refusal) => return refusal,
                ended => tracing::debug!(reason = %ended, "publisher's stream over, opening another"),
            }
            self.backoff.wait().await;
        }
    }

    /// Publishes over one stream, first what earlier ones left unconfirmed.
    async fn publish(&mut self, up: &Up) -> Ended {
        let open = Frame::OpenPublisher(self.opening.clone());
        let (send, reader, opened) = match up.open(&open).await {
            Ok((send, reader, Frame::Opened(opened))) => (send, reader, opened),
            Ok((.., other)) => return unexpected(&other),
            Err(ended) => return ended,
        };
        if self.opening.session.is_none() {
            let Some(session) = opened.session else {
                return Ended::Lost("the producer got no session".into());
            };
            let tell_versions = self.opening.tell_versions;
            self.opening = frame::OpenPublisher { session: Some(session), producer: None, tell_versions };
            self.window.begin_after(opened.last_sequence.unwrap_or(0));
        }
        self.backoff.reset();
        self.window.open(up.limits.frame_bytes_max as usize);
        tokio::select! {
            ended = write(send, &self.window) => ended,
            ended = read(reader, &self.window) => ended,
        }
    }
}

/// Writes frames as they come, as many at a time as wait.
async fn write(mut send: quinn::SendStream, window: &Window) -> Ended {
    loop {
        let Some(frames) = window.take() else {
            window.filled().await;
            continue;
        };
        if let Err(error) = send.write_chunk(frames).await {
            // The broker's reason, if it gave one, is on its way to the reader.
            tracing::debug!(%error, "writing");
            std::future::pending::<()>().await;
        }
    }
}

/// Reads confirms.
async fn read(mut reader: FrameReader, window: &Window) -> Ended {
    loop {
        match reader.next().await {
            Ok(Some(Frame::Confirm(runs))) => {
                if let Err(reason) = window.confirm(runs) {
                    return Ended::Lost(reason);
                }
            }
            Ok(Some(Frame::Error(refusal))) => return Ended::Refused(refusal),
            Ok(Some(other)) => return unexpected(&other),
            Ok(None) => return Ended::Lost("the broker ended the stream".into()),
            Err(error) => return error.into(),
        }
    }
}
