//! What a transformer emits: taken within its bounds, or refused.

use wasmtime::Result;
use wasmtime::component::Resource;
use wharf_protocol::{HEADERS_BYTES_MAX, Headers, Message};

use crate::Fault;
use crate::bindings::wharf::plugin::emit::{self, Body, EmitError};
use crate::bindings::wharf::plugin::types;
use crate::host::{Breach, Emitter, Host};

/// How many headers a plugin sets or removes of one message at most: each is looked for among all there are.
const HEADERS_CHANGED_MAX: usize = 1024;

/// An output that was taken.
#[derive(Debug)]
pub(crate) struct Emitted {
    pub(crate) parent: usize,
    pub(crate) to: Option<usize>,
    pub(crate) message: Message,
}

impl emit::Host for Host {}

impl emit::HostEmitter for Host {
    fn emit(&mut self, _: Resource<Emitter>, output: emit::Output) -> Result<Result<(), EmitError>> {
        let parent = output.parent as usize;
        if parent >= self.call.count {
            self.call.stray = true;
            return Ok(Err(EmitError::NoSuchParent));
        }
        let taken = self.take_output(parent, output)?;
        if let Err(refusal) = taken {
            self.call.tallies[parent].refused.get_or_insert(refusal);
        }
        Ok(taken)
    }

    fn drop(&mut self, _: Resource<Emitter>) -> Result<()> {
        Ok(())
    }
}

impl Host {
    fn take_output(&mut self, parent: usize, output: emit::Output) -> Result<Result<(), EmitError>> {
        if self.call.tallies[parent].outputs >= self.limits.outputs {
            return Ok(Err(EmitError::TooMany));
        }
        let to = output.to.map(usize::from);
        if to.is_some_and(|to| to >= self.call.declared) {
            return Ok(Err(EmitError::NoSuchOutput));
        }
        let message = &self.call.units[self.call.first + parent].item.message;
        let payload = match output.body {
            Body::Same => message.payload.clone(),
            Body::Part((start, length)) => {
                let range = usize::try_from(start).ok().zip(usize::try_from(length).ok());
                let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
                match range {
                    Some(range) if range.end <= message.payload.len() => message.payload.slice(range),
                    _ => return Ok(Err(EmitError::BadRange)),
                }
            }
            Body::Bytes(bytes) => bytes.into(),
        };
        let Ok(headers) = with_headers(&message.headers, &output.set_headers, &output.remove_headers) else {
            return Ok(Err(EmitError::BadHeader));
        };
        let bytes = payload.len() + headers.as_bytes().len();
        let tally = &mut self.call.tallies[parent];
        if tally.bytes + bytes > self.limits.output_bytes {
            return Ok(Err(EmitError::TooLarge));
        }
        if self.call.bytes + bytes > self.limits.batch_output_bytes {
            let message =
                format!("its outputs for one batch exceed {} bytes", self.limits.batch_output_bytes);
            return Err(Breach::error(Fault::Answer, message));
        }
        tally.outputs += 1;
        tally.bytes += bytes;
        self.call.bytes += bytes;
        let message = Message { headers, payload, ..message.clone() };
        self.call.emitted.push(Emitted { parent, to, message });
        Ok(Ok(()))
    }
}

/// `headers` with some set and some removed; unchanged ones are shared, not copied.
pub(crate) fn with_headers(
    headers: &Headers,
    set: &[types::Header],
    remove: &[String],
) -> Result<Headers, String> {
    if set.is_empty() && remove.is_empty() {
        return Ok(headers.clone());
    }
    let changed = set.len() + remove.len();
    if changed > HEADERS_CHANGED_MAX {
        return Err(format!("it changes {changed} headers; at most {HEADERS_CHANGED_MAX}"));
    }
    let bytes: usize = set.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADERS_BYTES_MAX {
        return Err(format!("the headers are too large: {bytes} bytes, and at most {HEADERS_BYTES_MAX}"));
    }
    if set.iter().any(|(name, _)| name.is_empty() || name.chars().any(char::is_control)) {
        return Err("a header name is empty or has control characters".to_owned());
    }
    headers.changed(set, remove).map_err(|_| "the headers are too large".to_owned())
}
