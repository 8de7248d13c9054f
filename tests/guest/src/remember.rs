//! What only a stage that grants it by name may ask: each behaviour is words, the answer goes into a header.

use crate::guest::wharf::plugin::{kv, lookup, schema, secrets};

/// Whether the key behind `once` is new; it is not from then on.
pub fn first_time(asked: &str) -> bool {
    let key = asked.trim_start_matches("once ");
    let new = matches!(kv::get(key), Ok(None));
    if new {
        drop(kv::set(key, b"seen", None));
    }
    new
}

/// Does what was asked, and says what came of it.
pub fn ask(asked: &str) -> String {
    let words: Vec<&str> = asked.split(' ').collect();
    match words[..] {
        ["kv-add", key, ..] => said(kv::add(key, 1, None).map(|count| count.to_string().into_bytes())),
        ["kv-add-for", key, ms, ..] => {
            said(kv::add(key, 1, ms.parse().ok()).map(|count| count.to_string().into_bytes()))
        }
        ["kv-get", key, ..] => said(kv::get(key).map(Option::unwrap_or_default)),
        ["kv-set", key, value, ..] => said(kv::set(key, value.as_bytes(), None).map(|()| Vec::new())),
        ["kv-remove", key, ..] => said(kv::remove(key).map(|()| Vec::new())),
        ["lookup", table, key] => said(lookup::get(table, key).map(Option::unwrap_or_default)),
        ["lookup-version", table] => {
            said(lookup::version(table).map(|version| version.to_string().into_bytes()))
        }
        ["lookup-many", table, ref keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let values = lookup::get_many(table, &keys);
            let text = |values: Vec<Option<Vec<u8>>>| {
                values
                    .into_iter()
                    .map(|value| value.unwrap_or_else(|| b"-".to_vec()))
                    .collect::<Vec<_>>()
                    .join(&b',')
            };
            said(values.map(text))
        }
        ["schema", name] => said(schema::get(name).map(|schema| {
            format!("{} {}", schema.version, String::from_utf8_lossy(&schema.bytes)).into_bytes()
        })),
        ["secret", name] => said(secrets::get(name)),
        _ => format!("nobody knows what {asked:?} is"),
    }
}

fn said<E: std::fmt::Debug>(answer: Result<Vec<u8>, E>) -> String {
    match answer {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("{error:?}"),
    }
}
