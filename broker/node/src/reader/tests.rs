//! What wakes a reader that waits.

use std::task::{Context, Waker};
use std::time::Duration;

use wharf_protocol::Message;

use super::*;
use crate::{Binding, Config, Publication, StreamPolicy};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Wakes that reading ahead may have left behind, at most.
const LEFT_BEHIND_MAX: usize = 4;

/// A replay that has delivered the first of two messages, and may deliver the other.
async fn paced(node: &Node) -> Reader {
    let (me, events): (Principal, Name) = (Principal::system(), "events".parse().expect("a name"));
    node.create_stream(&me, events.clone(), StreamPolicy::default()).await.expect("created");
    let pattern = "events".parse().expect("a pattern");
    node.bind(&me, Binding { pattern, queue: events.clone(), pipeline: None }).await.expect("bound");
    let message = || Publication::from(Message::new("events".parse().expect("a topic"), "x"));
    node.publish(&me, vec![message(), message()]).await.await;

    let options = ReadOptions { credit: 1, original_pace: true, ..ReadOptions::default() };
    let mut reader = node.read_stream(&me, &events, options).await.expect("a reader");
    let mut deliveries = Vec::new();
    assert_eq!(reader.next(&mut deliveries).await.expect("open"), Event::Deliveries);
    assert_eq!(deliveries.len(), 1, "as much as it has credit for");
    reader.controls.desk.lock().credit = 1;
    reader
}

/// A message that came due between the look for it and the wait was left out of the wait, and with nothing else to wake
/// it the reader slept for good.
#[tokio::test]
async fn what_came_due_before_a_paced_reader_waits_wakes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(Config::new(folder.path())).await.expect("it starts");
    let mut reader = paced(&node).await;
    let at = reader.parts[0].next_stored_at().expect("the other message was read ahead");

    // It is due at this moment: never after the one at which the wait looks at the clock.
    let mut pace = Pace::default();
    pace.due(at, Instant::now());
    reader.pace = Some(pace);
    for _ in 0..=LEFT_BEHIND_MAX {
        tokio::time::timeout(PATIENCE, reader.wait()).await.expect("it is woken");
    }

    // Without credit it is not woken again and again for what it may not deliver.
    reader.controls.desk.lock().credit = 0;
    let mut rests = (0..=LEFT_BEHIND_MAX).map(|_| {
        let waiting = std::pin::pin!(reader.wait());
        waiting.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    });
    assert!(rests.any(|rests| rests));
}
