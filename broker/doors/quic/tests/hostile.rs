//! What breaks the protocol is answered with its reason, and nothing else notices.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, SendStream};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use wharf_node::{Binding, Config, Identity, Node, Principal};
use wharf_protocol::frame::{
    ALPN, FRAME_BYTES_MAX, Frame, Hello, OpenPublisher, Subscribe, SubscribeTopic, Tapped, VERSION,
};
use wharf_protocol::{ErrorCode, Message, Outcome, Receipt, Settlement};
use wharf_quic::{Certificate, Door};
use wharf_transport::{FrameReader, Path, Streams};

struct House {
    door: Door,
    certificate: Certificate,
    _folder: TempDir,
}

impl House {
    async fn open(change: impl FnOnce(&mut wharf_quic::Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(folder.path());
        config.principals = vec![Identity::administrator("test", hex::encode(Sha256::digest("sesame")))];
        config.disk_free_bytes_min = 0;
        let node = Node::start(config).await.expect("a node");
        let me = Principal::system();
        let (queue, pattern) = (|| "orders".parse().expect("a name"), "orders".parse().expect("a pattern"));
        node.create_queue(&me, queue(), Default::default()).await.expect("created");
        node.bind(&me, Binding { pattern, queue: queue(), pipeline: None }).await.expect("bound");
        let certificate = Certificate::self_signed(&[]).expect("a certificate");
        let mut config = wharf_quic::Config::new(([127, 0, 0, 1], 0).into(), certificate.clone());
        change(&mut config);
        let door = Door::bind(config, node).await.expect("a door");
        Self { door, certificate, _folder: folder }
    }

    /// A connection that has not said hello.
    async fn stranger(&self) -> (Endpoint, Connection) {
        self.try_connect().await.expect("a connection")
    }

    async fn try_connect(&self) -> Result<(Endpoint, Connection), ConnectionError> {
        self.try_connect_with(Streams::None).await
    }

    async fn try_connect_with(&self, streams: Streams) -> Result<(Endpoint, Connection), ConnectionError> {
        let mut roots = RootCertStore::empty();
        let pem = self.certificate.chain_pem.as_bytes();
        roots.add(CertificateDer::from_pem_slice(pem).expect("PEM")).expect("a certificate");
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("usable")));
        config.transport_config(wharf_transport::transport(Path::Loopback, streams));
        let endpoint = wharf_transport::client(self.door.address()).expect("a socket");
        let connecting = endpoint.connect_with(config, self.door.address(), "localhost").expect("valid");
        let connection = connecting.await?;
        Ok((endpoint, connection))
    }

    /// A connection that was welcomed, and its control stream.
    async fn guest(&self) -> (Endpoint, Connection, Stream) {
        let (endpoint, connection) = self.stranger().await;
        let mut control = Stream::open(&connection, &[hello("sesame")]).await;
        assert!(matches!(control.next().await, Frame::Welcome(_)));
        (endpoint, connection, control)
    }
}

struct Stream(SendStream, FrameReader);

impl Stream {
    async fn open(connection: &Connection, frames: &[Frame]) -> Self {
        let (send, receive) = connection.open_bi().await.expect("a stream");
        let mut stream = Self(send, FrameReader::new(receive, FRAME_BYTES_MAX));
        for frame in frames {
            let mut out = BytesMut::new();
            frame.encode(&mut out);
            stream.write(&out).await;
        }
        stream
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
    }

    async fn next(&mut self) -> Frame {
        self.1.next().await.expect("a frame").expect("not the end")
    }

    /// The error that ends the stream.
    async fn refused(&mut self) -> ErrorCode {
        let frame = self.next().await;
        let Frame::Error(refusal) = frame else { panic!("{frame:?}") };
        assert!(matches!(self.1.next().await, Ok(None)), "an error is the last frame");
        refusal.code
    }
}

fn hello(token: &str) -> Frame {
    Frame::Hello(Hello { versions: vec![VERSION], client: "test".into(), token: Some(token.into()) })
}

fn publish(sequence: u64) -> Frame {
    Frame::Publish { sequence, message: Message::new("orders".parse().expect("a topic"), "x") }
}

fn open_publisher() -> Frame {
    Frame::OpenPublisher(OpenPublisher::default())
}

/// The code with which the door closed the connection.
async fn closed(connection: &Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_malformed_frame_ends_its_stream_and_no_other() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, mut control) = house.guest().await;
    let mut good = Stream::open(&connection, &[open_publisher()]).await;
    assert!(matches!(good.next().await, Frame::Opened(_)));

    for garbage in [&[0u8, 0, 0, 0, 0x77, 0, 0, 0][..], &[4, 0, 0, 0, 0x12, 0, 0, 0, 1, 2, 3, 4]] {
        let mut bad = Stream::open(&connection, &[open_publisher()]).await;
        assert!(matches!(bad.next().await, Frame::Opened(_)));
        bad.write(garbage).await;
        assert_eq!(bad.refused().await, ErrorCode::Malformed);
    }

    let mut out = BytesMut::new();
    publish(1).encode(&mut out);
    good.write(&out).await;
    assert!(matches!(good.next().await, Frame::Confirm(_)));
    out.clear();
    Frame::Ping(7).encode(&mut out);
    control.write(&out).await;
    assert_eq!(control.next().await, Frame::Pong(7));
}

#[tokio::test]
async fn what_came_before_a_malformed_frame_is_confirmed() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, _control) = house.guest().await;
    let mut stream = Stream::open(&connection, &[open_publisher(), publish(1), publish(2), publish(2)]).await;
    assert!(matches!(stream.next().await, Frame::Opened(_)));
    let mut confirmed = 0;
    let code = loop {
        match stream.next().await {
            Frame::Confirm(runs) => {
                assert!(runs.iter().all(|run| matches!(run.receipt, Receipt::Stored(_))));
                confirmed += runs.iter().map(|run| run.count).sum::<u32>();
            }
            Frame::Error(refusal) => break refusal.code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((confirmed, code), (2, ErrorCode::Malformed));
}

#[tokio::test]
async fn a_frame_over_the_bound_is_refused_by_its_head() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, _control) = house.guest().await;
    let mut stream = Stream::open(&connection, &[open_publisher()]).await;
    assert!(matches!(stream.next().await, Frame::Opened(_)));
    stream.write(&[0xff, 0xff, 0xff, 0xff, 0x12, 0, 0, 0]).await;
    assert_eq!(stream.refused().await, ErrorCode::TooLarge);
}

#[tokio::test]
async fn a_frame_that_does_not_end_is_not_waited_for() {
    let house = House::open(|config| config.frame = Duration::from_millis(100)).await;
    let (_endpoint, connection, _control) = house.guest().await;
    let mut stream = Stream::open(&connection, &[open_publisher()]).await;
    assert!(matches!(stream.next().await, Frame::Opened(_)));
    stream.write(&[100, 0, 0, 0, 0x12, 0]).await;
    assert_eq!(stream.refused().await, ErrorCode::Malformed);
}

#[tokio::test]
async fn frames_of_another_role_are_refused() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, _control) = house.guest().await;
    for frames in [&[publish(1)][..], &[Frame::Empty]] {
        assert_eq!(Stream::open(&connection, frames).await.refused().await, ErrorCode::Malformed);
    }
}

#[tokio::test]
async fn tags_that_were_not_delivered_cannot_be_settled() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, _control) = house.guest().await;
    let queue = "orders".parse().expect("a name");
    let subscribe = Frame::Subscribe(Subscribe {
        queue,
        credit: 1,
        auto_settle: false,
        until_empty: false,
        credit_bytes: 0,
        durable: None,
    });
    let settlements = vec![Settlement { first: 1, last: u64::MAX, outcome: Outcome::Ack }];
    let settle = Frame::Settle { number: 1, settlements };
    let mut stream = Stream::open(&connection, &[subscribe, settle]).await;
    assert!(matches!(stream.next().await, Frame::Subscribed(_)));
    assert_eq!(stream.refused().await, ErrorCode::Malformed);
}

#[tokio::test]
async fn tags_that_were_not_delivered_cannot_be_renewed() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, _control) = house.guest().await;
    for tags in [vec![(1, 1)], vec![(0, 0)]] {
        let queue = "orders".parse().expect("a name");
        let subscribe = Subscribe {
            queue,
            credit: 1,
            auto_settle: false,
            until_empty: false,
            credit_bytes: 0,
            durable: None,
        };
        let renew = Frame::Renew { number: 1, tags };
        let mut stream = Stream::open(&connection, &[Frame::Subscribe(subscribe), renew]).await;
        assert!(matches!(stream.next().await, Frame::Subscribed(_)));
        assert_eq!(stream.refused().await, ErrorCode::Malformed);
    }
}

#[tokio::test]
async fn credit_without_end_is_refused() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection, _control) = house.guest().await;
    let queue = "orders".parse().expect("a name");
    let subscribe = Frame::Subscribe(Subscribe {
        queue,
        credit: 1,
        auto_settle: false,
        until_empty: false,
        credit_bytes: 0,
        durable: None,
    });
    let mut stream =
        Stream::open(&connection, &[subscribe, Frame::Credit { messages: u32::MAX, bytes: 0 }]).await;
    assert!(matches!(stream.next().await, Frame::Subscribed(_)));
    assert_eq!(stream.refused().await, ErrorCode::TooLarge);
}

#[tokio::test]
async fn who_does_not_say_hello_is_shown_out() {
    let house = House::open(|config| config.hello = Duration::from_millis(200)).await;
    let (_endpoint, silent) = house.stranger().await;
    assert_eq!(closed(&silent).await, u64::from(u16::from(ErrorCode::Unauthenticated)));

    let (_endpoint, rude) = house.stranger().await;
    let mut stream = Stream::open(&rude, &[open_publisher()]).await;
    assert_eq!(stream.refused().await, ErrorCode::Malformed);
    assert_eq!(closed(&rude).await, u64::from(u16::from(ErrorCode::Malformed)));
}

#[tokio::test]
async fn a_wrong_token_is_told_and_the_connection_closed() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection) = house.stranger().await;
    let mut stream = Stream::open(&connection, &[hello("guess")]).await;
    assert_eq!(stream.refused().await, ErrorCode::Unauthenticated);
    assert_eq!(closed(&connection).await, u64::from(u16::from(ErrorCode::Unauthenticated)));
}

#[tokio::test]
async fn a_hello_of_a_megabyte_is_not_read() {
    let house = House::open(|_| {}).await;
    let (_endpoint, connection) = house.stranger().await;
    let mut stream = Stream::open(&connection, &[]).await;
    let mut head = BytesMut::new();
    head.put_u32_le(1024 * 1024);
    head.put_slice(&[1, 0, 0, 0]);
    stream.write(&head).await;
    assert_eq!(stream.refused().await, ErrorCode::TooLarge);
}

#[tokio::test]
async fn connections_over_the_bound_are_refused_and_room_is_made_again() {
    let house = House::open(|config| config.connections_max = 1).await;
    let (_endpoint, first, _control) = house.guest().await;
    assert!(matches!(house.try_connect().await, Err(ConnectionError::ConnectionClosed(_))));
    first.close(0u32.into(), b"");
    // Its place is free once the door has noticed.
    while house.try_connect().await.is_err() {}
}

#[tokio::test]
async fn a_client_that_takes_no_datagrams_is_shown_live_messages_on_the_stream() {
    let house = House::open(|_| {}).await;
    // Set up as a broker is, which takes none.
    let (_endpoint, connection) = house.try_connect_with(Streams::FromPeer(0)).await.expect("a connection");
    let mut control = Stream::open(&connection, &[hello("sesame")]).await;
    assert!(matches!(control.next().await, Frame::Welcome(_)));
    let subscribe = SubscribeTopic { pattern: "orders".parse().expect("a pattern"), datagrams: Some(1) };

    let mut tap = Stream::open(&connection, &[Frame::SubscribeTopic(subscribe)]).await;
    assert_eq!(tap.next().await, Frame::Tapped(Tapped { datagrams: false }));
    let message = Message::new("orders".parse().expect("a topic"), "one");
    let publish = Frame::Publish { sequence: 1, message: message.clone() };
    let _publisher =
        Stream::open(&connection, &[Frame::OpenPublisher(OpenPublisher::default()), publish]).await;

    assert_eq!(tap.next().await, Frame::Tap(message));
}
