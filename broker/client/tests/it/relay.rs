//! A path between a client and a broker that loses packets on request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Longer than any packet of a loopback path.
const PACKET_BYTES_MAX: usize = 64 * 1024;

/// Hands packets on, both ways, until it is dropped. For one client.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    lose: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(broker: SocketAddr) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let near = Arc::new(UdpSocket::bind(any).await.expect("a socket"));
        let far = Arc::new(UdpSocket::bind(any).await.expect("a socket"));
        far.connect(broker).await.expect("a local address");
        let address = near.local_addr().expect("bound");
        let lose = Arc::new(AtomicUsize::new(0));
        let (client, met) = tokio::sync::oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(outwards(Arc::clone(&near), Arc::clone(&far), client));
        tasks.spawn(inwards(near, far, met, Arc::clone(&lose)));
        Self { address, lose, _tasks: tasks }
    }

    /// Loses the next `packets` that the broker sends.
    pub(crate) fn lose(&self, packets: usize) {
        self.lose.store(packets, Ordering::SeqCst);
    }

    /// How many of those are still to come.
    pub(crate) fn left_to_lose(&self) -> usize {
        self.lose.load(Ordering::SeqCst)
    }
}

async fn outwards(
    near: Arc<UdpSocket>,
    far: Arc<UdpSocket>,
    client: tokio::sync::oneshot::Sender<SocketAddr>,
) {
    let (mut packet, mut client) = (vec![0; PACKET_BYTES_MAX], Some(client));
    while let Ok((length, from)) = near.recv_from(&mut packet).await {
        if let Some(client) = client.take() {
            client.send(from).expect("waited for");
        }
        // A broker that is gone is what some tests are about.
        let _ = far.send(&packet[..length]).await;
    }
}

async fn inwards(
    near: Arc<UdpSocket>,
    far: Arc<UdpSocket>,
    client: tokio::sync::oneshot::Receiver<SocketAddr>,
    lose: Arc<AtomicUsize>,
) {
    let Ok(client) = client.await else { return };
    let mut packet = vec![0; PACKET_BYTES_MAX];
    while let Ok(length) = far.recv(&mut packet).await {
        let less = |left: usize| left.checked_sub(1);
        if lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            let _ = near.send_to(&packet[..length], client).await;
        }
    }
}
