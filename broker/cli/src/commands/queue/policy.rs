//! A queue's policy, as it is typed and shown.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Map, Value};
use wharf_admin::policy::QueuePolicy;
use wharf_protocol::QueueName;

use crate::units::{self, show_bytes, show_duration};

/// What a queue promises. What is not given is the broker's default, or stays as it is.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Policy")]
pub(super) struct Flags {
    /// What a confirm waits for: the disk, the operating system, or nothing [default: fsync]
    #[arg(long)]
    durability: Option<Durability>,
    /// How long a consumer may hold a message before it is delivered again [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    lease: Option<Duration>,
    /// After how many failed deliveries a message becomes a dead letter [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// The pauses before retries, and how they grow: `fixed:5s`, `linear:1s..1m`, `exponential:200ms..1m`
    /// [default: exponential:200ms..1m]
    #[arg(long, value_name = "HOW", value_parser = retry, conflicts_with_all = ["retry_min", "retry_max"])]
    retry: Option<Retry>,
    /// How much of a pause is added to it at most, by chance: `25%` [default: 25%]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    retry_jitter: Option<u8>,
    /// The first pause before a retry [default: 200ms]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, hide = true)]
    retry_min: Option<Duration>,
    /// The longest pause before a retry [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, hide = true)]
    retry_max: Option<Duration>,
    /// The queue where dead letters go [default: dead-letters]
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<QueueName>,
    /// Dead-letter messages whose time to live runs out, instead of dropping them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dead_letter_expired: Option<bool>,
    /// How long a message may wait here; `none`: for ever [default: none]
    #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
    ttl: Option<u64>,
    /// The most messages that may lie here; `none`: no limit [default: none]
    #[arg(long, value_name = "N", value_parser = count_or_none)]
    max_messages: Option<u64>,
    /// The most bytes of messages that may lie here, `512MiB`; `none`: no limit [default: none]
    #[arg(long, value_name = "SIZE", value_parser = bytes_or_none)]
    max_bytes: Option<u64>,
    /// What happens to a message that comes when the queue is full [default: reject]
    #[arg(long)]
    overflow: Option<Overflow>,
    /// Which messages wait for one another [default: fifo]
    #[arg(long)]
    order: Option<Order>,
    /// The header whose value is a message's tenant: tenants take turns; `none`: nobody does [default: none]
    #[arg(long, value_name = "HEADER")]
    fair_by: Option<String>,
    /// Deliver to one consumer only, the one that came first; the next takes over when it leaves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    single_active: Option<bool>,
    /// One consumer at a time; the queue goes when its consumer does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exclusive: Option<bool>,
    /// Removes the queue after so long without a consumer; `none`: never [default: none]
    #[arg(long, value_name = "DURATION", value_parser = duration_or_none)]
    expires: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durability {
    Fsync,
    Os,
    Memory,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Overflow {
    /// Its publisher is told that the queue is full
    Reject,
    /// The oldest that waits makes room
    DropOldest,
    /// The oldest that waits makes room, and becomes a dead letter
    DeadLetter,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// None: what comes back holds nothing up
    Fifo,
    /// Those of one key: one at a time, through retries
    Key,
}

/// `linear:1s..1m`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Retry {
    backoff: &'static str,
    pauses: Option<(Duration, Duration)>,
}

impl Flags {
    /// Only what was typed, as the admin API takes it.
    pub(super) fn given(&self) -> Map<String, Value> {
        let retry = self.retry.as_ref();
        let pauses = retry.and_then(|retry| retry.pauses);
        let fair_by = self.fair_by.as_deref();
        let given = [
            ("durability", self.durability.map(word)),
            ("lease_ms", self.lease.map(milliseconds)),
            ("max_attempts", self.max_attempts.map(Value::from)),
            ("retry", retry.map(|retry| Value::from(retry.backoff))),
            ("retry_min_ms", self.retry_min.or(pauses.map(|(min, _)| min)).map(milliseconds)),
            ("retry_max_ms", self.retry_max.or(pauses.map(|(_, max)| max)).map(milliseconds)),
            ("retry_jitter_percent", self.retry_jitter.map(Value::from)),
            ("dead_letter", self.dead_letter.as_ref().map(|name| Value::from(name.as_str()))),
            ("dead_letter_expired", self.dead_letter_expired.map(Value::from)),
            ("ttl_ms", self.ttl.map(Value::from)),
            ("max_messages", self.max_messages.map(Value::from)),
            ("max_bytes", self.max_bytes.map(Value::from)),
            ("overflow", self.overflow.map(word)),
            ("order", self.order.map(word)),
            ("single_active", self.single_active.map(Value::from)),
            ("exclusive", self.exclusive.map(Value::from)),
            ("expires_ms", self.expires.map(Value::from)),
            ("fair_by", fair_by.map(|header| if header == "none" { Value::Null } else { header.into() })),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// What differs from the default, by the names of the flags.
pub(super) fn rows(policy: &QueuePolicy) -> Vec<(&'static str, String)> {
    let default = QueuePolicy::default();
    let mut rows = Vec::new();
    let mut row = |name, differs: bool, shown: String| {
        if differs {
            rows.push((name, shown));
        }
    };
    let yes = || "yes".to_owned();
    row("durability", policy.durability != default.durability, tell(&policy.durability));
    row("lease", policy.lease_ms != default.lease_ms, show_duration(policy.lease_ms));
    row("max attempts", policy.max_attempts != default.max_attempts, policy.max_attempts.to_string());
    let pauses = |policy: &QueuePolicy| (policy.retry, policy.retry_min_ms, policy.retry_max_ms);
    let (retry, min, max) = pauses(policy);
    let (min, max) = (show_duration(min), show_duration(max));
    row("retry", pauses(policy) != pauses(&default), format!("{}, {min} to {max}", tell(&retry)));
    let jitter = policy.retry_jitter_percent;
    row("retry jitter", jitter != default.retry_jitter_percent, format!("{jitter}%"));
    let dead_letter = policy.dead_letter.as_ref().map(ToString::to_string);
    row("dead letters to", dead_letter.is_some(), dead_letter.unwrap_or_default());
    row("dead-letter expired", policy.dead_letter_expired, yes());
    row("time to live", policy.ttl_ms > 0, show_duration(policy.ttl_ms));
    row("most messages", policy.max_messages > 0, policy.max_messages.to_string());
    row("most bytes", policy.max_bytes > 0, show_bytes(policy.max_bytes));
    row("when full", policy.overflow != default.overflow, tell(&policy.overflow));
    row("order", policy.order != default.order, tell(&policy.order));
    row("fair by", policy.fair_by.is_some(), policy.fair_by.clone().unwrap_or_default());
    row("single active", policy.single_active, yes());
    row("exclusive", policy.exclusive, yes());
    row("expires after", policy.expires_ms > 0, show_duration(policy.expires_ms));
    rows
}

/// The word by which a value travels.
fn tell(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

/// The word that was typed for a choice.
fn word(choice: impl ValueEnum) -> Value {
    choice.to_possible_value().map_or(Value::Null, |value| value.get_name().into())
}

fn retry(text: &str) -> Result<Retry, String> {
    let (how, pauses) = match text.split_once(':') {
        None => (text, None),
        Some((how, pauses)) => {
            let (min, max) = pauses.split_once("..").unwrap_or((pauses, pauses));
            (how, Some((units::duration(min)?, units::duration(max)?)))
        }
    };
    let backoff = ["fixed", "linear", "exponential"].into_iter().find(|known| *known == how);
    match (backoff, pauses) {
        (Some("fixed"), Some((min, max))) if min != max => {
            Err("a fixed pause is one duration: fixed:5s".into())
        }
        (Some(backoff), pauses) => Ok(Retry { backoff, pauses }),
        (None, _) => Err("write fixed:5s, linear:1s..1m or exponential:200ms..1m".into()),
    }
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| "that is 0% to 100%".into())
}

fn duration_or_none(text: &str) -> Result<u64, String> {
    let duration = or_none(text, units::duration)?.unwrap_or_default();
    u64::try_from(duration.as_millis()).map_err(|_| "that is too long".into())
}

fn bytes_or_none(text: &str) -> Result<u64, String> {
    Ok(or_none(text, units::bytes)?.unwrap_or(0))
}

fn count_or_none(text: &str) -> Result<u64, String> {
    let count = |text: &str| text.parse().map_err(|_| "that is a number, or `none`".to_owned());
    Ok(or_none(text, count)?.unwrap_or(0))
}

fn or_none<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "none" { Ok(None) } else { parse(text).map(Some) }
}

fn milliseconds(duration: Duration) -> Value {
    Value::from(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn given(line: &str) -> Value {
        let words = std::iter::once("queue").chain(line.split_whitespace());
        Value::Object(Line::try_parse_from(words).expect("it can be typed").flags.given())
    }

    #[test]
    fn only_what_was_typed_is_sent() {
        assert_eq!(given(""), json!({}));
        assert_eq!(given("--lease 2m --durability os"), json!({"lease_ms": 120_000, "durability": "os"}));
    }

    #[test]
    fn every_flag_is_a_field_of_the_policy() {
        let line = "--durability memory --lease 1s --max-attempts 3 --retry linear:1s..1m --retry-jitter 10% \
                    --dead-letter d --dead-letter-expired --ttl 1h --max-messages 5 --max-bytes 1GiB \
                    --overflow drop-oldest --order key --fair-by tenant --single-active --exclusive --expires 10m";
        let given = given(line);
        let policy: QueuePolicy = serde_json::from_value(given.clone()).expect("the API takes it");
        let shown = serde_json::to_value(&policy).expect("encodes");
        assert_eq!(given, shown, "no field is left at its default");
        assert_eq!(rows(&policy).len(), 16);
        assert_eq!(rows(&QueuePolicy::default()), []);
    }

    #[test]
    fn what_is_none_or_false_goes_back_to_the_default() {
        let line =
            "--ttl none --max-bytes none --max-messages none --expires none --fair-by none --exclusive=false";
        let expected = json!({
            "ttl_ms": 0, "max_bytes": 0, "max_messages": 0, "expires_ms": 0, "fair_by": null, "exclusive": false,
        });
        assert_eq!(given(line), expected);
    }

    #[test]
    fn pauses_are_one_duration_or_two() {
        let seconds = |min, max| Some((Duration::from_secs(min), Duration::from_secs(max)));
        assert_eq!(retry("linear:1s..1m"), Ok(Retry { backoff: "linear", pauses: seconds(1, 60) }));
        assert_eq!(retry("fixed:5s"), Ok(Retry { backoff: "fixed", pauses: seconds(5, 5) }));
        assert_eq!(retry("exponential"), Ok(Retry { backoff: "exponential", pauses: None }));
        for wrong in ["fixed:1s..2s", "quadratic", "linear:1..2", "linear:", ""] {
            assert!(retry(wrong).is_err(), "{wrong:?}");
        }
    }
}
