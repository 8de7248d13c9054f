//! A validator's tree of errors, in a sentence.

use boon::{ErrorKind, ValidationError};
use wharf_plugin::Problem;

/// How many mistakes are named; the others are counted.
const MISTAKES_MAX: usize = 5;

/// The mistakes, each with its place and what was expected there.
pub(crate) fn problem(error: &ValidationError<'_, '_>) -> Problem {
    let mut mistakes = Vec::new();
    collect(error, &mut mistakes);
    let first = mistakes.first().map(|mistake| mistake.path.clone()).unwrap_or_default();
    let mut message =
        mistakes.iter().take(MISTAKES_MAX).map(Mistake::to_string).collect::<Vec<_>>().join("; ");
    if let Some(more @ 1..) = mistakes.len().checked_sub(MISTAKES_MAX) {
        message.push_str(&format!("; and {more} more"));
    }
    Problem::new("schema", message).at(first)
}

struct Mistake {
    /// A JSON pointer; empty for the whole payload.
    path: String,
    text: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "the payload" } else { &self.path };
        write!(f, "{path}: {}", self.text)
    }
}

/// Of alternatives, the one that came furthest is most likely the one that was meant; where none came further than
/// the alternatives themselves, all are named.
fn collect(error: &ValidationError<'_, '_>, mistakes: &mut Vec<Mistake>) {
    let path = error.instance_location.to_string();
    let alternatives = matches!(error.kind, ErrorKind::AnyOf | ErrorKind::OneOf(None));
    if !alternatives || error.causes.is_empty() {
        if error.causes.is_empty() {
            mistakes.push(Mistake { path, text: error.kind.to_string() });
        }
        for cause in &error.causes {
            collect(cause, mistakes);
        }
        return;
    }
    let branches = error.causes.iter().map(|cause| {
        let mut own = Vec::new();
        collect(cause, &mut own);
        own
    });
    let branches: Vec<Vec<Mistake>> = branches.collect();
    let depth = |branch: &Vec<Mistake>| branch.iter().map(|mistake| mistake.path.len()).max().unwrap_or(0);
    let deepest = branches.iter().map(depth).max().unwrap_or(0);
    if deepest > path.len() {
        let furthest = branches.into_iter().find(|branch| depth(branch) == deepest);
        mistakes.extend(furthest.into_iter().flatten());
        return;
    }
    let texts: Vec<String> = branches.into_iter().flatten().map(|mistake| mistake.text).collect();
    mistakes.push(Mistake { path, text: format!("no alternative matches: {}", texts.join(", or ")) });
}
