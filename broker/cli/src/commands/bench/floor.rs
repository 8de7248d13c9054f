//! The floors: what the same bytes cost over a bare QUIC stream, and the same records in a bare log. What a broker
//! adds to them is its own.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wharf_log::{Batch, Durability, LocalLog, LogEngine as _, Options};
use wharf_quic::Certificate;
use wharf_transport::{Path as NetworkPath, Streams, WRITE_BYTES};

use crate::output;

/// Records that the bare log writes together.
const RECORDS_A_BATCH: u64 = 1024;

/// CPU a message of a process that receives `messages` of `size` bytes over one QUIC stream and drops them.
pub(super) async fn quic(size: usize, messages: u64) -> anyhow::Result<Duration> {
    let exe = std::env::current_exe().context("finding this program")?;
    let mut child =
        Command::new(exe).arg("bench-sink").stdout(Stdio::piped()).spawn().context("starting the sink")?;
    let mut lines = BufReader::new(child.stdout.take().context("the sink's output is piped")?).lines();
    let address: SocketAddr = lines.next().context("the sink says where it is")??.parse()?;
    let certificate = hex::decode(lines.next().context("the sink shows its certificate")??)?;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(certificate))?;
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
    tls.alpn_protocols = vec![b"bench".to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let path = NetworkPath::to(address);
    config.transport_config(wharf_transport::transport(path, Streams::None));
    let connection = wharf_transport::client(address)?.connect_with(config, address, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;

    let chunk = Bytes::from(vec![b'x'; WRITE_BYTES]);
    let mut left = usize::try_from(messages)? * size;
    while left > 0 {
        let bytes = left.min(chunk.len());
        send.write_chunk(chunk.slice(..bytes)).await?;
        left -= bytes;
    }
    send.finish()?;
    let used = receive.read_to_end(8).await?;
    connection.close(0u32.into(), b"");
    child.wait()?;
    let used =
        Duration::from_micros(u64::from_le_bytes(used[..].try_into().context("the sink tells its CPU")?));
    Ok(used / u32::try_from(messages)?)
}

/// The other end of [`quic`]: receives one stream, and answers with the CPU that it cost.
pub(crate) fn sink() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let made = Certificate::self_signed(&[])?;
        let chain = CertificateDer::from_pem_slice(made.chain_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![chain.clone()], key)?;
        tls.alpn_protocols = vec![b"bench".to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(wharf_transport::transport(NetworkPath::Loopback, Streams::FromPeer(1)));
        let endpoint =
            wharf_transport::server((Ipv4Addr::LOCALHOST, 0).into(), config, made.key_pem.as_bytes())?;
        output::line(endpoint.local_addr()?)?;
        output::line(hex::encode(&chain))?;
        let connection = endpoint.accept().await.context("a connection")?.await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let before = own_cpu()?;
        while receive.read_chunk(usize::MAX, true).await?.is_some() {}
        let used = own_cpu()?.saturating_sub(before);
        send.write_all(&u64::try_from(used.as_micros())?.to_le_bytes()).await?;
        send.finish()?;
        connection.closed().await;
        Ok(())
    })
}

/// CPU a record of a log that appends `messages` records of `size` bytes and syncs after every 1,024.
pub(super) fn log(
    folder: &Path,
    size: usize,
    messages: u64,
    durability: Durability,
) -> anyhow::Result<Duration> {
    let mut log = LocalLog::open(folder, Options::default(), &mut |_| Ok(()))?;
    let body = vec![b'x'; size];
    let mut batch = Batch::new();
    let before = own_cpu()?;
    let mut left = messages;
    while left > 0 {
        for _ in 0..left.min(RECORDS_A_BATCH) {
            batch.push(|out| out.extend_from_slice(&body));
        }
        left -= left.min(RECORDS_A_BATCH);
        log.append(log.next(), &mut batch, durability)?;
    }
    Ok(own_cpu()?.saturating_sub(before) / u32::try_from(messages)?)
}

/// CPU a call of `work`, run `times` times on each core at once: cores that share units slow each other down, and
/// the broker's threads share them too.
pub(super) fn native(
    times: u64,
    work: impl Fn(u64) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Duration> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let run = || {
        let before = thread_cpu();
        (0..times).try_for_each(&work)?;
        anyhow::Ok(thread_cpu().saturating_sub(before))
    };
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            took += thread.join().map_err(|_| anyhow::anyhow!("the native code panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(took / u32::try_from(times)? / u32::try_from(cores)?)
}

/// The CPU time of this process, user and system.
fn own_cpu() -> anyhow::Result<Duration> {
    crate::own_broker::cpu_time(std::process::id())
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
