//! Dead letters: what was given up, why, and another try.

use wharf_protocol::{Message, MessageId, QueueName};
use wharf_queue::{Redrive, Selection, State};

use crate::view::DeadLetterView;
use crate::{Action, Node, NodeError, Principal};

/// Dead letters looked through at a time, on the shard's thread.
const PAGE: usize = 256;

/// How many dead letters were sent on their way again, and how many of those selected stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// On their way again, with a fresh count of attempts.
    pub moved: u64,
    /// Still there: held by a consumer, or their queue is gone.
    pub kept: u64,
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
        who.check(Action::Administer)?;
        let queues = match queue {
            Some(queue) if self.shard().topology().queue(queue.as_str()).is_none() => {
                return Err(NodeError::NotFound { kind: "queue", name: queue.to_string() });
            }
            Some(queue) => vec![queue.clone()],
            None => self.shard().query(|state, _| queues_with_dead_letters(state)).await?,
        };
        let mut found: Vec<DeadLetterView> = Vec::new();
        for queue in queues {
            let (wanted, max) = (queue.clone(), limit - found.len());
            let page =
                self.shard().query(move |state, _| state.dead_letters(wanted.as_str(), from, max)).await?;
            found.extend(page.into_iter().map(|letter| DeadLetterView {
                id: letter.id,
                queue: queue.clone(),
                offset: letter.offset,
                death: letter.death,
            }));
        }
        Ok(found)
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

    /// Sends dead letters on their way again, these or all: back to the queue where each died, or to `to`.
    ///
    /// # Errors
    /// No such dead letter or queue; not allowed.
    pub async fn redrive(
        &self,
        who: &Principal,
        ids: Option<Vec<MessageId>>,
        to: Option<&QueueName>,
    ) -> Result<Redriven, NodeError> {
        who.check(Action::Administer)?;
        if let Some(to) = to
            && self.shard().topology().queue(to.as_str()).is_none()
        {
            return Err(NodeError::NotFound { kind: "queue", name: to.to_string() });
        }
        let mut redriven = Redriven::default();
        for queue in self.shard().query(|state, _| queues_with_dead_letters(state)).await? {
            let select = match &ids {
                None => Selection::Oldest(u32::MAX),
                Some(ids) => {
                    let mut here = Vec::new();
                    for id in ids {
                        if self.find_dead_letter(who, *id).await?.queue == queue {
                            here.push(*id);
                        }
                    }
                    Selection::Ids(here)
                }
            };
            let changed =
                self.shard().redrive(Redrive { queue, select, to: to.cloned(), redriven_max: None }).await?;
            redriven.moved += changed.messages;
            redriven.kept += changed.kept;
        }
        Ok(redriven)
    }

    async fn find_dead_letter(&self, who: &Principal, id: MessageId) -> Result<DeadLetterView, NodeError> {
        who.check(Action::Administer)?;
        for queue in self.shard().query(|state, _| queues_with_dead_letters(state)).await? {
            let mut from = 0;
            loop {
                let page = self.dead_letters(who, Some(&queue), from, PAGE).await?;
                let Some(last) = page.last() else { break };
                from = last.offset + 1;
                if let Some(found) = page.into_iter().find(|letter| letter.id == id) {
                    return Ok(found);
                }
            }
        }
        Err(NodeError::NotFound { kind: "dead letter", name: id.to_string() })
    }
}

fn queues_with_dead_letters(state: &State) -> Vec<QueueName> {
    state.queues().filter(|queue| queue.dead > 0).map(|queue| queue.name).collect()
}
