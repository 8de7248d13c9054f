//! The plugins that come with Wharf, as compiled components.
//!
//! The build script compiles them with cargo for `wasm32-wasip2`. That takes most of a minute the first time, while
//! cargo's progress shows `wharf-bundle(build)`; afterwards they are compiled again only when they, the SDK or the
//! contract change, and once for all profiles.

/// A compiled plugin.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Its name, which pipelines use.
    pub name: &'static str,
    /// Its version: Wharf's own.
    pub version: &'static str,
    /// What it is: `transformer`, `router` or `validator`.
    pub kind: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

/// All of them, by name.
pub const BUNDLED: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// The plugin of that name.
///
/// ```
/// let plugin = wharf_bundle::find("xml-to-json").expect("it comes with Wharf");
/// assert_eq!(&plugin.wasm[..4], b"\0asm");
/// ```
pub fn find(name: &str) -> Option<&'static Bundled> {
    BUNDLED.iter().find(|plugin| plugin.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_component_and_they_are_in_order() {
        assert!(BUNDLED.is_sorted_by_key(|plugin| plugin.name));
        for plugin in BUNDLED {
            // "\0asm", version 13, layer 1: a component and not a module.
            assert!(["transformer", "router", "validator"].contains(&plugin.kind), "{}", plugin.name);
            assert_eq!(plugin.wasm[..8], *b"\0asm\x0d\0\x01\0", "{}", plugin.name);
        }
    }
}
