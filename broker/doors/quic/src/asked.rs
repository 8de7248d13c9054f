//! What a client asks of its deliveries, a `Settle` or a `Renew`, and the answers in the order of what was asked.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use wharf_node::NodeError;
use wharf_protocol::ErrorCode;
use wharf_protocol::frame::{self, Frame};

use crate::ended::Ended;

/// Frames that were handed to the node and are not answered.
pub(crate) const ASKED_MAX: usize = 64;

/// A `Settle` or `Renew` frame whose answer is awaited.
pub(crate) struct Asked<A> {
    pub(crate) number: u64,
    pub(crate) renewal: bool,
    pub(crate) answer: A,
}

/// The answers, in their order.
pub(crate) struct Answers<A> {
    asked: mpsc::Receiver<Asked<A>>,
    next: Option<Asked<A>>,
}

/// Where to lay what is asked, and where its answers come out.
pub(crate) fn channel<A>() -> (mpsc::Sender<Asked<A>>, Answers<A>) {
    let (sender, asked) = mpsc::channel(ASKED_MAX);
    (sender, Answers { asked, next: None })
}

impl<A: Future<Output = Result<Vec<u64>, NodeError>> + Unpin> Answers<A> {
    /// The next answer, as its frame; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// No answer is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame, NodeError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, NodeError>>> {
        if self.next.is_none() {
            self.next = ready!(self.asked.poll_recv(cx));
        }
        let Some(Asked { number, renewal, answer }) = &mut self.next else { return Poll::Ready(None) };
        let (number, renewal) = (*number, *renewal);
        let stale = ready!(Pin::new(answer).poll(cx));
        self.next = None;
        Poll::Ready(Some(stale.map(|stale| {
            let answer = frame::Settled { number, stale };
            if renewal { Frame::Renewed(answer) } else { Frame::Settled(answer) }
        })))
    }
}

/// Refuses ranges of tags that were never given: the last one given is `last_tag`.
pub(crate) fn check_tags(tags: impl IntoIterator<Item = (u64, u64)>, last_tag: u64) -> Result<(), Ended> {
    match tags.into_iter().find(|(first, last)| *first == 0 || *last > last_tag) {
        None => Ok(()),
        Some((first, last)) => {
            let reason = format!("tags {first} to {last} were not delivered, only 1 to {last_tag}");
            Err(Ended::refused(ErrorCode::Malformed, reason))
        }
    }
}
