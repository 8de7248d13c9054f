//! How a client knows that the broker is the one meant.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use wharf_protocol::frame::ALPN;

use crate::{ConnectError, ConnectOptions};

/// How the broker's certificate is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is one of these, or signed by one: PEM text. Its name and dates are checked.
    Authority(String),
    /// It is the one with this SHA-256, in hexadecimal.
    Pinned(String),
}

/// The TLS settings of a connection: TLS 1.3, ring, `wharf/1`, nothing early.
pub(crate) fn tls(options: &ConnectOptions) -> Result<QuicClientConfig, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?;
    let builder = match options.trust.as_ref() {
        Some(Trust::Authority(pem)) => builder.with_root_certificates(roots(pem)?),
        Some(Trust::Pinned(text)) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned::new(text, &provider)?))
        }
        None => {
            return Err(ConnectError::Trust(
                "say how the broker is known: by a certificate authority (its certificate in PEM) or by the \
                 SHA-256 of its certificate"
                    .into(),
            ));
        }
    };
    let mut config = match &options.certificate {
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unusable)?;
            builder.with_client_auth_cert(certificates(chain)?, key).map_err(unusable)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    QuicClientConfig::try_from(config).map_err(unusable)
}

fn roots(pem: &str) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(unusable)?;
    if certificates.is_empty() {
        return Err(ConnectError::Trust("there is no certificate in the PEM text".into()));
    }
    Ok(certificates)
}

fn unusable(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Trust(format!("the certificate or key cannot be used: {error}"))
}

/// Takes one certificate, whatever its name and dates.
#[derive(Debug)]
struct Pinned {
    sha256: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(text: &str, provider: &CryptoProvider) -> Result<Self, ConnectError> {
        let mut sha256 = [0; 32];
        hex::decode_to_slice(text.replace(':', ""), &mut sha256)
            .map_err(|_| ConnectError::Trust(format!("{text:?} is not a SHA-256: 64 hexadecimal digits")))?;
        Ok(Self { sha256, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::digest(end_entity).as_slice() == self.sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
