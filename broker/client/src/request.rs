//! The inbox of a client: one tap on `_inbox.<random>.*`, a word for each request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wharf_protocol::{Message, Topic};

use crate::tap::{self, Tap};
use crate::{Client, ConsumeError};

/// Where the answers to this client's requests come.
#[derive(Debug)]
pub(crate) struct Inbox {
    prefix: String,
    next: AtomicU64,
    expected: Arc<Expected>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Expected(Mutex<HashMap<Topic, oneshot::Sender<Message>>>);

/// An answer that is expected. Dropped, it is no more.
pub(crate) struct Answer {
    topic: Topic,
    message: oneshot::Receiver<Message>,
    expected: Arc<Expected>,
}

impl Inbox {
    pub(crate) async fn open(client: &Client) -> Result<Self, ConsumeError> {
        let prefix = format!("_inbox.{:032x}", rand::random::<u128>());
        let tap = tap::open_unowned(client, format!("{prefix}.*").parse()?, false).await?;
        let expected = Arc::new(Expected::default());
        client.spawn(sort(tap, Arc::clone(&expected)));
        Ok(Self { prefix, next: AtomicU64::new(1), expected })
    }

    /// A topic for one answer, and the answer.
    pub(crate) fn expect_one(&self) -> (Topic, Answer) {
        let word = self.next.fetch_add(1, Ordering::Relaxed);
        let topic: Topic = format!("{}.{word}", self.prefix).parse().expect("words and digits");
        let (sender, message) = oneshot::channel();
        self.expected.lock().insert(topic.clone(), sender);
        (topic.clone(), Answer { topic, message, expected: Arc::clone(&self.expected) })
    }
}

impl Answer {
    /// The answer; `None` when the client is closed.
    pub(crate) async fn receive(mut self) -> Option<Message> {
        (&mut self.message).await.ok()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.expected.lock().remove(&self.topic);
    }
}

impl Expected {
    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, oneshot::Sender<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each answer to who waits for it. A second one, or one that came too late, is dropped.
async fn sort(mut tap: Tap, expected: Arc<Expected>) {
    while let Some(message) = tap.next().await {
        let waiting = expected.lock().remove(&message.topic);
        if let Some(waiting) = waiting {
            let _ = waiting.send(message);
        }
    }
    expected.lock().clear();
}
