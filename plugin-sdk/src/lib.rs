//! wharf-plugin
