//! One consumer of one queue: deliveries out, credit and settlements back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;
use wharf_protocol::{Delivery, QueueName, Settlement};
use wharf_queue::{Attach, ConsumerId, Durability, Refused};
use wharf_shard::{Closed, Outgoing, Outlet, Shard, ShardError, Taken};

use crate::watcher::Watcher;
use crate::way_out::{Settler, WayOut};
use crate::{Action, Node, NodeError, Principal};

/// Deliveries handed over together.
const DELIVERIES_MAX: usize = 512;
/// The most credit that a consumer can have in one grant.
const CREDIT_MAX: u32 = 65_536;

/// How a queue is consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// At most once: a message is settled before it is delivered.
    pub auto_settle: bool,
    /// Tell when nothing is ready, with [`Event::Empty`].
    pub notify_empty: bool,
    /// How many messages may come before the first credit, at most 65,536.
    pub credit: u32,
    /// How many bytes of encoded messages may come before the first credit of bytes; 0: no bound. The next message
    /// comes while any are left, so that one may go over.
    pub credit_bytes: u64,
}

/// What [`Subscription::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Deliveries were appended.
    Deliveries,
    /// There is credit and nothing to deliver; it comes after all deliveries before it.
    Empty,
}

/// One consumer. Dropping it detaches it: what it holds goes back to the queue, marked redelivered.
#[derive(Debug)]
pub struct Subscription {
    outlet: Arc<Outlet>,
    controls: Controls,
    queue: QueueName,
    auto_settle: bool,
    lease: Duration,
    taken: Vec<Outgoing>,
    way_out: WayOut,
    _detach: Detach,
}

/// Credit and settlements of one subscription, from any task.
#[derive(Clone)]
pub struct Controls {
    shard: Shard,
    pub(crate) consumer: ConsumerId,
    pub(crate) durability: Durability,
    /// Tells what becomes of deliveries of traced messages.
    pub(crate) watcher: Watcher,
}

/// Resolves when settlements are durable, or leases renewed, to the tags that were stale: their lease had ended.
#[derive(Debug)]
pub struct Settled(oneshot::Receiver<Result<Vec<u64>, ShardError>>);

struct Detach {
    shard: Shard,
    consumer: ConsumerId,
}

impl Node {
    /// Becomes a consumer of `queue`.
    ///
    /// # Errors
    /// No such queue; not allowed; the node is stopping.
    pub async fn subscribe(
        &self,
        who: &Principal,
        queue: &QueueName,
        options: SubscribeOptions,
    ) -> Result<Subscription, NodeError> {
        who.check(Action::Consume(queue.as_str()))?;
        let shard = self.shard();
        let (durability, lease) = match shard.topology().queue(queue.as_str()) {
            Some(queue) => (queue.policy.durability, Duration::from_millis(queue.policy.lease_ms)),
            None => return Err(NodeError::NotFound { kind: "queue", name: queue.to_string() }),
        };
        let outlet = Arc::new(Outlet::default());
        let attach = Attach {
            consumer: ConsumerId::default(),
            queue: queue.clone(),
            credit: options.credit.min(CREDIT_MAX),
            auto_settle: options.auto_settle,
            notify_empty: options.notify_empty,
            credit_bytes: options.credit_bytes,
        };
        let consumer = shard.attach(attach, Arc::clone(&outlet)).await?;
        Ok(Subscription {
            outlet,
            controls: Controls {
                shard: shard.clone(),
                consumer,
                durability,
                watcher: Watcher::new(self.tracing(), queue.clone()),
            },
            queue: queue.clone(),
            auto_settle: options.auto_settle,
            lease,
            taken: Vec::new(),
            way_out: WayOut::new(self, queue.clone()),
            _detach: Detach { shard: shard.clone(), consumer },
        })
    }
}

impl Subscription {
    /// Waits for at least one delivery and appends what waits, at most 512, to `out`. Where pipelines sit on the way
    /// out, those that they filter or refuse are settled here, and their tags are left out.
    ///
    /// # Errors
    /// The queue was deleted; the node is stopping; a stored message cannot be read.
    ///
    /// # Cancel safety
    /// What is not appended stays, in order.
    pub async fn next(&mut self, out: &mut Vec<Delivery>) -> Result<Event, NodeError> {
        let before = out.len();
        while out.len() == before {
            if self.way_out.is_busy() {
                self.way_out.finish(out).await?;
                continue;
            }
            if self.taken.is_empty() {
                match self.outlet.take(DELIVERIES_MAX, &mut self.taken).await {
                    Ok(Taken::Some) => {}
                    Ok(Taken::Empty) => return Ok(Event::Empty),
                    Err(why) => return Err(self.closed(why)),
                }
            }
            self.read_missing_bodies().await?;
            let taken = self.taken.drain(..).filter_map(delivery);
            match self.way_out.is_clear() {
                true => out.extend(taken),
                false => {
                    let settler = Settler::Queue { controls: self.controls.clone(), held: !self.auto_settle };
                    self.way_out.begin(taken.collect(), settler);
                }
            }
        }
        self.controls.watcher.delivered(&out[before..], !self.auto_settle, self.auto_settle);
        Ok(Event::Deliveries)
    }

    /// How long its deliveries are leased, by the queue's policy when it began.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Its credit and settlements, for another task.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    async fn read_missing_bodies(&mut self) -> Result<(), NodeError> {
        let missing: Vec<_> =
            self.taken.iter().filter(|each| each.body.is_none()).map(|each| each.id).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut bodies = self.controls.shard.read(missing).await?.into_iter();
        for each in self.taken.iter_mut().filter(|each| each.body.is_none()) {
            each.body = bodies.next();
        }
        Ok(())
    }

    fn closed(&self, why: Closed) -> NodeError {
        match why {
            Closed::QueueDeleted => NodeError::NotFound { kind: "queue", name: self.queue.to_string() },
            Closed::Stopping => self.controls.shard.gone().into(),
        }
    }
}

fn delivery(outgoing: Outgoing) -> Option<Delivery> {
    Some(Delivery {
        tag: outgoing.tag,
        id: outgoing.id,
        offset: outgoing.offset,
        attempt: outgoing.attempt,
        redelivered: outgoing.redelivered,
        stored_at: outgoing.stored_at,
        partition: 0,
        death: outgoing.death,
        message: outgoing.body?,
    })
}

impl Controls {
    /// Gives up deliveries that a stage refused: they are dead letters.
    pub(crate) async fn refuse(&self, refused: Vec<Refused>) -> Result<(), NodeError> {
        // Whether they were still held is nobody's to know: one that was not comes again.
        drop(self.shard.refuse(self.consumer, refused, self.durability).await?);
        Ok(())
    }

    /// A transaction settled these.
    pub(crate) fn settled_with_others(&self, settlement: &Settlement) {
        let settling = self.watcher.settling(std::slice::from_ref(settlement));
        if !settling.is_empty() {
            let (watcher, shard) = (self.watcher.clone(), self.shard.clone());
            tokio::spawn(async move { watcher.tell_settled(settling, &[], &shard).await });
        }
    }

    /// Allows `add` more messages to come, and `bytes` more bytes of them.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn credit(&self, add: u32, bytes: u64) -> Result<(), NodeError> {
        Ok(self.shard.credit(self.consumer, add.min(CREDIT_MAX), bytes).await?)
    }

    /// Lets the leases of deliveries, as first and last tags, begin anew: they are still being worked on. What
    /// comes back resolves to the tags that were stale.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn renew(&self, tags: Vec<(u64, u64)>) -> Result<Settled, NodeError> {
        Ok(Settled(self.shard.renew(self.consumer, tags).await?))
    }

    /// Hands settlements on, in order. They are durable when what comes back resolves.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Settled, NodeError> {
        let settling = self.watcher.settling(&settlements);
        let answer = self.shard.settle(self.consumer, settlements, self.durability).await?;
        Ok(Settled(match settling.is_empty() {
            true => answer,
            false => self.watcher.settled(settling, &self.shard, answer),
        }))
    }
}

impl Future for Settled {
    type Output = Result<Vec<u64>, NodeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(context));
        let doubt = |_| Err(ShardError::Stopped("the settlement is in doubt".into()));
        Poll::Ready(answer.unwrap_or_else(doubt).map_err(NodeError::from))
    }
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.shard.detach(self.consumer);
    }
}

impl std::fmt::Debug for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controls").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Detach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "consumer {}", self.consumer)
    }
}
