//! Outcomes as people read them in files, and how two of them differ.
//!
//! ```json
//! {"passed": [{"to": "eu", "headers": {"content-type": "application/json"}, "json": {"total": 12}}]}
//! {"rejected": {"code": "not-xml", "message": "…", "path": "line 3, column 7"}}
//! "dropped"
//! {"dropped": true, "kv": {"seen/A-7": {"text": "", "expires_ms": 1767229200000}, "last": "A-7", "first": null}}
//! ```
//!
//! A payload is `json` where it is an object or array of it, so that its spacing and the order of its members do not
//! matter; `text` where it is UTF-8; else `base64`. `kv` is what the message left there, under the keys that it changed;
//! null: it removed them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Problem;
use crate::harness::outcome::{Emitted, Outcome, Result};
use crate::harness::wire::to_base64;
use crate::harness::{Changes, Remembered};

/// How many differences are told.
const DIFFERENCES_MAX: usize = 20;

/// The outcome, in the words of a golden file.
pub(crate) fn written(result: &Result) -> Value {
    match result {
        Result::Passed(outputs) => json!({"passed": outputs.iter().map(output).collect::<Vec<_>>()}),
        Result::Dropped => json!("dropped"),
        Result::Rejected(said) => json!({"rejected": problem(said)}),
        Result::Retry(said, after) => {
            let mut retry = problem(said);
            if let Some(after) = after {
                retry.insert("after_ms".into(), json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
            }
            json!({"retry": retry})
        }
        Result::Fault(said) => json!({"fault": problem(said)}),
    }
}

/// The outcome with what it left in `kv`, in the words of a golden file.
pub(crate) fn written_with_kv(outcome: &Outcome) -> Value {
    let is = written(&outcome.result);
    if outcome.changes.is_empty() {
        return is;
    }
    let mut whole = match is {
        Value::Object(whole) => whole,
        word => Map::from_iter([(word.as_str().unwrap_or_default().to_owned(), json!(true))]),
    };
    whole.insert("kv".into(), changes(&outcome.changes));
    whole.into()
}

fn changes(changes: &Changes) -> Value {
    changes.iter().map(|(key, left)| (key.clone(), left.as_ref().map_or(Value::Null, remembered))).collect()
}

fn remembered(remembered: &Remembered) -> Value {
    let value = bytes(&remembered.value);
    match (remembered.expires_ms, value) {
        (None, value) => value,
        (Some(expires_ms), Value::String(text)) => json!({"text": text, "expires_ms": expires_ms}),
        (Some(expires_ms), mut value) => {
            value["expires_ms"] = json!(expires_ms);
            value
        }
    }
}

fn output(output: &Emitted) -> Value {
    let mut written = Map::new();
    if let Some(to) = &output.to {
        written.insert("to".into(), json!(to));
    }
    let headers = output.headers.iter().map(|(name, value)| (name.clone(), bytes(value)));
    let headers: Map<String, Value> = headers.collect();
    if !headers.is_empty() {
        written.insert("headers".into(), headers.into());
    }
    let (form, payload) = payload(&output.payload);
    written.insert(form.into(), payload);
    written.into()
}

fn payload(payload: &[u8]) -> (&'static str, Value) {
    if matches!(payload.first(), Some(b'{' | b'['))
        && let Ok(value) = serde_json::from_slice(payload)
    {
        return ("json", value);
    }
    match std::str::from_utf8(payload) {
        Ok(text) => ("text", json!(text)),
        Err(_) => ("base64", json!(to_base64(payload))),
    }
}

/// The value of a header, or of a key in `kv`: a text, or `{"base64": "…"}`.
fn bytes(value: &[u8]) -> Value {
    std::str::from_utf8(value).map_or_else(|_| json!({"base64": to_base64(value)}), |text| json!(text))
}

fn problem(problem: &Problem) -> Map<String, Value> {
    let mut written = Map::new();
    written.insert("code".into(), json!(problem.code));
    written.insert("message".into(), json!(problem.message));
    if let Some(path) = &problem.path {
        written.insert("path".into(), json!(path));
    }
    written
}

/// What of the outcome `is` differs from `to_be`, a line each: where, what was to be, what is. Of a fault it is the code
/// that counts: its text is for people, and says places and traps that another build or engine has otherwise.
pub(crate) fn differences(to_be: &Value, is: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    match (fault_code(to_be), fault_code(is)) {
        (Some(one), Some(other)) if one == other => {
            compare("", &without_words(to_be), &without_words(is), &mut lines);
        }
        _ => compare("", to_be, is, &mut lines),
    }
    if lines.len() > DIFFERENCES_MAX {
        let more = lines.len() - DIFFERENCES_MAX;
        lines.truncate(DIFFERENCES_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn fault_code(outcome: &Value) -> Option<&str> {
    outcome.get("fault")?.get("code")?.as_str()
}

/// `outcome`, but for what a fault says to people.
fn without_words(outcome: &Value) -> Value {
    let mut outcome = outcome.clone();
    if let Some(Value::Object(fault)) = outcome.get_mut("fault") {
        fault.retain(|member, _| member == "code");
    }
    outcome
}

fn compare(path: &str, to_be: &Value, is: &Value, lines: &mut Vec<String>) {
    let at = if path.is_empty() { "all of it" } else { path };
    match (to_be, is) {
        (Value::Object(to_be), Value::Object(is)) => {
            // In the order of their names, whatever order this build of serde_json keeps.
            let wanted: BTreeMap<_, _> = to_be.iter().collect();
            for (key, value) in wanted {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                match is.get(key) {
                    Some(other) => compare(&path, value, other, lines),
                    None => lines.push(format!("{path}: to be {value}, and is missing")),
                }
            }
            let more: BTreeMap<_, _> = is.iter().filter(|(key, _)| !to_be.contains_key(*key)).collect();
            let more = more.into_iter();
            lines.extend(more.map(|(key, value)| format!("{path}/{key}: not to be there, and is {value}")));
        }
        (Value::Array(to_be), Value::Array(is)) => {
            for (i, pair) in to_be.iter().zip(is).enumerate() {
                compare(&format!("{path}/{i}"), pair.0, pair.1, lines);
            }
            if to_be.len() != is.len() {
                lines.push(format!("{at}: {} items to be there, and {} are", to_be.len(), is.len()));
            }
        }
        (to_be, is) if to_be != is => lines.push(format!("{at}: to be {to_be}, and is {is}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_written_as_what_they_are() {
        let passed = |payload: &[u8]| {
            let output = Emitted { to: None, headers: Vec::new(), payload: payload.to_vec() };
            written(&Result::Passed(vec![output]))["passed"][0].clone()
        };
        assert_eq!(passed(br#"{ "a" : 1 }"#), json!({"json": {"a": 1}}));
        assert_eq!(passed(b"{ a"), json!({"text": "{ a"}));
        assert_eq!(passed(b"12"), json!({"text": "12"}), "a number keeps how it was written");
        assert_eq!(passed(&[0xff]), json!({"base64": "/w=="}));
    }

    #[test]
    fn what_is_left_in_kv_is_written_as_it_can_be_given() {
        let kept = |value: &[u8], expires_ms| Some(Remembered { value: value.to_vec(), expires_ms });
        let changes = Changes::from([
            ("count".into(), kept(b"42", None)),
            ("seen".into(), kept(b"", Some(7))),
            ("raw".into(), kept(b"\xff", Some(7))),
            ("old".into(), None),
        ]);
        let is = super::changes(&changes);
        let text = json!({
            "count": "42",
            "seen": {"text": "", "expires_ms": 7},
            "raw": {"base64": "/w==", "expires_ms": 7},
            "old": null
        });
        assert_eq!(is, text);
        assert_eq!(serde_json::from_value::<Changes>(is).expect("it is read again"), changes);
    }

    #[test]
    fn of_a_fault_the_code_counts_alone() {
        let fault = |code: &str, message: &str| json!({"fault": {"code": code, "message": message}});
        let native = fault("plugin-trap", "it panicked; its last words: not text");
        let compiled = fault("plugin-trap", "it trapped: wasm trap");
        assert_eq!(differences(&native, &compiled), Vec::<String>::new());
        let late = fault("plugin-deadline", "it took longer than 100 ms");
        let lines = differences(&native, &late);
        assert_eq!(lines[0], "/fault/code: to be \"plugin-trap\", and is \"plugin-deadline\"");
        assert!(lines[1].contains("100 ms"), "another fault is told in its words: {lines:?}");
        // What a plugin says itself is its own to keep.
        let rejected = |message: &str| json!({"rejected": {"code": "no-text", "message": message}});
        assert_eq!(differences(&rejected("one"), &rejected("other")).len(), 1);
    }

    #[test]
    fn differences_say_where() {
        let to_be = json!({"passed": [{"json": {"total": 12, "a/b": 1}}]});
        let is = json!({"passed": [{"json": {"total": "12", "new": true}}]});
        assert_eq!(
            differences(&to_be, &is),
            [
                "/passed/0/json/a~1b: to be 1, and is missing",
                "/passed/0/json/total: to be 12, and is \"12\"",
                "/passed/0/json/new: not to be there, and is true",
            ]
        );
        assert_eq!(differences(&to_be, &to_be), Vec::<String>::new());
        assert_eq!(differences(&json!([1]), &json!([1, 2])), ["all of it: 1 items to be there, and 2 are"]);
    }
}
