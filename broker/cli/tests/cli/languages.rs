//! Plugins in other languages than Rust, from `wharf plugin new` to the engine, where their tools are installed.
//!
//! In each language a new project of a kind is the same plugin, with the same messages and what becomes of them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn wharf() -> Command {
    Command::new(env!("CARGO_BIN_EXE_wharf"))
}

/// A configuration that is wrong, and where.
type Wrong = (&'static str, &'static str);

/// The kinds of projects; how many messages each is tested with; what its configuration refuses.
const KINDS: [(&str, usize, Option<Wrong>); 4] = [
    ("validator", 2, Some((r#"{"max_bytes":"many"}"#, "/max_bytes"))),
    ("router", 3, None),
    ("transformer", 3, Some((r#"{"keep_empty":"yes"}"#, "/keep_empty"))),
    ("enricher", 3, Some((r#"{"header":7}"#, "/header"))),
];

/// A plugin that uses `kv` and a table, its messages, and what is to become of them: the same in every language.
const NUMBERED: [(&str, &str, &str); 3] = [
    ("c", "plugin.c", include_str!("languages/numbered.c")),
    ("js", "plugin.js", include_str!("languages/numbered.js")),
    ("python", "plugin.py", include_str!("languages/numbered.py")),
];

/// Plugins whose mistake ends the call: what compiles them, their file and its text.
const THROWING: [(&str, &str, &str, &str); 2] = [
    (
        "js",
        "componentize-qjs",
        "plugin.js",
        r#"import { validator } from "./wharf.js";
function in_here() { throw new Error("oops"); }
export const { lifecycle, validate } = validator({ summary: "throws", validate() { in_here(); } });
"#,
    ),
    (
        "python",
        "componentize-py",
        "plugin.py",
        r#"from wharf import validator


def in_here():
    raise ValueError("oops")


class Throws:
    SUMMARY = "throws"

    def __init__(self, config):
        pass

    def validate(self, message):
        in_here()


Lifecycle, Validate = validator(Throws)
"#,
    ),
];

/// 2026-01-01T00:00:00Z, which the harness has where nothing else is said, and a second.
const SECOND_LATER: u64 = 1_767_225_601_000;

/// A new project.
struct Project {
    folder: PathBuf,
    _parent: TempDir,
}

impl Project {
    fn new(language: &str, kind: &str) -> Self {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("demo");
        let mut new = wharf();
        new.args(["plugin", "new", "demo", "--lang", language, "--kind", kind, "--folder"]).arg(&folder);
        let made = new.output().expect("it runs");
        assert!(made.status.success(), "{language} {kind}: {made:?}");
        let project = Self { folder, _parent: parent };
        project.give_time();
        project
    }

    /// The machine that tests may be busy with much else, so the broker's deadline would be a test of that.
    fn give_time(&self) {
        let cases = self.folder.join("cases");
        let folders =
            std::fs::read_dir(&cases).expect("there are cases").map(|case| case.expect("readable").path());
        for folder in folders.filter(|path| path.is_dir()).chain([cases.clone()]) {
            let file = folder.join("stage.json");
            let text = std::fs::read_to_string(&file).ok().or((folder == cases).then(|| "{}".to_owned()));
            let Some(text) = text else { continue };
            let mut stage: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            stage["deadline_ms"] = 10_000.into();
            std::fs::write(file, stage.to_string()).expect("written");
        }
    }

    /// The plugin that uses `kv` and a table in place of the new project's own.
    fn numbered(language: &str) -> Self {
        let project = Self::new(language, "enricher");
        let (_, file, source) =
            NUMBERED.into_iter().find(|(each, ..)| *each == language).expect("there is one in each language");
        project.write(file, source);
        let world = project.folder.join("wit/plugin.wit");
        if world.is_file() {
            for interface in ["kv", "lookup"] {
                edit(
                    &world,
                    &format!("// import wharf:plugin/{interface}@"),
                    &format!("import wharf:plugin/{interface}@"),
                );
            }
        }
        std::fs::remove_dir_all(project.folder.join("cases")).expect("the new project has cases");
        let stage = json!({
            "tables": {"prices": {"A-1": "250"}},
            "grants": ["log", "kv", "lookup:prices"],
            "deadline_ms": 10_000,
        });
        project.write("cases/stage.json", &stage.to_string());
        let passed = |number: &str| {
            let headers = json!({"number": number, "price": "250"});
            let last = json!({"text": number, "expires_ms": SECOND_LATER});
            let left = json!({"orders": number, "last/A-1": last, "idle": null});
            json!({"passed": [{"headers": headers, "text": "A-1"}], "kv": left}).to_string()
        };
        project.write("cases/first/payload.txt", "A-1");
        project.write("cases/first/expected.json", &passed("1"));
        project.write("cases/later/payload.txt", "A-1");
        project.write("cases/later/kv.json", r#"{"orders": "41", "idle": "since May"}"#);
        project.write("cases/later/expected.json", &passed("42"));
        // What is rejected leaves nothing, though it counted.
        project.write("cases/unknown/payload.txt", "B-9");
        let rejected = json!({"rejected": {"code": "no-price", "message": "there is no price of B-9"}});
        project.write("cases/unknown/expected.json", &rejected.to_string());
        // An error of `kv` is a verdict.
        project.write("cases/wrong/payload.txt", "A-1");
        project.write("cases/wrong/kv.json", r#"{"orders": "many"}"#);
        let message = "the kv value is no whole number of 64 bits, or would pass its range";
        let rejected = json!({"rejected": {"code": "kv-not-a-number", "message": message}});
        project.write("cases/wrong/expected.json", &rejected.to_string());
        // So is a table that cannot be read.
        let stage = json!({"unavailable": ["lookup:prices"], "deadline_ms": 10_000});
        project.write("cases/no-table/stage.json", &stage.to_string());
        project.write("cases/no-table/payload.txt", "A-1");
        let message = "table `prices` cannot be read: the test says so";
        let retry = json!({"retry": {"code": "table-unavailable", "message": message}});
        project.write("cases/no-table/expected.json", &retry.to_string());
        // What is not granted is a fault, whatever its text.
        let stage = json!({"grants": ["log", "kv"], "deadline_ms": 10_000});
        project.write("cases/no-prices/stage.json", &stage.to_string());
        project.write("cases/no-prices/payload.txt", "A-1");
        let fault =
            json!({"fault": {"code": "plugin-grant", "message": "as an engine of last year says it"}});
        project.write("cases/no-prices/expected.json", &fault.to_string());
        project
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.folder.join(file);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, text).expect("written");
    }

    /// What the component uses of the broker.
    fn needs(&self) -> Vec<String> {
        let mut inspect = wharf();
        inspect.args(["plugin", "inspect", "-o", "json"]).arg(self.folder.join("demo.wasm"));
        let shown = inspect.output().expect("it runs");
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let needs = shown["needs"].as_array().expect("a list");
        needs.iter().map(|need| need.as_str().expect("a name").to_owned()).collect()
    }

    /// Builds it and tests it with its cases; what it says.
    fn test(&self) -> Result<String, String> {
        let tested = wharf().args(["plugin", "test"]).arg(&self.folder).output().expect("it runs");
        let said = String::from_utf8_lossy(&tested.stdout).into_owned();
        match tested.status.success() {
            true => Ok(said),
            false => Err(said + &String::from_utf8_lossy(&tested.stderr)),
        }
    }

    /// What the engine says of a configuration.
    fn configured(&self, config: &str) -> String {
        let mut harness = wharf();
        harness.args(["plugin", "harness"]).arg(self.folder.join("demo.wasm"));
        let mut harness = harness.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let request = format!("{{\"config\":{config},\"outputs\":[],\"messages\":[]}}\n");
        harness.stdin.take().expect("piped").write_all(request.as_bytes()).expect("it listens");
        String::from_utf8(harness.wait_with_output().expect("it ends").stdout).expect("text")
    }
}

/// Makes projects of the kinds, builds them, and runs their messages through them in the broker's engine.
fn check(language: &str, kinds: &[&str]) {
    for (kind, cases, wrong) in KINDS.iter().filter(|(kind, ..)| kinds.contains(kind)) {
        let project = Project::new(language, kind);
        let said = project.test().unwrap_or_else(|said| panic!("{language} {kind}: {said}"));
        let passed = said.lines().filter(|line| line.starts_with("case ") && line.ends_with(" ok")).count();
        assert_eq!(passed, *cases, "{language} {kind}: {said}");
        assert!(said.contains("properties ... ok"), "{language} {kind}: {said}");

        if let Some((config, path)) = wrong {
            let refused = project.configured(config);
            assert!(refused.contains("bad-config") && refused.contains(path), "{language} {kind}: {refused}");
        }
    }
}

/// Builds the plugin that uses `kv` and a table, and has it do so in the broker's engine.
fn check_numbered(language: &str) {
    let project = Project::numbered(language);
    let said = project.test().unwrap_or_else(|said| panic!("{language}: {said}"));
    let passed = said.lines().filter(|line| line.starts_with("case ") && line.ends_with(" ok")).count();
    assert_eq!(passed, 6, "{language}: {said}");
    assert!(said.contains("properties ... ok"), "{language}: {said}");

    // What it does not use no stage is asked to grant.
    let needs = project.needs();
    let granted = |name: &&String| !["log", "metrics"].contains(&name.as_str());
    let mut granted: Vec<_> = needs.iter().filter(granted).collect();
    granted.sort();
    assert_eq!(granted, ["kv", "lookup"], "{language}: {needs:?}");
}

/// Whether `probe` runs and is content; says that the test is skipped where it is not.
fn is_installed(what: &str, mut probe: Command) -> bool {
    let ran = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let installed = ran.is_ok_and(|status| status.success());
    if !installed {
        eprintln!("skipped: {what} is not installed; the README of a new project says how");
    }
    installed
}

/// The compiler with its library for Wasm, and make.
fn can_build_c() -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("probe.c");
    std::fs::write(&source, "#include <stdlib.h>\nint probe(void) { return abs(1); }\n").expect("written");
    let mut clang = Command::new("clang");
    clang
        .args(["--target=wasm32-wasi", "-mexec-model=reactor"])
        .arg(&source)
        .arg("-o")
        .arg(folder.path().join("probe"));
    let mut make = Command::new("make");
    make.arg("--version");
    is_installed("clang with wasi-libc", clang) && is_installed("make", make)
}

fn on_the_path(tool: &str) -> bool {
    let mut probe = Command::new(tool);
    probe.arg("--help");
    is_installed(tool, probe)
}

#[test]
fn plugins_in_c_do_as_those_in_rust() {
    if can_build_c() {
        check("c", &["validator", "router", "transformer", "enricher"]);
        check_numbered("c");
    }
}

#[test]
fn plugins_in_javascript_do_as_those_in_rust() {
    if on_the_path("componentize-qjs") {
        check("js", &["validator", "router", "transformer", "enricher"]);
        check_numbered("js");
    }
}

/// One kind of the four: compiling CPython takes its time.
#[test]
fn plugins_in_python_do_as_those_in_rust() {
    if on_the_path("componentize-py") {
        check("python", &["transformer"]);
        check_numbered("python");
    }
}

#[test]
fn a_wrong_answer_and_a_plugin_that_does_not_compile_are_told() {
    if !can_build_c() {
        return;
    }
    let project = Project::new("c", "validator");
    edit(&project.folder.join("plugin.c"), "<= max_bytes", "< max_bytes - 1");
    let said = project.test().expect_err("it is wrong");
    assert!(said.contains("case short ... WRONG"), "{said}");

    edit(&project.folder.join("plugin.c"), "wharf_accept()", "wharf_accepted()");
    let said = project.test().expect_err("there is no such function");
    assert!(said.contains("wharf_accepted") && said.contains("README.md"), "{said}");
}

#[test]
fn an_import_that_no_world_names_is_told_when_the_plugin_is_built() {
    for (language, tool) in [("js", "componentize-qjs"), ("python", "componentize-py")] {
        if !on_the_path(tool) {
            continue;
        }
        let project = Project::numbered(language);
        let world = project.folder.join("wit/plugin.wit");
        edit(&world, "import wharf:plugin/kv@", "// import wharf:plugin/kv@");
        let said = project.test().expect_err("there is no `kv`");
        let line = "take the slashes away before its line `import wharf:plugin/kv@";
        assert!(said.contains(line) && said.contains("wit/plugin.wit"), "{language}: {said}");
        assert!(!said.contains("has to be installed"), "{language}: {said}");
    }
}

#[test]
fn a_module_that_asks_for_files_is_no_plugin() {
    if !can_build_c() {
        return;
    }
    let project = Project::new("c", "validator");
    edit(
        &project.folder.join("plugin.c"),
        "#include \"wharf.h\"",
        "#include \"wharf.h\"\n#include <stdio.h>",
    );
    edit(&project.folder.join("plugin.c"), "size_t bytes", "puts(\"here\");\n  size_t bytes");
    let said = project.test().expect_err("there is nothing to write to");
    assert!(said.contains("wasi_snapshot_preview1") && said.contains("no files"), "{said}");
    assert!(!said.contains("has to be installed"), "{said}");
}

/// The README had said so, and what it links asked for files.
#[test]
fn a_plugin_in_c_prints_numbers_into_memory() {
    if !can_build_c() {
        return;
    }
    let project = Project::new("c", "enricher");
    project.write("plugin.c", include_str!("languages/printed.c"));
    std::fs::remove_dir_all(project.folder.join("cases")).expect("the new project has cases");
    project.write("cases/stage.json", r#"{"deadline_ms": 10000}"#);
    project.write("cases/one/payload.txt", "some text");
    let passed = json!({"passed": [{"headers": {"printed": "9 bytes, 2.25, 0x09"}, "text": "some text"}]});
    project.write("cases/one/expected.json", &passed.to_string());

    project.test().unwrap_or_else(|said| panic!("{said}"));
    assert!(project.needs().iter().all(|need| ["log", "metrics"].contains(&need.as_str())));
}

/// "plugin-trap: … wasm `unreachable`" was all that was said.
#[test]
fn what_a_plugin_throws_is_told_with_its_place() {
    for (language, tool, file, source) in THROWING {
        if !on_the_path(tool) {
            continue;
        }
        let project = Project::new(language, "validator");
        project.write(file, source);
        std::fs::remove_dir_all(project.folder.join("cases")).expect("the new project has cases");
        project.write("cases/stage.json", r#"{"deadline_ms": 10000}"#);
        project.write("cases/one/payload.txt", "some text");
        project.write("cases/one/expected.json", "{}");

        let said = project.test().expect_err("nothing was expected");
        assert!(said.contains("plugin-trap"), "{language}: {said}");
        assert!(said.contains("its last words: ") && said.contains("Error: oops"), "{language}: {said}");
        assert!(said.contains("in_here"), "{language}: {said}");
    }
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("it is there");
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).expect("written");
}
