//! Every beast, by what it tries.

mod bombs;
mod compiling;
mod floods;
mod hoarders;
mod liars;
mod loops;
mod malformed;
mod spies;
mod thieves;

use crate::Beast;

/// The whole zoo.
pub fn all() -> Vec<Beast> {
    [
        loops::HERD,
        bombs::HERD,
        floods::HERD,
        hoarders::HERD,
        liars::HERD,
        spies::HERD,
        thieves::HERD,
        malformed::HERD,
        compiling::HERD,
    ]
    .concat()
}

/// The beast of this name.
///
/// # Panics
/// When there is none.
pub fn find(name: &str) -> Beast {
    all().into_iter().find(|beast| beast.name == name).expect("a beast of the zoo")
}
