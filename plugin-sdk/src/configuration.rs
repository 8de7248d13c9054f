//! The shape of a configuration, and the JSON Schema that is made of it when the plugin is compiled.
//!
//! A shape is a constant, and so is the text of its schema: nothing of either is computed in the component. Its text
//! is all that the component holds.
//!
//! ```text
//! #[derive(Config)] ─▶ Configuration::SHAPE ─▶ config_schema!(T) ─▶ &'static str ─▶ describe()
//! ```

mod schema;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::NoConfig;

/// A type whose shape is known: [`Config`](derive@crate::Config) derives it.
///
/// The broker checks a stage's configuration against it when a pipeline is applied, and tells the path of what is
/// wrong, with the nearest known key for one that is misspelt.
///
/// ```
/// use serde::Deserialize;
/// use wharf_plugin::{Config, config_schema};
///
/// #[derive(Deserialize, Config)]
/// #[serde(deny_unknown_fields)]
/// struct Limits {
///     /// The longest payload that is accepted.
///     #[config(min = 1, max = 1_048_576)]
///     max_bytes: u32,
///     #[serde(default)]
///     strict: bool,
/// }
///
/// const SCHEMA: &str = config_schema!(Limits);
/// assert!(SCHEMA.contains(r#""max_bytes":{"type":"integer","minimum":1,"maximum":1048576,"#));
/// assert!(SCHEMA.contains(r#""description":"The longest payload that is accepted."}"#));
/// assert!(SCHEMA.contains(r#""required":["max_bytes"]"#));
/// ```
#[diagnostic::on_unimplemented(
    message = "the shape of `{Self}` is not known, so its configuration has no schema",
    note = "derive it: #[derive(serde::Deserialize, wharf_plugin::Config)]",
    note = "for a field of a foreign type: #[config(any)]"
)]
pub trait Configuration {
    /// Its shape.
    const SHAPE: Shape;
}

/// What a JSON value can be.
///
/// ```
/// use wharf_plugin::{Bound, Configuration, Shape, config_schema};
///
/// /// By hand, for a type that reads itself.
/// struct Percent;
///
/// impl Configuration for Percent {
///     const SHAPE: Shape =
///         Shape::Bounded { shape: &Shape::Integer, min: Some(Bound::Whole(0)), max: Some(Bound::Whole(100)) };
/// }
///
/// assert!(config_schema!(Percent).contains(r#""type":"integer","minimum":0,"maximum":100"#));
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Anything.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// This text.
    Word(&'static str),
    /// One of these texts.
    Words(&'static [&'static str]),
    /// An array of these.
    List(&'static Self),
    /// An object of these, by any names.
    Map(&'static Self),
    /// An object of these members.
    Object {
        /// The members.
        members: &'static [Member],
        /// Whether there may be others.
        open: bool,
    },
    /// One of these.
    Choice(&'static [Self]),
    /// This, or `null`.
    Optional(&'static Self),
    /// This within bounds: of a number its value, of a text its characters, of a list or map its members.
    Bounded {
        /// What is bounded.
        shape: &'static Self,
        /// At least.
        min: Option<Bound>,
        /// At most.
        max: Option<Bound>,
    },
}

/// A member of an object.
///
/// ```
/// use wharf_plugin::{Configuration, Member, Shape, config_schema};
///
/// struct Limits;
///
/// impl Configuration for Limits {
///     const SHAPE: Shape = Shape::Object {
///         members: &[Member { name: "max_bytes", shape: &Shape::Integer, about: "", required: true }],
///         open: false,
///     };
/// }
///
/// assert!(config_schema!(Limits).contains(r#""properties":{"max_bytes":{"type":"integer"}}"#));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// By which it is written.
    pub name: &'static str,
    /// What it is.
    pub shape: &'static Shape,
    /// For people; may be empty.
    pub about: &'static str,
    /// Whether it has to be there.
    pub required: bool,
}

/// The end of a range, itself within.
///
/// ```
/// use wharf_plugin::{Config, config_schema};
///
/// #[derive(serde::Deserialize, Config)]
/// #[serde(deny_unknown_fields)]
/// struct Sampling {
///     #[config(min = 0.0, max = 0.5)]
///     share: f64,
/// }
///
/// assert!(config_schema!(Sampling).contains(r#""minimum":0.0,"maximum":0.5"#));
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// A whole number.
    Whole(i128),
    /// A decimal, as JSON writes it.
    Decimal(&'static str),
}

macro_rules! shapes {
    ($($shape:expr => $($ty:ty),+;)+) => {
        $($(impl Configuration for $ty {
            const SHAPE: Shape = $shape;
        })+)+
    };
}

shapes! {
    Shape::Boolean => bool;
    Shape::Number => f32, f64;
    Shape::Text => String, char, Cow<'static, str>, std::path::PathBuf;
    Shape::Any => serde_json::Value;
    Shape::Map(&Shape::Any) => serde_json::Map<String, serde_json::Value>;
    Shape::Object { members: &[], open: false } => NoConfig;
    // What 64 bits hold is left unsaid: a number of JSON does not hold it either.
    Shape::Integer => i64, isize;
    from(0) => u64, usize;
    within(i8::MIN as i128, i8::MAX as i128) => i8;
    within(i16::MIN as i128, i16::MAX as i128) => i16;
    within(i32::MIN as i128, i32::MAX as i128) => i32;
    within(0, u8::MAX as i128) => u8;
    within(0, u16::MAX as i128) => u16;
    within(0, u32::MAX as i128) => u32;
}

const fn from(min: i128) -> Shape {
    Shape::Bounded { shape: &Shape::Integer, min: Some(Bound::Whole(min)), max: None }
}

const fn within(min: i128, max: i128) -> Shape {
    let (min, max) = (Some(Bound::Whole(min)), Some(Bound::Whole(max)));
    Shape::Bounded { shape: &Shape::Integer, min, max }
}

impl<T: Configuration> Configuration for Option<T> {
    const SHAPE: Shape = Shape::Optional(&T::SHAPE);
}

impl<T: Configuration> Configuration for Box<T> {
    const SHAPE: Shape = T::SHAPE;
}

impl<T: Configuration> Configuration for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

impl<T: Configuration> Configuration for BTreeSet<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

impl<T: Configuration, S> Configuration for HashSet<T, S> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

impl<T: Configuration> Configuration for BTreeMap<String, T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);
}

impl<T: Configuration, S> Configuration for HashMap<String, T, S> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);
}
