//! Pages of listings: how much a request may ask for at once.

use crate::error::Problem;

/// The most items on a page.
pub const PAGE_MAX: usize = 1000;

/// Items on a page when nobody says how many.
const PAGE_DEFAULT: usize = 100;

/// How many items are on a page of which somebody asked for so many.
pub(crate) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => Err(Problem::invalid(format_args!("limit is 1 to {PAGE_MAX}, not {limit}"))),
    }
}
