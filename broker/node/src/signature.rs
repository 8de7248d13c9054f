//! Who vouches for a plugin: Ed25519 over the SHA-256 of the component, detached from it.
//!
//! ```text
//! what is signed   "wharf plugin signature 1", a zero byte · SHA-256 of the component, 32 bytes
//! public key       ed25519:BASE64            32 bytes: in the configuration, and for people
//! signature        wharf-signature-1 ed25519:BASE64 BASE64      one line: the key, 64 bytes
//! private key      PKCS #8 (RFC 5958) in PEM
//! ```
//!
//! The context keeps a signature from being taken for one of something else. The key travels with the signature so
//! that a refusal can name it; it proves nothing until it is found among the trusted ones.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

const CONTEXT: &[u8] = b"wharf plugin signature 1\0";
const KEY_PREFIX: &str = "ed25519:";
const SIGNATURE_PREFIX: &str = "wharf-signature-1";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
const PEM_LINE: usize = 64;

/// How many keys a broker trusts at most.
pub const TRUSTED_KEYS_MAX: usize = 256;

/// Whose plugins a broker takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Keys by the names that people know them by; at most [`TRUSTED_KEYS_MAX`].
    pub keys: BTreeMap<String, PublicKey>,
    /// Whether a plugin has to be signed by one of them.
    pub required: bool,
}

/// Who signed a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// Nobody.
    Nobody,
    /// Somebody whose key is not trusted.
    Stranger(PublicKey),
    /// The trusted key of this name.
    Trusted {
        /// Its name in the configuration.
        name: String,
        /// The key.
        key: PublicKey,
    },
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// A signature of a component, with the key that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    bytes: [u8; 64],
}

/// The private half of a key. What it is made of is never shown.
pub struct SigningKey(Ed25519KeyPair);

/// Why a key or a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a public key.
    #[error("a public key is written ed25519: and 32 bytes in base64, not {0:?}")]
    PublicKey(String),
    /// Not a private key.
    #[error("this is no Ed25519 private key in PEM, as `wharf plugin keygen` makes it")]
    PrivateKey,
    /// Not a signature.
    #[error("a signature is one line, {SIGNATURE_PREFIX} KEY SIGNATURE, as `wharf plugin sign` writes it")]
    Signature,
    /// It is of another component.
    #[error(
        "the signature by {0} is not of this component: the file was changed after it was signed, or the signature \
         belongs to another file; sign the file as it is"
    )]
    Wrong(PublicKey),
    /// It has to be signed and is not.
    #[error(
        "the plugin is not signed, and this broker takes signed ones only (plugins.require-signed); sign it with \
         `wharf plugin sign FILE --key KEY` and push it with its signature"
    )]
    Missing,
    /// It has to be signed by somebody else.
    #[error(
        "the plugin is signed by {key}, which this broker does not trust; it trusts {}", trusted_text(.trusted)
    )]
    Untrusted {
        /// Who signed it.
        key: PublicKey,
        /// The names of the trusted keys.
        trusted: Vec<String>,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a key")]
    Random,
}

impl Trust {
    /// Who signed the component with this SHA-256; an error where that is not good enough.
    ///
    /// # Errors
    /// The signature is wrong; none by a trusted key where one is required.
    pub fn judge(&self, digest: &[u8; 32], signature: Option<&Signature>) -> Result<Signer, SignatureError> {
        let Some(signature) = signature else {
            return if self.required { Err(SignatureError::Missing) } else { Ok(Signer::Nobody) };
        };
        signature.verify(digest)?;
        let key = signature.key;
        match self.keys.iter().find(|(_, trusted)| **trusted == key) {
            Some((name, _)) => Ok(Signer::Trusted { name: name.clone(), key }),
            None if self.required => {
                Err(SignatureError::Untrusted { key, trusted: self.keys.keys().cloned().collect() })
            }
            None => Ok(Signer::Stranger(key)),
        }
    }
}

fn trusted_text(names: &[String]) -> String {
    if names.is_empty() { "no key at all (plugins.trusted-keys)".to_owned() } else { names.join(", ") }
}

impl SigningKey {
    /// A new key, and the PEM text to keep it in.
    ///
    /// # Errors
    /// [`SignatureError::Random`].
    pub fn generate() -> Result<(Self, String), SignatureError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SignatureError::Random)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| SignatureError::PrivateKey)?;
        let base64 = BASE64.encode(document.as_ref());
        let lines = base64.as_bytes().chunks(PEM_LINE).map(String::from_utf8_lossy);
        let body: String = lines.map(|line| format!("{line}\n")).collect();
        Ok((Self(pair), format!("{PEM_BEGIN}\n{body}{PEM_END}\n")))
    }

    /// The key in a PEM text.
    ///
    /// # Errors
    /// [`SignatureError::PrivateKey`].
    pub fn from_pem(text: &str) -> Result<Self, SignatureError> {
        let body = text.split_once(PEM_BEGIN).and_then(|(_, rest)| rest.split_once(PEM_END));
        let (base64, _) = body.ok_or(SignatureError::PrivateKey)?;
        let base64: String = base64.split_whitespace().collect();
        let document = BASE64.decode(base64).map_err(|_| SignatureError::PrivateKey)?;
        // Keys of other tools may leave the public half out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document);
        pair.map(Self).map_err(|_| SignatureError::PrivateKey)
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        PublicKey(bytes)
    }

    /// Vouches for the component with this SHA-256.
    pub fn sign(&self, digest: &[u8; 32]) -> Signature {
        let signature = self.0.sign(&signed(digest));
        let bytes = signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes");
        Signature { key: self.public(), bytes }
    }
}

impl Signature {
    /// Who made it, as it says.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Whether its key made it for the component with this SHA-256.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`].
    pub fn verify(&self, digest: &[u8; 32]) -> Result<(), SignatureError> {
        let key = UnparsedPublicKey::new(&ED25519, self.key.0);
        key.verify(&signed(digest), &self.bytes).map_err(|_| SignatureError::Wrong(self.key))
    }
}

fn signed(digest: &[u8; 32]) -> Vec<u8> {
    [CONTEXT, digest].concat()
}

impl FromStr for PublicKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let bytes = text.trim().strip_prefix(KEY_PREFIX).and_then(|base64| BASE64.decode(base64).ok());
        let key = bytes.and_then(|bytes| bytes.try_into().ok());
        key.map(Self).ok_or_else(|| SignatureError::PublicKey(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SignatureError;

    fn try_from(text: String) -> Result<Self, SignatureError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(SIGNATURE_PREFIX), Some(key), Some(bytes), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(SignatureError::Signature);
        };
        let bytes = BASE64.decode(bytes).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self { key: key.parse()?, bytes: bytes.ok_or(SignatureError::Signature)? })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SIGNATURE_PREFIX} {} {}", self.key, BASE64.encode(self.bytes))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Stranger(key) => write!(f, "{key}, which is not trusted here"),
            Self::Trusted { name, key } => write!(f, "{name} ({key})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: [u8; 32] = [7; 32];

    fn key() -> SigningKey {
        SigningKey::generate().expect("random numbers").0
    }

    #[test]
    fn a_key_and_a_signature_survive_being_written() {
        let (key, pem) = SigningKey::generate().expect("random numbers");
        let again = SigningKey::from_pem(&format!("a comment\n{pem}")).expect("a key");
        assert_eq!(again.public(), key.public());
        let signature: Signature = format!("{}\n", key.sign(&DIGEST)).parse().expect("a signature");
        assert_eq!(signature, again.sign(&DIGEST), "Ed25519 has no chance in it");
        signature.verify(&DIGEST).expect("of these bytes");
    }

    #[test]
    fn every_flipped_bit_of_signature_key_or_digest_is_seen() {
        let signature = key().sign(&DIGEST);
        for bit in 0..512 {
            let mut other = signature;
            other.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(other.verify(&DIGEST).is_err(), "bit {bit} of the signature");
        }
        for bit in 0..256 {
            let mut other = signature;
            other.key.0[bit / 8] ^= 1 << (bit % 8);
            assert!(other.verify(&DIGEST).is_err(), "bit {bit} of the key");
            let mut digest = DIGEST;
            digest[bit / 8] ^= 1 << (bit % 8);
            assert!(signature.verify(&digest).is_err(), "bit {bit} of the digest");
        }
    }

    #[test]
    fn a_signature_of_the_digest_alone_is_none() {
        let key = key();
        let bytes = key.0.sign(&DIGEST).as_ref().try_into().expect("64 bytes");
        let without_context = Signature { key: key.public(), bytes };
        assert_eq!(without_context.verify(&DIGEST), Err(SignatureError::Wrong(key.public())));
    }

    #[test]
    fn what_is_required_is_said() {
        let (mine, theirs) = (key(), key());
        let keys = BTreeMap::from([("release".to_owned(), mine.public())]);
        let (lax, strict) = (Trust { keys: keys.clone(), required: false }, Trust { keys, required: true });
        let trusted = Signer::Trusted { name: "release".to_owned(), key: mine.public() };
        let signature = mine.sign(&DIGEST);
        assert_eq!(lax.judge(&DIGEST, Some(&signature)), Ok(trusted.clone()));
        assert_eq!(strict.judge(&DIGEST, Some(&signature)), Ok(trusted));

        assert_eq!(lax.judge(&DIGEST, None), Ok(Signer::Nobody));
        let missing = strict.judge(&DIGEST, None).expect_err("unsigned").to_string();
        assert!(missing.contains("require-signed") && missing.contains("plugin sign"), "{missing}");

        let strange = theirs.sign(&DIGEST);
        assert_eq!(lax.judge(&DIGEST, Some(&strange)), Ok(Signer::Stranger(theirs.public())));
        let untrusted = strict.judge(&DIGEST, Some(&strange)).expect_err("a stranger").to_string();
        assert!(untrusted.contains(&theirs.public().to_string()) && untrusted.ends_with("trusts release"));

        let wrong = lax.judge(&[8; 32], Some(&signature)).expect_err("of other bytes");
        assert_eq!(wrong, SignatureError::Wrong(mine.public()), "refused though none is required");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519:!"] {
            assert!(matches!(text.parse::<PublicKey>(), Err(SignatureError::PublicKey(_))), "{text}");
        }
        let signature = key().sign(&DIGEST).to_string();
        for text in ["", "wharf-signature-1", &signature[1..], &format!("{signature} more")] {
            assert!(text.parse::<Signature>().is_err(), "{text}");
        }
        for text in ["", PEM_BEGIN, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(matches!(SigningKey::from_pem(text), Err(SignatureError::PrivateKey)), "{text}");
        }
    }
}
