//! Dead letters: what was given up, why, and another try.

mod again;
mod bulk;
mod search;

use bytes::Bytes;
use wharf_protocol::{Headers, HeadersError, Message, MessageId, QueueName, Topic};
use wharf_queue::{DeadLetter, Edit, State};
use wharf_shard::ShardError;

use crate::view::DeadLetterView;
use crate::{Action, Node, NodeError, Principal};

pub(crate) use again::Order;
pub use again::{LETTERS_TOLD_MAX, LetterFate, LetterTold, Redriven};
pub use bulk::{Discarded, LETTERS_NAMED_MAX, Letters};
pub use search::LetterFilter;
pub(crate) use search::Matcher;

/// Dead letters looked through at a time, on the shard's thread.
const PAGE: usize = 256;
/// Turns of the shard that one search takes at most: what is left is for the next page.
const TURNS_MAX: usize = 64;
/// Bytes of messages that are read at once, unless one is larger.
const READ_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A message that was redriven so often stays where it lies, unless that is forced: it would die again.
pub const REDRIVEN_MAX: u32 = 3;

/// A page of dead letters that were looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// Those that were found.
    pub letters: Vec<DeadLetterView>,
    /// The queue and offset to go on from, when that was not all.
    pub next: Option<(QueueName, u64)>,
}

/// What is changed of a dead letter's message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterEdit {
    /// Another payload.
    pub payload: Option<Bytes>,
    /// Another topic. What died before any queue had it goes by it; the rest back to the queue where it died.
    pub topic: Option<Topic>,
    /// Headers to set.
    pub set: Vec<(String, Vec<u8>)>,
    /// Headers to remove, before others are set.
    pub remove: Vec<String>,
}

impl LetterEdit {
    fn headers(&self, of: &Headers) -> Result<Headers, HeadersError> {
        of.changed(&self.set, &self.remove)
    }
}

impl Node {
    /// At most `limit` dead letters with an offset of `from` or more: of one queue, or of every queue that
    /// has any.
    ///
    /// # Errors
    /// No such queue; not allowed.
    pub async fn dead_letters(
        &self,
        who: &Principal,
        queue: Option<&QueueName>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetterView>, NodeError> {
        let mut found: Vec<DeadLetterView> = Vec::new();
        for queue in self.queues_of_letters(who, queue).await? {
            let (wanted, max) = (queue.clone(), limit - found.len());
            let page =
                self.shard().query(move |state, _| state.dead_letters(wanted.as_str(), from, max)).await?;
            found.extend(page.into_iter().map(|letter| DeadLetterView::new(letter, &queue)));
        }
        Ok(found)
    }

    /// At most `limit` dead letters that pass `filter`, queue by queue, in each the oldest first: of one queue, or of
    /// every queue that has any. A page may have fewer, or none, and still not be the last.
    ///
    /// # Errors
    /// No such queue or plugin; not allowed.
    pub async fn find_dead_letters(
        &self,
        who: &Principal,
        queue: Option<&QueueName>,
        filter: LetterFilter,
        after: Option<(QueueName, u64)>,
        limit: usize,
    ) -> Result<LetterPage, NodeError> {
        let mut queues = self.queues_of_letters(who, queue).await?;
        queues.sort_unstable();
        let matcher = Matcher::new(filter, &self.shard().topology().clone())?;
        let mut page = LetterPage::default();
        let mut turns = TURNS_MAX;
        for queue in queues {
            let mut from = match &after {
                Some((first, _)) if queue < *first => continue,
                Some((first, offset)) if queue == *first => Some(*offset),
                _ => Some(0),
            };
            while let Some(offset) = from {
                if turns == 0 || page.letters.len() == limit {
                    page.next = Some((queue, offset));
                    return Ok(page);
                }
                turns -= 1;
                let room = limit - page.letters.len();
                let found = matcher.page(self.shard(), &queue, offset, room).await?;
                page.letters.extend(found.letters.into_iter().map(|each| DeadLetterView::new(each, &queue)));
                from = found.next;
            }
        }
        Ok(page)
    }

    /// The dead letter with this id, and its message.
    ///
    /// # Errors
    /// No such dead letter; it cannot be read; not allowed.
    pub async fn dead_letter(
        &self,
        who: &Principal,
        id: MessageId,
    ) -> Result<(DeadLetterView, Message), NodeError> {
        let letter = self.find_dead_letter(who, id).await?;
        let message = self.shard().read(vec![id]).await?.pop();
        message
            .map(|message| (letter, message))
            .ok_or_else(|| NodeError::NotFound { kind: "dead letter", name: id.to_string() })
    }

    /// Puts an edited message in the place of a dead letter, in one record: with its death and its history, under a
    /// new id. Done once: the old letter is not there any more.
    ///
    /// # Errors
    /// No such dead letter; a consumer holds it; the message is too large; not allowed.
    pub async fn edit_dead_letter(
        &self,
        who: &Principal,
        id: MessageId,
        edit: &LetterEdit,
    ) -> Result<DeadLetterView, NodeError> {
        let (letter, mut message) = self.dead_letter(who, id).await?;
        message.headers =
            edit.headers(&message.headers).map_err(|error| NodeError::TooLarge(error.to_string()))?;
        if let Some(payload) = &edit.payload {
            message.payload = payload.clone();
        }
        if let Some(topic) = &edit.topic {
            message.topic = topic.clone();
        }
        let (bytes, max) = (message.encoded_bytes(), self.config().message_bytes_max);
        if bytes > max {
            let text = format!("the edited message has {bytes} bytes, over the limit of {max}");
            return Err(NodeError::TooLarge(text));
        }
        let edit = Edit { queue: letter.queue.clone(), offset: letter.offset, id, message };
        let edited = self.shard().edit(edit).await?.edited;
        let missing = || NodeError::NotFound { kind: "dead letter", name: id.to_string() };
        self.find_dead_letter(who, edited.ok_or_else(missing)?).await
    }

    /// The queue that is asked for, or every queue that has dead letters.
    async fn queues_of_letters(
        &self,
        who: &Principal,
        queue: Option<&QueueName>,
    ) -> Result<Vec<QueueName>, NodeError> {
        who.check(Action::Administer)?;
        match queue {
            Some(queue) if self.shard().topology().queue(queue.as_str()).is_none() => {
                Err(NodeError::NotFound { kind: "queue", name: queue.to_string() })
            }
            Some(queue) => Ok(vec![queue.clone()]),
            None => Ok(self.shard().query(|state, _| queues_with_dead_letters(state)).await?),
        }
    }

    async fn find_dead_letter(&self, who: &Principal, id: MessageId) -> Result<DeadLetterView, NodeError> {
        who.check(Action::Administer)?;
        let missing = || NodeError::NotFound { kind: "dead letter", name: id.to_string() };
        let (queue, found) = self.letters_named(vec![id]).await?.pop_first().ok_or_else(missing)?;
        let letter = found.into_iter().next().ok_or_else(missing)?;
        Ok(DeadLetterView::new(letter, &queue))
    }

    /// The messages of letters, in their order; `None` for one that was settled meanwhile, and is gone from the log.
    async fn read_letters(&self, ids: Vec<MessageId>) -> Result<Vec<Option<Message>>, ShardError> {
        if let Ok(messages) = self.shard().read(ids.clone()).await {
            return Ok(messages.into_iter().map(Some).collect());
        }
        let mut read = Vec::with_capacity(ids.len());
        for id in ids {
            match self.shard().read(vec![id]).await {
                Ok(mut message) => read.push(message.pop()),
                Err(error @ ShardError::Stopped(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!(%id, %error, "a dead letter went while it was read");
                    read.push(None);
                }
            }
        }
        Ok(read)
    }
}

/// How many of `letters`, from the first on, are read at once: bytes of bodies, unless one has more.
fn letters_read_at_once<'a>(letters: impl Iterator<Item = &'a DeadLetter>) -> usize {
    let mut bytes = 0;
    let fits = letters.take_while(|letter| {
        bytes += u64::from(letter.bytes);
        bytes <= READ_BYTES_MAX
    });
    fits.count().max(1)
}

impl DeadLetterView {
    fn new(letter: DeadLetter, queue: &QueueName) -> Self {
        let DeadLetter { offset, id, bytes, death, past } = letter;
        Self {
            id,
            queue: queue.clone(),
            offset,
            bytes,
            death,
            redriven: past.redriven,
            edited: past.edited,
            past: past.deaths,
        }
    }
}

fn queues_with_dead_letters(state: &State) -> Vec<QueueName> {
    state.queues().filter(|queue| queue.dead > 0).map(|queue| queue.name).collect()
}
