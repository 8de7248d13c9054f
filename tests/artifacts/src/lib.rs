//! The paths of components that were compiled for tests. For dev-dependencies only: whoever builds the broker
//! compiles no guest.

include!(concat!(env!("OUT_DIR"), "/components.rs"));
