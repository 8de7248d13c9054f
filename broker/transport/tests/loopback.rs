//! Two ends on one machine: large datagrams are in use, and nothing hangs.

use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::runtime::Runtime;
use wharf_transport::{Path, Streams, WRITE_BYTES, transport};

const BYTES: usize = 64 * 1024 * 1024;

/// Sends 64 MiB over one stream with both ends set for `path`; returns the size of the datagrams.
async fn carry(path: Path) -> u16 {
    let (server, client) = configs(path);
    let accepting = wharf_transport::server(([127, 0, 0, 1], 0).into(), server, b"secret").expect("a socket");
    let address = accepting.local_addr().expect("an address");
    let reading = tokio::spawn(read_all(accepting));

    let endpoint = wharf_transport::client(address).expect("a socket");
    let connecting = endpoint.connect_with(client, address, "localhost").expect("valid");
    let connection = connecting.await.expect("a connection");
    let mut send = connection.open_uni().await.expect("a stream");
    let (start, chunk) = (Instant::now(), bytes::Bytes::from(vec![7; WRITE_BYTES]));
    for _ in 0..BYTES / WRITE_BYTES {
        send.write_chunk(chunk.clone()).await.expect("written");
    }
    send.finish().expect("open");
    assert_eq!(reading.await.expect("no panic"), BYTES);
    println!("{path:?}: {:.0} MB/s", BYTES as f64 / 1e6 / start.elapsed().as_secs_f64());
    connection.stats().path.current_mtu
}

async fn read_all(endpoint: Endpoint) -> usize {
    let connection = endpoint.accept().await.expect("open").await.expect("a connection");
    let mut receive = connection.accept_uni().await.expect("a stream");
    let mut total = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.expect("bytes") {
        total += chunk.bytes.len();
    }
    total
}

fn configs(path: Path) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("usable")));
    // Here the client opens a stream of one direction, which the door never allows.
    let mut from_client = Arc::into_inner(transport(path, Streams::FromPeer(1))).expect("just made");
    from_client.max_concurrent_uni_streams(1u32.into());
    server.transport_config(Arc::new(from_client));

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("usable")));
    client.transport_config(transport(path, Streams::None));
    (server, client)
}

#[tokio::test]
async fn between_ends_on_one_machine_datagrams_are_large() {
    assert_eq!(carry(Path::Loopback).await, 16_370);
    assert!(carry(Path::Network).await <= 1_452);
}

/// A client of a broker that was killed waited half a minute before it looked for the next one.
#[tokio::test]
async fn the_next_broker_with_the_same_secret_ends_the_connections_of_one_that_crashed() {
    let (server, client) = configs(Path::Loopback);
    let first = Runtime::new().expect("a runtime");
    let accepting = {
        let _inside = first.enter();
        wharf_transport::server(([127, 0, 0, 1], 0).into(), server.clone(), b"secret").expect("a socket")
    };
    let address = accepting.local_addr().expect("an address");
    let (accepted, there) = tokio::sync::oneshot::channel();
    first.spawn(async move {
        let connection = accepting.accept().await.expect("open").await.expect("a connection");
        let _ = accepted.send(());
        connection.closed().await;
    });
    let endpoint = wharf_transport::client(address).expect("a socket");
    let connecting = endpoint.connect_with(client, address, "localhost").expect("valid");
    let connection = connecting.await.expect("a connection");
    there.await.expect("accepted");

    // As a process dies: its socket is gone, and nobody says goodbye.
    first.shutdown_background();
    let begun = Instant::now();
    let second = loop {
        match wharf_transport::server(address, server.clone(), b"secret") {
            Ok(endpoint) => break endpoint,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut send = connection.open_uni().await.expect("the client knows nothing yet");
    let _ = send.write_all(b"is anybody there?").await;

    assert_eq!(connection.closed().await, ConnectionError::Reset);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    drop(second);
}
