//! What an operator can choose.

use serde::Deserialize;
use wharf_plugin::Problem;
use xml_document::{DEPTH_MAX, starts_name};

/// How XML becomes JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Text that is a JSON number becomes one.
    pub numbers: bool,
    /// Elements that are arrays even when they stand alone: by name, or by path from the root, `order/lines/line`.
    pub arrays: Vec<String>,
    /// Before the names of attributes. It begins with a character that begins no XML name.
    pub attribute_prefix: String,
    /// The member that holds the text of an element with attributes or children.
    pub text_key: String,
    /// What becomes of the root's name.
    pub root: Root,
    /// At most [`DEPTH_MAX`].
    pub max_depth: usize,
}

/// What becomes of the root's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// It is the one member of the outermost object.
    #[default]
    Keep,
    /// The root's value is the whole document.
    Strip,
    /// Another name stands in its place.
    Rename(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            numbers: false,
            arrays: Vec::new(),
            attribute_prefix: "@".into(),
            text_key: "#text".into(),
            root: Root::Keep,
            max_depth: DEPTH_MAX,
        }
    }
}

impl Config {
    /// Refuses what could make two members of one name.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        for (member, value) in [("attribute-prefix", &self.attribute_prefix), ("text-key", &self.text_key)] {
            if value.bytes().next().is_none_or(starts_name) {
                let message = format!(
                    "`{value}` could be the name of an element: begin it with a character that begins no XML name, \
                     such as @, #, $ or -"
                );
                return Err(Problem::new("bad-config", message).at(format!("/{member}")));
            }
        }
        if self.text_key.strip_prefix(&self.attribute_prefix).is_some_and(|rest| !rest.is_empty()) {
            let message = format!(
                "`{}` could be the name of an attribute, which `{}` comes before",
                self.text_key, self.attribute_prefix
            );
            return Err(Problem::new("bad-config", message).at("/text-key"));
        }
        if !(1..=DEPTH_MAX).contains(&self.max_depth) {
            let message = format!("{} is not a depth from 1 to {DEPTH_MAX}", self.max_depth);
            return Err(Problem::new("bad-config", message).at("/max-depth"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Config)) -> Problem {
        let mut config = Config::default();
        change(&mut config);
        config.check().expect_err("not a configuration")
    }

    #[test]
    fn the_default_is_allowed() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn what_could_be_the_name_of_an_element_is_refused() {
        assert_eq!(
            problem(|config| config.attribute_prefix = String::new()).path.unwrap(),
            "/attribute-prefix"
        );
        assert_eq!(
            problem(|config| config.attribute_prefix = "attr".into()).path.unwrap(),
            "/attribute-prefix"
        );
        assert_eq!(problem(|config| config.text_key = "_".into()).path.unwrap(), "/text-key");
        assert_eq!(problem(|config| config.text_key = "é".into()).path.unwrap(), "/text-key");
    }

    #[test]
    fn what_could_be_the_name_of_an_attribute_is_refused() {
        assert_eq!(problem(|config| config.attribute_prefix = "#".into()).path.unwrap(), "/text-key");
    }

    #[test]
    fn depth_has_a_bound() {
        assert_eq!(problem(|config| config.max_depth = DEPTH_MAX + 1).path.unwrap(), "/max-depth");
        assert_eq!(problem(|config| config.max_depth = 0).path.unwrap(), "/max-depth");
    }
}
