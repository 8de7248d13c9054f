//! The handle of a client, and the thread behind it.

use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{self, Handle};
use tokio::sync::{OnceCell, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wharf_protocol::frame::Durable;
use wharf_protocol::{ErrorCode, Message, REQUIRE_LISTENER, Topic, TopicError};

use crate::consumer::{self, ConsumeOptions, Consumer};
use crate::link::{Keeper, Link};
use crate::publisher::{self, Confirm, OpenPublisher};
use crate::request::Inbox;
use crate::tap::OpenTap;
use crate::transaction::{self, Transaction};
use crate::{CommitError, ConnectError, ConnectOptions, ConsumeError, Context, PublishError, RequestError};

/// A connection to a broker that is taken up again when it is lost. Cheap to clone.
///
/// It lives until the last clone and the last of its publishers, consumers and taps is gone, and then waits a
/// moment for what they have sent; [`close`](Self::close) waits for that.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    /// The client's thread, which drives every socket and role.
    runtime: Handle,
    roles: TaskTracker,
    stop: CancellationToken,
    finished: CancellationToken,
    pause_max: Duration,
    /// For [`Client::publish`], requests and replies.
    publisher: OnceCell<publisher::Shared>,
    inbox: OnceCell<Inbox>,
    transactor: OnceCell<transaction::Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection. Later losses are not errors: the connection is taken up again.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let (stop, finished) = (CancellationToken::new(), CancellationToken::new());
        let roles = TaskTracker::new();
        let pause_max = options.pause_max;
        let (keeper, link) = Keeper::new(options, stop.clone(), roles.clone())?;
        let (connected, first) = oneshot::channel();
        let runtime = start_thread(keeper, connected, finished.clone())?;
        let guard = stop.clone().drop_guard();
        let gone = || ConnectError::Start(Arc::new(std::io::Error::other("the client's thread ended")));
        first.await.map_err(|_| gone())??;
        guard.disarm();
        let (publisher, inbox, transactor) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let inner = Inner { link, runtime, roles, stop, finished, pause_max, publisher, inbox, transactor };
        Ok(Self(Arc::new(inner)))
    }

    /// Connects to the broker that the [context file](Context) names.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn from_context() -> Result<Self, ConnectError> {
        let context = Context::load().map_err(|error| ConnectError::Context(Arc::new(error)))?;
        Self::connect(context.connect_options()).await
    }

    /// A publisher with a stream and a run of sequence numbers of its own: await it, or give it a
    /// [name](OpenPublisher::producer) first.
    ///
    /// ```no_run
    /// # async fn example(client: wharf_client::Client) -> Result<(), wharf_client::PublishError> {
    /// let publisher = client.publisher().await?;
    /// let importer = client.publisher().producer("importer-7").await?;
    /// println!("going on after {}", importer.last_sequence());
    /// # Ok(()) }
    /// ```
    pub fn publisher(&self) -> OpenPublisher {
        OpenPublisher::new(self.clone())
    }

    /// An empty transaction.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// Publishes by the publisher that all of the client share; see [`publish`](crate::Publisher::publish).
    ///
    /// # Errors
    /// Why it was not sent.
    pub async fn publish(&self, message: Message) -> Result<Confirm, PublishError> {
        let shared = self.0.publisher.get_or_try_init(|| publisher::open(self, None, false)).await?;
        shared.publish(&message).await
    }

    /// Consumes `queue`, competing with its other consumers.
    ///
    /// # Errors
    /// When the broker refuses it, for want of the queue or the permission.
    pub async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<Consumer, ConsumeError> {
        consumer::open_queue(self, queue.parse()?, options, None).await
    }

    /// Consumes what is published to `pattern`, also while this client is away: the queue `name` is bound to it, and
    /// made when there is none. Everybody who asks for the same name shares its messages.
    ///
    /// A queue that is made goes when it had no consumer for `expires`; `None` keeps it until it is deleted.
    ///
    /// # Errors
    /// When the broker refuses it: keeping subscriptions is a right of its own.
    pub async fn durable(
        &self,
        name: &str,
        pattern: &str,
        expires: Option<Duration>,
        options: ConsumeOptions,
    ) -> Result<Consumer, ConsumeError> {
        let expires_ms = expires.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let durable = Durable { pattern: pattern.parse()?, expires_ms };
        consumer::open_queue(self, name.parse()?, options, Some(durable)).await
    }

    /// Watches what is published to the topics of `pattern`: at most once, and what is published while the
    /// connection is down is missed. Await it, or ask for [datagrams](OpenTap::datagrams) first.
    ///
    /// ```no_run
    /// # async fn example(client: wharf_client::Client) -> Result<(), wharf_client::ConsumeError> {
    /// let mut orders = client.tap("orders.#").await?;
    /// let mut prices = client.tap("prices.*").datagrams().await?;
    /// # Ok(()) }
    /// ```
    pub fn tap(&self, pattern: &str) -> OpenTap {
        OpenTap::new(self.clone(), pattern)
    }

    /// Publishes `payload` to `topic` and waits for the first answer.
    ///
    /// The answer comes to a topic `_inbox.…` of this client, which it must be allowed to consume. A request that
    /// nobody has taken within `patience` expires.
    ///
    /// # Errors
    /// At once when nobody listens ([`RequestError::NoListener`]): nothing is bound to the topic, or no bound queue
    /// has a consumer, and there is no live subscription either. Later when nobody answered within `patience`.
    pub async fn request(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Message, RequestError> {
        let topic: Topic =
            topic.parse().map_err(|error: TopicError| RequestError::Topic(error.to_string()))?;
        let inbox = self.0.inbox.get_or_try_init(|| Inbox::open(self)).await?;
        let (reply_to, answer) = inbox.expect_one();
        let mut message = Message::new(topic, payload);
        message.reply_to = Some(reply_to);
        message.ttl = Some(patience);
        message.headers = message.headers.edit().set(REQUIRE_LISTENER, "").build().expect("one small header");
        let exchange = async {
            self.publish(message).await?.await?;
            Ok(answer.receive().await)
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(PublishError::Closed.into()),
            Ok(Err(PublishError::Rejected(rejection))) if rejection.code == ErrorCode::NoListener => {
                Err(RequestError::NoListener(rejection.reason))
            }
            Ok(Err(error)) => Err(RequestError::Publish(error)),
            Err(_) => Err(RequestError::Timeout(patience)),
        }
    }

    /// Answers `request`: publishes `payload` to its reply-to.
    ///
    /// # Errors
    /// When it has none, or the answer was not sent.
    pub async fn reply(&self, request: &Message, payload: impl Into<Bytes>) -> Result<Confirm, PublishError> {
        let topic = request.reply_to.clone();
        let topic = topic.ok_or_else(|| PublishError::Invalid("the message asks for no reply".into()))?;
        self.publish(Message::new(topic, payload)).await
    }

    /// Ends the client: no more is taken, what was sent is answered or given up after 2 seconds, and the
    /// connection is closed in good order.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.finished.cancelled().await;
    }

    pub(crate) fn link(&self) -> Link {
        self.0.link.clone()
    }

    pub(crate) async fn transactor(&self) -> Result<&transaction::Shared, CommitError> {
        self.0.transactor.get_or_try_init(|| transaction::open(self)).await
    }

    pub(crate) fn pause_max(&self) -> Duration {
        self.0.pause_max
    }

    /// Runs a role on the client's thread. `role` holds no client: it would never end.
    pub(crate) fn spawn(&self, role: impl Future<Output = ()> + Send + 'static) {
        self.0.roles.spawn_on(role, &self.0.runtime);
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }
}

/// A client that does not keep itself alive.
#[derive(Clone, Debug)]
pub(crate) struct WeakClient(std::sync::Weak<Inner>);

impl WeakClient {
    pub(crate) fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(Client)
    }
}

/// Starts the thread that drives the client, and hands back the runtime on it.
fn start_thread(
    keeper: Keeper,
    connected: oneshot::Sender<Result<(), ConnectError>>,
    finished: CancellationToken,
) -> Result<Handle, ConnectError> {
    let failed = |error| ConnectError::Start(Arc::new(error));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let run = move || {
        // One thread for all the sockets: handing packets between threads costs a fifth of the rate.
        let _finished = finished.drop_guard();
        let runtime = runtime;
        runtime.block_on(keeper.run(connected));
    };
    thread::Builder::new().name("wharf-client".into()).spawn(run).map_err(failed)?;
    Ok(handle)
}
