//! Components that no compiler makes: a core module in text, wrapped as a plugin.
//!
//! The module follows the canonical ABI by hand. It keeps what it returns at fixed places in its first page, and
//! whatever the host lays into its memory goes above:
//!
//! ```text
//! 1024   description: summary · reads · schema, all empty
//! 1088   result of init: ok
//! 1152   list of verdicts: 4096, count
//! 4096   64 verdicts of 44 bytes: accept
//! 16384  the host's lists and strings, from the bottom in each call
//! ```

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CONTRACT: &str = include_str!("../../../wit/0.1.0/wharf.wit");

/// A validator in WebAssembly text that accepts every message, and has places for misdeeds.
#[derive(Clone, Debug)]
pub struct Wild {
    /// More interfaces that the world imports, as WIT items.
    pub world: &'static str,
    /// More packages in WIT, for those.
    pub packages: &'static str,
    /// Imports of the module.
    pub imports: String,
    /// Its memory, exported as `memory`.
    pub memory: String,
    /// More fields: functions, tables, data.
    pub fields: String,
    /// Instructions before `describe` returns.
    pub describe: String,
    /// Instructions before `init` returns.
    pub init: String,
    /// Instructions before `validate` returns.
    pub validate: String,
    /// Instructions before `cabi_realloc` returns.
    pub realloc: String,
}

impl Default for Wild {
    fn default() -> Self {
        Self {
            world: "",
            packages: "",
            imports: String::new(),
            memory: "(memory (export \"memory\") 64)".to_owned(),
            fields: String::new(),
            describe: String::new(),
            init: String::new(),
            validate: String::new(),
            realloc: String::new(),
        }
    }
}

impl Wild {
    /// The module in text.
    pub fn text(&self) -> String {
        let Self { imports, memory, fields, describe, init, validate, realloc, .. } = self;
        format!(
            r#"(module
  (import "wharf:plugin/types@0.1.0" "[resource-drop]batch" (func $drop_batch (param i32)))
  {imports}
  {memory}
  (global $bump (mut i32) (i32.const 16384))
  (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32) (local $at i32)
    {realloc}
    (local.set $at (i32.and
      (i32.sub (i32.add (global.get $bump) (local.get $align)) (i32.const 1))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $bump (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func (export "wharf:plugin/lifecycle@0.1.0#describe") (result i32)
    {describe}
    (i32.const 1024))
  (func (export "wharf:plugin/lifecycle@0.1.0#init") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    {init}
    (i32.const 1088))
  (func (export "wharf:plugin/validate@0.1.0#validate")
    (param i32) (param $count i32) (param i32 i32 i32 i32 i32) (result i32)
    {validate}
    (call $drop_batch (local.get 6))
    (global.set $bump (i32.const 16384))
    (i32.store (i32.const 1152) (i32.const 4096))
    (i32.store (i32.const 1156) (local.get $count))
    (i32.const 1152))
  {fields}
)"#
        )
    }

    /// The component.
    ///
    /// # Panics
    /// When the text is no module, or not of its world: an animal of the zoo is then described wrongly.
    pub fn component(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("the text is a module");
        let mut resolve = Resolve::default();
        resolve.push_str("wharf.wit", CONTRACT).expect("the contract parses");
        let mut world = String::from("package wharf:wild;\n");
        let _ = write!(
            world,
            "world wild {{ include wharf:plugin/validator@0.1.0; {} }}\n{}",
            self.world, self.packages
        );
        let package = resolve.push_str("wild.wit", &world).expect("the world parses");
        let world = resolve.select_world(&[package], Some("wild")).expect("it is there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .expect("it is a module");
        let mut encoder = ComponentEncoder::default();
        encoder.validate(false).module(&module).expect("the module is of its world");
        encoder.encode().expect("it becomes a component")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tame_one_is_a_component() {
        let component = Wild::default().component();
        assert!(component.starts_with(b"\0asm\x0d\0\x01\0"));
    }
}
