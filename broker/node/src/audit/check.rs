//! The audit log, read: checked link by link, or listed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::book::{CHAIN, Link, link};
use super::{AuditDone, AuditEntry, AuditEvent, AuditFilter, AuditView};

/// Whether an audit log is as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Files that were read.
    pub files: u64,
    /// Entries that are as they were written, up to the problem.
    pub entries: u64,
    /// The number of the first that is kept.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The chain of the last: kept elsewhere, it tells later that nothing was cut off or written anew.
    pub head: String,
    /// The first thing that is wrong.
    pub problem: Option<AuditProblem>,
}

/// What is wrong with an audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditProblem {
    /// In which file.
    pub file: PathBuf,
    /// In which line of it, from 1.
    pub line: u64,
    /// The number that the entry there should have.
    pub seq: u64,
    /// What.
    pub reason: String,
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, seq, reason } = self;
        write!(f, "entry {seq} ({} line {line}): {reason}", file.display())
    }
}

/// Checks the audit log in `folder`, also of a broker that does not run.
///
/// # Errors
/// It cannot be read.
pub fn verify_audit(folder: &Path) -> io::Result<AuditReport> {
    let mut report = AuditReport::default();
    let mut chain: Option<Link> = None;
    for file in files(folder)? {
        report.files += 1;
        let text = fs::read(&file)?;
        let mut lines = text.split(|byte| *byte == b'\n');
        let rest = lines.next_back().unwrap_or_default();
        let lines = lines.chain((!rest.is_empty()).then_some(rest));
        for (line, number) in lines.zip(1..) {
            match check_line(line, number, chain, report.last) {
                Ok((seq, next)) => {
                    chain = Some(next);
                    report.entries += 1;
                    report.last = seq;
                    if report.first == 0 {
                        report.first = seq;
                    }
                }
                Err(reason) => {
                    let seq = report.last + 1;
                    report.problem = Some(AuditProblem { file, line: number, seq, reason });
                    report.head = chain.map(hex::encode).unwrap_or_default();
                    return Ok(report);
                }
            }
        }
    }
    report.head = chain.map(hex::encode).unwrap_or_default();
    Ok(report)
}

/// The number and chain of a line that is as it was written, after entry `last` with its `chain`.
fn check_line(line: &[u8], number: u64, chain: Option<Link>, last: u64) -> Result<(u64, Link), String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let (entry, said) = parse(text).ok_or("it is no entry")?;
    let begins = match &entry.event {
        AuditEvent::Begins { after } => Some(after),
        AuditEvent::Asked(_) | AuditEvent::Done(_) => None,
    };
    let before = match (begins, chain, number) {
        (Some(after), known, 1) => {
            let after = parse_link(after).ok_or("it does not say what it comes after")?;
            if known.is_some_and(|known| known != after) {
                return Err(
                    "it does not come after the last entry of the file before it: a file is gone, or was \
                            changed"
                        .to_owned(),
                );
            }
            after
        }
        (None, Some(known), 2..) => known,
        _ => return Err("a file begins with what it comes after, and nothing else does".to_owned()),
    };
    let body = text.rfind(CHAIN).map(|end| &text[..end]).unwrap_or_default();
    let ends_well = text[body.len()..].len() == CHAIN.len() + 2 * said.len() + 2;
    if link(&before, body) != said || !ends_well {
        return Err(
            "its chain does not fit: it, or an entry before it, was changed, added or removed".to_owned()
        );
    }
    if chain.is_some() && entry.seq != last + 1 {
        return Err(format!("it has number {}", entry.seq));
    }
    Ok((entry.seq, said))
}

/// An entry, and the chain that it says it has.
pub(super) fn parse(line: &str) -> Option<(AuditEntry, Link)> {
    let at = line.rfind(CHAIN)?;
    let chain = line[at + CHAIN.len()..].strip_suffix("\"}")?;
    let entry = serde_json::from_str(&format!("{}}}", &line[..at])).ok()?;
    Some((entry, parse_link(chain)?))
}

fn parse_link(text: &str) -> Option<Link> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex::decode(text).ok().filter(|_| lower)?.try_into().ok()
}

/// The files of the log, oldest first.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// At most `limit` changes that pass `filter`, newest first.
pub(super) fn list(folder: &Path, filter: &AuditFilter, limit: usize) -> io::Result<Vec<AuditView>> {
    let mut done: BTreeMap<u64, AuditDone> = BTreeMap::new();
    let mut found = Vec::new();
    for file in files(folder)?.into_iter().rev() {
        let text = fs::read(file)?;
        for line in text.split(|byte| *byte == b'\n').rev() {
            let Some((entry, _)) = parse(&String::from_utf8_lossy(line)) else { continue };
            match &entry.event {
                AuditEvent::Begins { .. } => {}
                AuditEvent::Done(each) => {
                    done.insert(each.of, each.clone());
                }
                AuditEvent::Asked(asked) => {
                    let done = done.remove(&entry.seq);
                    if filter.matches(&entry, asked) {
                        let (seq, at, asked) = (entry.seq, entry.at.clone(), asked.clone());
                        found.push(AuditView { seq, at, asked, done });
                        if found.len() == limit {
                            return Ok(found);
                        }
                    }
                }
            }
        }
    }
    Ok(found)
}
