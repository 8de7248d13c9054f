//! Lets go of what a call borrows, in components whose maker forgets it.
//!
//! A call of the contract lends the plugin a batch (and a transformer an emitter), which it has to drop before it answers.
//! componentize-qjs 0.4.5 drops them too late: with its own account of the call, in the function that cleans up behind the
//! answer (`cabi_post_…`), from where nothing of the host may be called. Every call fails for that.
//!
//! The glue between the runtime and the contract is a core module inside the component, which is easy to read:
//!
//! ```text
//! import  "wharf:plugin/types@0.1.1" "[resource-drop]batch"
//! export  "wharf:plugin/validate@0.1.1#validate"              calls the runtime
//! element [resource-drop]batch, …                             by which the runtime drops
//! ```
//!
//! [`release_borrows`] gives it two kinds of functions. One for each exported call takes its place, makes the call, and
//! drops what it was lent. One that does nothing stands in the elements for the drops, so that nothing is dropped twice.
//! The functions that were there keep their numbers, and all else stays byte by byte.

use std::fmt::Display;

use wasm_encoder::reencode::{Error as ReencodeError, Reencode, utils};
use wasm_encoder::{
    CodeSection, Component, ElementSection, ExportSection, Function, FunctionSection, Module, RawSection,
};
use wasmparser::{
    BinaryReader, CodeSectionReader, CompositeInnerType, ElementSectionReader, ExportSectionReader,
    FunctionSectionReader, ImportSectionReader, TypeRef, TypeSectionReader,
};

/// The numbers of a call in front of what is lent: three lists, of two numbers each.
const VIEW_NUMBERS: u32 = 6;

/// What is lent, in the order of the numbers.
const LENT: [(&str, &str); 2] =
    [("wharf:plugin/types@", "[resource-drop]batch"), ("wharf:plugin/emit@", "[resource-drop]emitter")];

/// The calls that lend.
const CALLS: [&str; 4] =
    ["wharf:plugin/validate@", "wharf:plugin/route@", "wharf:plugin/transform@", "wharf:plugin/enrich@"];

/// How deep components may lie in components.
const DEPTH_MAX: usize = 8;

const HEADER_BYTES: usize = 8;
const MODULE_HEADER: [u8; HEADER_BYTES] = *b"\0asm\x01\0\0\0";
const COMPONENT_HEADER: [u8; HEADER_BYTES] = *b"\0asm\x0d\0\x01\0";

/// Sections, by their numbers in the binary formats of modules and of components.
mod section {
    pub(super) const TYPE: u8 = 1;
    pub(super) const IMPORT: u8 = 2;
    pub(super) const FUNCTION: u8 = 3;
    pub(super) const EXPORT: u8 = 7;
    pub(super) const ELEMENT: u8 = 9;
    pub(super) const CODE: u8 = 10;
    pub(super) const COMPONENT_MODULE: u8 = 1;
    pub(super) const COMPONENT_COMPONENT: u8 = 4;
}

/// Why a component is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The bytes are no component.
    #[error("it is no component: {0}")]
    Unreadable(String),
    /// No module in it takes calls of the contract and drops by a table.
    #[error("it is a component already, and not of a kind that has to be changed: upload it as it is")]
    NothingToDo,
}

/// Changes `component` so that its calls drop what they are lent before they answer.
///
/// # Errors
/// It is no component, or has nothing in it as componentize-qjs makes it.
pub fn release_borrows(component: &[u8]) -> Result<Vec<u8>, ReleaseError> {
    in_component(component, DEPTH_MAX)?.ok_or(ReleaseError::NothingToDo)
}

fn unreadable(error: impl Display) -> ReleaseError {
    ReleaseError::Unreadable(error.to_string())
}

/// The component with its glue changed; `None` where it has none.
fn in_component(component: &[u8], depth: usize) -> Result<Option<Vec<u8>>, ReleaseError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(unreadable(format_args!("components lie in it deeper than {DEPTH_MAX}")));
    };
    let mut made = Component::new();
    let mut changed = false;
    for section in sections(component, COMPONENT_HEADER)? {
        let replaced = match section.id {
            section::COMPONENT_MODULE => in_module(section.data)?,
            section::COMPONENT_COMPONENT => in_component(section.data, depth)?,
            _ => None,
        };
        changed |= replaced.is_some();
        made.section(&RawSection { id: section.id, data: replaced.as_deref().unwrap_or(section.data) });
    }
    Ok(changed.then(|| made.finish()))
}

fn in_module(module: &[u8]) -> Result<Option<Vec<u8>>, ReleaseError> {
    let sections = sections(module, MODULE_HEADER)?;
    let glue = Glue::read(&sections)?;
    if glue.drops.is_empty() || glue.calls.is_empty() {
        return Ok(None);
    }
    let mut made = Module::new();
    for section in &sections {
        let reader = BinaryReader::new(section.data, 0);
        match section.id {
            section::FUNCTION => made.section(&glue.functions(reader)?),
            section::EXPORT => made.section(&glue.exports(reader)?),
            section::ELEMENT => made.section(&glue.elements(reader)?),
            section::CODE => made.section(&glue.code(reader)?),
            id => made.section(&RawSection { id, data: section.data }),
        };
    }
    Ok(Some(made.finish()))
}

/// A section as it lies there.
struct Section<'a> {
    id: u8,
    data: &'a [u8],
}

fn sections(bytes: &[u8], header: [u8; HEADER_BYTES]) -> Result<Vec<Section<'_>>, ReleaseError> {
    let Some(rest) = bytes.strip_prefix(&header) else {
        return Err(unreadable("its first bytes are of something else"));
    };
    let mut reader = BinaryReader::new(rest, header.len() as u64);
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8().map_err(unreadable)?;
        let length = reader.read_var_u32().map_err(unreadable)?;
        let data = reader.read_bytes(length as usize).map_err(unreadable)?;
        sections.push(Section { id, data });
    }
    Ok(sections)
}

/// A module that takes calls of the contract, and what it gets besides.
#[derive(Default)]
struct Glue {
    /// Of each function, those that are imported first: its type.
    types: Vec<u32>,
    /// The imported functions that drop, in the order of [`LENT`].
    drops: Vec<u32>,
    /// The exported functions that lend.
    calls: Vec<Call>,
}

#[derive(Clone, Copy)]
struct Call {
    function: u32,
    function_type: u32,
    parameters: u32,
}

impl Glue {
    fn read(sections: &[Section<'_>]) -> Result<Self, ReleaseError> {
        let mut glue = Self::default();
        let mut parameters = Vec::new();
        for section in sections {
            let reader = BinaryReader::new(section.data, 0);
            match section.id {
                section::TYPE => parameters = parameters_of_types(reader)?,
                section::IMPORT => glue.read_imports(reader)?,
                section::FUNCTION => {
                    for function in FunctionSectionReader::new(reader).map_err(unreadable)? {
                        glue.types.push(function.map_err(unreadable)?);
                    }
                }
                section::EXPORT => glue.read_exports(reader, &parameters)?,
                _ => {}
            }
        }
        Ok(glue)
    }

    fn read_imports(&mut self, reader: BinaryReader<'_>) -> Result<(), ReleaseError> {
        let mut drops = [None; LENT.len()];
        for import in ImportSectionReader::new(reader).map_err(unreadable)?.into_imports() {
            let import = import.map_err(unreadable)?;
            let (TypeRef::Func(of_type) | TypeRef::FuncExact(of_type)) = import.ty else { continue };
            let lent = LENT
                .iter()
                .position(|(module, name)| import.module.starts_with(module) && import.name == *name);
            if let Some(lent) = lent {
                drops[lent] = Some(self.types.len() as u32);
            }
            self.types.push(of_type);
        }
        // A batch is lent in every call, so what comes behind it is of no use without it.
        self.drops = drops.into_iter().map_while(|drop| drop).collect();
        Ok(())
    }

    fn read_exports(&mut self, reader: BinaryReader<'_>, parameters: &[u32]) -> Result<(), ReleaseError> {
        for export in ExportSectionReader::new(reader).map_err(unreadable)? {
            let export = export.map_err(unreadable)?;
            if !CALLS.iter().any(|call| export.name.starts_with(call)) {
                continue;
            }
            let of_type = self.types.get(export.index as usize);
            let Some((&function_type, &parameters)) =
                of_type.and_then(|of_type| Some((of_type, parameters.get(*of_type as usize)?)))
            else {
                return Err(unreadable(format_args!("`{}` has no type", export.name)));
            };
            if (VIEW_NUMBERS + 1..=VIEW_NUMBERS + self.drops.len() as u32).contains(&parameters) {
                self.calls.push(Call { function: export.index, function_type, parameters });
            }
        }
        Ok(())
    }

    /// The function that does nothing in place of the drops, the first behind those that were there.
    fn nothing(&self) -> u32 {
        self.types.len() as u32
    }

    /// The function that takes the place of `function`.
    fn in_place_of(&self, function: u32) -> Option<u32> {
        let call = self.calls.iter().position(|call| call.function == function)?;
        Some(self.nothing() + 1 + call as u32)
    }

    fn functions(&self, reader: BinaryReader<'_>) -> Result<FunctionSection, ReleaseError> {
        let mut made = FunctionSection::new();
        for function in FunctionSectionReader::new(reader).map_err(unreadable)? {
            made.function(function.map_err(unreadable)?);
        }
        made.function(self.types[self.drops[0] as usize]);
        for call in &self.calls {
            made.function(call.function_type);
        }
        Ok(made)
    }

    fn exports(&self, reader: BinaryReader<'_>) -> Result<ExportSection, ReleaseError> {
        let mut made = ExportSection::new();
        let mut same = wasm_encoder::reencode::RoundtripReencoder;
        for export in ExportSectionReader::new(reader).map_err(unreadable)? {
            let export = export.map_err(unreadable)?;
            let kind = same.export_kind(export.kind).map_err(unreadable)?;
            let call = CALLS.iter().any(|call| export.name.starts_with(call));
            let index = self.in_place_of(export.index).filter(|_| call).unwrap_or(export.index);
            made.export(export.name, kind, index);
        }
        Ok(made)
    }

    fn elements(&self, reader: BinaryReader<'_>) -> Result<ElementSection, ReleaseError> {
        let mut made = ElementSection::new();
        let elements = ElementSectionReader::new(reader).map_err(unreadable)?;
        utils::parse_element_section(&mut NothingForDrops(self), &mut made, elements).map_err(unreadable)?;
        Ok(made)
    }

    fn code(&self, reader: BinaryReader<'_>) -> Result<CodeSection, ReleaseError> {
        let mut made = CodeSection::new();
        for body in CodeSectionReader::new(reader).map_err(unreadable)? {
            made.raw(body.map_err(unreadable)?.as_bytes());
        }
        let mut nothing = Function::new([]);
        nothing.instructions().end();
        made.function(&nothing);
        for call in &self.calls {
            made.function(&self.call_and_drop(*call));
        }
        Ok(made)
    }

    fn call_and_drop(&self, call: Call) -> Function {
        let mut made = Function::new([]);
        let mut body = made.instructions();
        for parameter in 0..call.parameters {
            body.local_get(parameter);
        }
        body.call(call.function);
        // The answer's address waits on the stack meanwhile.
        for (lent, drop) in (VIEW_NUMBERS..call.parameters).zip(&self.drops) {
            body.local_get(lent).call(*drop);
        }
        body.end();
        made
    }
}

/// How many parameters each type has, if it is a function's.
fn parameters_of_types(reader: BinaryReader<'_>) -> Result<Vec<u32>, ReleaseError> {
    let mut parameters = Vec::new();
    for group in TypeSectionReader::new(reader).map_err(unreadable)? {
        for of_type in group.map_err(unreadable)?.into_types() {
            parameters.push(match of_type.composite_type.inner {
                CompositeInnerType::Func(function) => function.params().len() as u32,
                _ => 0,
            });
        }
    }
    Ok(parameters)
}

/// Writes elements as they were, but for the functions that drop.
struct NothingForDrops<'a>(&'a Glue);

impl Reencode for NothingForDrops<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, ReencodeError<Self::Error>> {
        Ok(if self.0.drops.contains(&function) { self.0.nothing() } else { function })
    }
}
