//! `cloudevents`: a transformer that wraps messages as CloudEvents 1.0, unwraps and checks them, in binary mode (the
//! attributes are headers) and structured mode (the payload is the event, as JSON).
//!
//! ```json
//! {"total":12}
//! ```
//! on the topic `orders.created`, with the message id `7`, becomes with the configuration below
//! ```json
//! {"specversion":"1.0","id":"7","source":"/shop","type":"orders.created","time":"2026-01-31T12:00:00Z",
//!  "datacontenttype":"application/json","data":{"total":12}}
//! ```
//!
//! ```toml
//! [stage.config]
//! action = "wrap"                      # or "unwrap", "check"
//! mode = "structured"                  # what "wrap" makes: "structured", or "binary"
//! source = "/shop"                     # of "wrap"
//! type = "orders.created"              # without: the topic
//! subject = "/id"                      # a JSON pointer into the payload; without: no subject
//! extensions = { tenant = "eu" }       # more attributes
//! header-prefix = "ce-"                # before the names of attributes in headers
//! ```
//!
//! - **wrap** makes an event: the message id is its id, or random bits that are the same when the message is run again;
//!   the time is when the broker took it. A message that is an event already is checked, and converted to the mode.
//! - **unwrap** makes the event's data the payload, and its attributes headers with the prefix.
//! - **check** accepts events of either mode, unchanged.
//!
//! What is no event is rejected with the code `not-an-event`; one that breaks the specification with
//! `bad-attribute` and the attribute's name as the path.

mod event;

use std::collections::BTreeMap;

use json_value::{Pointer, Value, rfc3339};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Reads, Stage, Transformed, Transformer};

use event::{Data, Event};

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What is done.
    pub action: Action,
    /// What `wrap` makes.
    #[serde(default)]
    pub mode: Mode,
    /// The source of new events.
    pub source: Option<String>,
    /// The type of new events; the topic where absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where the subject of new events is in the payload.
    pub subject: Option<Pointer>,
    /// More attributes of new events.
    #[serde(default)]
    pub extensions: BTreeMap<String, String>,
    /// Before the names of attributes in headers.
    #[serde(default = "ce")]
    pub header_prefix: String,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Messages become events.
    Wrap,
    /// Events become their data.
    Unwrap,
    /// Events go on as they came.
    Check,
}

/// How an event travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The payload is the event, as JSON.
    #[default]
    Structured,
    /// The payload is the data, and the attributes are headers.
    Binary,
}

fn ce() -> String {
    "ce-".into()
}

/// The media type of an event in structured mode.
const EVENT: &str = "application/cloudevents+json";

/// The plugin.
#[derive(Debug)]
pub struct CloudEvents {
    config: Config,
}

impl Plugin for CloudEvents {
    type Config = Config;
    const SUMMARY: &'static str = "wraps, unwraps and checks CloudEvents";
    const READS: Reads = Reads::PAYLOAD.with_topic().with_headers(&["content-type"]);
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        if config.action == Action::Wrap && config.source.as_deref().unwrap_or_default().is_empty() {
            return Err(Problem::new("bad-config", "`wrap` needs the `source` of the events").at("/source"));
        }
        if let Some(name) = config.extensions.keys().find(|name| !event::is_extension(name)) {
            let message = format!("`{name}` is not the name of an extension: lower-case letters and digits");
            return Err(Problem::new("bad-config", message).at("/extensions"));
        }
        Ok(Self { config })
    }
}

impl Transformer for CloudEvents {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let headers = message.headers();
        let content_type = message.header_text("content-type")?;
        let structured =
            content_type.is_some_and(|of| of.split(';').next().is_some_and(|of| of.trim() == EVENT));
        let prefix = self.config.header_prefix.as_str();
        let event = if structured {
            Some(Event::read(message.payload())?)
        } else {
            Event::of_headers(&headers, prefix, content_type, message.payload())?
        };
        match (self.config.action, event) {
            (Action::Wrap, event) => {
                let same_mode = event.is_some() && structured == (self.config.mode == Mode::Structured);
                if same_mode {
                    return Ok(Transformed::Keep);
                }
                let event = match event {
                    Some(event) => event,
                    None => self.new_event(message, content_type)?,
                };
                match self.config.mode {
                    Mode::Structured => self.structured(&event, &headers, out),
                    Mode::Binary => self.binary(&event, structured, out),
                }
            }
            (Action::Check, Some(_)) => Ok(Transformed::Keep),
            (Action::Unwrap, Some(event)) if structured => self.binary(&event, true, out),
            (Action::Unwrap, Some(_)) => Ok(Transformed::Keep),
            (Action::Check | Action::Unwrap, None) => {
                let message = format!(
                    "the message is no CloudEvent: it has no header `{prefix}specversion`, and its content type is not \
                     {EVENT}"
                );
                Err(Problem::new("not-an-event", message).into())
            }
        }
    }
}

impl CloudEvents {
    fn new_event<'m>(
        &self,
        message: &'m Message<'_>,
        content_type: Option<&'m str>,
    ) -> Result<Event<'m>, Failure> {
        let id = match message.message_id() {
            Some(id) => id.to_owned(),
            None => format!("{:016x}{:016x}", message.random(), message.random()),
        };
        let mut event = Event::default();
        event.set("specversion", "1.0".to_owned());
        event.set("id", id);
        event.set("source", self.config.source.clone().unwrap_or_default());
        event.set("type", self.config.kind.clone().unwrap_or_else(|| message.topic().to_owned()));
        let (seconds, milliseconds) = (message.received_at() / 1000, message.received_at() % 1000);
        if let Some(time) = rfc3339(seconds as i64, milliseconds as u32 * 1_000_000) {
            event.set("time", time);
        }
        if let Some(at) = &self.config.subject {
            let payload = json_value::read(message.payload())?;
            let subject = at.find(&payload).and_then(Value::plain).filter(|subject| !subject.is_empty());
            let subject = subject.ok_or_else(|| {
                let message = "the subject is to be here: a text, number or boolean";
                Problem::new("no-subject", message).at(at.as_str())
            })?;
            event.set("subject", subject.to_owned());
        }
        for (name, value) in &self.config.extensions {
            event.set(name, value.clone());
        }
        event.data = Data::of(message.payload(), content_type);
        let content_type = match (content_type, &event.data) {
            (Some(of), _) => Some(of),
            (None, Data::Json(_)) => Some("application/json"),
            (None, _) => None,
        };
        if let Some(of) = content_type {
            event.set("datacontenttype", of.to_owned());
        }
        Ok(event)
    }

    fn structured(
        &self,
        event: &Event<'_>,
        headers: &[(String, Vec<u8>)],
        out: &mut Out<'_>,
    ) -> Result<Transformed, Failure> {
        let prefix = self.config.header_prefix.as_str();
        let attributes =
            headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with(prefix));
        let attributes: Vec<&str> = attributes.collect();
        let payload = event.to_json();
        let set = [("content-type", EVENT.as_bytes())];
        out.emit(Emit::bytes(&payload).set_headers(&set).remove_headers(&attributes))
    }

    /// `has_payload`: the data is not the payload that came in.
    fn binary(
        &self,
        event: &Event<'_>,
        has_payload: bool,
        out: &mut Out<'_>,
    ) -> Result<Transformed, Failure> {
        let names: Vec<(String, &str)> =
            event.attributes().map(|(name, value)| (self.header(name), value)).collect();
        let headers: Vec<(&str, &[u8])> =
            names.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let untyped: &[&str] =
            if event.attribute("datacontenttype").is_none() { &["content-type"] } else { &[] };
        if has_payload {
            let payload = event.data.to_bytes();
            return out.emit(Emit::bytes(&payload).set_headers(&headers).remove_headers(untyped));
        }
        out.emit(Emit::same().set_headers(&headers))
    }

    /// The header that an attribute is: the type of the data has a header of its own in every protocol.
    fn header(&self, attribute: &str) -> String {
        match attribute {
            "datacontenttype" => "content-type".to_owned(),
            _ => format!("{}{attribute}", self.config.header_prefix),
        }
    }
}

wharf_plugin::export!(CloudEvents as transformer);
