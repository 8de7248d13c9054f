//! A UDP socket with large buffers, and batches that the kernel takes.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

use crate::settings::LOOPBACK_MTU;

/// What the kernel keeps for a socket in each direction, if its own limit allows that.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The longest batch of datagrams that the kernel takes at once. It drops a longer one without a word.
const BATCH_BYTES_MAX: usize = 65_507;

/// Datagrams of the largest size whose buffers hold the longest batch that the kernel hands over at once.
const RECEIVE_SEGMENTS: usize = BATCH_BYTES_MAX.div_ceil(LOOPBACK_MTU as usize);

/// Binds `address`. A wildcard IPv6 address takes IPv4 as well.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A smaller buffer than asked for is slower, and nothing else.
    let buffers = socket.set_recv_buffer_size(BUFFER_BYTES).and(socket.set_send_buffer_size(BUFFER_BYTES));
    if let Err(error) = buffers {
        tracing::debug!(%error, "the UDP socket keeps its default buffers");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that sends a batch over the kernel's limit in pieces.
///
/// quinn hands over up to ten datagrams at once, which of 16 KB are too much.
pub(crate) struct Batched {
    inner: Arc<dyn AsyncUdpSocket>,
}

impl Batched {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { inner }
    }
}

impl AsyncUdpSocket for Batched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size.filter(|_| transmit.contents.len() > BATCH_BYTES_MAX)
        else {
            return self.inner.try_send(transmit);
        };
        // When the buffer fills up in the middle, quinn sends the whole batch again: the other end drops the
        // datagrams that it has.
        for contents in transmit.contents.chunks(BATCH_BYTES_MAX / segment * segment) {
            let segment_size = Some(segment).filter(|segment| contents.len() > *segment);
            self.inner.try_send(&Transmit { contents, segment_size, ..*transmit })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // quinn makes room for so many datagrams of the largest size, 32 times.
        self.inner.max_receive_segments().min(RECEIVE_SEGMENTS)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for Batched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Remembers the batches it was given.
    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(usize, Option<usize>)>>);

    impl AsyncUdpSocket for Recorder {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nothing waits here")
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            self.0.lock().expect("not poisoned").push((transmit.contents.len(), transmit.segment_size));
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }
    }

    #[test]
    fn a_batch_over_the_limit_is_sent_in_whole_datagrams() {
        let recorder = Arc::new(Recorder::default());
        let contents = vec![0; 4 * 16_370 + 16_370 + 5];
        let socket = Batched::new(Arc::clone(&recorder) as Arc<dyn AsyncUdpSocket>);
        let destination = ([127, 0, 0, 1], 9).into();
        let segment_size = Some(16_370);
        let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size, src_ip: None };
        socket.try_send(&transmit).expect("recorded");
        let sent = recorder.0.lock().expect("not poisoned").clone();
        assert_eq!(sent, [(65_480, Some(16_370)), (16_375, Some(16_370))]);
    }
}
