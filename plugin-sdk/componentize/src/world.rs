//! The world that a module is of, from the names of its imports and exports.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

/// Interfaces of the contract.
const CONTRACT: &str = "wharf:plugin/";

/// The interfaces that a module imports and exports, `wharf:plugin/validate@0.1.1`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

impl World {
    /// Takes the name of a module that is imported from; false where it is none of the contract.
    pub(crate) fn import(&mut self, module: &str) -> bool {
        let known = is_interface(module);
        if known {
            self.imports.insert(module.to_owned());
        }
        known
    }

    /// Takes the name of an export; one that is not of the contract is the module's own business.
    pub(crate) fn export(&mut self, name: &str) {
        let interface = name.split_once('#').map(|(interface, _)| interface);
        if let Some(interface) = interface.filter(|interface| is_interface(interface)) {
            self.exports.insert(interface.to_owned());
        }
    }

    /// Whether it exports anything of the contract.
    pub(crate) fn is_plugin(&self) -> bool {
        !self.exports.is_empty()
    }
}

/// A name that stands in a world as it is: nothing in it could be read as anything else.
fn is_interface(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.@".contains(&byte);
    name.strip_prefix(CONTRACT).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain))
}

/// As the text of a package.
impl Display for World {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "package wharf:made;\nworld plugin {{")?;
        for interface in &self.imports {
            writeln!(out, "    import {interface};")?;
        }
        for interface in &self.exports {
            writeln!(out, "    export {interface};")?;
        }
        writeln!(out, "}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_is_made_of_the_names_that_are_the_contracts() {
        let mut world = World::default();
        assert!(world.import("wharf:plugin/types@0.1.1"));
        assert!(world.import("wharf:plugin/types@0.1.1"));
        assert!(!world.import("env"));
        assert!(!world.is_plugin());
        world.export("memory");
        world.export("cabi_post_wharf:plugin/validate@0.1.1#validate");
        world.export("wharf:plugin/validate@0.1.1#validate");
        assert!(world.is_plugin());
        let text = "package wharf:made;\nworld plugin {\n    import wharf:plugin/types@0.1.1;\n    export \
                    wharf:plugin/validate@0.1.1;\n}\n";
        assert_eq!(world.to_string(), text);
    }

    #[test]
    fn a_name_cannot_write_into_the_world() {
        for name in ["wharf:plugin/", "wharf:plugin/a; import b", "wharf:plugin/a\n", "wharf:plugin/a/*"] {
            assert!(!is_interface(name), "{name}");
        }
    }
}
