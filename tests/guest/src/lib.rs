//! wharf-test-guest
