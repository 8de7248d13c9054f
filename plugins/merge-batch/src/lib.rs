//! `merge-batch`: a transformer that makes one message of several, with one JSON array as its payload.
//!
//! ```json
//! {"order":7,"sku":"A-1"}
//! {"order":7,"sku":"B-9"}
//! ```
//! become, when the second comes,
//! ```json
//! [{"order":7,"sku":"A-1"},{"order":7,"sku":"B-9"}]
//! ```
//!
//! ```toml
//! [stage]
//! grants = ["kv", "clock"]
//!
//! [stage.config]
//! count = 2                            # so many messages make one
//! by = "/order"                        # only those with the same value here (a text or number); without: all
//! window-s = 60                        # or when a message comes this long after the first of its batch
//! last = "/last"                       # or when a message has `true` here
//! ```
//!
//! The messages that are kept are settled here; they live in the pipeline's `kv`, each with the record that took it, so
//! that a crash neither loses nor repeats one. A batch is sent on with the headers of the message that completes it,
//! and `batch-size`. **A batch that no further message completes stays**: there is no timer in a pipeline, and
//! `window-s` is looked at when a message comes. At most 1,000 messages and 60 KiB are kept of a batch; the message that
//! would pass that completes it.

use json_value::{Bytes, Pointer, Value};
use serde::Deserialize;
use wharf_plugin::{
    Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer, clock, kv,
};

/// How many messages a batch can have.
pub const COUNT_MAX: u32 = 1000;

/// How long the kept part of a batch can be: it is one value in the pipeline's `kv`.
pub const KEPT_BYTES_MAX: usize = 60 * 1024;

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// So many messages make one.
    pub count: u32,
    /// Where messages of one batch have the same value.
    pub by: Option<Pointer>,
    /// How long after its first message a batch is completed by the next.
    pub window_s: Option<u64>,
    /// Where a message that completes its batch has `true`.
    pub last: Option<Pointer>,
}

/// The plugin.
#[derive(Debug)]
pub struct MergeBatch {
    config: Config,
}

impl Plugin for MergeBatch {
    type Config = Config;
    const SUMMARY: &'static str = "makes one message of several";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        if !(2..=COUNT_MAX).contains(&config.count) {
            let message = format!("{} is not a number of messages from 2 to {COUNT_MAX}", config.count);
            return Err(Problem::new("bad-config", message).at("/count"));
        }
        Ok(Self { config })
    }
}

/// What is kept of a batch: when it began (8 bytes), how many there are (4), and their JSON with commas between them.
#[derive(Debug, Default)]
struct Kept {
    began_ms: u64,
    count: u32,
    items: Vec<u8>,
}

const HEAD_BYTES: usize = 12;

impl Transformer for MergeBatch {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let payload = json_value::read(message.payload())?;
        let key = self.key(&payload)?;
        let mut kept = match kv::get(&key)? {
            Some(bytes) => Kept::decode(&bytes).ok_or_else(|| {
                Problem::new("bad-batch", format!("what `kv` keeps as `{key}` is no batch of this stage"))
            })?,
            None => Kept { began_ms: clock::now(), ..Kept::default() },
        };
        let item = message.payload().trim_ascii();
        let fits = HEAD_BYTES + kept.items.len() + 1 + item.len() <= KEPT_BYTES_MAX;
        let late = self.config.window_s.is_some_and(|window| {
            kept.count > 0 && clock::now().saturating_sub(kept.began_ms) >= window.saturating_mul(1000)
        });
        let last = self.config.last.as_ref().and_then(|at| at.find(&payload)) == Some(&Value::Bool(true));
        kept.add(item);
        if kept.count >= self.config.count || last || late || !fits {
            kv::remove(&key)?;
            return kept.emit(out);
        }
        kv::set(&key, &kept.encode())?;
        Ok(Transformed::Drop)
    }
}

impl MergeBatch {
    fn key(&self, payload: &Value<'_>) -> Result<String, Failure> {
        let Some(at) = &self.config.by else { return Ok("merge-batch/".to_owned()) };
        let value = at.find(payload).and_then(Value::plain).ok_or_else(|| {
            let message = "messages are merged by the value here: a text, number or boolean";
            Problem::new("no-field", message).at(at.as_str())
        })?;
        // A key has few bytes and a value any number.
        let value = match value.len() {
            ..=128 => format!("={value}"),
            _ => format!("#{}", Bytes::Base64url.encode(&hmac_sha256::Hash::hash(value.as_bytes()))),
        };
        Ok(format!("merge-batch/{value}"))
    }
}

impl Kept {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (began_ms, rest) = bytes.split_first_chunk()?;
        let (count, items) = rest.split_first_chunk()?;
        Some(Self {
            began_ms: u64::from_be_bytes(*began_ms),
            count: u32::from_be_bytes(*count),
            items: items.to_vec(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        [&self.began_ms.to_be_bytes()[..], &self.count.to_be_bytes(), &self.items].concat()
    }

    fn add(&mut self, item: &[u8]) {
        if self.count > 0 {
            self.items.push(b',');
        }
        self.items.extend_from_slice(item);
        self.count += 1;
    }

    fn emit(self, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let size = self.count.to_string();
        let payload = [b"[", self.items.as_slice(), b"]"].concat();
        let headers: [(&str, &[u8]); 2] =
            [("content-type", b"application/json"), ("batch-size", size.as_bytes())];
        out.emit(Emit::bytes(&payload).set_headers(&headers))
    }
}

wharf_plugin::export!(MergeBatch as transformer);
