//! What wit-bindgen makes of `wit/wharf.wit`: the imports, then a module for each interface that plugins export.
//!
//! One small world an interface, and not the four worlds of the contract: a component's worlds are merged when it
//! is linked, `lifecycle` is generated once instead of four times, and a plugin may be of several kinds.
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code: the canonical ABI is made of raw pointers"
)]

pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world imports {
                import wharf:plugin/types@0.1.1;
                import wharf:plugin/log@0.1.1;
                import wharf:plugin/config@0.1.1;
                import wharf:plugin/clock@0.1.1;
                import wharf:plugin/random@0.1.1;
                import wharf:plugin/metrics@0.1.1;
            }
        ",
        generate_all,
        generate_unused_types: true,
    });
}

/// What a stage grants by name: a component imports only those that its plugin calls. Values are borrowed.
pub mod capabilities {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world capabilities {
                import wharf:plugin/lookup@0.1.1;
                import wharf:plugin/kv@0.1.1;
                import wharf:plugin/schema@0.1.1;
                import wharf:plugin/secrets@0.1.1;
            }
        ",
        with: { "wharf:plugin/types@0.1.1": crate::bindings::imports::wharf::plugin::types },
        generate_all,
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// Apart from the other imports because its values are borrowed: what is emitted is not copied first.
pub mod outputs {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world outputs {
                import wharf:plugin/emit@0.1.1;
            }
        ",
        generate_all,
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world lifecycle {
                export wharf:plugin/lifecycle@0.1.1;
            }
        ",
        with: { "wharf:plugin/types@0.1.1": crate::bindings::imports::wharf::plugin::types },
        generate_all,
        pub_export_macro: true,
    });
}

/// In no world: which fields an instance reads follows from its configuration.
pub mod reading {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world reading {
                export wharf:plugin/reading@0.1.1;
            }
        ",
        pub_export_macro: true,
    });
}

pub mod validate {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world validate {
                export wharf:plugin/validate@0.1.1;
            }
        ",
        with: { "wharf:plugin/types@0.1.1": crate::bindings::imports::wharf::plugin::types },
        generate_all,
        pub_export_macro: true,
    });
}

pub mod route {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world route {
                export wharf:plugin/route@0.1.1;
            }
        ",
        with: { "wharf:plugin/types@0.1.1": crate::bindings::imports::wharf::plugin::types },
        generate_all,
        pub_export_macro: true,
    });
}

pub mod transform {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world transform {
                export wharf:plugin/transform@0.1.1;
            }
        ",
        with: {
            "wharf:plugin/types@0.1.1": crate::bindings::imports::wharf::plugin::types,
            "wharf:plugin/emit@0.1.1": crate::bindings::outputs::wharf::plugin::emit,
        },
        generate_all,
        pub_export_macro: true,
    });
}

pub mod enrich {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package wharf:sdk;
            world enrich {
                export wharf:plugin/enrich@0.1.1;
            }
        ",
        with: { "wharf:plugin/types@0.1.1": crate::bindings::imports::wharf::plugin::types },
        generate_all,
        pub_export_macro: true,
    });
}
