//! xml-to-json
use wharf_plugin::{Emit, Failure, Message, NoConfig, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// Placeholder.
pub struct XmlToJson;

impl Plugin for XmlToJson {
    type Config = NoConfig;
    const SUMMARY: &'static str = "XML in, JSON out";

    fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self)
    }
}

impl Transformer for XmlToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        out.emit(Emit::bytes(message.payload()).set_headers(&[("content-type", b"application/json")]))
    }
}

wharf_plugin::export!(XmlToJson as transformer);
