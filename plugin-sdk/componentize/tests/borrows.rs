//! Calls of a component that drops too late drop before they answer.

use wasmtime::component::{Component, Linker, Val};
use wasmtime::{Engine, Store};
use wharf_componentize::{ReleaseError, release_borrows};

/// Glue as componentize-qjs makes it: calls do not drop, and `late` drops handle 5 by a table, as the runtime does when
/// the answer is out. `numbers` is how many a call takes.
fn component(call: &str, numbers: usize) -> Vec<u8> {
    let parameters = "i32 ".repeat(numbers);
    let named: String = (0..numbers).map(|number| format!(r#"(param "p{number}" u32) "#)).collect();
    let text = format!(
        r#"(component
            (import "drop-batch" (func $batch (param "handle" u32)))
            (import "drop-emitter" (func $emitter (param "handle" u32)))
            (core func $drop-batch (canon lower (func $batch)))
            (core func $drop-emitter (canon lower (func $emitter)))
            (core instance $types (export "[resource-drop]batch" (func $drop-batch)))
            (core instance $emit (export "[resource-drop]emitter" (func $drop-emitter)))
            (core module $glue
                (type $drop (func (param i32)))
                (import "wharf:plugin/types@0.1.1" "[resource-drop]batch" (func $batch (type $drop)))
                (import "wharf:plugin/emit@0.1.1" "[resource-drop]emitter" (func $emitter (type $drop)))
                (table 2 funcref)
                (elem (i32.const 0) func $batch $emitter)
                (func (export "{call}") (param {parameters}) (result i32) local.get 0)
                (func (export "late") (call_indirect (type $drop) (i32.const 5) (i32.const 0))))
            (core instance $glue (instantiate $glue
                (with "wharf:plugin/types@0.1.1" (instance $types))
                (with "wharf:plugin/emit@0.1.1" (instance $emit))))
            (func (export "call") {named} (result u32) (canon lift (core func $glue "{call}")))
            (func (export "late") (canon lift (core func $glue "late"))))"#
    );
    wat::parse_str(text).expect("the text is a component")
}

/// Calls the component with 40, 41, … and lets it drop late; its answer, and what was dropped.
fn run(component: &[u8], numbers: usize) -> (Val, Vec<String>) {
    let engine = Engine::default();
    let component = Component::new(&engine, component).expect("it is valid");
    let mut linker = Linker::<Vec<String>>::new(&engine);
    for name in ["batch", "emitter"] {
        linker
            .root()
            .func_wrap(&format!("drop-{name}"), move |mut store, (handle,): (u32,)| {
                store.data_mut().push(format!("{name} {handle}"));
                Ok(())
            })
            .expect("the name is free");
    }
    let mut store = Store::new(&engine, Vec::new());
    let instance = linker.instantiate(&mut store, &component).expect("it starts");
    let arguments: Vec<Val> = (0..numbers).map(|number| Val::U32(40 + number as u32)).collect();
    let mut answer = [Val::U32(0)];
    let call = instance.get_func(&mut store, "call").expect("it is exported");
    call.call(&mut store, &arguments, &mut answer).expect("it answers");
    let late = instance.get_func(&mut store, "late").expect("it is exported");
    late.call(&mut store, &[], &mut []).expect("it ends");
    let [answer] = answer;
    (answer, store.into_data())
}

#[test]
fn a_call_drops_the_batch_once_and_before_it_answers() {
    let late = component("wharf:plugin/validate@0.1.1#validate", 7);
    assert_eq!(run(&late, 7), (Val::U32(40), vec!["batch 5".to_owned()]), "as it was made");

    let released = release_borrows(&late).expect("it is as componentize-qjs makes it");
    assert_eq!(run(&released, 7), (Val::U32(40), vec!["batch 46".to_owned()]));
}

#[test]
fn a_transformer_drops_the_emitter_too() {
    let late = component("wharf:plugin/transform@0.1.1#transform", 8);
    let released = release_borrows(&late).expect("it is as componentize-qjs makes it");
    assert_eq!(run(&released, 8), (Val::U32(40), vec!["batch 46".to_owned(), "emitter 47".to_owned()]));
}

#[test]
fn a_component_in_a_component_is_found() {
    let inner = component("wharf:plugin/validate@0.1.1#validate", 7);
    let mut outer = wasm_encoder::Component::new();
    outer.section(&wasm_encoder::RawSection { id: 4, data: &inner });
    let outer = outer.finish();
    let released = release_borrows(&outer).expect("it is found");
    assert!(released.len() > outer.len());
    wasmparser::validate(&released).expect("it is valid");
}

#[test]
fn what_is_nothing_of_it_is_left_alone() {
    let of_another_name = component("wharf:plugin/lifecycle@0.1.1#init", 8);
    let error = release_borrows(&of_another_name).expect_err("no call lends");
    assert!(matches!(error, ReleaseError::NothingToDo), "{error}");

    let error = release_borrows(b"\0asm\x01\0\0\0").expect_err("it is a module");
    assert!(matches!(error, ReleaseError::Unreadable(_)), "{error}");

    let whole = component("wharf:plugin/validate@0.1.1#validate", 7);
    for end in 0..whole.len() {
        // Cut anywhere, it is refused or read as far as it goes, and nothing panics.
        let _ = release_borrows(&whole[..end]);
    }
}
