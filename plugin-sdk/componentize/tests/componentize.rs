//! Modules become components, or are refused with what is wrong with them.

use wharf_componentize::{ComponentizeError, componentize};

/// A validator that accepts nothing, with what is given beside its own.
fn validator(besides: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
            {besides}
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "wharf:plugin/lifecycle@0.1.1#describe") (result i32) unreachable)
            (func (export "wharf:plugin/lifecycle@0.1.1#init") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                unreachable)
            (func (export "wharf:plugin/validate@0.1.1#validate") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
                unreachable))"#
    );
    wat::parse_str(module).expect("the text is a module")
}

#[test]
fn a_module_of_the_contract_becomes_a_component_that_imports_what_it_uses() {
    let uses_kv = r#"(import "wharf:plugin/kv@0.1.1" "remove" (func (param i32 i32 i32)))"#;
    let component = componentize(&validator(uses_kv)).expect("it keeps to the contract");
    assert_eq!(component[..8], *b"\0asm\x0d\0\x01\0", "a component and not a module");

    let text = String::from_utf8_lossy(&component);
    assert!(text.contains("wharf:plugin/kv@0.1.1"), "what it imports");
    assert!(text.contains("wharf:plugin/validate@0.1.1"), "what it exports");
    assert!(!text.contains("wharf:plugin/lookup@0.1.1"), "and nothing else");
}

#[test]
fn what_is_not_the_contracts_is_refused_by_name() {
    let writes =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
    let error = componentize(&validator(writes)).expect_err("it is refused");
    assert!(matches!(&error, ComponentizeError::Foreign { name, .. } if name == "fd_write"), "{error}");
    assert!(error.to_string().contains("no files"), "{error}");
}

#[test]
fn functions_that_the_contract_has_otherwise_are_refused() {
    let one_too_few = r#"(import "wharf:plugin/log@0.1.1" "log" (func (param i32 i32)))"#;
    let error = componentize(&validator(one_too_few)).expect_err("it is refused");
    assert!(matches!(error, ComponentizeError::Unfit(_)), "{error}");

    let of_the_future = r#"(import "wharf:plugin/telepathy@9.0.0" "read" (func))"#;
    let error = componentize(&validator(of_the_future)).expect_err("it is refused");
    assert!(error.to_string().contains("9.0.0"), "{error}");
}

#[test]
fn what_is_no_module_is_told_apart() {
    let error = componentize(b"int main(void) {}").expect_err("it is refused");
    assert!(matches!(error, ComponentizeError::Unreadable(_)), "{error}");
    let error = componentize(b"\0asm\x0d\0\x01\0").expect_err("it is refused");
    assert!(matches!(error, ComponentizeError::AlreadyComponent), "{error}");
    let module = wat::parse_str("(module)").expect("the text is a module");
    let error = componentize(&module).expect_err("it is refused");
    assert!(matches!(error, ComponentizeError::NoPlugin), "{error}");
}
