//! What the harness offers to a plugin's tests, on the function natively. The component's half is tested with the
//! plugins that come with Wharf.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use wharf_plugin::harness::{
    Budget, Harness, Input, Outcome, Recording, Setup, Subject, Tested, Trouble, run_cases,
};
use wharf_plugin::{
    Config, Emit, Failure, Headers, Message, Out, Output, Plugin, Problem, Reads, Route, Transformed, clock,
    enricher, kv, log, lookup, router, transformer, validator,
};

#[derive(Debug, Deserialize, Config)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    /// Which table is read.
    pub(crate) table: String,
}

mod priced_plugin {
    use super::*;

    /// Sets the price of what is ordered.
    #[enricher]
    pub(crate) fn priced(
        message: &Message<'_>,
        headers: &mut Headers,
        prices: &Prices,
    ) -> Result<(), Failure> {
        let item = message.require_header("item")?;
        if let Some(price) = lookup::text(&prices.table, item)? {
            headers.set("price", price);
        }
        headers.set("priced-at", clock::now().to_string());
        Ok(())
    }
}

mod fragile_plugin {
    use super::*;

    /// Breaks on a payload that is not text.
    #[validator]
    pub(crate) fn fragile(message: &Message<'_>) -> Result<(), Problem> {
        log::info("looking");
        assert!(std::str::from_utf8(message.payload()).is_ok(), "not text");
        Ok(())
    }
}

mod loud_plugin {
    use super::*;

    /// Makes text loud.
    #[transformer]
    pub(crate) fn loud(message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        out.emit(Emit::json(&json!({"text": message.text()?.to_uppercase()}))?)
    }
}

mod sides_plugin {
    use super::*;

    /// Sends messages left or right.
    #[router(outputs("left", "right"))]
    pub(crate) fn sides(message: &Message<'_>, [left, right]: &[Output; 2]) -> Result<Route, Problem> {
        Ok(Route::to(if message.topic().contains("left") { *left } else { *right }))
    }
}

mod counted_plugin {
    use super::*;

    /// Counts messages, and refuses those that say so.
    #[router]
    pub(crate) fn counted(message: &Message<'_>) -> Result<Route, Failure> {
        let count = kv::add("count", 1)?;
        kv::set("last", message.payload())?;
        if message.payload() == b"forget" {
            kv::remove("count")?;
        }
        if message.payload() == b"refuse" {
            return Err(Problem::new("refused", format!("the {count}th")).into());
        }
        Ok(Route::Pass)
    }
}

mod patient_plugin {
    use super::*;

    /// Refuses what comes for the first time, by when it came.
    #[validator]
    pub(crate) fn patient(message: &Message<'_>) -> Result<(), Problem> {
        if message.attempt() == 0 {
            return Err(Problem::new("first-time", format!("taken at {}", message.received_at())));
        }
        Ok(())
    }
}

use counted_plugin::Counted;
use fragile_plugin::Fragile;
use loud_plugin::Loud;
use patient_plugin::Patient;
use priced_plugin::Priced;
use sides_plugin::Sides;

fn priced() -> Harness<Priced> {
    Harness::native().config(json!({"table": "prices"}))
}

#[test]
fn a_function_becomes_a_plugin_that_reads_what_its_body_names() {
    assert_eq!(Priced::READS.headers, ["item"]);
    const { assert!(!Priced::READS.payload && Loud::READS.payload && Sides::READS.topic) };
    assert_eq!(Sides::SUMMARY, "Sends messages left or right");

    let sides = Harness::<Sides>::native().outputs(["left", "right"]);
    sides.send(Input::new("").topic("go.left")).assert_routed(["left"]);
    Harness::<Sides>::native().outputs(["left"]).assert_refused("no-such-output", None);
}

#[test]
fn who_reads_nothing_that_is_packed_sees_each_message_all_the_same() {
    assert_eq!(Patient::READS, Reads::NOTHING);
    let outcomes = Harness::<Patient>::native().now(7).send_all(["a", "b"]);
    assert_eq!(outcomes.len(), 2);
    assert_eq!(outcomes[1].assert_rejected("first-time").message, "taken at 7");
    Harness::<Patient>::native().send(Input::new("a").attempt(1)).assert_passed();
}

#[test]
fn tables_are_lent_missed_and_unreadable() {
    let order = || Input::new("").header("item", "apple");

    let outcome = priced().table("prices", [("apple", "12")]).now(7).send(order());
    outcome.assert_header("price", "12").assert_header("priced-at", "7");
    priced().table("prices", [("pear", "9")]).send(order()).assert_passed();
    priced().unavailable("lookup:prices").send(order()).assert_retried("table-unavailable");
    priced().send("").assert_rejected("missing-header");
}

#[test]
fn what_is_not_granted_breaks_the_plugin() {
    let order = Input::new("").header("item", "apple");

    let lent = || priced().table("prices", [("apple", "12")]);
    let outcome = lent().deny("clock").send(order.clone());
    assert!(outcome.assert_fault("plugin-grant").message.contains("add \"clock\""));
    lent().deny("lookup:prices").send(order.clone()).assert_fault("plugin-grant");
    priced().send(order).assert_fault("plugin-grant");
}

#[test]
fn what_is_remembered_is_given_before_and_asserted_after() {
    let plugin = Harness::<Counted>::native().kv("count", "41");
    let outcomes = plugin.send_all(["a", "refuse", "b"]);
    assert_eq!(outcomes[1].assert_rejected("refused").message, "the 43th");
    assert!(outcomes[1].changes.is_empty(), "what a message leaves that fails is not kept");
    plugin.assert_kv("count", Some("43")).assert_kv("last", Some("b"));
    plugin.send("forget");
    plugin.assert_kv("count", None).assert_kv("last", Some("forget"));

    let setup: Setup =
        serde_json::from_value(json!({"kv": {"a": "text", "b": {"base64": "/w==", "expires_ms": 7}}}))
            .expect("a setup");
    assert_eq!((setup.kv["a"].value.as_slice(), setup.kv["a"].expires_ms), (&b"text"[..], None));
    assert_eq!((setup.kv["b"].value.as_slice(), setup.kv["b"].expires_ms), (&b"\xff"[..], Some(7)));
}

mod greedy_plugin {
    use super::*;

    /// Reads or changes as many keys as the payload says: `read 3`, `change 3`.
    #[validator]
    pub(crate) fn greedy(message: &Message<'_>) -> Result<(), Failure> {
        let (what, count) =
            message.text()?.split_once(' ').ok_or_else(|| Problem::new("no-count", "how many?"))?;
        for i in 0..count.parse::<u32>()? {
            match what {
                "read" => drop(kv::get(&i.to_string())?),
                _ => kv::set(&i.to_string(), b"")?,
            }
        }
        Ok(())
    }
}

#[test]
fn natively_a_message_reads_and_changes_no_more_keys_than_in_the_broker() {
    let plugin = Harness::<greedy_plugin::Greedy>::native();
    let outcomes = plugin.send_all(["change 128", "change 128", "read 1024"]);
    for outcome in &outcomes {
        outcome.assert_passed();
    }
    assert!(plugin.send("change 129").assert_rejected("kv-too-many-changes").message.contains("128"));
    assert!(plugin.send("read 1025").assert_fault("plugin-answer").message.contains("1024"));
}

#[test]
fn a_message_that_breaks_the_plugin_spoils_itself_alone() {
    let plugin = Harness::<Fragile>::native().deadline(Duration::from_millis(50));

    let outcomes = plugin.send_all(vec![Input::new("a"), Input::new(vec![0xff]), Input::new("b")]);

    outcomes[0].assert_passed();
    assert!(outcomes[1].assert_fault("plugin-trap").message.contains("not text"));
    outcomes[2].assert_passed();
}

#[test]
fn a_line_that_a_plugin_writes_is_asserted_by_a_part_of_it() {
    let outcome = Harness::<Fragile>::native().send("a");

    outcome.assert_logged("look");
    assert!(std::panic::catch_unwind(|| outcome.assert_logged("found")).is_err());
}

#[test]
#[should_panic(expected = "the plugin breaks")]
fn the_properties_find_what_breaks_a_plugin() {
    Harness::<Fragile>::native().check_properties(["some text"]);
}

#[test]
fn a_plugin_that_breaks_on_nothing_has_the_properties() {
    Harness::<Loud>::native().check_properties(["some text"]);
}

#[test]
fn output_has_a_budget() {
    let outcome = Harness::<Loud>::native().send("abc");
    outcome.assert_json(json!({"text": "ABC"})).assert_header("content-type", "application/json");
    outcome.assert_within(&Budget::new().output("64 + 4/byte").fuel("0"));
    let excess = Budget::new().output("2/byte").excess(&outcome);
    assert_eq!(excess.len(), 1);
    assert!(excess[0].contains("6 for a payload of 3 bytes"), "{excess:?}");
}

#[test]
fn cases_are_written_compared_and_told_apart() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cases");
    let _ = fs::remove_dir_all(&folder);
    let case = folder.join("a-text");
    fs::create_dir_all(&case).expect("made");
    fs::write(case.join("payload.txt"), "abc").expect("written");
    fs::write(case.join("message.json"), r#"{"headers": {"from": "a test"}}"#).expect("written");
    fs::write(folder.join("stage.json"), r#"{"budget": {"output": "128"}}"#).expect("written");
    let mut subject = Lone(Harness::<Loud>::native());
    let mut run = |update| run_cases(&mut subject, &folder, &Setup::default(), update).expect("they run");

    assert!(run(false)[0].wrong[0].contains("UPDATE_GOLDEN=1"));
    assert!(run(true)[0].written);
    assert_eq!(run(false)[0].wrong, Vec::<String>::new());
    let expected = fs::read_to_string(case.join("expected.json")).expect("written");
    fs::write(case.join("expected.json"), expected.replace("ABC", "AbC")).expect("written");
    assert_eq!(run(false)[0].wrong, ["/passed/0/json/text: to be \"AbC\", and is \"ABC\""]);
    fs::write(folder.join("stage.json"), r#"{"bugdet": {}}"#).expect("written");
    let error = run_cases(&mut subject, &folder, &Setup::default(), false).expect_err("misspelt");
    assert!(error.contains("unknown field `bugdet`") && error.contains("`now_ms`, `budget`"), "{error}");
    // Inner words of the engine's wire had answered these.
    for (stage, hint) in [
        (r#"{"unavailable": ["prices"]}"#, "write \"lookup:prices\""),
        (r#"{"grants": ["prices"]}"#, "\"lookup:TABLE\""),
    ] {
        fs::write(folder.join("stage.json"), stage).expect("written");
        let error = run_cases(&mut subject, &folder, &Setup::default(), false).expect_err("no grant");
        assert!(error.contains("stage.json: \"prices\"") && error.contains(hint), "{error}");
    }
}

/// The component's half of a plugin that breaks: the same code, in other words.
struct Trapping;

impl Subject for Trapping {
    fn run(&mut self, setup: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
        let mut outcomes = Lone(Harness::<Fragile>::native()).run(setup, inputs)?;
        for outcome in &mut outcomes {
            if let wharf_plugin::harness::Result::Fault(problem) = &mut outcome.result {
                problem.message = "it trapped: wasm trap: wasm `unreachable` instruction executed".into();
            }
        }
        Ok(outcomes)
    }

    fn renew(&mut self) {}
}

/// A harness as a subject, whose setup is its own.
struct Lone<P>(Harness<P>);

impl<P: Tested> Subject for Lone<P> {
    fn run(&mut self, _: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
        Ok(self.0.send_all(inputs.to_vec()))
    }

    fn renew(&mut self) {}
}

/// A golden was written with the trap's text and the panic's place, so that the next run was red natively.
#[test]
fn a_case_that_breaks_the_plugin_is_the_same_natively_and_compiled() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("breaking-cases");
    let _ = fs::remove_dir_all(&folder);
    let case = folder.join("no-text");
    fs::create_dir_all(&case).expect("made");
    fs::write(case.join("payload.bin"), [0xff]).expect("written");

    let written = run_cases(&mut Trapping, &folder, &Setup::default(), true).expect("they run");
    assert!(written[0].written && written[0].broke);
    let mut native = Lone(Harness::<Fragile>::native());
    let report = &run_cases(&mut native, &folder, &Setup::default(), false).expect("they run")[0];
    assert_eq!((report.wrong.as_slice(), report.broke), (&[][..], true));
    fs::write(case.join("payload.bin"), "text").expect("written");
    let report = &run_cases(&mut native, &folder, &Setup::default(), false).expect("they run")[0];
    assert!(!report.wrong.is_empty(), "what does not break is something else");
}

#[test]
fn a_recorded_fault_is_repeated_by_its_code() {
    let head = r#"{"wharf-recording":1,"pipeline":"p","version":2,"stage":"s","plugin":"fragile@1","digest":"","kind":"validator","config":{},"outputs":[],"grants":["log"]}"#;
    let entry = |code: &str| {
        format!(
            r#"{{"message":{{"topic":"t","payload":"/w=="}},"now_ms":5,"result":{{"fault":{{"code":"{code}","message":"it trapped"}}}}}}"#
        )
    };
    let lines = [head.to_owned(), entry("plugin-trap"), entry("plugin-memory")];
    let recording = Recording::parse(lines.join("\n").as_bytes()).expect("a recording");

    let replayed = recording.replay(&mut Lone(Harness::<Fragile>::native()), &recording.setup());

    let divergences = replayed.expect("it runs");
    assert_eq!(divergences.len(), 1, "{divergences:?}");
    assert_eq!(divergences[0].entry, 1);
    let line = "/fault/code: to be \"plugin-memory\", and is \"plugin-trap\"";
    assert_eq!(divergences[0].lines[0], line, "{divergences:?}");
}

/// Counts from what the setup says, each time anew.
struct Remembering;

impl Subject for Remembering {
    fn run(&mut self, setup: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
        let plugin = Harness::<Counted>::native();
        let plugin = setup.kv.iter().fold(plugin, |plugin, (key, kept)| plugin.kv(key, kept.value.clone()));
        Ok(plugin.send_all(inputs.to_vec()))
    }

    fn renew(&mut self) {}
}

/// Each millisecond began with the `kv` of the setup again.
#[test]
fn what_a_recorded_message_leaves_in_kv_is_there_for_the_next_one() {
    let head = r#"{"wharf-recording":1,"pipeline":"p","version":2,"stage":"s","plugin":"counted@1","digest":"","kind":"router","config":{},"outputs":[],"grants":["kv"]}"#;
    // Each says "refuse", and was told its number.
    let entry = |now_ms: u64, count: u64| {
        format!(
            r#"{{"message":{{"topic":"t","payload":"cmVmdXNl"}},"now_ms":{now_ms},"result":{{"rejected":{{"code":"refused","message":"the {count}th"}}}}}}"#
        )
    };
    let passed = |now_ms: u64| {
        format!(
            r#"{{"message":{{"topic":"t","payload":"YQ=="}},"now_ms":{now_ms},"result":{{"passed":[{{"to":null,"headers":[],"payload":"YQ=="}}]}}}}"#
        )
    };
    // What is refused leaves nothing.
    let lines = [head.to_owned(), passed(5), passed(5), entry(6, 43), passed(7), entry(8, 44)];
    let recording = Recording::parse(lines.join("\n").as_bytes()).expect("a recording");
    let kv = serde_json::from_value(json!({"count": "40"})).expect("a memory");
    let setup = Setup { kv, ..recording.setup() };

    let divergences = recording.replay(&mut Remembering, &setup).expect("it runs");
    assert_eq!(divergences, []);
}

#[test]
fn a_recording_is_repeated_and_its_divergences_are_told() {
    let head = r#"{"wharf-recording":1,"pipeline":"p","version":2,"stage":"s","plugin":"loud@1","digest":"","kind":"transformer","config":{},"outputs":[],"grants":["log"]}"#;
    // "abc" became {"text":"ABC"}, and "x" {"text":"y"}, in base64.
    let json = r#"[["content-type","YXBwbGljYXRpb24vanNvbg=="]]"#;
    let entry = |payload: &str, became: &str| {
        format!(
            r#"{{"message":{{"topic":"t","payload":"{payload}"}},"now_ms":5,"result":{{"passed":[{{"to":null,"headers":{json},"payload":"{became}"}}]}}}}"#
        )
    };
    let lines = [head.to_owned(), entry("YWJj", "eyJ0ZXh0IjoiQUJDIn0="), entry("eA==", "eyJ0ZXh0IjoieSJ9")];
    let recording = Recording::parse(lines.join("\n").as_bytes()).expect("a recording");

    let divergences =
        recording.replay(&mut Lone(Harness::<Loud>::native()), &recording.setup()).expect("it runs");

    assert_eq!(divergences.len(), 1, "{divergences:?}");
    assert_eq!(divergences[0].entry, 1);
    assert_eq!(divergences[0].lines, ["/passed/0/json/text: to be \"y\", and is \"X\""]);
    let newer = head.replace("\"wharf-recording\":1", "\"wharf-recording\":2");
    let error = Recording::parse(newer.as_bytes()).expect_err("a newer version");
    assert!(error.contains("version 2"), "{error}");
    // Of none all would become the same.
    let error = Recording::parse(head.as_bytes()).expect_err("there is nothing in it");
    assert!(error.contains("no messages"), "{error}");
    let incomplete = lines.join("\n").replace("\"now_ms\":5", "\"now_ms\":5,\"missed\":650");
    assert_eq!(Recording::parse(incomplete.as_bytes()), Ok(recording));
}
