//! The engine as a child process: `wharf plugin harness FILE.wasm`, a line in and a line out.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::wire;

pub(crate) struct Engine {
    child: Child,
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Engine {
    /// Starts `$WHARF_BIN`, or the `wharf` that is on the path.
    #[track_caller]
    pub(crate) fn start(component: &Path) -> Self {
        let wharf = std::env::var_os("WHARF_BIN").unwrap_or_else(|| "wharf".into());
        let mut command = Command::new(&wharf);
        command.args(["plugin", "harness"]).arg(component).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!(
                "cannot run {} to test the component: {error}; `wharf plugin test` finds it by itself, and WHARF_BIN \
                 names it",
                wharf.display(),
            ),
        };
        let requests = child.stdin.take();
        let responses = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Self { child, requests, responses }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: &wire::Request) -> wire::Response {
        let mut line = serde_json::to_vec(request).expect("a request is JSON");
        line.push(b'\n');
        let requests = self.requests.as_mut().expect("open until the drop");
        let mut answer = String::new();
        let exchanged = requests.write_all(&line).and_then(|()| {
            requests.flush()?;
            self.responses.read_line(&mut answer)
        });
        match exchanged {
            Ok(0) => panic!("`wharf plugin harness` ended without an answer; what it wrote stands above"),
            Ok(_) => match serde_json::from_str(&answer) {
                Ok(response) => response,
                Err(error) => {
                    panic!("`wharf plugin harness` answered what is no response ({error}): {answer}")
                }
            },
            Err(error) => panic!("`wharf plugin harness` cannot be asked: {error}"),
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
