//! What the SDK's tests see of the engine.

use serde_json::{Value, json};
use wharf_pipeline::harness::{Harness, Outcome, Request, Response};

use crate::stand::component;

fn open() -> Harness {
    Harness::open(&component(wharf_test_artifacts::GUEST)).expect("it opens")
}

fn asking(kind: &str, behaviours: &[&str]) -> Request {
    let message = |behaviour: &&str| {
        // "behave" in base64, as an SDK would send it.
        let value: String = base64(behaviour.as_bytes());
        json!({"topic": "a.b", "headers": [["behave", value]], "payload": "Ym9keQ=="})
    };
    let messages: Vec<Value> = behaviours.iter().map(message).collect();
    let request = json!({"kind": kind, "outputs": ["eu west", "us"], "messages": messages});
    serde_json::from_value(request).expect("a request")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn ran(response: Response) -> wharf_pipeline::harness::Ran {
    match response {
        Response::Ran(ran) => ran,
        other => panic!("it did not run: {other:?}"),
    }
}

#[test]
fn fuel_is_the_same_in_each_run() {
    let fuel = || ran(open().answer(&asking("transformer", &["identity"]))).fuel.expect("it is counted");
    let first = fuel();
    assert!(first > 100, "{first}");
    assert_eq!(fuel(), first);
}

#[test]
fn outputs_have_the_names_that_were_declared() {
    let ran = ran(open().answer(&asking("router", &["both"])));
    let Outcome::Passed(outputs) = &ran.results[0] else { panic!("{ran:?}") };
    let names: Vec<_> = outputs.iter().map(|output| output.to.as_deref()).collect();
    assert_eq!(names, [Some("eu west"), Some("us")]);
}

#[test]
fn a_fault_does_not_spoil_the_next_request() {
    let mut harness = open();
    for _ in 0..10 {
        let ran = ran(harness.answer(&asking("validator", &["panic", "log"])));
        assert!(
            matches!(&ran.results[0], Outcome::Fault(problem) if problem.code == "plugin-trap"),
            "{ran:?}"
        );
        assert_eq!(ran.results[1], Outcome::Passed(outputs_as_they_came("log")));
        assert!(ran.log.iter().any(|(_, line)| line == "a line"));
    }
}

/// The trap stood before the panic, and behind it what to set in an environment that plugins have not.
#[test]
fn a_panic_is_told_before_its_trap_and_without_advice() {
    let ran = ran(open().answer(&asking("validator", &["panic"])));

    let Outcome::Fault(problem) = &ran.results[0] else { panic!("{ran:?}") };
    let (words, trap) = problem.message.split_once("; it trapped: ").expect("the trap comes last");
    assert!(words.starts_with("its last words: "), "{words}");
    assert!(words.ends_with("message 0 asked for a panic"), "{words}");
    assert!(trap.contains("unreachable") && !problem.message.contains("RUST_BACKTRACE"), "{problem:?}");
}

fn outputs_as_they_came(behaviour: &str) -> Vec<wharf_pipeline::harness::Output> {
    vec![wharf_pipeline::harness::Output {
        to: None,
        headers: vec![("behave".to_owned(), base64(behaviour.as_bytes()))],
        payload: "Ym9keQ==".to_owned(),
    }]
}

#[test]
fn each_line_gets_a_line_even_one_that_is_no_request() {
    let requests = "{\"config\":{\"refuse\":1}}\nnonsense\n{\"messages\":[{\"topic\":\"*\"}]}\n{}\n";
    let mut responses = Vec::new();
    open().serve(requests.as_bytes(), &mut responses).expect("both ends are memory");
    let responses: Vec<Response> = serde_json::Deserializer::from_slice(&responses)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("responses");
    assert!(matches!(&responses[0], Response::Refused(problem) if problem.code == "bad-config"));
    assert!(matches!(&responses[1], Response::Error(text) if text.contains("no request")));
    assert!(matches!(&responses[2], Response::Error(text) if text.contains("wildcard")));
    assert!(matches!(&responses[3], Response::Ran(ran) if ran.results.is_empty()));
}

#[test]
fn a_deadline_of_the_request_is_held() {
    let mut request = asking("validator", &["loop"]);
    request.deadline_ms = Some(5);
    let ran = ran(open().answer(&request));
    assert!(
        matches!(&ran.results[0], Outcome::Fault(problem) if problem.message.contains("5 ms")),
        "{ran:?}"
    );
}

#[test]
fn batches_are_measured() {
    let mut harness = Harness::open_for_times(&component(wharf_test_artifacts::GUEST)).expect("it opens");
    let request = asking("transformer", &["identity"; 6]);
    for (batch, calls) in [(1, 6), (4, 2), (6, 1), (100, 1)] {
        let measured =
            harness.measure(&request, batch, std::time::Duration::from_millis(20)).expect("it runs");
        assert_eq!((measured.messages, measured.calls), (6, calls), "in batches of {batch}");
        assert!(measured.rounds > 10 && measured.call.median > 0, "{measured:?}");
        assert!(measured.call.min <= measured.whole.min, "a call is a part of the whole: {measured:?}");
    }
}
