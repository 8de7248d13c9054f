//! wharf-node
