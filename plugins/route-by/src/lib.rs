//! route-by
