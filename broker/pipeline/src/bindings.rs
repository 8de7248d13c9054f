//! The contract, generated from `wit/`. Nothing else in this crate is generated.
#![allow(missing_docs, unreachable_pub, reason = "generated; the WIT file documents it")]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package wharf:host;
        world host {
            include wharf:plugin/validator@0.1.1;
            include wharf:plugin/router@0.1.1;
            include wharf:plugin/transformer@0.1.1;
            include wharf:plugin/enricher@0.1.1;
            import wharf:plugin/lookup@0.1.1;
            import wharf:plugin/kv@0.1.1;
            import wharf:plugin/schema@0.1.1;
            import wharf:plugin/secrets@0.1.1;
            export wharf:plugin/reading@0.1.1;
        }
    ",
    imports: { default: trappable },
    with: {
        "wharf:plugin/types.batch": crate::host::Batch,
        "wharf:plugin/emit.emitter": crate::host::Emitter,
    },
    ownership: Borrowing { duplicate_if_necessary: true },
    require_store_data_send: true,
});
