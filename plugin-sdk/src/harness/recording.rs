//! Messages that a stage of a running broker took, and what it made of them: `wharf record` writes them.
//!
//! Lines of JSON (a line each, UTF-8, bytes in base64), so that `head`, `jq` and `grep` work on them. The first line
//! says of which stage they are, the others are messages as they entered it, with what it said:
//!
//! ```json
//! {"wharf-recording":1,"pipeline":"orders","version":3,"stage":"check","plugin":"at-most@1.0.0","digest":"9f…","kind":"validator","config":{"max_bytes":64},"outputs":[],"grants":["log","config","metrics"]}
//! {"message":{"topic":"orders.new","headers":[["region","ZXU="]],"payload":"e30=","attempt":0},"now_ms":1767225600000,"result":{"passed":[{"to":null,"headers":[["region","ZXU="]],"payload":"e30="}]}}
//! ```
//!
//! The version is raised when a reader of the last one would misread a file. Unknown members are to be ignored; so is
//! `missed`, on the last line of a recording that misses messages because they came too fast: how many.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::harness::outcome::Result as Verdict;
use crate::harness::written::{differences, written};
use crate::harness::{Input, Setup, Subject, memory, wire};

/// The version that is written, and the newest that is read.
pub const RECORDING_VERSION: u32 = 1;

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How many messages of a recording are read at most.
const ENTRIES_MAX: usize = 100_000;

/// How many messages go into a batch.
const BATCH: usize = 32;

/// Messages with their outcomes, and the stage that they were recorded at.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Of which stage.
    pub head: Head,
    /// In the order in which they came.
    pub entries: Vec<Entry>,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`RECORDING_VERSION`].
    #[serde(rename = "wharf-recording")]
    pub recording: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// Its version.
    pub version: u32,
    /// The stage's name.
    pub stage: String,
    /// Its plugin, as `name@version`.
    pub plugin: String,
    /// The plugin's SHA-256, in hexadecimal.
    pub digest: String,
    /// As what it was used.
    pub kind: String,
    /// The stage's configuration.
    pub config: Map<String, Value>,
    /// The names of the declared outputs.
    pub outputs: Vec<String>,
    /// What the stage grants.
    pub grants: Vec<String>,
}

/// A message, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// As it entered the stage.
    pub message: wire::Message,
    /// The time that the plugin saw, in milliseconds since 1970.
    pub now_ms: u64,
    /// What the stage said.
    pub result: wire::Result,
}

/// A message of which something else became than when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Which entry, from 0.
    pub entry: usize,
    /// How the outcomes differ, a line each.
    pub lines: Vec<String>,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is not what it is to be.
    pub fn read(file: &Path) -> Result<Self, String> {
        let opened = File::open(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Self::parse(BufReader::new(opened)).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Reads a recording's lines.
    ///
    /// ```
    /// use wharf_plugin::harness::Recording;
    ///
    /// let lines = r#"{"wharf-recording":1,"pipeline":"orders","version":3,"stage":"check","plugin":"at-most@1.0.0","digest":"9f","kind":"validator","config":{"max_bytes":64},"outputs":[],"grants":["log"]}
    /// {"message":{"topic":"orders.new","payload":"e30="},"now_ms":1767225600000,"result":{"passed":[{"to":null,"headers":[],"payload":"e30="}]}}"#;
    /// let recording = Recording::parse(lines.as_bytes())?;
    /// assert_eq!((recording.head.stage.as_str(), recording.entries.len()), ("check", 1));
    /// assert_eq!(recording.inputs()?.len(), 1);
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    /// A line is not what it is to be, or there are none behind the first, or too many.
    pub fn parse(mut lines: impl BufRead) -> Result<Self, String> {
        let mut line = Vec::new();
        let mut head: Option<Head> = None;
        let mut entries = Vec::new();
        for number in 1_usize.. {
            line.clear();
            let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error| error.to_string())? == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            if head.is_none() {
                head = Some(read_head(&line)?);
                continue;
            }
            if entries.len() == ENTRIES_MAX {
                return Err(format!("over {ENTRIES_MAX} messages"));
            }
            let entry = serde_json::from_slice(&line).map_err(|error| format!("line {number}: {error}"))?;
            entries.push(entry);
        }
        let head = head.ok_or("it is empty; `wharf record` makes recordings")?;
        if entries.is_empty() {
            return Err(
                "it holds no messages, so that nothing would be tested by it; record while some come".into(),
            );
        }
        Ok(Self { head, entries })
    }

    /// The stage, as it was.
    pub fn setup(&self) -> Setup {
        let Head { config, outputs, kind, grants, .. } = self.head.clone();
        Setup { config, outputs, kind: Some(kind), grants: Some(grants), ..Setup::default() }
    }

    /// The messages.
    ///
    /// # Errors
    /// One of them is not base64 where it is to be.
    pub fn inputs(&self) -> Result<Vec<Input>, String> {
        let input = |(i, entry): (usize, &Entry)| {
            Input::try_from(&entry.message).map_err(|error| format!("message {i}: {error}"))
        };
        self.entries.iter().enumerate().map(input).collect()
    }

    /// Sends the messages through `subject` again, at the times at which they came, and tells what differs. What a
    /// stage keeps in `kv` is not recorded: it begins as `setup` has it, and what a message leaves there is there for
    /// the next.
    ///
    /// # Errors
    /// The recording or the plugin cannot be used.
    pub fn replay(&self, subject: &mut dyn Subject, setup: &Setup) -> Result<Vec<Divergence>, String> {
        let inputs = self.inputs()?;
        let mut divergences = Vec::new();
        let mut setup = setup.clone();
        let mut first = 0;
        while first < self.entries.len() {
            let now_ms = self.entries[first].now_ms;
            let rest = self.entries[first..].iter().take(BATCH);
            let end = first + rest.take_while(|entry| entry.now_ms == now_ms).count();
            setup.now_ms = Some(now_ms);
            let outcomes = subject.run(&setup, &inputs[first..end]).map_err(|error| error.to_string())?;
            for (entry, outcome) in (first..end).zip(outcomes) {
                memory::apply(&mut setup.kv, &outcome.changes);
                let recorded = Verdict::try_from(self.entries[entry].result.clone())
                    .map_err(|error| format!("message {entry}: {error}"))?;
                if !recorded.is_as(&outcome.result) {
                    let mut lines = differences(&written(&recorded), &written(&outcome.result));
                    if lines.is_empty() {
                        lines.push("the bytes differ, and say the same".to_owned());
                    }
                    divergences.push(Divergence { entry, lines });
                }
            }
            first = end;
        }
        Ok(divergences)
    }
}

fn read_head(line: &[u8]) -> Result<Head, String> {
    let head: Head = serde_json::from_slice(line)
        .map_err(|error| format!("line 1 is not the head of a recording: {error}"))?;
    if head.recording > RECORDING_VERSION {
        let version = head.recording;
        return Err(format!(
            "it is a recording of version {version}, and {RECORDING_VERSION} is the newest that is read here"
        ));
    }
    Ok(head)
}
