//! What it reads, as its configuration says: instead of the header `behave`, another one, and no payload.

use std::cell::RefCell;

use super::Guest;
use super::exports::wharf::plugin::reading::{self, Fields};

thread_local! {
    static CONFIG: RefCell<String> = const { RefCell::new(String::new()) };
}

pub(super) fn configure(config: String) {
    CONFIG.set(config);
}

impl reading::Guest for Guest {
    fn reads() -> Fields {
        let config = CONFIG.with_borrow(String::clone);
        let headers = match config.as_str() {
            config if config.contains("too-many") => (0..65).map(|n| format!("header-{n}")).collect(),
            config if config.contains("no-name") => vec![String::new()],
            config if config.contains("panic") => panic!("told to trap when asked what it reads"),
            _ => vec!["other".to_owned()],
        };
        Fields { topic: false, key: false, payload: false, headers }
    }
}
