//! The note in a message's headers which pipelines it passed.

use wharf_pipeline::Processed;
use wharf_protocol::Name;

/// The header that says which versions of which pipelines a message passed: `orders/3, billing/1`.
const PIPELINE_HEADER: &str = "wharf-pipeline";

/// Notes in its headers which version of which pipeline a message passed.
pub(crate) fn mark(processed: &mut Processed, name: &Name, number: u32) {
    let Processed::Passed(outputs) = processed else { return };
    for output in outputs {
        let headers = &output.message.headers;
        let passed = match headers.text(PIPELINE_HEADER) {
            Some(before) => format!("{before}, {name}/{number}"),
            None => format!("{name}/{number}"),
        };
        // Headers at their limit stay as they are: the note is not worth the message.
        if let Ok(marked) = headers.changed(&[(PIPELINE_HEADER, passed)], &[] as &[&str]) {
            output.message.headers = marked;
        }
    }
}
