//! Message ids.
use std::time::Duration;
/// How long a message id is remembered, in logged time.
pub const MESSAGE_ID_WINDOW: Duration = Duration::from_secs(600);
/// How many message ids are remembered.
pub const MESSAGE_IDS_MAX: usize = 1_000_000;
