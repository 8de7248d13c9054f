//! The files of the audit log: appended to, synced, begun anew at a size, the oldest removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use wharf_protocol::Timestamp;

use super::check::{self, AuditReport};
use super::{AuditEntry, AuditEvent};
use crate::NodeError;

/// Bytes of a file after which another begins.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files that are kept.
const FILES_MAX: usize = 16;
/// What stands between an entry and its chain.
pub(super) const CHAIN: &str = ",\"chain\":\"";

/// A link of the chain.
pub(super) type Link = [u8; 32];

/// The audit log of a node.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    folder: PathBuf,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug)]
struct Book {
    folder: PathBuf,
    file_bytes_max: u64,
    /// The newest file, and its size.
    file: Option<(File, u64)>,
    /// The number and the chain of the last entry.
    last: (u64, Link),
    /// Why nothing is written any more: a write that failed is never tried again.
    failed: Option<String>,
}

impl Audit {
    /// Opens the log in `folder`, made when it is missing. A line that a crash cut short goes: nobody was answered.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        Self::open_with(folder, FILE_BYTES_MAX)
    }

    pub(super) fn open_with(folder: PathBuf, file_bytes_max: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut book =
            Book { folder: folder.clone(), file_bytes_max, file: None, last: (0, [0; 32]), failed: None };
        for path in check::files(&folder)?.into_iter().rev() {
            if let Some((last, bytes)) = take_up(&path)? {
                let file = OpenOptions::new().append(true).open(&path)?;
                (book.file, book.last) = (Some((file, bytes)), last);
                break;
            }
            // A crash made it and wrote nothing into it.
            fs::remove_file(&path)?;
        }
        Ok(Self { folder, book: Arc::new(Mutex::new(book)) })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds an entry and syncs; its number.
    pub(super) async fn append(&self, event: AuditEvent) -> Result<u64, NodeError> {
        let book = Arc::clone(&self.book);
        let at = Timestamp::wall_clock();
        let appended = tokio::task::spawn_blocking(move || lock(&book).append(at, event)).await;
        let appended = appended.map_err(|error| NodeError::Unavailable(error.to_string()))?;
        appended.map_err(|error| {
            NodeError::Unavailable(format!("the audit log cannot be written, so nothing is changed: {error}"))
        })
    }

    /// Whether it is as it was written, while nobody writes.
    pub(super) async fn verify(&self) -> Result<AuditReport, NodeError> {
        let (book, folder) = (Arc::clone(&self.book), self.folder.clone());
        let verified = tokio::task::spawn_blocking(move || {
            let _nobody_writes = lock(&book);
            check::verify_audit(&folder)
        });
        let unreadable = |error: &dyn std::fmt::Display| {
            NodeError::Unavailable(format!("the audit log cannot be read: {error}"))
        };
        verified.await.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))
    }
}

impl Book {
    fn append(&mut self, at: Timestamp, event: AuditEvent) -> io::Result<u64> {
        if let Some(reason) = &self.failed {
            return Err(io::Error::other(reason.clone()));
        }
        let written = self.write(at, event);
        if let Err(error) = &written {
            self.failed = Some(error.to_string());
            tracing::error!(%error, "the audit log failed: nothing is changed by the admin API any more");
        }
        written
    }

    fn write(&mut self, at: Timestamp, event: AuditEvent) -> io::Result<u64> {
        if self.file.as_ref().is_none_or(|(_, bytes)| *bytes >= self.file_bytes_max) {
            self.begin_file(at)?;
        }
        self.write_line(at, event)?;
        let (file, _) = self.file.as_mut().expect("just begun where there was none");
        file.sync_data()?;
        Ok(self.last.0)
    }

    /// Begins another file with the chain so far, and lets the oldest go.
    fn begin_file(&mut self, at: Timestamp) -> io::Result<()> {
        let path = self.folder.join(format!("{:020}.log", self.last.0 + 1));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        self.file = Some((file, 0));
        let after = hex::encode(self.last.1);
        self.write_line(at, AuditEvent::Begins { after })?;
        File::open(&self.folder)?.sync_all()?;
        let files = check::files(&self.folder)?;
        let surplus = files.len().saturating_sub(FILES_MAX);
        files.iter().take(surplus).try_for_each(fs::remove_file)
    }

    fn write_line(&mut self, at: Timestamp, event: AuditEvent) -> io::Result<()> {
        let (seq, before) = self.last;
        let entry = AuditEntry { seq: seq + 1, at: at.to_string(), event };
        let (line, chain) = encode(&entry, &before)?;
        let (file, bytes) = self.file.as_mut().expect("the caller has begun one");
        file.write_all(line.as_bytes())?;
        *bytes += line.len() as u64;
        self.last = (entry.seq, chain);
        Ok(())
    }
}

/// An entry as a line, and its chain.
fn encode(entry: &AuditEntry, before: &Link) -> io::Result<(String, Link)> {
    let mut line = serde_json::to_string(entry)?;
    // The brace comes back after the chain.
    line.pop();
    let chain = link(before, &line);
    line.push_str(CHAIN);
    line.push_str(&hex::encode(chain));
    line.push_str("\"}\n");
    Ok((line, chain))
}

/// The chain of an entry: `line` is all of it but its chain.
pub(super) fn link(before: &Link, line: &str) -> Link {
    Sha256::new_with_prefix(before).chain_update(line).finalize().into()
}

/// The number and chain of the last whole line of a file, and its size without what a crash cut short. `None`: no line.
fn take_up(path: &Path) -> io::Result<Option<((u64, Link), u64)>> {
    let text = fs::read(path)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole < text.len() {
        let cut = text.len() - whole;
        tracing::warn!(file = %path.display(), cut, "a crash cut the last line of the audit log short");
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    let mut lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let Some(last) = lines.next_back() else { return Ok(None) };
    let last = String::from_utf8_lossy(last);
    // One that somebody changed is `verify`'s to tell of: the log goes on after it all the same.
    let seq = check::parse(&last).map_or_else(|| lines.count() as u64 + 1, |(entry, _)| entry.seq);
    let chain = check::parse(&last).map_or([0; 32], |(_, chain)| chain);
    Ok(Some(((seq, chain), whole as u64)))
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{AuditAsked, AuditDone};
    use super::*;

    fn asked(n: u64) -> AuditEvent {
        let target = format!("/v1/queues/q{n}");
        AuditEvent::Asked(AuditAsked { who: "me".into(), from: "-".into(), method: "PUT".into(), target })
    }

    async fn fill(audit: &Audit, count: u64) {
        for n in 0..count {
            let of = audit.append(asked(n)).await.expect("written");
            let done = AuditDone { of, status: Some(200), body_sha256: None, body_bytes: 0 };
            audit.append(AuditEvent::Done(done)).await.expect("written");
        }
    }

    fn only_file(folder: &Path) -> PathBuf {
        check::files(folder).expect("read").remove(0)
    }

    #[tokio::test]
    async fn a_log_goes_on_after_a_restart_and_after_a_line_that_was_cut_short() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = Audit::open(folder.path().into()).expect("it opens");
        fill(&audit, 2).await;
        let mut file = OpenOptions::new().append(true).open(only_file(folder.path())).expect("there");
        file.write_all(b"{\"seq\":6,\"at\":\"20").expect("written");
        let audit = Audit::open(folder.path().into()).expect("it opens again");
        fill(&audit, 1).await;

        let report = audit.verify().await.expect("read");
        assert_eq!((report.problem, report.entries, report.last), (None, 7, 7));
    }

    #[tokio::test]
    async fn a_byte_that_was_changed_is_found_and_its_entry_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = Audit::open(folder.path().into()).expect("it opens");
        fill(&audit, 5).await;
        let file = only_file(folder.path());
        let text = fs::read(&file).expect("read");
        let line_of = |at: usize| text[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        for at in 0..text.len() {
            let mut changed = text.clone();
            // Another byte that is no less likely there.
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            fs::write(&file, &changed).expect("written");
            let report = check::verify_audit(folder.path()).expect("read");
            let problem = report.problem.unwrap_or_else(|| panic!("byte {at} of line {}", line_of(at)));
            assert_eq!(problem.line, line_of(at), "byte {at}: {problem}");
        }
        fs::write(&file, &text).expect("written");
        assert_eq!(check::verify_audit(folder.path()).expect("read").problem, None);
    }

    #[tokio::test]
    async fn a_line_that_was_removed_inserted_or_swapped_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = Audit::open(folder.path().into()).expect("it opens");
        fill(&audit, 3).await;
        let file = only_file(folder.path());
        let text = fs::read_to_string(&file).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        let mut removed = lines.clone();
        removed.remove(3);
        let mut twice = lines.clone();
        twice.insert(3, lines[3]);
        let mut swapped = lines.clone();
        swapped.swap(3, 4);
        for tampered in [removed, twice, swapped] {
            fs::write(&file, tampered.join("\n") + "\n").expect("written");
            let problem = check::verify_audit(folder.path()).expect("read").problem.expect("found");
            assert!((4..=5).contains(&problem.line), "{problem}");
        }
        // The end is missed only by who knows what it was.
        let head = check::verify_audit(folder.path()).expect("read").head;
        fs::write(&file, lines[..5].join("\n") + "\n").expect("written");
        let report = check::verify_audit(folder.path()).expect("read");
        assert_eq!(report.problem, None);
        assert_ne!(report.head, head);
    }

    #[tokio::test]
    async fn a_full_file_is_followed_by_another_that_carries_the_chain_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = Audit::open_with(folder.path().into(), 1_000).expect("it opens");
        fill(&audit, 100).await;
        let report = audit.verify().await.expect("read");
        assert_eq!((report.problem, report.files), (None, FILES_MAX as u64));
        assert!(report.first > 1, "the first are gone");

        let files = check::files(folder.path()).expect("read");
        fs::remove_file(&files[7]).expect("removed");
        let problem = check::verify_audit(folder.path()).expect("read").problem.expect("found");
        assert_eq!((problem.file, problem.line), (files[8].clone(), 1));
    }
}
