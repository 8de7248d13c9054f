//! A trace as OTLP writes it in JSON (opentelemetry-proto 1.x, `ExportTraceServiceRequest`): ids in hexadecimal, 64-bit
//! integers as strings.

use serde_json::{Value, json};
use wharf_node::{Pass, SpanId, Step, Trace, TraceVerdict, Verdict};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `SPAN_KIND_SERVER`: the broker's side of a publish.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The request that exports `traces` of the service `name`.
pub fn request<'a>(name: &str, traces: impl IntoIterator<Item = &'a Trace>) -> Value {
    let spans: Vec<Value> = traces.into_iter().flat_map(spans).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", name)]},
        "scopeSpans": [{
            "scope": {"name": "wharf", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

/// The span of the publish, and one for each stage that it passed.
fn spans(trace: &Trace) -> Vec<Value> {
    let begun = u128::from(trace.at.0) * 1_000_000;
    let mut attributes = vec![
        text("messaging.system", "wharf"),
        text("messaging.operation.type", "send"),
        text("messaging.destination.name", &trace.given.topic),
        number("messaging.message.body.size", trace.given.payload.bytes as u64),
        text("wharf.principal", &trace.by),
        text("wharf.verdict", &word(trace.verdict)),
    ];
    if let Some(id) = trace.messages.first() {
        attributes.push(text("messaging.message.id", &id.to_string()));
    }
    let queues = trace.landings.iter().map(|landing| json!({"stringValue": landing.queue.to_string()}));
    let queues: Vec<Value> = queues.collect();
    attributes.push(json!({"key": "wharf.queues", "value": {"arrayValue": {"values": queues}}}));
    let mut publish = json!({
        "traceId": trace.id.to_string(),
        "spanId": trace.span.to_string(),
        "name": format!("send {}", trace.given.topic),
        "kind": SERVER,
        "startTimeUnixNano": begun.to_string(),
        "endTimeUnixNano": (begun + u128::from(trace.took_us) * 1000).to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = trace.parent {
        publish["parentSpanId"] = json!(parent.to_string());
    }
    if let Some(state) = &trace.state {
        publish["traceState"] = json!(state);
    }
    if matches!(trace.verdict, TraceVerdict::Rejected | TraceVerdict::DeadLettered) {
        let stage = trace.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
        let reason = trace.reason.as_deref().unwrap_or_default();
        publish["status"] = json!({"code": ERROR, "message": format!("{stage}{reason}")});
    }
    let mut spans = vec![publish];
    for pass in &trace.passes {
        let mut at = begun + u128::from(pass.begun_us) * 1000;
        for step in &pass.steps {
            let end = at + u128::from(step.took_us) * 1000;
            spans.push(stage(trace, pass, step, (at, end)));
            at = end;
        }
    }
    spans
}

/// One message at one stage.
fn stage(trace: &Trace, pass: &Pass, step: &Step, (begun, end): (u128, u128)) -> Value {
    let mut attributes = vec![
        text("wharf.pipeline", pass.pipeline.as_str()),
        number("wharf.pipeline.version", u64::from(pass.number)),
        text("wharf.stage", step.stage.as_str()),
        text("wharf.plugin", &step.plugin.to_string()),
        text("wharf.plugin.digest", &step.digest),
        text("wharf.verdict", &word(step.verdict)),
        number("wharf.outputs", step.outputs.len() as u64),
        number("wharf.memory_peak_bytes", step.memory_peak_bytes as u64),
    ];
    attributes.extend(step.fuel.map(|fuel| number("wharf.fuel", fuel)));
    let events = step.log.iter().map(|line| {
        json!({
            "timeUnixNano": end.to_string(),
            "name": "log",
            "attributes": [text("level", &word(line.level)), text("message", &line.text)],
        })
    });
    let mut span = json!({
        "traceId": trace.id.to_string(),
        "spanId": SpanId::random().to_string(),
        "parentSpanId": trace.span.to_string(),
        "name": format!("stage {}/{}", pass.pipeline, step.stage),
        "kind": INTERNAL,
        "startTimeUnixNano": begun.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
        "events": events.collect::<Vec<_>>(),
    });
    if matches!(step.verdict, Verdict::Rejected | Verdict::Fault | Verdict::Retry | Verdict::Bypassed) {
        let problem = step.problem.as_ref().map(ToString::to_string).unwrap_or_default();
        span["status"] = json!({"code": ERROR, "message": problem});
    }
    span
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

/// The word by which a value without fields is serialised.
fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}
