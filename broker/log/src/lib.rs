//! wharf-log
