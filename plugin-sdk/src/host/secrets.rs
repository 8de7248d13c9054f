//! Secrets that an operator keeps in the broker; a stage grants each by name, `secrets:api-key`.
//!
//! ```
//! use wharf_plugin::{Failure, Message, Problem, secrets, validator};
//!
//! /// Accepts messages whose header `token` is the secret of that name.
//! #[validator]
//! fn trusted(message: &Message) -> Result<(), Failure> {
//!     let token = secrets::get("token")?;
//!     // `==` tells by its time how much was right; where that matters, compare in constant time.
//!     match message.header("token") == Some(token.reveal()) {
//!         true => Ok(()),
//!         false => Err(Problem::new("not-trusted", "the token is another").into()),
//!     }
//! }
//!
//! # #[cfg(not(feature = "harness"))]
//! # fn main() {}
//! # #[cfg(feature = "harness")]
//! # fn main() {
//! use wharf_plugin::harness::{Harness, Input};
//!
//! let plugin = Harness::<Trusted>::native().secret("token", "open sesame");
//! plugin.send(Input::new("x").header("token", "open sesame")).assert_passed();
//! plugin.send("x").assert_rejected("not-trusted");
//! # }
//! ```

use std::fmt;

use crate::Failure;
use crate::host::{absent, backend};

/// A value that does not show itself: [`reveal`](Self::reveal) gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The value. What becomes of it is the plugin's to mind.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secret `name`.
///
/// # Errors
/// Asks for a retry while it is not there.
pub fn get(name: &str) -> Result<Secret, Failure> {
    backend::secret(name).map(Secret).map_err(|absence| absent("secret", name, absence))
}
