//! What is refused at load, and what the refusal says.

use wharf_pipeline::{Kind, LoadError};

use crate::stand::{ENGINE, component};

#[track_caller]
fn refused(wasm: impl Into<bytes::Bytes>) -> LoadError {
    ENGINE.load(&wasm.into()).expect_err("this must be refused")
}

/// `component` with every `from` replaced by `to` of the same length: names lie in it as plain text.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut wasm = component(wharf_test_artifacts::GUEST).to_vec();
    for at in 0..wasm.len() - from.len() {
        if wasm[at..].starts_with(from.as_bytes()) {
            wasm[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    wasm
}

#[test]
fn a_plugin_says_what_it_is() {
    let wasm = component(wharf_test_artifacts::GUEST);
    let plugin = ENGINE.load(&wasm).expect("it loads");
    assert_eq!(plugin.kinds(), Kind::ALL);
    assert_eq!(plugin.description().summary, "Misbehaves as its messages ask");
    assert_eq!(plugin.description().reads.headers, ["behave"]);
    assert_eq!(plugin.bytes(), wasm.len());
    assert_eq!(plugin.digest().len(), 64);
}

#[test]
fn what_is_no_component_is_refused() {
    assert!(matches!(refused("not wasm at all"), LoadError::NotWasm));
    assert!(matches!(refused(""), LoadError::NotWasm));
    let module = refused(&b"\0asm\x01\0\0\0"[..]);
    assert!(matches!(module, LoadError::CoreModule));
    assert!(module.to_string().contains("wasm32-wasip2"), "it says what to do");
}

#[test]
fn a_component_cut_short_or_garbled_is_refused() {
    let wasm = component(wharf_test_artifacts::GUEST);
    assert!(matches!(refused(wasm.slice(..wasm.len() / 2)), LoadError::Compile(_)));
    let mut garbled = wasm.to_vec();
    garbled[8..].iter_mut().step_by(7).for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
    assert!(matches!(refused(garbled), LoadError::Compile(_)));
}

#[test]
fn a_component_that_is_too_large_is_refused_before_it_is_read() {
    let max = ENGINE.limits().component_bytes;
    let mut wasm = component(wharf_test_artifacts::GUEST).to_vec();
    wasm.resize(max + 1, 0);
    assert!(matches!(refused(wasm), LoadError::TooLarge { max: named, .. } if named == max));
}

#[test]
fn a_component_of_another_world_is_refused() {
    // The smallest component there is: a preamble, and nothing.
    let LoadError::NotAPlugin { exports } = refused(&b"\0asm\x0d\0\x01\0"[..]) else {
        panic!("an empty component is no plugin");
    };
    assert_eq!(exports, "nothing");
    let other = refused(renamed("wharf:plugin/", "other:plugin/"));
    assert!(matches!(other, LoadError::ForbiddenImport(_) | LoadError::NotAPlugin { .. }), "{other}");
}

#[test]
fn a_component_for_a_newer_contract_is_refused_by_version() {
    let LoadError::Contract { needs } = refused(renamed("@0.1.1", "@0.9.0")) else {
        panic!("a newer contract is not spoken here");
    };
    assert!(needs.starts_with("wharf:plugin/") && needs.ends_with("@0.9.0"), "{needs}");
}

#[test]
fn a_component_that_imports_files_or_network_is_refused_by_name() {
    let files = refused(component(wharf_test_artifacts::GUEST_WITH_FILES)).to_string();
    assert!(files.contains("wasi:filesystem/"), "{files}");
    let network = refused(component(wharf_test_artifacts::GUEST_WITH_NETWORK)).to_string();
    assert!(network.contains("wasi:sockets/"), "{network}");
}
