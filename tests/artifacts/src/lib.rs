//! wharf-test-artifacts
