//! The state as bytes.

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The checksum does not fit.
    #[error("the snapshot's checksum does not fit its {0} bytes: it is damaged or cut short")]
    Checksum(usize),
    /// A version that this broker does not know.
    #[error("snapshot encoding {0} is not known here; a newer broker wrote it")]
    Version(u8),
    /// It contradicts itself.
    #[error("the snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// The topology in it cannot be read.
    #[error("topology")]
    Topology(#[source] rmp_serde::decode::Error),
}
