//! `split`: a transformer that makes a message of each item of an array.
//!
//! ```json
//! {"order":"7","lines":[{"sku":"A-1"},{"sku":"B-9"}]}
//! ```
//! becomes, with the configuration below, two messages with the headers `order: 7` and `item: 0`, `item: 1`:
//! ```json
//! {"sku":"A-1","order":"7"}
//! {"sku":"B-9","order":"7"}
//! ```
//!
//! ```toml
//! [stage.config]
//! at = "/lines"                        # where the array is; "" for the whole payload
//! keep = { order = "/order" }          # values from outside of the array, copied into each item, which is an object
//! headers = { order = "/order" }       # and as headers
//! index-header = "item"                # a header with the item's number, from 0
//! empty = "drop"                       # what becomes of a message without items: "drop", "keep", "reject"
//! ```
//!
//! Without `keep`, an item is the very bytes that stood in the payload: they are not copied out of the broker. More
//! items than the stage's limit of outputs reject the message as a whole (`too-many-outputs`).

mod spans;

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_value::{Pointer, Value};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// What an operator writes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the array is.
    pub at: Pointer,
    /// Values that are copied into each item, by the member's name.
    pub keep: BTreeMap<String, Pointer>,
    /// Values that become headers of each item, by the header's name: texts, numbers and booleans.
    pub headers: BTreeMap<String, Pointer>,
    /// The header that has the item's number.
    pub index_header: Option<String>,
    /// What becomes of messages without items.
    pub empty: Empty,
}

/// What becomes of messages without items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Empty {
    /// They are settled here.
    #[default]
    Drop,
    /// They go on as they came.
    Keep,
    /// They are rejected, with the code `no-items`.
    Reject,
}

/// The plugin.
#[derive(Debug)]
pub struct Split {
    config: Config,
}

impl Plugin for Split {
    type Config = Config;
    const SUMMARY: &'static str = "makes a message of each item of an array";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { config })
    }
}

impl Transformer for Split {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let payload = json_value::read(message.payload())?;
        let items = match self.config.at.find(&payload) {
            Some(Value::Array(items)) => items,
            found => {
                let found = found.map_or("nothing", Value::kind);
                let message = format!("an array is to be here, and there is {found}");
                return Err(Problem::new("no-array", message).at(self.config.at.as_str()).into());
            }
        };
        match (items.is_empty(), self.config.empty) {
            (true, Empty::Drop) => return Ok(Transformed::Drop),
            (true, Empty::Keep) => return Ok(Transformed::Keep),
            (true, Empty::Reject) => {
                return Err(Problem::new("no-items", "the array is empty")
                    .at(self.config.at.as_str())
                    .into());
            }
            (false, _) => {}
        }
        self.emit(message.payload(), &payload, items, out)
    }
}

impl Split {
    fn emit(
        &self,
        json: &[u8],
        payload: &Value<'_>,
        items: &[Value<'_>],
        out: &mut Out<'_>,
    ) -> Result<Transformed, Failure> {
        let kept = self.kept(payload)?;
        let mut headers = self.headers(payload)?;
        let spans = if kept.is_empty() { spans::items(json, &self.config.at) } else { Vec::new() };
        let fixed = headers.len();
        for (index, item) in items.iter().enumerate() {
            headers.truncate(fixed);
            if let Some(name) = &self.config.index_header {
                headers.push((name, index.to_string().into()));
            }
            let headers: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            if let Some(&(start, length)) = spans.get(index) {
                out.emit(Emit::part(start as u64, length as u64).set_headers(&headers))?;
                continue;
            }
            let mut item = item.clone();
            for (name, value) in &kept {
                if !item.set(Cow::Borrowed(name), (*value).clone()) {
                    let message = format!("`keep` adds members, and this item is {}", item.kind());
                    let path = format!("{}/{index}", self.config.at);
                    return Err(Problem::new("not-an-object", message).at(path).into());
                }
            }
            out.emit(Emit::bytes(&item.to_json()).set_headers(&headers))?;
        }
        Ok(Transformed::Emitted)
    }

    /// What is copied into each item; what the payload does not have is left out.
    fn kept<'v, 'p>(&'v self, payload: &'v Value<'p>) -> Result<Vec<(&'v str, &'v Value<'p>)>, Problem> {
        let kept = self.config.keep.iter();
        Ok(kept.filter_map(|(name, at)| Some((name.as_str(), at.find(payload)?))).collect())
    }

    fn headers<'v>(&'v self, payload: &'v Value<'_>) -> Result<Vec<(&'v str, Cow<'v, str>)>, Problem> {
        let mut headers = Vec::with_capacity(self.config.headers.len() + 1);
        for (name, at) in &self.config.headers {
            let Some(value) = at.find(payload).filter(|value| **value != Value::Null) else { continue };
            let plain = value.plain().ok_or_else(|| {
                let message = format!("the header `{name}` is made of {}, which has no text", value.kind());
                Problem::new("bad-header", message).at(at.as_str())
            })?;
            headers.push((name.as_str(), Cow::Borrowed(plain)));
        }
        Ok(headers)
    }
}

wharf_plugin::export!(Split as transformer);
