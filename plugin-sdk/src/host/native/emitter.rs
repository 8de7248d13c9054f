//! What a transformer emits.

use std::cell::RefCell;

use crate::bindings::outputs::wharf::plugin::emit;

/// An output, as it was emitted.
#[derive(Debug, Clone)]
pub(crate) struct Emitted {
    pub(crate) parent: u32,
    pub(crate) to: Option<u16>,
    pub(crate) payload: Vec<u8>,
    pub(crate) set_headers: Vec<(String, Vec<u8>)>,
    pub(crate) remove_headers: Vec<String>,
}

/// Keeps what is emitted.
#[derive(Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) payloads: Vec<Vec<u8>>,
    pub(crate) emitted: RefCell<Vec<Emitted>>,
}

impl Emitter {
    pub(crate) fn emit(&self, output: emit::Output<'_>) -> Result<(), emit::EmitError> {
        let parent = self.payloads.get(output.parent as usize).ok_or(emit::EmitError::NoSuchParent)?;
        let payload = match output.body {
            emit::Body::Same => parent.clone(),
            emit::Body::Part((start, length)) => {
                let start = usize::try_from(start).map_err(|_| emit::EmitError::BadRange)?;
                let length = usize::try_from(length).map_err(|_| emit::EmitError::BadRange)?;
                let end = start.checked_add(length).ok_or(emit::EmitError::BadRange)?;
                parent.get(start..end).ok_or(emit::EmitError::BadRange)?.to_vec()
            }
            emit::Body::Bytes(bytes) => bytes.to_vec(),
        };
        let owned = |&(name, value): &(&str, &[u8])| (name.to_owned(), value.to_owned());
        self.emitted.borrow_mut().push(Emitted {
            parent: output.parent,
            to: output.to,
            payload,
            set_headers: output.set_headers.iter().map(owned).collect(),
            remove_headers: output.remove_headers.iter().map(|&name| name.to_owned()).collect(),
        });
        Ok(())
    }
}
