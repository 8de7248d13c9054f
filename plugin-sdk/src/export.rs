//! `export!`: the one line that makes a component of a type.

/// Makes the crate a component whose plugin is this type.
///
/// ```
/// use wharf_plugin::{Failure, Message, NoConfig, Plugin, Problem, Stage, Validator};
///
/// struct NotEmpty;
///
/// impl Plugin for NotEmpty {
///     type Config = NoConfig;
///     const SUMMARY: &'static str = "accepts payloads that are not empty";
///
///     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self)
///     }
/// }
///
/// impl Validator for NotEmpty {
///     fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
///         if message.payload().is_empty() {
///             return Err(Problem::new("empty", "the payload is empty").into());
///         }
///         Ok(())
///     }
/// }
///
/// wharf_plugin::export!(NotEmpty as validator); // or router, transformer, enricher
/// # fn main() {}
/// ```
///
/// The type implements [`Plugin`](crate::Plugin) and the trait of that kind. Outside Wasm the macro exports no
/// symbol, so that the same crate links natively and its logic runs under `cargo test`.
#[macro_export]
macro_rules! export {
    ($plugin:ty as validator) => {
        $crate::__export!($plugin, validate);
        $crate::__tested!($plugin, validate);
    };
    ($plugin:ty as router) => {
        $crate::__export!($plugin, route);
        $crate::__tested!($plugin, route);
    };
    ($plugin:ty as transformer) => {
        $crate::__export!($plugin, transform);
        $crate::__tested!($plugin, transform);
    };
    ($plugin:ty as enricher) => {
        $crate::__export!($plugin, enrich);
        $crate::__tested!($plugin, enrich);
    };
    ($plugin:ty as $kind:ident) => {
        ::core::compile_error!("a plugin is a validator, router, transformer or enricher");
    };
}

/// The exports themselves.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ty, $interface:ident) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the canonical ABI's exports are unsafe functions")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::core::option::Option<$crate::guest::Ready<$plugin>>> =
                    const { ::std::cell::RefCell::new(::core::option::Option::None) };
            }
            struct Component;
            impl $crate::guest::Component for Component {
                type Plugin = $plugin;
                fn instance() -> &'static ::std::thread::LocalKey<
                    ::std::cell::RefCell<::core::option::Option<$crate::guest::Ready<$plugin>>>,
                > {
                    &INSTANCE
                }
            }
    $crate::bindings::lifecycle::export!(Component with_types_in $crate::bindings::lifecycle);
    $crate::bindings::reading::export!(Component with_types_in $crate::bindings::reading);
    $crate::bindings::$interface::export!(Component with_types_in $crate::bindings::$interface);
        };
    };
}

/// The same for tests: which kind of plugin it is.
#[doc(hidden)]
#[cfg(all(feature = "harness", not(target_family = "wasm")))]
#[macro_export]
macro_rules! __tested {
    ($plugin:ty, $kind:ident) => {
        impl $crate::harness::Tested for $plugin {
            fn answer(
                &mut self,
                batch: &$crate::harness::Answer<'_>,
            ) -> ::std::vec::Vec<$crate::harness::Verdict> {
                batch.$kind(self)
            }
        }
    };
}

/// Without the harness there is nothing to say.
#[doc(hidden)]
#[cfg(not(all(feature = "harness", not(target_family = "wasm"))))]
#[macro_export]
macro_rules! __tested {
    ($plugin:ty, $kind:ident) => {};
}
