//! From a core module of WebAssembly, which any compiler makes, to a component of the contract.
//!
//! A module that keeps to the canonical ABI says by the names of its imports and exports what it is:
//!
//! ```text
//! import  "wharf:plugin/types@0.1.1" "[method]batch.payload"
//! export  "wharf:plugin/validate@0.1.1#validate"
//! ```
//!
//! So there is no world to write or to name: [`componentize`] makes it of those names, for every version of the contract
//! that was released, and gives the module its types.

mod borrows;
mod world;

use std::fmt::Display;

use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use world::World;

pub use borrows::{ReleaseError, release_borrows};

/// The contract, newest first: each released version, by the name that messages about it use.
const CONTRACT: [(&str, &str); 2] = [
    ("wharf.wit", include_str!("../../../wit/wharf.wit")),
    ("0.1.0/wharf.wit", include_str!("../../../wit/0.1.0/wharf.wit")),
];

/// Custom sections whose names begin so say what a module's types are.
const TYPES_SECTION: &str = "component-type";

/// What is said of a module that asks for more than a plugin gets, for who reads the words of a build.
pub const FOREIGN: &str = "plugins get nothing but the contract";

/// Why no component can be made of a module.
#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    /// The bytes are nothing that could be read.
    #[error("it is no module of WebAssembly: {0}")]
    Unreadable(String),
    /// There is nothing to do.
    #[error("it is a component already, and can be uploaded as it is")]
    AlreadyComponent,
    /// It asks for what plugins do not get.
    #[error(
        "it imports `{name}` of `{module}`, and {FOREIGN}: no files, environment or processes; what prints, opens a \
         file or ends the program drags it in"
    )]
    Foreign {
        /// From where.
        module: String,
        /// What.
        name: String,
    },
    /// It is no plugin.
    #[error(
        "it exports nothing of the contract: a validator has an export `wharf:plugin/validate@{version}#validate`, \
         and every plugin the two functions of `wharf:plugin/lifecycle@{version}`",
        version = NEWEST
    )]
    NoPlugin,
    /// What it exports or imports is not as the contract has it.
    #[error("it does not keep to the contract: {0}")]
    Unfit(String),
}

/// The version of the contract that an export is best of.
const NEWEST: &str = "0.1.1";

/// Makes a component of `module`.
///
/// A module that brings its types along, as the bindings of other generators do, keeps them.
///
/// # Errors
/// The module is none, or asks for more than the contract gives, or does not keep to it.
///
/// ```
/// let error = wharf_componentize::componentize(b"\0asm\x01\0\0\0").unwrap_err();
/// assert!(error.to_string().starts_with("it exports nothing of the contract"));
/// ```
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let mut module = module.to_vec();
    let read = read(&module)?;
    if !read.brings_types {
        embed_types(&mut module, &read.world)?;
    }
    ComponentEncoder::default().module(&module).map_err(unfit)?.validate(true).encode().map_err(unfit)
}

/// An error of the tools, with what it comes from.
fn unfit(error: impl Display) -> ComponentizeError {
    ComponentizeError::Unfit(format!("{error:#}"))
}

/// What a module says of itself.
struct Read {
    world: World,
    brings_types: bool,
}

fn read(module: &[u8]) -> Result<Read, ComponentizeError> {
    let unreadable = |error: wasmparser::BinaryReaderError| ComponentizeError::Unreadable(error.to_string());
    let mut read = Read { world: World::default(), brings_types: false };
    let mut foreign = None;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(unreadable)? {
            Payload::Version { encoding: Encoding::Component, .. } => {
                return Err(ComponentizeError::AlreadyComponent);
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(unreadable)?;
                    if !read.world.import(import.module) {
                        foreign.get_or_insert((import.module.to_owned(), import.name.to_owned()));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    read.world.export(export.map_err(unreadable)?.name);
                }
            }
            Payload::CustomSection(section) => {
                read.brings_types |= section.name().starts_with(TYPES_SECTION);
            }
            _ => {}
        }
    }
    match foreign {
        // Its own types say what it may import, and the broker has the last word.
        Some((module, name)) if !read.brings_types => Err(ComponentizeError::Foreign { module, name }),
        _ if !read.brings_types && !read.world.is_plugin() => Err(ComponentizeError::NoPlugin),
        _ => Ok(read),
    }
}

fn embed_types(module: &mut Vec<u8>, world: &World) -> Result<(), ComponentizeError> {
    let mut resolve = Resolve::default();
    for (name, text) in CONTRACT {
        resolve.push_str(name, text).expect("the contract is valid");
    }
    let package = resolve.push_str("plugin.wit", &world.to_string()).map_err(unfit)?;
    let world = resolve.select_world(&[package], None).map_err(unfit)?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8, false).map_err(unfit)
}
