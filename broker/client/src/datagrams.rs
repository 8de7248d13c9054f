//! The datagrams of a connection, each given to its tap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Connection;
use tokio::sync::mpsc;
use wharf_protocol::frame::TapDatagram;

use crate::link::Ended;

/// Datagrams that wait for one tap's task. One more is dropped, and its tap counts what is missing.
const WAITING_MAX: usize = 256;

/// Which taps of one connection take datagrams. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Datagrams(Arc<Mutex<Taps>>);

#[derive(Debug, Default)]
struct Taps {
    last: u32,
    open: HashMap<u32, mpsc::Sender<TapDatagram>>,
}

/// The datagrams of one tap. Dropped, it takes no more.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) tap: u32,
    pub(crate) waiting: mpsc::Receiver<TapDatagram>,
    taps: Datagrams,
}

impl Datagrams {
    /// A tap with a number that no other has.
    pub(crate) fn register(&self) -> Inbound {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let mut taps = self.lock();
        taps.last = taps.last.wrapping_add(1);
        let tap = taps.last;
        taps.open.insert(tap, sender);
        Inbound { tap, waiting, taps: self.clone() }
    }

    /// Gives each datagram of `connection` to its tap, until the connection is over.
    pub(crate) async fn sort(&self, connection: &Connection) -> Ended {
        loop {
            let datagram = match connection.read_datagram().await {
                Ok(datagram) => datagram,
                Err(error) => return Ended::Lost(error.to_string()),
            };
            match TapDatagram::decode(datagram) {
                Ok(datagram) => self.give(datagram),
                Err(error) => return Ended::Lost(format!("the broker sent a bad datagram: {error}")),
            }
        }
    }

    fn give(&self, datagram: TapDatagram) {
        // One of a tap that is closed, or one too many.
        if let Some(tap) = self.lock().open.get(&datagram.tap) {
            let _ = tap.try_send(datagram);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.taps.lock().open.remove(&self.tap);
    }
}

#[cfg(test)]
mod tests {
    use wharf_protocol::Message;

    use super::*;

    fn datagram(tap: u32, first: u64) -> TapDatagram {
        let messages = vec![Message::new("a".parse().expect("a topic"), "x")];
        TapDatagram { tap, first, messages }
    }

    #[tokio::test]
    async fn a_tap_that_takes_nothing_holds_a_bound_and_no_other_back() {
        let datagrams = Datagrams::default();
        let (mut slow, mut quick) = (datagrams.register(), datagrams.register());
        for first in 1..=WAITING_MAX as u64 + 10 {
            datagrams.give(datagram(slow.tap, first));
        }
        datagrams.give(datagram(quick.tap, 1));

        assert_eq!(slow.waiting.len(), WAITING_MAX);
        assert_eq!(slow.waiting.recv().await.map(|datagram| datagram.first), Some(1));
        assert_eq!(quick.waiting.recv().await.map(|datagram| datagram.tap), Some(quick.tap));
    }

    #[test]
    fn a_closed_tap_is_forgotten() {
        let datagrams = Datagrams::default();
        let tap = datagrams.register().tap;
        datagrams.give(datagram(tap, 1));
        assert!(datagrams.lock().open.is_empty());
    }
}
