//! wharf-quic
