//! wharf-examples
