//! A `wharf serve` with its own data, ports and context file, and commands that speak to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A running broker. Killed when it is dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) folder: TempDir,
    /// What it printed until it was ready.
    pub(crate) said: String,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"))
    }

    /// With the data that `folder` holds.
    pub(crate) fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    /// With more arguments.
    pub(crate) fn start_with(folder: TempDir, arguments: &[&str]) -> Self {
        let mut serve = wharf();
        serve.args(["serve", "--quic", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn", "--data"]);
        serve
            .arg(folder.path().join("data"))
            .args(arguments)
            .env("WHARF_CONTEXT", folder.path().join("context.toml"));
        let mut child = serve.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said = String::new();
        while let Some(line) = lines.next().transpose().expect("read") {
            said += &(line + "\n");
            if said.contains("From elsewhere") {
                return Self { child, folder, said };
            }
        }
        panic!("the broker ended: {:?}; it said: {said}", child.wait());
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.folder.path().join("context.toml")
    }

    /// A command that speaks to this broker.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = wharf();
        command.args(line.split(' ')).env("WHARF_CONTEXT", self.context()).current_dir(self.folder.path());
        command
    }

    /// Runs a command that is to succeed, and gives what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    /// With standard input.
    pub(crate) fn ok_with(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "wharf {line}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs a command that is to fail, and gives what it said.
    pub(crate) fn fails(&self, line: &str) -> String {
        let output = self.run(line, "");
        assert_eq!(output.status.code(), Some(1), "wharf {line}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    pub(crate) fn run(&self, line: &str, input: &str) -> Output {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // A command that does not read its input may be gone already.
            let _ = stdin.write_all(input.as_bytes());
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic");
        output
    }

    /// One JSON value, as a command prints it.
    pub(crate) fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(line)).expect("JSON")
    }

    /// Writes a file beside the data, for commands to name.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = self.folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, text).expect("written");
    }

    /// Asks it to stop, and gives its data back once it has.
    pub(crate) fn stop(mut self) -> TempDir {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        assert!(self.child.wait().expect("it ends").success(), "it stops in good order");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// Ends it as a crash does, and gives its data back.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().expect("killed");
        self.child.wait().expect("it ends");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, in an environment that says nothing of Wharf.
pub(crate) fn wharf() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WHARF_") {
            command.env_remove(name);
        }
    }
    command
}
