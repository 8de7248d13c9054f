//! wharf-plugin-macros
