//! A stage's configuration, checked against the JSON Schema that its plugin describes, before the plugin sees it.
//!
//! The words of JSON Schema 2020-12 that configurations are made of: `type`, `enum`, `const`, `properties`,
//! `required`, `additionalProperties`, `items`, bounds, `anyOf`, `oneOf`, `allOf`, and `$ref` within the document. A
//! word that is not known here constrains nothing, as the specification has it (Core §4.3.1): the plugin's own check
//! is the last one, always.
//!
//! A validator of the whole specification would bring patterns and documents from elsewhere, both chosen by a plugin
//! that nobody trusts; and it would say that a key is unknown, and not which one was meant. Here a schema costs a
//! bounded number of steps, whatever it says.

mod nearest;
mod words;

use serde_json::{Map, Value};

use crate::Problem;
use nearest::nearest_of;
use words::{expected, shown};

/// The longest schema that is used.
const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// How many schemas are laid against values at most.
const STEPS_MAX: usize = 100_000;

/// How deep schemas may lie in one another, references counted.
const DEPTH_MAX: usize = 64;

/// How many mistakes are told at once.
const MISTAKES_MAX: usize = 5;

/// How many known keys are named beside an unknown one.
const KEYS_MAX: usize = 20;

/// What is wrong with `config` by `schema`, the text of a JSON Schema. What is no schema finds nothing wrong.
pub(crate) fn check(schema: &str, config: &Map<String, Value>) -> Result<(), Problem> {
    if schema.len() > SCHEMA_BYTES_MAX {
        return Ok(());
    }
    let Ok(root) = serde_json::from_str::<Value>(schema) else { return Ok(()) };
    let mut steps = STEPS_MAX;
    let checker = Checker { root: &root };
    let mistakes = checker.check(&root, &Value::Object(config.clone()), &Place::root(), &mut steps);
    let Some(first) = mistakes.first().filter(|_| steps > 0) else { return Ok(()) };
    let mut message = first.message.clone();
    for other in mistakes[1..].iter().take(MISTAKES_MAX - 1) {
        message.push_str(&format!("; {}: {}", other.named_place(), other.message));
    }
    if mistakes.len() > MISTAKES_MAX {
        message.push_str(&format!("; and {} more", mistakes.len() - MISTAKES_MAX));
    }
    let path = Some(first.path.clone()).filter(|path| !path.is_empty());
    Err(Problem { code: "bad-config".to_owned(), message, path })
}

struct Checker<'s> {
    root: &'s Value,
}

/// Where a value is, as a JSON pointer (RFC 6901), and how deep the schemas are.
#[derive(Clone)]
struct Place {
    pointer: String,
    depth: usize,
}

#[derive(Debug)]
struct Mistake {
    path: String,
    message: String,
}

impl Mistake {
    fn named_place(&self) -> &str {
        if self.path.is_empty() { "the configuration" } else { &self.path }
    }
}

impl Place {
    fn root() -> Self {
        Self { pointer: String::new(), depth: 0 }
    }

    fn member(&self, key: &str) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self { pointer: format!("{}/{key}", self.pointer), depth: self.depth + 1 }
    }

    /// The same value under another schema.
    fn deeper(&self) -> Self {
        Self { pointer: self.pointer.clone(), depth: self.depth + 1 }
    }

    fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake { path: self.pointer.clone(), message: message.into() }
    }
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, place: &Place, steps: &mut usize) -> Vec<Mistake> {
        *steps = steps.saturating_sub(1);
        if *steps == 0 || place.depth > DEPTH_MAX {
            return Vec::new();
        }
        let schema = match schema {
            Value::Bool(false) => return vec![place.mistake("nothing may be here")],
            Value::Object(schema) => schema,
            _ => return Vec::new(),
        };
        if !is_of_type(schema, value) {
            return vec![place.mistake(format!("{} is not {}", shown(value), expected(schema)))];
        }
        let mut mistakes = Vec::new();
        self.referred(schema, value, place, steps, &mut mistakes);
        named_values(schema, value, place, &mut mistakes);
        in_range(schema, value, place, &mut mistakes);
        match value {
            Value::Object(object) => self.object(schema, object, place, steps, &mut mistakes),
            Value::Array(items) => {
                // With `prefixItems`, `items` is about the rest alone.
                if let (Some(each), None) = (schema.get("items"), schema.get("prefixItems")) {
                    for (i, item) in items.iter().enumerate() {
                        mistakes.extend(self.check(each, item, &place.member(&i.to_string()), steps));
                    }
                }
            }
            _ => {}
        }
        mistakes
    }

    fn referred(
        &self,
        schema: &Map<String, Value>,
        value: &Value,
        place: &Place,
        steps: &mut usize,
        mistakes: &mut Vec<Mistake>,
    ) {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        if let Some(there) = reference.and_then(|pointer| self.root.pointer(pointer)) {
            mistakes.extend(self.check(there, value, &place.deeper(), steps));
        }
        for each in alternatives(schema, "allOf") {
            mistakes.extend(self.check(each, value, &place.deeper(), steps));
        }
        for word in ["anyOf", "oneOf"] {
            let among = alternatives(schema, word);
            if !among.is_empty() {
                mistakes.extend(self.one_of(among, value, place, steps));
            }
        }
    }

    /// The mistakes of the alternative that was most likely meant.
    fn one_of(&self, among: &[Value], value: &Value, place: &Place, steps: &mut usize) -> Vec<Mistake> {
        let mut nearest: Option<((bool, usize), Vec<Mistake>)> = None;
        for each in among {
            let mistakes = self.check(each, value, &place.deeper(), steps);
            if mistakes.is_empty() {
                return Vec::new();
            }
            let rank = (!is_like(each, value), mistakes.len());
            if nearest.as_ref().is_none_or(|(best, _)| rank < *best) {
                nearest = Some((rank, mistakes));
            }
        }
        match nearest {
            Some((_, mistakes)) if mistakes.iter().any(|each| each.path != place.pointer) => mistakes,
            _ => {
                let words = among.iter().filter_map(Value::as_object).flat_map(texts);
                let near = value.as_str().and_then(|text| nearest_of(text, words));
                let expected = among.iter().filter_map(Value::as_object).map(expected).collect::<Vec<_>>();
                let meant = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                vec![place.mistake(format!("{} is not {}{meant}", shown(value), expected.join(", or ")))]
            }
        }
    }

    fn object(
        &self,
        schema: &Map<String, Value>,
        object: &Map<String, Value>,
        place: &Place,
        steps: &mut usize,
        mistakes: &mut Vec<Mistake>,
    ) {
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let others = schema.get("additionalProperties").filter(|_| !schema.contains_key("patternProperties"));
        for (key, value) in object.iter().filter(|(key, _)| !known.contains_key(*key)) {
            match others {
                Some(Value::Bool(false)) => mistakes.push(unknown(key, known, object, place)),
                Some(each) => mistakes.extend(self.check(each, value, &place.member(key), steps)),
                None => {}
            }
        }
        for key in alternatives(schema, "required").iter().filter_map(Value::as_str) {
            if !object.contains_key(key) {
                mistakes.push(place.mistake(format!("`{key}` is missing")));
            }
        }
        for (key, value) in object {
            if let Some(each) = known.get(key) {
                mistakes.extend(self.check(each, value, &place.member(key), steps));
            }
        }
    }
}

fn unknown(key: &str, known: &Map<String, Value>, object: &Map<String, Value>, place: &Place) -> Mistake {
    // A key that is there already was not meant.
    let free = known.keys().filter(|known| !object.contains_key(*known)).map(String::as_str);
    let hint = match nearest_of(key, free) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is nothing to configure".to_owned(),
        None => {
            let mut names: Vec<_> = known.keys().map(String::as_str).collect();
            names.sort_unstable();
            names.truncate(KEYS_MAX);
            format!("there are: {}", names.join(", "))
        }
    };
    place.member(key).mistake(format!("unknown key `{key}`; {hint}"))
}

fn named_values(schema: &Map<String, Value>, value: &Value, place: &Place, mistakes: &mut Vec<Mistake>) {
    let wrong = match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
        (Some(only), _) => only != value,
        (None, Some(values)) => !values.contains(value),
        (None, None) => false,
    };
    if wrong {
        let near = value.as_str().and_then(|text| nearest_of(text, texts(schema)));
        let meant = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        mistakes.push(place.mistake(format!("{} is not {}{meant}", shown(value), expected(schema))));
    }
}

/// Bounds on numbers, and on how much there is of texts, arrays and objects.
fn in_range(schema: &Map<String, Value>, value: &Value, place: &Place, mistakes: &mut Vec<Mistake>) {
    let (size, low, high, unit) = match value {
        Value::Number(number) => (number.as_f64(), "minimum", "maximum", ""),
        Value::String(text) => (count(text.chars().count()), "minLength", "maxLength", " characters"),
        Value::Array(items) => (count(items.len()), "minItems", "maxItems", " items"),
        Value::Object(object) => (count(object.len()), "minProperties", "maxProperties", " members"),
        Value::Null | Value::Bool(_) => return,
    };
    let Some(size) = size else { return };
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    let shown = if unit.is_empty() { shown(value) } else { format!("{size}{unit}") };
    let mut wrong = |is: bool, than: &str, bound: f64| {
        if is {
            mistakes.push(place.mistake(format!("{shown} is {than} {bound}")));
        }
    };
    if let Some(min) = bound(low) {
        wrong(size < min, "less than", min);
    }
    if let Some(max) = bound(high) {
        wrong(size > max, "more than", max);
    }
    if unit.is_empty() {
        if let Some(min) = bound("exclusiveMinimum") {
            wrong(size <= min, "not more than", min);
        }
        if let Some(max) = bound("exclusiveMaximum") {
            wrong(size >= max, "not less than", max);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a configuration has fewer than 2^53 of anything")]
fn count(count: usize) -> Option<f64> {
    Some(count as f64)
}

fn alternatives<'s>(schema: &'s Map<String, Value>, word: &str) -> &'s [Value] {
    schema.get(word).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn types(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_of_type(schema: &Map<String, Value>, value: &Value) -> bool {
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|&each| match (each, value) {
            ("integer", Value::Number(number)) => {
                number.is_i64()
                    || number.is_u64()
                    || number.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            ("number", Value::Number(_))
            | ("string", Value::String(_))
            | ("boolean", Value::Bool(_))
            | ("array", Value::Array(_))
            | ("object", Value::Object(_))
            | ("null", Value::Null) => true,
            _ => false,
        })
}

/// Whether `value` is of the sort of which `schema` takes some.
fn is_like(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return false };
    let mut named = schema.get("const").into_iter().chain(alternatives(schema, "enum")).peekable();
    let same_sort = |other: &Value| std::mem::discriminant(other) == std::mem::discriminant(value);
    is_of_type(schema, value) && (named.peek().is_none() || named.any(same_sort))
}

fn texts(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let only = schema.get("const").and_then(Value::as_str);
    alternatives(schema, "enum").iter().filter_map(Value::as_str).chain(only)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> String {
        json!({
            "$defs": {"outputs": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
            "type": "object",
            "required": ["routes"],
            "additionalProperties": false,
            "properties": {
                "routes": {"type": "object", "additionalProperties": {"$ref": "#/$defs/outputs"}},
                "max-depth": {"type": "integer", "minimum": 1, "maximum": 128},
                "otherwise": {"anyOf": [
                    {"enum": ["pass", "drop"]},
                    {"type": "object", "required": ["to"], "additionalProperties": false,
                     "properties": {"to": {"$ref": "#/$defs/outputs"}}},
                ]},
            },
        })
        .to_string()
    }

    fn problem(config: Value) -> (String, String) {
        let Value::Object(config) = config else { panic!("an object") };
        let problem = check(&schema(), &config).expect_err("not a configuration");
        assert_eq!(problem.code, "bad-config");
        (problem.path.unwrap_or_default(), problem.message)
    }

    fn wrong(config: Value, path: &str, message: &str) {
        assert_eq!(problem(config), (path.to_owned(), message.to_owned()));
    }

    #[test]
    fn what_fits_is_taken() {
        for config in [
            json!({"routes": {}}),
            json!({"routes": {"eu": ["a", "b"]}, "max-depth": 128, "otherwise": "drop"}),
            json!({"routes": {}, "max-depth": 1.0, "otherwise": {"to": ["rest"]}}),
        ] {
            let Value::Object(config) = config else { panic!("an object") };
            assert_eq!(check(&schema(), &config), Ok(()));
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_known_one() {
        wrong(
            json!({"routes": {}, "max_dept": 3}),
            "/max_dept",
            "unknown key `max_dept`; did you mean `max-depth`?",
        );
        wrong(
            json!({"routes": {}, "colour": 3}),
            "/colour",
            "unknown key `colour`; there are: max-depth, otherwise, routes",
        );
        wrong(
            json!({"ruotes": {}}),
            "/ruotes",
            "unknown key `ruotes`; did you mean `routes`?; the configuration: `routes` is missing",
        );
    }

    #[test]
    fn the_path_leads_to_what_is_wrong() {
        wrong(json!({"routes": {"a/b": ["x", 7]}}), "/routes/a~1b/1", "7 is not a text");
        wrong(json!({"routes": {"eu": []}}), "/routes/eu", "0 items is less than 1");
        wrong(json!({"routes": {}, "max-depth": 129}), "/max-depth", "129 is more than 128");
        wrong(json!({"routes": {}, "max-depth": 1.5}), "/max-depth", "1.5 is not an integer");
        wrong(json!({}), "", "`routes` is missing");
    }

    #[test]
    fn of_several_forms_the_one_that_was_meant_is_explained() {
        wrong(
            json!({"routes": {}, "otherwise": "pas"}),
            "/otherwise",
            "\"pas\" is not one of \"pass\", \"drop\", or an object with to; did you mean \"pass\"?",
        );
        wrong(
            json!({"routes": {}, "otherwise": {"to": "rest"}}),
            "/otherwise/to",
            "\"rest\" is not an array",
        );
        wrong(
            json!({"routes": {}, "otherwise": {"too": ["rest"]}}),
            "/otherwise/too",
            "unknown key `too`; did you mean `to`?; /otherwise: `to` is missing",
        );
    }

    #[test]
    fn what_is_no_schema_finds_nothing_wrong() {
        let config = json!({"a": 1}).as_object().cloned().expect("an object");
        let deep = "{\"allOf\":[".repeat(100) + &"]}".repeat(100);
        for schema in
            ["", "7", "{\"type\": 7}", "{\"$ref\": \"#\"}", "{\"$ref\": \"https://a/b\"}", deep.as_str()]
        {
            assert_eq!(check(schema, &config), Ok(()), "{schema}");
        }
    }

    #[test]
    fn a_schema_costs_a_bounded_number_of_steps() {
        // Each level refers to the next one ten times: 10^20 ways through it.
        let level = |i: usize| {
            let next = json!({"$ref": format!("#/$defs/{}", i + 1)});
            (i.to_string(), json!({"allOf": vec![next; 10]}))
        };
        let levels: Map<String, Value> = (0..20).map(level).collect();
        let schema = json!({"$defs": levels, "$ref": "#/$defs/0"}).to_string();
        assert_eq!(check(&schema, &Map::new()), Ok(()));
    }
}
