//! Every beast, by what it tries.

mod bombs;
mod compiling;
mod floods;
mod liars;
mod loops;
mod malformed;
mod spies;

use crate::Beast;

/// The whole zoo.
pub fn all() -> Vec<Beast> {
    [loops::HERD, bombs::HERD, floods::HERD, liars::HERD, spies::HERD, malformed::HERD, compiling::HERD]
        .concat()
}

/// The beast of this name.
///
/// # Panics
/// When there is none.
pub fn find(name: &str) -> Beast {
    all().into_iter().find(|beast| beast.name == name).expect("a beast of the zoo")
}
