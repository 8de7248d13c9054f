//! A folder of cases: a message in, and what is to become of it, in files.
//!
//! ```text
//! cases/
//!   stage.json             the stage of all cases: config, outputs, kv, tables, grants, now_ms, budget; may be missing
//!   a-plain-order/
//!     message.json         topic, key, headers, message_id, reply_to, attempt, payload; may be missing
//!     payload.xml          the payload, in a file of its own: `payload.` and anything
//!     stage.json           in place of the one above, for this case
//!     kv.json              what the pipeline remembers before, in place of the `kv` of the stage; may be missing
//!     expected.json        what becomes of it, and what it leaves in `kv`, as `written` has it; UPDATE_GOLDEN=1 writes it
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::harness::outcome::Result as Verdict;
use crate::harness::wire::from_base64;
use crate::harness::written::{differences, written_with_kv};
use crate::harness::{Budget, Input, Memory, Outcome, Setup, Subject};

/// How many cases a folder holds at most.
const CASES_MAX: usize = 10_000;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseReport {
    /// Its folder's name.
    pub name: String,
    /// What is wrong, a line each; empty where all is well.
    pub wrong: Vec<String>,
    /// Whether what is expected was written, because it was to be.
    pub written: bool,
    /// Whether the message broke the plugin, as a case may expect.
    pub broke: bool,
}

/// A message as people write it, as the admin API takes it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MessageFile {
    topic: Option<String>,
    key: Option<TextOrBytes>,
    headers: BTreeMap<String, TextOrBytes>,
    message_id: Option<String>,
    reply_to: Option<String>,
    attempt: u32,
    payload: String,
    payload_encoding: Option<PayloadEncoding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum TextOrBytes {
    Text(String),
    Bytes { base64: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PayloadEncoding {
    Base64,
}

/// A case, read.
struct Case {
    name: String,
    input: Input,
    setup: Setup,
    budget: Budget,
    expected: PathBuf,
}

/// Runs the cases in `folder`, by name. With `update`, what becomes of a message is written to its `expected.json`
/// instead of compared with it. Where there is no `stage.json`, the stage is `setup`.
///
/// # Errors
/// A file cannot be read or is not what it is to be, or the plugin cannot be run.
pub fn run_cases(
    subject: &mut dyn Subject,
    folder: &Path,
    setup: &Setup,
    update: bool,
) -> Result<Vec<CaseReport>, String> {
    let mut reports = Vec::new();
    for case in read_cases(folder, setup)? {
        let outcomes = subject.run(&case.setup, std::slice::from_ref(&case.input));
        let outcomes = outcomes.map_err(|error| format!("{}: {error}", case.name))?;
        let outcome = outcomes.first().ok_or_else(|| format!("{}: there is no outcome", case.name))?;
        reports.push(case.judge(outcome, update)?);
    }
    Ok(reports)
}

/// The messages of the cases in `folder`, each with its stage.
///
/// # Errors
/// A file cannot be read or is not what it is to be.
pub fn case_inputs(folder: &Path, setup: &Setup) -> Result<Vec<(Setup, Input)>, String> {
    Ok(read_cases(folder, setup)?.into_iter().map(|case| (case.setup, case.input)).collect())
}

impl Case {
    fn judge(self, outcome: &Outcome, update: bool) -> Result<CaseReport, String> {
        let is = written_with_kv(outcome);
        let broke = matches!(outcome.result, Verdict::Fault(_));
        let mut report =
            CaseReport { name: self.name, wrong: self.budget.excess(outcome), written: false, broke };
        if update {
            fs::write(&self.expected, format!("{is:#}\n"))
                .map_err(|error| cannot("write", &self.expected, &error))?;
            report.written = true;
            return Ok(report);
        }
        if !self.expected.is_file() {
            let line = format!("expected.json is missing; UPDATE_GOLDEN=1 writes it. The outcome: {is}");
            report.wrong.push(line);
            return Ok(report);
        }
        let to_be: Value = parse(&self.expected)?;
        report.wrong.extend(differences(&to_be, &is));
        Ok(report)
    }
}

fn read_cases(folder: &Path, setup: &Setup) -> Result<Vec<Case>, String> {
    let (setup, budget) = read_stage(folder, setup, &Budget::new())?;
    let folders = case_folders(folder, CASES_MAX)?;
    folders.iter().map(|folder| read_case(folder, &setup, &budget)).collect()
}

/// The folders of at most `most` cases, by name. One case too many is told: it would look as if it had been run.
fn case_folders(folder: &Path, most: usize) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| cannot("read", folder, &error))?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| cannot("read", folder, &error))?.path();
        if path.is_dir() {
            folders.push(path);
        }
        if folders.len() > most {
            return Err(format!(
                "{} has over {most} cases; spread them over several folders",
                folder.display()
            ));
        }
    }
    if folders.is_empty() {
        return Err(format!(
            "{} has no cases; each is a folder with a payload.* or a message.json",
            folder.display()
        ));
    }
    folders.sort();
    Ok(folders)
}

fn read_case(folder: &Path, setup: &Setup, budget: &Budget) -> Result<Case, String> {
    let (mut setup, budget) = read_stage(folder, setup, budget)?;
    let kv = folder.join("kv.json");
    if kv.is_file() {
        setup.kv = parse::<Memory>(&kv)?;
    }
    let file = folder.join("message.json");
    let message = if file.is_file() { parse::<MessageFile>(&file)? } else { MessageFile::default() };
    let mut input = message.input().map_err(|error| format!("{}: {error}", file.display()))?;
    if let Some(payload) = payload_file(folder)? {
        input.payload = fs::read(&payload).map_err(|error| cannot("read", &payload, &error))?;
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case { name, input, setup, budget, expected: folder.join("expected.json") })
}

fn read_stage(folder: &Path, setup: &Setup, budget: &Budget) -> Result<(Setup, Budget), String> {
    let file = folder.join("stage.json");
    if !file.is_file() {
        return Ok((setup.clone(), budget.clone()));
    }
    let wrong = |error: serde_json::Error| format!("{}: {error}", file.display());
    let mut stage: serde_json::Map<String, Value> = parse(&file)?;
    let budget = match stage.remove("budget") {
        Some(budget) => serde_json::from_value(budget).map_err(wrong)?,
        None => budget.clone(),
    };
    let setup = serde_json::from_value(stage.into()).map_err(|error| match error.to_string() {
        // What follows is the list of those that a setup has.
        unknown if unknown.starts_with("unknown field") => {
            format!("{}: {unknown}, `budget`", file.display())
        }
        _ => wrong(error),
    })?;
    Ok((setup, budget))
}

fn payload_file(folder: &Path) -> Result<Option<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| cannot("read", folder, &error))?;
    let mut found = None;
    for entry in entries {
        let path = entry.map_err(|error| cannot("read", folder, &error))?.path();
        if path.file_stem().is_some_and(|stem| stem == "payload") && found.replace(path).is_some() {
            return Err(format!("{} has two payloads", folder.display()));
        }
    }
    Ok(found)
}

impl MessageFile {
    fn input(self) -> Result<Input, String> {
        let payload = match self.payload_encoding {
            None => self.payload.into_bytes(),
            Some(PayloadEncoding::Base64) => from_base64(&self.payload)?,
        };
        let mut input = Input::new(payload).attempt(self.attempt);
        input.topic = self.topic.unwrap_or(input.topic);
        input.key = self.key.map(TextOrBytes::bytes).transpose()?;
        input.message_id = self.message_id;
        input.reply_to = self.reply_to;
        for (name, value) in self.headers {
            input.headers.push((name, value.bytes()?));
        }
        Ok(input)
    }
}

impl TextOrBytes {
    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Bytes { base64 } => from_base64(&base64),
        }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T, String> {
    let bytes = fs::read(file).map_err(|error| cannot("read", file, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", file.display()))
}

fn cannot(what: &str, file: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_case_too_many_is_refused() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let folders = case_folders(&source, 100).expect("as many as there are");
        assert!(folders.len() > 1 && folders.is_sorted(), "{folders:?}");
        assert_eq!(case_folders(&source, folders.len()), Ok(folders.clone()));
        let error = case_folders(&source, folders.len() - 1).expect_err("one too many");
        assert!(error.contains("spread them over several folders"), "{error}");
    }
}
