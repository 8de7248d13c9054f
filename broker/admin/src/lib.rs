//! wharf-admin
