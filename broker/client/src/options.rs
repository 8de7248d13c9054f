//! How to reach a broker.

use std::time::Duration;

use crate::Trust;

/// Where the broker is, how to know it, and who calls.
///
/// ```
/// # use wharf_client::{ConnectOptions, Trust};
/// let options = ConnectOptions::new("broker.example:7411")
///     .token("s3cret")
///     .trust(Trust::Pinned("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into()));
/// ```
#[derive(Clone)]
pub struct ConnectOptions {
    pub(crate) address: String,
    pub(crate) server_name: Option<String>,
    pub(crate) trust: Option<Trust>,
    pub(crate) token: Option<String>,
    pub(crate) certificate: Option<(String, String)>,
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) pause_max: Duration,
}

impl ConnectOptions {
    /// The broker at `address`, `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            server_name: None,
            trust: None,
            token: None,
            certificate: None,
            name: concat!("wharf-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: Duration::from_secs(5),
            pause_max: Duration::from_secs(5),
        }
    }

    /// How the broker's certificate is checked.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// The secret by which the broker knows this client.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// A certificate chain and its key, both PEM, by which the broker knows this client.
    #[must_use]
    pub fn certificate(mut self, chain_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        self.certificate = Some((chain_pem.into(), key_pem.into()));
        self
    }

    /// The name that the broker's certificate must carry, when it is not the host of the address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The name of this program in the broker's logs.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long one attempt to connect may take; 5 seconds unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest pause between attempts to take up a lost connection; 5 seconds unless told otherwise.
    #[must_use]
    pub fn reconnect_pause_max(mut self, pause: Duration) -> Self {
        self.pause_max = pause;
        self
    }

    /// The name that the certificate must carry: the host of the address, without port and brackets.
    pub(crate) fn expected_name(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        self.server_name.as_deref().unwrap_or_else(|| host.trim_start_matches('[').trim_end_matches(']'))
    }
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_must_carry_the_host_unless_told_otherwise() {
        assert_eq!(ConnectOptions::new("localhost:1").expected_name(), "localhost");
        assert_eq!(ConnectOptions::new("[::1]:1").expected_name(), "::1");
        assert_eq!(ConnectOptions::new("10.0.0.1:1").server_name("wharf").expected_name(), "wharf");
    }

    #[test]
    fn a_token_is_not_printed() {
        assert!(!format!("{:?}", ConnectOptions::new("a:1").token("sesame")).contains("sesame"));
    }
}
