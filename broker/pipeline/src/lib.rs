//! wharf-pipeline
