//! wharf-bundle
