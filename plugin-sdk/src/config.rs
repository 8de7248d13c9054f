//! A stage's configuration, from JSON to the plugin's own type.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::Problem;

/// The configuration of a plugin that has none: `{}`, and nothing else.
///
/// ```
/// use wharf_plugin::{NoConfig, parse_config};
///
/// assert_eq!(parse_config("{}"), Ok(NoConfig {}));
/// assert!(parse_config::<NoConfig>(r#"{"max_bytes": 3}"#).is_err());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The value that `json` is; an empty text counts as `{}`.
///
/// # Errors
/// `bad-config`, with the JSON pointer of the member that is wrong.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct Limit { cents: u64 }
///
/// let problem = wharf_plugin::parse_config::<Limit>(r#"{"cents": "many"}"#).unwrap_err();
/// assert_eq!(problem.code, "bad-config");
/// assert_eq!(problem.path.as_deref(), Some("/cents"));
/// ```
pub fn parse_config<C: DeserializeOwned>(json: &str) -> Result<C, Problem> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    let mut input = serde_json::Deserializer::from_str(json);
    let config = serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let problem = Problem::new("bad-config", without_position(&error.inner().to_string()));
        match pointer(error.path()) {
            path if path.is_empty() => problem,
            path => problem.at(path),
        }
    })?;
    input.end().map_err(|error| Problem::new("bad-config", error.to_string()))?;
    Ok(config)
}

/// The line and column are of the JSON that the broker made from the pipeline file: nobody has seen it.
fn without_position(error: &str) -> &str {
    error.rfind(" at line ").map_or(error, |at| &error[..at])
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        table: BTreeMap<String, Vec<u8>>,
    }

    fn problem(json: &str) -> Problem {
        parse_config::<Config>(json).expect_err("not a configuration")
    }

    #[test]
    fn an_empty_text_is_an_empty_object() {
        assert!(parse_config::<Config>("").unwrap().table.is_empty());
        assert_eq!(parse_config::<NoConfig>(" "), Ok(NoConfig {}));
    }

    #[test]
    fn the_path_leads_to_what_is_wrong() {
        assert_eq!(problem(r#"{"table": {"a/b": [1, 2, 300]}}"#).path.as_deref(), Some("/table/a~1b/2"));
    }

    #[test]
    fn an_unknown_member_is_named() {
        let problem = problem(r#"{"tabel": {}}"#);
        assert_eq!(problem.message, "unknown field `tabel`, expected `table`");
        assert_eq!(problem.path.as_deref(), Some("/tabel"));
    }

    #[test]
    fn what_follows_the_object_is_refused() {
        assert_eq!(problem("{} x").code, "bad-config");
    }
}
