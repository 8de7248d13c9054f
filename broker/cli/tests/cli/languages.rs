//! Plugins in other languages than Rust, from `wharf plugin new` to the engine, where their tools are on the path.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

fn wharf() -> Command {
    Command::new(env!("CARGO_BIN_EXE_wharf"))
}

/// Makes a project, builds it, and runs three messages through its component.
fn check(language: &str, tool: &str) {
    let installed = Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if installed.is_err() {
        eprintln!("skipped: {tool} is not on the path; the README of a new project says how to install it");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let project = folder.path().join("demo");
    let made = wharf().args(["plugin", "new", "demo", "--lang", language, "--folder"]).arg(&project).status();
    assert!(made.expect("it runs").success());
    let built = wharf().args(["plugin", "build"]).arg(&project).output().expect("it runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let answer = run(&project.join("demo.wasm"), r#"{"field":"by"}"#, &[r#"{"a":"ü"}"#, "[]", "{"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer is JSON");
    let results = &answer["ran"]["results"];
    let payload = results[0]["passed"][0]["payload"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let payload = STANDARD.decode(payload).expect("base64");
    assert_eq!(String::from_utf8_lossy(&payload), r#"{"a":"ü","by":"demo"}"#);
    assert_eq!(results[1]["rejected"]["code"], "not-an-object", "{answer}");
    assert_eq!(results[2]["rejected"]["code"], "not-json", "{answer}");

    let refused = run(&project.join("demo.wasm"), "{\"field\":7}", &[]);
    assert!(refused.contains("refused") && refused.contains("bad-config"), "{refused}");
}

fn run(component: &Path, config: &str, payloads: &[&str]) -> String {
    let messages: Vec<String> = payloads
        .iter()
        .map(|payload| {
            let payload = STANDARD.encode(payload);
            format!(r#"{{"topic":"t","headers":[],"payload":"{payload}","attempt":0}}"#)
        })
        .collect();
    let request = format!("{{\"config\":{config},\"outputs\":[],\"messages\":[{}]}}\n", messages.join(","));
    let mut harness = wharf()
        .args(["plugin", "harness"])
        .arg(component)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    harness.stdin.take().expect("piped").write_all(request.as_bytes()).expect("it listens");
    String::from_utf8(harness.wait_with_output().expect("it ends").stdout).expect("text")
}

#[test]
fn a_plugin_in_python_runs() {
    check("python", "componentize-py");
}
