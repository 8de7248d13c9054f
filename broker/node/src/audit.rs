//! The audit log: who asked the broker to change what, and what came of it.
//!
//! ```text
//! audit/00000000000000000001.log      named after the number of its first entry; the newest is written to
//!
//! {"seq":1,"at":"…","kind":"begins","after":"000…","chain":"5e1…"}
//! {"seq":2,"at":"…","kind":"asked","who":"admin","from":"127.0.0.1:50012","method":"PUT","target":"/v1/queues/a","chain":"…"}
//! {"seq":3,"at":"…","kind":"done","of":2,"status":200,"body_sha256":"…","body_bytes":17,"chain":"…"}
//! ```
//!
//! `chain` is the SHA-256 of the chain before it, as 32 bytes, and of the line up to `,"chain":`. So whoever changes,
//! removes or inserts a line changes every chain after it, and whoever wrote a chain down elsewhere can tell.
//! A file begins with the last chain of the one before it, which may be gone: only so many are kept.
//!
//! What is asked for is on the disk before it is begun, and what came of it before it is answered. When the log cannot
//! be written nothing is changed any more. Bodies are not in it, but their digests; and no digest where the body is a
//! secret, which could be guessed.

mod book;
mod check;

use serde::{Deserialize, Serialize};
use wharf_protocol::Timestamp;

pub(crate) use book::Audit;
pub use check::{AuditProblem, AuditReport, verify_audit};

use crate::{Action, Node, NodeError, Principal};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// 1, 2, 3… through all files.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// What an entry of the audit log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AuditEvent {
    /// A file of the log begins.
    Begins {
        /// The chain of the entry before it; zeros before the first.
        after: String,
    },
    /// A change is asked for, and about to be begun.
    Asked(AuditAsked),
    /// A change was made, or refused.
    Done(AuditDone),
}

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAsked {
    /// The principal's name.
    pub who: String,
    /// The address it came from; `-` where that is not known.
    pub from: String,
    /// The method of the request.
    pub method: String,
    /// Its path and query.
    pub target: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDone {
    /// Of which entry.
    pub of: u64,
    /// The status of the answer; `None`: whoever asked left before it, and it may have been made or not.
    pub status: Option<u16>,
    /// The SHA-256 of the request's body, as far as it was read; `None` of a secret.
    pub body_sha256: Option<String>,
    /// How long the body was.
    pub body_bytes: u64,
}

/// A change as it is listed: what was asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditView {
    /// The entry's number.
    pub seq: u64,
    /// When it was asked for, RFC 3339.
    pub at: String,
    /// What was asked for.
    pub asked: AuditAsked,
    /// What came of it; `None`: the broker ended before that.
    pub done: Option<AuditDone>,
}

/// Which changes are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those that this principal asked for.
    pub who: Option<String>,
    /// Only those whose target begins so.
    pub target: Option<String>,
    /// Only those from then on.
    pub since: Option<Timestamp>,
    /// Only those with a lower number: older ones.
    pub before: Option<u64>,
}

impl AuditFilter {
    fn matches(&self, entry: &AuditEntry, asked: &AuditAsked) -> bool {
        let at = entry.at.parse::<Timestamp>().unwrap_or_default();
        self.who.as_ref().is_none_or(|who| *who == asked.who)
            && self.target.as_ref().is_none_or(|target| asked.target.starts_with(target.as_str()))
            && self.since.is_none_or(|since| at >= since)
            && self.before.is_none_or(|before| entry.seq < before)
    }
}

impl Node {
    /// Notes that a change is asked for; its number. Returns when that is on the disk: begin it only then.
    ///
    /// # Errors
    /// The audit log cannot be written: the change must not be made.
    pub async fn audit(&self, asked: AuditAsked) -> Result<u64, NodeError> {
        self.audit_log().append(AuditEvent::Asked(asked)).await
    }

    /// Notes what came of a change. Returns when that is on the disk: answer only then.
    ///
    /// # Errors
    /// The audit log cannot be written.
    pub async fn audit_done(&self, done: AuditDone) -> Result<(), NodeError> {
        self.audit_log().append(AuditEvent::Done(done)).await.map(drop)
    }

    /// At most `limit` changes that pass `filter`, newest first.
    ///
    /// # Errors
    /// Not allowed; the log cannot be read.
    pub async fn audited(
        &self,
        who: &Principal,
        filter: AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditView>, NodeError> {
        who.check(Action::Administer)?;
        let folder = self.audit_log().folder().to_owned();
        let listed = tokio::task::spawn_blocking(move || check::list(&folder, &filter, limit)).await;
        let unreadable = |error: &dyn std::fmt::Display| {
            NodeError::Unavailable(format!("the audit log cannot be read: {error}"))
        };
        listed.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))
    }

    /// Whether the audit log is as it was written, as far as the broker itself can tell.
    ///
    /// # Errors
    /// Not allowed; the log cannot be read.
    pub async fn verify_audit(&self, who: &Principal) -> Result<AuditReport, NodeError> {
        who.check(Action::Administer)?;
        self.audit_log().verify().await
    }
}
