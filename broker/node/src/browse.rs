//! Messages of a queue, looked at without being taken.

use wharf_protocol::{Death, Message, MessageId, QueueName, Timestamp};
use wharf_queue::{Browsed, Place, State};

use crate::{Action, Node, NodeError, Principal};

/// Bytes of messages that one page shows: those past it come without.
const PAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// One message where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowsedView {
    /// Its place in its queue.
    pub offset: u64,
    /// Its id.
    pub id: MessageId,
    /// When it was first stored.
    pub stored_at: Timestamp,
    /// What it takes, encoded.
    pub bytes: u32,
    /// What it waits for.
    pub place: MessagePlace,
    /// Deliveries that ended without settling it.
    pub attempts: u32,
    /// Those of them, in this queue, that were nacked or lapsed.
    pub failures: u32,
    /// 0 to 31.
    pub priority: u8,
    /// When its time to live runs out.
    pub expires_at: Option<Timestamp>,
    /// Why it is dead, when it is.
    pub death: Option<Death>,
    /// The message, where it was asked for and there was room on the page.
    pub message: Option<Message>,
}

/// Where in its life a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagePlace {
    /// It waits for a consumer.
    Ready,
    /// A consumer holds it.
    Leased,
    /// It waits for its time.
    Delayed {
        /// Until then.
        until: Timestamp,
    },
}

impl Node {
    /// At most `limit` messages of a queue whose offset is at least `from`, in the order of coming, whatever
    /// becomes of them; with their bodies if `bodies` are asked for. Nothing is taken.
    ///
    /// # Errors
    /// No such queue; a stored message cannot be read; not allowed.
    pub async fn browse(
        &self,
        who: &Principal,
        queue: &QueueName,
        from: u64,
        limit: usize,
        bodies: bool,
    ) -> Result<Vec<BrowsedView>, NodeError> {
        self.look(who, queue, bodies, move |state, queue| state.browse(queue, from, limit)).await
    }

    /// The next `limit` messages that consumers of a queue would get, in that order, with their bodies. Nothing is
    /// taken.
    ///
    /// # Errors
    /// As [`browse`](Self::browse).
    pub async fn peek(
        &self,
        who: &Principal,
        queue: &QueueName,
        limit: usize,
    ) -> Result<Vec<BrowsedView>, NodeError> {
        let next = move |state: &State, queue: &str| {
            let waiting = state.peek(queue, limit).into_iter();
            waiting.filter_map(|each| state.browse(queue, each.offset, 1).pop()).collect()
        };
        self.look(who, queue, true, next).await
    }

    async fn look(
        &self,
        who: &Principal,
        queue: &QueueName,
        bodies: bool,
        ask: impl FnOnce(&State, &str) -> Vec<Browsed> + Send + 'static,
    ) -> Result<Vec<BrowsedView>, NodeError> {
        who.check(Action::Administer)?;
        if self.shard().topology().queue(queue.as_str()).is_none() {
            return Err(NodeError::NotFound { kind: "queue", name: queue.to_string() });
        }
        let name = queue.clone();
        let found = self.shard().query(move |state, _| ask(state, name.as_str())).await?;
        let mut views: Vec<BrowsedView> = found.into_iter().map(BrowsedView::from).collect();
        if bodies {
            let mut room = PAGE_BYTES_MAX;
            let fits = |view: &&mut BrowsedView| {
                let left = room.checked_sub(u64::from(view.bytes));
                room = left.unwrap_or(0);
                left.is_some()
            };
            let shown: Vec<&mut BrowsedView> = views.iter_mut().take_while(fits).collect();
            let ids: Vec<MessageId> = shown.iter().map(|view| view.id).collect();
            if !ids.is_empty() {
                let messages = self.shard().read(ids).await?;
                for (view, message) in shown.into_iter().zip(messages) {
                    view.message = Some(message);
                }
            }
        }
        Ok(views)
    }
}

impl From<Browsed> for BrowsedView {
    fn from(browsed: Browsed) -> Self {
        Self {
            offset: browsed.offset,
            id: browsed.id,
            stored_at: browsed.stored_at,
            bytes: browsed.bytes,
            place: match browsed.place {
                Place::Ready => MessagePlace::Ready,
                Place::Leased => MessagePlace::Leased,
                Place::Delayed { until } => MessagePlace::Delayed { until },
            },
            attempts: browsed.attempts,
            failures: browsed.failures,
            priority: browsed.priority,
            expires_at: browsed.expires,
            death: browsed.death,
            message: None,
        }
    }
}
