//! The door's certificate, and how it looks at those of clients.

use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use sha2::{Digest as _, Sha256};
use wharf_protocol::frame::ALPN;

/// A certificate chain and its private key, both as PEM text.
#[derive(Clone)]
pub struct Certificate {
    /// The chain, the door's own certificate first.
    pub chain_pem: String,
    /// The key of the first certificate.
    pub key_pem: String,
}

/// Why a certificate cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain holds none, or something else.
    #[error("the certificate chain is not PEM with at least one certificate: {0}")]
    Chain(String),
    /// The key is not one.
    #[error("the private key is not PEM: {0}")]
    Key(String),
    /// The key does not belong to the certificate, or is of a kind that TLS 1.3 does not know.
    #[error("the certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// No self-signed certificate could be made.
    #[error("making a certificate")]
    Make(#[source] rcgen::Error),
}

impl Certificate {
    /// A new self-signed one for `localhost`, `127.0.0.1`, `::1` and the given `names`.
    ///
    /// # Errors
    /// When a name is neither a host name nor an address.
    pub fn self_signed(names: &[String]) -> Result<Self, CertificateError> {
        let names =
            ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(names.iter().cloned());
        let names: Vec<String> = names.collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(CertificateError::Make)?;
        Ok(Self { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() })
    }

    /// The SHA-256 of the first certificate (DER) in hexadecimal, by which a client can know it.
    ///
    /// # Errors
    /// When the chain holds none.
    pub fn fingerprint(&self) -> Result<String, CertificateError> {
        Ok(fingerprint(&self.chain()?[0]))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).collect();
        match chain {
            Ok(chain) if chain.is_empty() => Err(CertificateError::Chain("there is none in it".into())),
            Ok(chain) => Ok(chain),
            Err(error) => Err(CertificateError::Chain(error.to_string())),
        }
    }

    /// The TLS settings of a door: TLS 1.3, ring, `wharf/1`, nothing early.
    pub(crate) fn tls(&self) -> Result<QuicServerConfig, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CertificateError::Pair)?
            .with_client_cert_verifier(Arc::new(AnyClient(algorithms)))
            .with_single_cert(self.chain()?, key)
            .map_err(CertificateError::Pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(QuicServerConfig::try_from(config).expect("the ring provider has QUIC's initial cipher suite"))
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// The SHA-256 of a certificate, in lower-case hexadecimal.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(certificate))
}

/// Lets a client show any certificate, or none: the handshake proves that it holds the key, and the node knows
/// its principals by the certificate's digest.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_can_be_served() {
        let certificate = Certificate::self_signed(&["broker.example".into()]).expect("made");
        assert!(certificate.tls().is_ok());
        assert_eq!(certificate.fingerprint().expect("one certificate").len(), 64);
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        let good = Certificate::self_signed(&[]).expect("made");
        let other = Certificate::self_signed(&[]).expect("made");
        let with = |chain: &str, key: &str| Certificate { chain_pem: chain.into(), key_pem: key.into() };
        assert!(matches!(with("", &good.key_pem).tls(), Err(CertificateError::Chain(_))));
        assert!(matches!(with(&good.chain_pem, "").tls(), Err(CertificateError::Key(_))));
        assert!(matches!(with(&good.chain_pem, &other.key_pem).tls(), Err(CertificateError::Pair(_))));
    }
}
