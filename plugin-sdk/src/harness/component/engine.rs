//! The engine in the test's own process: for plugins inside this repository.

use std::path::Path;

use bytes::Bytes;
use wharf_pipeline::harness::Harness;

use crate::harness::wire;

pub(crate) struct Engine(Harness);

impl Engine {
    #[track_caller]
    pub(crate) fn start(component: &Path) -> Self {
        let wasm = match std::fs::read(component) {
            Ok(wasm) => Bytes::from(wasm),
            Err(error) => panic!("cannot read {}: {error}", component.display()),
        };
        match Harness::open(&wasm) {
            Ok(harness) => Self(harness),
            Err(error) => panic!("{} cannot be tested: {error}", component.display()),
        }
    }

    /// By way of JSON, so that both engines are asked in the same words.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &wire::Request) -> wire::Response {
        let mut requests = serde_json::to_vec(request).expect("a request is JSON");
        requests.push(b'\n');
        let mut responses = Vec::new();
        self.0.serve(&requests[..], &mut responses).expect("memory can be read and written");
        serde_json::from_slice(&responses).expect("both ends agree on what is said")
    }
}
