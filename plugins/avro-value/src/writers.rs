//! The schemas that a stage's messages were written with, beside the one that it reads them by.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use wharf_plugin::schema::Compiled;
use wharf_plugin::{Failure, Message, Problem};

use crate::source::parse;
use crate::{Resolution, Schema, Source};

/// How many schemas a stage may read.
const WRITERS_MAX: usize = 256;

/// Writers' schemas by their ids in a registry.
#[derive(Debug, Default)]
pub struct Writers {
    sources: BTreeMap<u32, Source>,
    /// What each became, and of which two schemas: either may be lent, and another one tomorrow.
    kept: RefCell<BTreeMap<u32, Kept>>,
}

#[derive(Debug)]
struct Kept {
    writer: Rc<Schema>,
    reader: Rc<Schema>,
    resolution: Rc<Resolution>,
}

impl Writers {
    /// Those that stand in a configuration as `writers`, and those that it names as `writer-names`; `reader` is what
    /// they are read by.
    ///
    /// # Errors
    /// `bad-config`: one is no schema, cannot be read by `reader`, or is there twice.
    pub fn new(
        own: &BTreeMap<u32, String>,
        lent: &BTreeMap<u32, String>,
        reader: &Source,
    ) -> Result<Self, Problem> {
        let wrong =
            |id: &u32, message: String| Problem::new("bad-config", message).at(format!("/writers/{id}"));
        if own.len() + lent.len() > WRITERS_MAX {
            let message = format!("there are more than {WRITERS_MAX} schemas");
            return Err(Problem::new("bad-config", message).at("/writers"));
        }
        let mut sources = BTreeMap::new();
        for (id, schema) in own {
            let schema = Rc::new(parse(schema).map_err(|message| wrong(id, message))?);
            if let Source::Own(reader) = reader {
                Resolution::new(Rc::clone(&schema), reader).map_err(|problem| {
                    wrong(id, format!("`schema` cannot read what this one writes: {}", problem.message))
                })?;
            }
            sources.insert(*id, Source::Own(schema));
        }
        for (id, name) in lent {
            if sources.insert(*id, Source::Lent(Compiled::new(name))).is_some() {
                let message = format!("there are two schemas of id {id}");
                return Err(Problem::new("bad-config", message).at(format!("/writer-names/{id}")));
            }
        }
        Ok(Self { sources, kept: RefCell::default() })
    }

    /// To be said when a call begins: those that are lent may be others than in the last one.
    pub fn begin_call(&self) {
        for source in self.sources.values() {
            if let Source::Lent(schema) = source {
                schema.ask_again();
            }
        }
    }

    /// How `reader` reads what the schema `id` wrote; `None` where that is not known.
    ///
    /// # Errors
    /// Asks for a retry while the broker does not have the schema; `schemas-differ` where `reader` cannot read it.
    pub fn resolution(
        &self,
        id: u32,
        reader: &Rc<Schema>,
        message: &Message<'_>,
    ) -> Result<Option<Rc<Resolution>>, Failure> {
        let Some(source) = self.sources.get(&id) else { return Ok(None) };
        let writer = source.schema(message)?;
        let mut kept = self.kept.borrow_mut();
        if let Some(kept) = kept.get(&id)
            && Rc::ptr_eq(&kept.writer, &writer)
            && Rc::ptr_eq(&kept.reader, reader)
        {
            return Ok(Some(Rc::clone(&kept.resolution)));
        }
        let resolution = Resolution::new(Rc::clone(&writer), reader).map_err(|problem| {
            let said = format!("schema {id} cannot be read by this stage's: {}", problem.message);
            Problem { message: said, ..problem }
        })?;
        let resolution = Rc::new(resolution);
        kept.insert(id, Kept { writer, reader: Rc::clone(reader), resolution: Rc::clone(&resolution) });
        Ok(Some(resolution))
    }
}
