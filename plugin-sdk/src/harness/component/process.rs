//! The engine as a child process: `wharf plugin harness FILE.wasm`, a line in and a line out.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::wire;

pub(crate) struct Engine {
    child: Child,
    /// Open until the drop, which ends the child by closing it.
    requests: Option<ChildStdin>,
    responses: Option<BufReader<ChildStdout>>,
}

impl Engine {
    /// Starts `$WHARF_BIN`, or the `wharf` that is on the path.
    pub(crate) fn start(component: &Path) -> Result<Self, String> {
        let wharf = std::env::var_os("WHARF_BIN").unwrap_or_else(|| "wharf".into());
        let mut command = Command::new(&wharf);
        command.args(["plugin", "harness"]).arg(component).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            format!(
                "cannot run {} to test the component: {error}; `wharf plugin test` finds it by itself, and WHARF_BIN \
                 names it",
                wharf.display(),
            )
        })?;
        let requests = child.stdin.take();
        let responses = child.stdout.take().map(BufReader::new);
        Ok(Self { child, requests, responses })
    }

    pub(crate) fn ask(&mut self, request: &wire::Request) -> Result<wire::Response, String> {
        let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let (Some(requests), Some(responses)) = (&mut self.requests, &mut self.responses) else {
            return Err("`wharf plugin harness` has no pipes".to_owned());
        };
        let mut answer = String::new();
        let exchanged = requests.write_all(&line).and_then(|()| {
            requests.flush()?;
            responses.read_line(&mut answer)
        });
        match exchanged {
            Ok(0) => {
                Err("`wharf plugin harness` ended without an answer; what it wrote stands above".to_owned())
            }
            Ok(_) => serde_json::from_str(&answer).map_err(|error| {
                format!("`wharf plugin harness` answered what is no response ({error}): {answer}")
            }),
            Err(error) => Err(format!("`wharf plugin harness` cannot be asked: {error}")),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The end of its input ends the process.
        self.requests = None;
        drop(self.child.wait());
    }
}
