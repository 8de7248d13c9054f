//! A plugin's project on disk: made, compiled, tested.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use wharf_protocol::Name;
use wharf_scaffold::{Kind, Language};

use crate::output;
use crate::units::show_bytes;

/// What components are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// How much of what a maker says is looked at.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// The interfaces that a project's world imports or leaves out.
const GRANTED: [&str; 8] = ["log", "metrics", "clock", "random", "kv", "lookup", "schema", "secrets"];

/// A compiled component.
pub(super) struct Component {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
}

/// The Cargo package that a component was built from.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
}

/// Makes a project for the plugin `name` in `folder`, in a folder of its name where none is given.
pub(super) fn make(
    name: &Name,
    kind: Kind,
    language: Option<Language>,
    folder: Option<PathBuf>,
) -> anyhow::Result<()> {
    let folder = folder.unwrap_or_else(|| name.as_str().into());
    let written = match language {
        None => wharf_scaffold::write_project(&folder, name, kind),
        Some(language) => wharf_scaffold::write_project_in(language, &folder, name, kind),
    };
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow!("{error}, and nothing was written; choose another name, or another place with --folder")
        }
        _ => anyhow!("the project cannot be written: {error}"),
    })?;
    output::line(format_args!("{}", folder.display()))?;
    match language {
        None => output::note(format_args!("try: wharf plugin test {}", folder.display())),
        Some(_) => output::note(format_args!(
            "{} says what to install; then: wharf plugin test {}",
            folder.join("README.md").display(),
            folder.display()
        )),
    }
    Ok(())
}

/// Who makes a project's component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    /// A project in Rust.
    Cargo,
    /// One in C.
    Make,
    /// One in another language: its `build.sh` knows how.
    Script,
}

impl Maker {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let makers = [("Cargo.toml", Self::Cargo), ("Makefile", Self::Make), ("build.sh", Self::Script)];
        let found = makers.into_iter().find(|(file, _)| folder.join(file).is_file());
        let (_, maker) = found.with_context(|| {
            format!(
                "{} has no Cargo.toml, Makefile or build.sh; `wharf plugin new NAME` makes a plugin's project",
                folder.display()
            )
        })?;
        Ok(maker)
    }
}

/// Compiles the project in `folder`.
pub(super) fn build(folder: &Path) -> anyhow::Result<Component> {
    match Maker::of(folder)? {
        Maker::Cargo => build_by_cargo(folder),
        Maker::Make => build_by(folder, Command::new("make")),
        Maker::Script => {
            let mut script = Command::new("sh");
            script.arg("build.sh");
            build_by(folder, script)
        }
    }
}

fn build_by_cargo(folder: &Path) -> anyhow::Result<Component> {
    let output = cargo(folder)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo; plugins are compiled with Rust, from https://rustup.rs")?;
    if !output.status.success() {
        bail!("the plugin does not compile (if its target is missing: `rustup target add {TARGET}`)");
    }
    component_of(&output.stdout)
        .context(
            "cargo made no component; a plugin is a library with `crate-type = [\"cdylib\"]` in its Cargo.toml",
        )
        .and_then(Component::at)
}

/// Makes the component of a project in another language, by what the project brings for it.
fn build_by(folder: &Path, mut maker: Command) -> anyhow::Result<Component> {
    let program = maker.get_program().to_string_lossy().into_owned();
    let mut maker = maker
        .current_dir(folder)
        // It may want this program again, for `wharf plugin componentize`.
        .env("WHARF", std::env::current_exe().context("cannot tell where this program is")?)
        .stdin(Stdio::null())
        // What the component's maker tells of its work is no output of this command.
        .stdout(std::io::stderr())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let said = maker.stderr.take().map(pass_on).unwrap_or_default();
    let status = maker.wait().with_context(|| format!("cannot wait for {program}"))?;
    ensure!(status.success(), "the plugin does not compile{}", advice(folder, &said));
    newest_component(folder)
        .with_context(|| format!("{program} made no component: a file whose name ends in .wasm"))
        .and_then(Component::at)
}

/// Shows what is written to `from`, to its end, and gives the first of it.
fn pass_on(mut from: impl io::Read) -> String {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let piece = match from.read(&mut piece) {
            Ok(length @ 1..) => &piece[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => break,
        };
        // Nobody may be there to read it; the maker is to end all the same.
        let _ = io::stderr().write_all(piece);
        said.extend_from_slice(&piece[..piece.len().min(SAID_BYTES_MAX - said.len())]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// What to do about a plugin of which its maker said `said`.
fn advice(folder: &Path, said: &str) -> String {
    let world = folder.join("wit/plugin.wit");
    let commented = |interface: &&str| {
        let import = format!("import wharf:plugin/{interface}@");
        let text = std::fs::read_to_string(&world).unwrap_or_default();
        !text.lines().any(|line| line.trim_start().starts_with(&import))
    };
    // QuickJS and Python each name what they do not find: "wharf:plugin/kv@0.1.1".
    let named = said.split("wharf:plugin/").skip(1).filter_map(|rest| rest.split_once('@'));
    let missing = named.map(|(interface, _)| interface).filter(|interface| GRANTED.contains(interface));
    if let Some(interface) = missing.filter(|_| world.is_file()).find(commented) {
        let world = world.display();
        return format!(
            ": {world} does not import `{interface}`; take the slashes away before its line `import \
             wharf:plugin/{interface}@…;`"
        );
    }
    if said.contains(wharf_componentize::FOREIGN) {
        return String::new();
    }
    format!("; {} says what has to be installed", folder.join("README.md").display())
}

/// The newest `.wasm` in `folder`, which is no core module on the way to one.
fn newest_component(folder: &Path) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let is_component = |file: &Path| {
        file.extension().is_some_and(|is| is == "wasm")
            && !file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(".core"))
    };
    let files = entries.flatten().filter(|entry| is_component(&entry.path()));
    let newest = files.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
    Ok(newest.context("there is none")?.path())
}

impl Component {
    fn at(path: PathBuf) -> anyhow::Result<Self> {
        let bytes = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        Ok(Self { path, bytes })
    }
}

/// Where a project that is not in Rust has its messages, and what becomes of them.
pub(super) fn cases(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    Ok(match Maker::of(folder)? {
        Maker::Cargo => None,
        Maker::Make | Maker::Script => Some(folder.join("cases")),
    })
}

/// Compiles the project in `folder`, which is in Rust, and runs its tests against the component.
pub(super) fn test(folder: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let component = build(folder)?;
    output::note(format_args!("testing {} ({})", component.path.display(), show_bytes(component.bytes)));
    let status = cargo(folder)
        .arg("test")
        .args((!arguments.is_empty()).then_some("--"))
        .args(arguments)
        .env("WHARF_PLUGIN_WASM", std::path::absolute(&component.path)?)
        .env("WHARF_BIN", std::env::current_exe().context("cannot tell where this program is")?)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the plugin's tests fail");
    Ok(())
}

/// The package in whose target folder `component` lies.
pub(super) fn package_of(component: &Path) -> Option<Package> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    let absolute = std::path::absolute(component).ok()?;
    let manifest =
        absolute.ancestors().skip(1).map(|folder| folder.join("Cargo.toml")).find(|file| file.is_file())?;
    let package = toml::from_str::<Manifest>(&std::fs::read_to_string(manifest).ok()?).ok()?.package;
    // A workspace's target folder holds the components of other packages too.
    (package.name.replace('-', "_") == name_of(component).replace('-', "_")).then_some(package)
}

/// The name that a file suggests: Cargo writes `strip_pii.wasm` for `strip-pii`.
pub(super) fn name_of(component: &Path) -> String {
    component.file_stem().unwrap_or_default().to_string_lossy().replace('_', "-")
}

fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    command
}

/// The component among the artifacts that cargo tells of, a JSON object a line.
fn component_of(messages: &[u8]) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        filenames: Vec<PathBuf>,
    }
    let artifacts = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    let mut components = artifacts.flat_map(|artifact| artifact.filenames);
    components.rfind(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let messages = br#"{"reason":"compiler-artifact","filenames":["/t/release/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/wasm32-wasip2/release/strip_pii.wasm"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(component_of(messages), Some(PathBuf::from("/t/wasm32-wasip2/release/strip_pii.wasm")));
        assert_eq!(component_of(b""), None);
    }

    #[test]
    fn a_component_takes_name_and_version_from_the_package_around_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let component = folder.path().join("target/wasm32-wasip2/release/strip_pii.wasm");
        std::fs::create_dir_all(component.parent().expect("a parent")).expect("made");
        assert_eq!(package_of(&component), None);

        let manifest = "[package]\nname = \"strip-pii\"\nversion = \"1.2.0\"\n[dependencies]\n";
        std::fs::write(folder.path().join("Cargo.toml"), manifest).expect("written");
        let package = Package { name: "strip-pii".into(), version: "1.2.0".into() };
        assert_eq!(package_of(&component), Some(package));
        assert_eq!(package_of(&component.with_file_name("other.wasm")), None);
        assert_eq!(name_of(&component), "strip-pii");
    }
}
