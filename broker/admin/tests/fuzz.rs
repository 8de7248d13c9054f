//! Requests made up from what the API says of itself, then changed at random, against the router in this process: it
//! answers every one, never with a panic or a fault of its own, and what it refuses it refuses with a sentence.
//!
//! `WHARF_EXECUTIONS=1000000 cargo test -p wharf-admin --test fuzz -- --nocapture` for more than the few that every
//! run of the tests makes; `WHARF_SEED` begins elsewhere.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Uri, header};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tower_service::Service as _;
use wharf_node::{Config, Identity, Node};

const TOKEN: &str = "admin-token";
/// Executions against one node: then another one begins, so that what was made stays little.
const ROUND: u64 = 2_000;
/// The longest sentence of a refusal.
const SENTENCE_BYTES_MAX: usize = 8 * 1024;
/// The largest answer: what is listed is bounded.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How deep made-up values go.
const DEPTH_MAX: u32 = 6;

/// Numbers that look random and follow from a seed: `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end as u64).expect("below a length")
    }

    fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// One operation of the API, as its document says.
struct Operation {
    method: String,
    path: String,
    query: Vec<(String, Value)>,
    /// The type of its body and the schema, where it has one.
    body: Option<(String, Value)>,
}

/// The API's own description.
struct Api {
    operations: Vec<Operation>,
    schemas: Value,
}

impl Api {
    fn read() -> Self {
        let document = serde_json::to_value(wharf_admin::document()).expect("JSON");
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let in_query = parameters.into_iter().filter(|each| each["in"] == "query");
                let query = in_query
                    .map(|each| (each["name"].as_str().expect("named").into(), each["schema"].clone()));
                let content = operation["requestBody"]["content"].as_object();
                let body = content.and_then(|content| content.iter().next());
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    query: query.collect(),
                    body: body.map(|(kind, body)| (kind.clone(), body["schema"].clone())),
                });
            }
        }
        Self { operations, schemas: document["components"]["schemas"].clone() }
    }

    /// A value of a schema.
    fn value(&self, schema: &Value, chance: &mut Chance, depth: u32) -> Value {
        if depth == 0 {
            return Value::Null;
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return self.value(&self.schemas[name], chance, depth);
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.is_empty()) {
            return chance.one_of(words).clone();
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(all) = schema[choice].as_array().filter(|all| !all.is_empty()) {
                let one = chance.one_of(all).clone();
                return self.value(&one, chance, depth - 1);
            }
        }
        if let Some(all) = schema["allOf"].as_array() {
            let parts = all.iter().map(|part| self.value(part, chance, depth - 1));
            let parts = parts.filter_map(|part| part.as_object().cloned());
            return Value::Object(parts.flatten().collect());
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => chance.one_of(kinds).as_str().unwrap_or("null").to_owned(),
            kind => kind.as_str().unwrap_or("object").to_owned(),
        };
        match kind.as_str() {
            "string" => Value::from(text(chance)),
            "integer" | "number" => number(chance),
            "boolean" => Value::from(chance.percent(50)),
            "array" => {
                (0..chance.below(4)).map(|_| self.value(&schema["items"], chance, depth - 1)).collect()
            }
            "null" => Value::Null,
            _ => {
                let mut object = Map::new();
                for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                    if chance.percent(70) {
                        object.insert(name.clone(), self.value(schema, chance, depth - 1));
                    }
                }
                Value::Object(object)
            }
        }
    }

    /// A request that is right, or nearly.
    fn request(&self, chance: &mut Chance) -> Made {
        let operation = chance.one_of(&self.operations);
        let mut path = String::new();
        for (place, part) in operation.path.split(['{', '}']).enumerate() {
            // Every second part is the name of a parameter.
            path += &if place % 2 == 0 { part.to_owned() } else { escaped(&text(chance)) };
        }
        let mut query = Vec::new();
        for (name, schema) in &operation.query {
            if chance.percent(40) {
                let value = match self.value(schema, chance, 2) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                query.push(format!("{name}={}", escaped(&value)));
            }
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let (kind, body) = match &operation.body {
            Some((kind, schema)) if kind.contains("json") => {
                let mut value = self.value(schema, chance, DEPTH_MAX);
                if chance.percent(40) {
                    change(&mut value, chance);
                }
                let mut bytes = value.to_string().into_bytes();
                if chance.percent(20) {
                    damage(&mut bytes, chance);
                }
                (kind.clone(), bytes)
            }
            Some((kind, _)) => {
                let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
                bytes.extend((0..chance.below(64)).map(|_| chance.bits() as u8));
                damage(&mut bytes, chance);
                (kind.clone(), bytes)
            }
            None => (String::new(), Vec::new()),
        };
        Made { method: operation.method.clone(), path, kind, body }
    }
}

/// A request that was made up.
#[derive(Clone, Debug)]
struct Made {
    method: String,
    path: String,
    kind: String,
    body: Vec<u8>,
}

fn text(chance: &mut Chance) -> String {
    const WORDS: [&str; 24] = [
        "n",
        "orders",
        "dead-letters",
        "orders.#",
        "*.new",
        "",
        ".",
        "#",
        "a b",
        "../..",
        "é",
        "\u{0}",
        "1-0",
        "9223372036854775808-65536",
        "1",
        "0 3 * * *",
        "@hourly",
        "Europe/Rome",
        "10s",
        "1GiB",
        "none",
        "first",
        "eyJhIjoxfQ==",
        "%",
    ];
    match chance.below(30) {
        0 => "x".repeat(300),
        1 => "\u{1F4A5}".repeat(chance.below(100)),
        _ => (*chance.one_of(&WORDS)).to_owned(),
    }
}

fn number(chance: &mut Chance) -> Value {
    let numbers = [
        json!(0),
        json!(1),
        json!(2),
        json!(20),
        json!(1000),
        json!(-1),
        json!(255),
        json!(256),
        json!(65_535),
        json!(65_536),
        json!(u64::from(u32::MAX)),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
    ];
    chance.one_of(&numbers).clone()
}

/// Puts something else in one place of a value.
fn change(value: &mut Value, chance: &mut Chance) {
    let deeper = chance.percent(70);
    match value {
        Value::Object(object) if deeper && !object.is_empty() => {
            let at = chance.below(object.len());
            change(object.values_mut().nth(at).expect("below its length"), chance);
        }
        Value::Array(array) if deeper && !array.is_empty() => {
            let at = chance.below(array.len());
            change(&mut array[at], chance);
        }
        _ => {
            *value = match chance.below(7) {
                0 => Value::Null,
                1 => number(chance),
                2 => json!([]),
                3 => json!({ "unknown": 1 }),
                4 => (0..100).fold(json!(1), |inner, _| json!([inner])),
                5 => json!(true),
                _ => Value::from(text(chance)),
            }
        }
    }
}

/// Changes some bytes.
fn damage(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..1 + chance.below(3) {
        let at = chance.below(bytes.len().max(1));
        match chance.below(4) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] = chance.bits() as u8,
            2 => bytes.insert(at.min(bytes.len()), chance.bits() as u8),
            _ => {
                let copy = bytes[at.min(bytes.len())..].to_vec();
                bytes.extend(copy.into_iter().take(64));
            }
        }
    }
}

/// What may stand in a path or query, and everything else escaped.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02x}"),
    };
    text.bytes().map(escape).collect()
}

async fn start() -> (Node, Router, TempDir) {
    use sha2::Digest as _;
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::new(folder.path());
    config.plugin_bytes_max = 64 * 1024;
    config.segment_bytes = 1024 * 1024;
    let token = hex::encode(sha2::Sha256::digest(TOKEN));
    config.principals = vec![Identity::administrator("admin", token)];
    let node = Node::start(config).await.expect("the node starts");
    let router = wharf_admin::router(node.clone());
    (node, router, folder)
}

/// The status, when the answer is what it has to be.
async fn ask(mut router: Router, made: Made) -> Result<u16, String> {
    // Not every path that is made up is one.
    let Ok(uri) = made.path.parse::<Uri>() else { return Ok(0) };
    let mut request = Request::builder().method(made.method.as_str()).uri(uri);
    request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    if !made.kind.is_empty() {
        request = request.header(header::CONTENT_TYPE, made.kind);
    }
    let request = request.body(Body::from(made.body)).map_err(|error| error.to_string())?;
    let response = router.call(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| format!("{status}: {error}"))?;
    if (200..300).contains(&status) {
        return Ok(status);
    }
    if !(400..500).contains(&status) && status != 503 {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    let told: Value = serde_json::from_slice(&body).map_err(|error| format!("{status}: {error}"))?;
    let sentence = told["error"]["message"].as_str().unwrap_or_default();
    let code = told["error"]["code"].as_str().unwrap_or_default();
    if sentence.is_empty() || code.is_empty() || sentence.len() > SENTENCE_BYTES_MAX {
        return Err(format!("{status} with a sentence of {} bytes, {code:?}", sentence.len()));
    }
    Ok(status)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn every_request_is_answered_and_every_refusal_says_why() {
    let (executions, seed) = (setting("WHARF_EXECUTIONS", 3_000), setting("WHARF_SEED", 1));
    let api = Api::read();
    assert!(api.operations.iter().filter(|each| each.body.is_some()).count() > 10, "routes that take bodies");
    let (mut statuses, mut done) = (BTreeMap::<u16, u64>::new(), 0);
    while done < executions {
        let (node, router, _folder) = start().await;
        for at in done..executions.min(done + ROUND) {
            let made = api.request(&mut Chance(seed << 32 ^ at));
            // A task of its own: there a panic is an answer too.
            let answer = tokio::spawn(ask(router.clone(), made.clone())).await;
            let said = || {
                let Made { method, path, body, .. } = &made;
                format!("execution {at}: {method} {path} {}", String::from_utf8_lossy(body))
            };
            match answer {
                Ok(Ok(status)) => *statuses.entry(status).or_default() += 1,
                Ok(Err(what)) => panic!("{}: {what}", said()),
                Err(panic) => panic!("{}: {panic}", said()),
            }
        }
        done = executions.min(done + ROUND);
        node.shutdown().await;
    }
    println!("{done} requests; by status: {statuses:?}");
    let ok: u64 = statuses.iter().filter(|(status, _)| (200..300).contains(*status)).map(|(_, n)| n).sum();
    assert!(ok > executions / 20, "where all is refused nothing is tried: {statuses:?}");
}
