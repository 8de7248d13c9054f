//! What an operator writes.

use json_value::Pattern;
use serde::Deserialize;
use wharf_plugin::Problem;

use crate::Action;

/// How many bytes HMAC-SHA-256 has.
const HASH_BYTES_MAX: usize = 32;

/// Fewer would make different values look equal by chance.
const HASH_BYTES_MIN: usize = 8;

/// What an operator writes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The key of hashes.
    pub salt: String,
    /// Headers that are removed.
    pub headers: Vec<String>,
    /// What is redacted in the payload, in order.
    pub rules: Vec<Rule>,
    /// What becomes of messages in which a rule finds nothing.
    pub missing: Missing,
}

/// One of `drop`, `mask`, `hash` and `set`, of the values at a place.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Where.
    pub at: Pattern,
    /// They are removed.
    #[serde(default)]
    pub drop: bool,
    /// Their characters are replaced.
    pub mask: Option<Mask>,
    /// They become so many bytes of their HMAC-SHA-256, in hex.
    pub hash: Option<usize>,
    /// They become this value, which is JSON.
    pub set: Option<String>,
}

/// How characters are replaced.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mask {
    /// By this.
    pub with: char,
    /// But for so many at the beginning.
    pub keep_first: usize,
    /// And so many at the end.
    pub keep_last: usize,
}

/// What becomes of messages in which a rule finds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// They go on.
    #[default]
    Ignore,
    /// They are rejected.
    Reject,
}

impl Default for Mask {
    fn default() -> Self {
        Self { with: '*', keep_first: 0, keep_last: 0 }
    }
}

impl Mask {
    /// What is kept is kept only of a text that is more than twice as long: a short one would show.
    pub(crate) fn apply(&self, text: &str) -> String {
        let length = text.chars().count();
        let kept = self.keep_first.saturating_add(self.keep_last);
        let shows = kept.saturating_mul(2) <= length;
        let is_kept = |at: usize| shows && (at < self.keep_first || at >= length - self.keep_last);
        text.chars().enumerate().map(|(at, own)| if is_kept(at) { own } else { self.with }).collect()
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<Vec<Action>, Problem> {
        let actions = self.rules.iter().enumerate();
        actions.map(|(index, rule)| self.action(rule).map_err(|problem| at_rule(problem, index))).collect()
    }

    fn action(&self, rule: &Rule) -> Result<Action, Problem> {
        match (rule.drop, &rule.mask, rule.hash, &rule.set) {
            (true, None, None, None) => Ok(Action::Drop),
            (false, Some(mask), None, None) => Ok(Action::Mask(mask.clone())),
            (false, None, Some(length), None) => {
                if !(HASH_BYTES_MIN..=HASH_BYTES_MAX).contains(&length) {
                    let message = format!(
                        "{length} is not a number of bytes from {HASH_BYTES_MIN} to {HASH_BYTES_MAX}"
                    );
                    return Err(Problem::new("bad-config", message).at("/hash"));
                }
                if self.salt.is_empty() {
                    let message =
                        "`hash` needs a `salt`: without one, what was hashed can be found by trying";
                    return Err(Problem::new("bad-config", message).at("/hash"));
                }
                Ok(Action::Hash(length))
            }
            (false, None, None, Some(json)) => match json_value::read(json.as_bytes()) {
                Ok(value) => Ok(Action::Set(value.into_owned())),
                Err(problem) => Err(Problem::new("bad-config", problem.message).at("/set")),
            },
            _ => {
                let message = "a rule has one of `drop = true`, `mask`, `hash` and `set`";
                Err(Problem::new("bad-config", message))
            }
        }
    }
}

fn at_rule(problem: Problem, index: usize) -> Problem {
    let path = format!("/rules/{index}{}", problem.path.as_deref().unwrap_or_default());
    problem.at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_never_shows_most_of_a_text() {
        let mask = Mask { with: '*', keep_first: 2, keep_last: 2 };
        assert_eq!(mask.apply("12345678"), "12****78");
        assert_eq!(mask.apply("1234567"), "*******");
        assert_eq!(mask.apply("ééabcdéé"), "éé****éé");
        assert_eq!(mask.apply(""), "");
        assert_eq!(Mask { keep_last: usize::MAX, ..mask }.apply("ab"), "**");
    }
}
