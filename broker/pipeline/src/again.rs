//! Whether a traced run that was had again is the run that was recorded: stage by stage, and its outputs by their bytes.

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;

use crate::trace::{Change, Excerpt, Shown};
use crate::{LogLine, Problem, Step};

/// How much of each side is shown.
const SHOWN_BYTES_MAX: usize = 200;

/// The first thing in which one run is not the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// At which stage.
    pub stage: Name,
    /// In what: `verdict`, `output 0`, `payload of output 0`.
    pub what: String,
    /// What was recorded.
    pub then: String,
    /// What came out now.
    pub now: String,
}

/// The first thing in which `now` is not `then`; `None`: every stage said the same and made the same bytes.
///
/// What a run took (time, memory, fuel) is not compared.
pub fn departure(then: &[Step], now: &[Step]) -> Option<Departure> {
    let pairs = then.iter().zip(now).find_map(|(then, now)| of_step(then, now));
    pairs.or_else(|| match (then.get(now.len()), now.get(then.len())) {
        (Some(missing), _) => Some(found(missing, "its coming", &"it came to this stage", &"it did not")),
        (_, Some(more)) => Some(found(more, "its coming", &"it did not come to this stage", &"it did")),
        (None, None) => None,
    })
}

fn of_step(then: &Step, now: &Step) -> Option<Departure> {
    let differ = |what: &str, a: &dyn ToString, b: &dyn ToString| Some(found(then, what, a, b));
    if then.stage != now.stage {
        return differ("the stage that was next", &then.stage, &now.stage);
    }
    if then.digest != now.digest {
        return differ("the plugin", &then.digest, &now.digest);
    }
    if then.verdict != now.verdict {
        return differ("verdict", &told(then), &told(now));
    }
    if then.problem != now.problem {
        return differ("reason", &problem(then.problem.as_ref()), &problem(now.problem.as_ref()));
    }
    let counts = (then.outputs.len(), now.outputs.len());
    if counts.0 != counts.1 {
        return differ("the number of outputs", &counts.0, &counts.1);
    }
    let outputs = then.outputs.iter().zip(&now.outputs).enumerate();
    if let Some((what, a, b)) = outputs.into_iter().find_map(|(n, (then, now))| of_output(n, then, now)) {
        return differ(&what, &a, &b);
    }
    if then.log != now.log {
        return differ("log", &lines(&then.log), &lines(&now.log));
    }
    None
}

/// In what an output differs, and the two sides.
fn of_output(n: usize, then: &Change, now: &Change) -> Option<(String, String, String)> {
    let same = match (&then.sha256, &now.sha256) {
        (Some(then), Some(now)) => then == now,
        // An account of an older broker has no digests.
        _ => Change { sha256: None, ..then.clone() } == Change { sha256: None, ..now.clone() },
    };
    if same {
        return None;
    }
    let nowhere = || "where it was going".to_owned();
    if then.to != now.to {
        let (then, now) = (then.to.clone(), now.to.clone());
        let what = format!("destination of output {n}");
        return Some((what, then.unwrap_or_else(nowhere), now.unwrap_or_else(nowhere)));
    }
    if then.payload != now.payload {
        return Some((format!("payload of output {n}"), payload(then), payload(now)));
    }
    let headers = |change: &Change| {
        let set = change.headers_set.iter().map(|(name, value)| format!("{name}={}", text(value)));
        let gone = change.headers_removed.iter().map(|name| format!("-{name}"));
        set.chain(gone).collect::<Vec<_>>().join(" ")
    };
    let (a, b) = (headers(then), headers(now));
    if a != b {
        return Some((format!("headers of output {n}"), a, b));
    }
    // It differs behind the bytes that are kept of it, or in a field that is not shown.
    let sha256 = |change: &Change| change.sha256.clone().unwrap_or_else(|| "of an unknown digest".to_owned());
    Some((format!("bytes of output {n}, by SHA-256"), sha256(then), sha256(now)))
}

fn found(step: &Step, what: &str, then: &dyn ToString, now: &dyn ToString) -> Departure {
    let shown = |text: String| {
        let mut text = text;
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text
    };
    Departure {
        stage: step.stage.clone(),
        what: what.to_owned(),
        then: shown(then.to_string()),
        now: shown(now.to_string()),
    }
}

fn told(step: &Step) -> String {
    let word = step.verdict.as_str();
    step.problem.as_ref().map_or_else(|| word.to_owned(), |problem| format!("{word}: {problem}"))
}

fn problem(problem: Option<&Problem>) -> String {
    problem.map_or_else(|| "none".to_owned(), Problem::to_string)
}

fn payload(change: &Change) -> String {
    change.payload.as_ref().map_or_else(|| "as it was given".to_owned(), text)
}

fn text(excerpt: &Excerpt) -> String {
    match &excerpt.shown {
        Shown::Text(text) => text.clone(),
        Shown::Hex(hex) => format!("hex {hex}"),
    }
}

fn lines(log: &[LogLine]) -> String {
    log.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    use wharf_protocol::Message;

    use super::*;
    use crate::{Kind, Snapshot, Verdict};

    /// A stage that changed the payload to `payload`.
    fn step(stage: &str, payload: &str) -> Step {
        let message = Message::new("t".parse().expect("a topic"), payload.to_owned());
        Step {
            stage: stage.parse().expect("a name"),
            plugin: "p@1".parse().expect("a plugin"),
            digest: "ab".repeat(32),
            kind: Kind::Transformer,
            given: Snapshot::of(&message),
            verdict: Verdict::Changed,
            problem: None,
            outputs: vec![Change {
                to: None,
                headers_set: Default::default(),
                headers_removed: Vec::new(),
                payload: Some(Excerpt::of(payload.as_bytes())),
                sha256: Some(hex::encode([payload.len() as u8; 32])),
            }],
            log: Vec::new(),
            log_lines_dropped: 0,
            took_us: 1,
            memory_peak_bytes: 1,
            fuel: None,
        }
    }

    fn what(then: &[Step], now: &[Step]) -> Option<(String, String)> {
        departure(then, now).map(|found| (found.stage.to_string(), found.what))
    }

    #[test]
    fn what_a_run_took_is_no_departure() {
        let then = vec![step("a", "x"), step("b", "y")];
        let slower = |step: Step| Step { took_us: 9, memory_peak_bytes: 9, fuel: Some(9), ..step };
        assert_eq!(departure(&then, &then.clone().into_iter().map(slower).collect::<Vec<_>>()), None);
    }

    #[test]
    fn the_first_stage_that_departs_is_told_with_both_sides() {
        let then = vec![step("a", "x"), step("b", "y"), step("c", "z")];
        let mut now = then.clone();
        now[1] = step("b", "another");
        now[2].verdict = Verdict::Dropped;
        let found = departure(&then, &now).expect("two stages");
        assert_eq!((found.stage.as_str(), found.what.as_str()), ("b", "payload of output 0"));
        assert_eq!((found.then.as_str(), found.now.as_str()), ("y", "another"));
    }

    #[test]
    fn a_digest_tells_what_excerpts_do_not_show() {
        let (then, mut now) = (vec![step("a", "x")], vec![step("a", "x")]);
        now[0].outputs[0].sha256 = Some("cd".repeat(32));
        assert_eq!(what(&then, &now), Some(("a".into(), "bytes of output 0, by SHA-256".into())));
        now[0].outputs[0].sha256 = None;
        assert_eq!(what(&then, &now), None, "an older account is compared by what it shows");
    }

    #[test]
    fn a_stage_more_or_less_is_a_departure() {
        let (one, two) = (vec![step("a", "x")], vec![step("a", "x"), step("b", "y")]);
        assert_eq!(what(&two, &one), Some(("b".into(), "its coming".into())));
        assert_eq!(what(&one, &two), Some(("b".into(), "its coming".into())));
    }

    #[test]
    fn verdict_reason_destination_headers_and_log_are_compared() {
        let then = vec![step("a", "x")];
        let changed = |change: fn(&mut Step)| {
            let mut now = then.clone();
            change(&mut now[0]);
            what(&then, &now).map(|(_, what)| what).unwrap_or_default()
        };
        assert_eq!(changed(|step| step.verdict = Verdict::Passed), "verdict");
        assert_eq!(
            changed(|step| step.problem = Some(Problem { code: "c".into(), message: "m".into(), path: None })),
            "reason"
        );
        assert_eq!(changed(|step| step.digest.clear()), "the plugin");
        assert_eq!(changed(|step| step.outputs.clear()), "the number of outputs");
        let to = |step: &mut Step| {
            step.outputs[0].to = Some("queue:q".into());
            step.outputs[0].sha256 = None;
        };
        assert_eq!(changed(to), "destination of output 0");
        let header = |step: &mut Step| {
            step.outputs[0].headers_removed.push("h".into());
            step.outputs[0].sha256 = None;
        };
        assert_eq!(changed(header), "headers of output 0");
        let line = |step: &mut Step| step.log.push(LogLine { level: crate::Level::Info, text: "l".into() });
        assert_eq!(changed(line), "log");
    }
}
