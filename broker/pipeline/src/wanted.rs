//! Which grants a stage's configuration asks for.
//!
//! A plugin that imports a capability needs it, whatever its stage configures; unless the JSON Schema of its configuration
//! says which members name what is used:
//!
//! ```json
//! {"properties": {"schema-name": {"type": "string", "x-wharf-grant": "schema"}}}
//! ```
//!
//! Then a stage that configures `schema-name = "order"` needs `schema:order`, and one that does not needs nothing; an
//! object or array there has a name in each of its members or items. What
//! a plugin says here decides only when a missing grant is told of: each call of the capability is checked.

use serde_json::{Map, Value};

use crate::{Grant, Need};

/// The word of a member's schema: the interface of which the member's value is a name.
const WORD: &str = "x-wharf-grant";

/// What a stage lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Any grant of a capability that the plugin imports.
    Any(Need),
    /// This grant, which the configuration names.
    Named(Grant),
}

/// The first thing that `grants` lack; `schema` is the text of the configuration's schema.
pub(crate) fn lacking(
    needs: &[Need],
    schema: Option<&str>,
    config: &Map<String, Value>,
    grants: &[Grant],
) -> Option<Lack> {
    let schema: Option<Value> = schema.and_then(|text| serde_json::from_str(text).ok());
    let members = schema.as_ref().and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    needs.iter().find_map(|need| {
        let naming = members
            .into_iter()
            .flatten()
            .filter(|(_, member)| member.get(WORD).and_then(Value::as_str) == Some(need.interface()));
        let naming: Vec<&String> = naming.map(|(name, _)| name).collect();
        if naming.is_empty() {
            return (!need.is_granted(grants)).then_some(Lack::Any(*need));
        }
        let named = naming.into_iter().filter_map(|name| config.get(name)).flat_map(names);
        // What is no name is the plugin's to refuse.
        let mut wanted = named.filter_map(|name| format!("{}:{name}", need.interface()).parse().ok());
        wanted.find(|grant| !grants.contains(grant)).map(Lack::Named)
    })
}

/// The texts in a configured value: itself, its items or the values of its members.
fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Object(members) => members.values().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(schema: &str, config: Value, grants: &[&str]) -> Option<String> {
        let config = config.as_object().expect("an object").clone();
        let grants: Vec<Grant> = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
        lacking(&[Need::Schema], Some(schema), &config, &grants).map(|lack| match lack {
            Lack::Any(need) => need.example().to_owned(),
            Lack::Named(grant) => grant.to_string(),
        })
    }

    const NAMING: &str = r#"{"properties": {"schema-name": {"x-wharf-grant": "schema"}, "table": {"x-wharf-grant": "lookup"}}}"#;

    #[test]
    fn a_configuration_needs_what_it_names() {
        let config = serde_json::json!({"schema-name": "order", "table": "prices"});
        assert_eq!(lack(NAMING, config.clone(), &[]).as_deref(), Some("schema:order"));
        assert_eq!(lack(NAMING, config.clone(), &["schema:other"]).as_deref(), Some("schema:order"));
        assert_eq!(lack(NAMING, config, &["schema:order"]), None);
        assert_eq!(lack(NAMING, serde_json::json!({}), &[]), None);
        assert_eq!(lack(NAMING, serde_json::json!({"schema-name": "no name"}), &[]), None);
        for several in [serde_json::json!({"7": "a", "8": "order"}), serde_json::json!(["a", 1, "order"])] {
            let config = serde_json::json!({"schema-name": several});
            assert_eq!(lack(NAMING, config.clone(), &["schema:a"]).as_deref(), Some("schema:order"));
            assert_eq!(lack(NAMING, config, &["schema:a", "schema:order"]), None);
        }
    }

    #[test]
    fn a_plugin_that_does_not_say_what_names_it_needs_any() {
        for schema in ["{}", "no schema", r#"{"properties": {"schema-name": {"x-wharf-grant": "lookup"}}}"#] {
            let config = serde_json::json!({"schema-name": "order"});
            assert_eq!(lack(schema, config.clone(), &[]).as_deref(), Some("\"schema:NAME\""), "{schema}");
            assert_eq!(lack(schema, config, &["schema:order"]), None, "{schema}");
        }
    }
}
