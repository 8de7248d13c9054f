//! wharf-queue
