//! The engine in the test's own process: for plugins inside this repository, and for the `wharf` binary.

use std::path::Path;

use bytes::Bytes;
use wharf_pipeline::harness::Harness;

use crate::harness::wire;

pub(crate) struct Engine(Harness);

impl Engine {
    pub(crate) fn start(component: &Path) -> Result<Self, String> {
        let file = component.display();
        let wasm = std::fs::read(component).map_err(|error| format!("cannot read {file}: {error}"))?;
        let harness = Harness::open(&Bytes::from(wasm));
        harness.map(Self).map_err(|error| format!("{file} cannot be tested: {error}"))
    }

    /// By way of JSON, so that both engines are asked in the same words.
    pub(crate) fn ask(&mut self, request: &wire::Request) -> Result<wire::Response, String> {
        let mut requests = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        requests.push(b'\n');
        let mut responses = Vec::new();
        self.0.serve(&requests[..], &mut responses).map_err(|error| error.to_string())?;
        serde_json::from_slice(&responses).map_err(|error| format!("the answer is no response: {error}"))
    }
}
