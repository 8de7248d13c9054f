//! A pipeline file: TOML, or JSON.

use std::path::Path;

use anyhow::Context as _;
use wharf_protocol::Name;

/// A pipeline file: whose it is, its text, and what kind of text.
pub(super) fn read(file: &Path, name: Option<Name>) -> anyhow::Result<(Name, String, &'static str)> {
    let spec = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let json = file.extension().is_some_and(|extension| extension == "json");
    let name = match name {
        Some(name) => name,
        None => name_in(&spec, json).map_or_else(|| stem(file), Ok)?,
    };
    Ok((name, spec, if json { "application/json" } else { "application/toml" }))
}

/// The `name` that a pipeline file gives itself. A file that cannot be read as one is the broker's to explain.
fn name_in(spec: &str, json: bool) -> Option<Name> {
    let name = match json {
        true => serde_json::from_str::<serde_json::Value>(spec).ok()?.get("name")?.as_str()?.to_owned(),
        false => spec.parse::<toml::Table>().ok()?.get("name")?.as_str()?.to_owned(),
    };
    name.parse().ok()
}

fn stem(file: &Path) -> anyhow::Result<Name> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse().with_context(|| format!("{} does not name a pipeline (give --name)", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_named_by_its_file_or_in_it() {
        let in_it = |spec, json| name_in(spec, json).map(String::from);
        assert_eq!(in_it("name = \"orders\"\n[[stage]]\nplugin = \"a\"", false), Some("orders".into()));
        assert_eq!(in_it(r#"{"name": "orders"}"#, true), Some("orders".into()));
        assert_eq!(in_it("[[stage]]", false), None);
        assert_eq!(in_it("not toml", false), None);
        assert_eq!(stem(Path::new("pipelines/orders.toml")).expect("a name").as_str(), "orders");
        assert!(stem(Path::new("a b.toml")).is_err());
    }
}
