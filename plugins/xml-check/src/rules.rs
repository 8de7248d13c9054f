//! What an operator demands of elements.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde::Deserialize;
use wharf_plugin::Problem;
use xml_document::{Document, Element, NONE};

/// How many rules there may be: each is looked at for each element.
const RULES_MAX: usize = 256;

/// What an operator writes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The root's name.
    pub root: Option<String>,
    /// Whether every prefix is to be declared.
    pub namespaces: bool,
    /// Rules, by the path of what they are for.
    pub elements: Vec<ElementRule>,
}

/// What is demanded of the elements at a path.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ElementRule {
    /// Names from the root, `order/lines/line`; `*` is any one name, `**` any number of them.
    pub at: String,
    /// Attributes, by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, ValueRule>,
    /// How many children there are, by name.
    #[serde(default)]
    pub children: BTreeMap<String, Count>,
    /// The element's own text, trimmed.
    pub text: Option<ValueRule>,
    /// Whether other attributes and children are refused.
    #[serde(default)]
    pub closed: bool,
}

/// What is demanded of a value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValueRule {
    /// Whether it is to be there.
    pub required: bool,
    /// A regular expression of the whole value, where it is there.
    pub pattern: Option<String>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Count {
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: Option<u32>,
}

/// Rules whose patterns are compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    root: Option<String>,
    pub(crate) namespaces: bool,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    steps: Vec<String>,
    attributes: Vec<(String, Value)>,
    children: BTreeMap<String, Count>,
    text: Option<Value>,
    closed: bool,
}

#[derive(Debug)]
struct Value {
    required: bool,
    /// As it was written, and for the whole value.
    pattern: Option<(String, Regex)>,
}

impl Rules {
    pub(crate) fn new(config: Config) -> Result<Self, Problem> {
        if config.elements.len() > RULES_MAX {
            let message = format!("there are {} rules, at most {RULES_MAX} can be", config.elements.len());
            return Err(Problem::new("bad-config", message).at("/elements"));
        }
        let rules = config.elements.into_iter().enumerate();
        let rules: Result<_, _> =
            rules.map(|(index, rule)| Rule::new(rule, &format!("/elements/{index}"))).collect();
        Ok(Self { root: config.root, namespaces: config.namespaces, rules: rules? })
    }

    pub(crate) fn check_root(&self, xml: &str, document: &Document<'_>) -> Result<(), Problem> {
        let root = &document.elements[0];
        match &self.root {
            Some(name) if name != root.name => {
                let message = format!("the root is `{}`, and is to be `{name}`", root.name);
                Err(problem("root", xml, root, &message))
            }
            _ => Ok(()),
        }
    }

    /// Follows the rules that are for `element`, at the end of `path`.
    pub(crate) fn check(
        &self,
        xml: &str,
        document: &Document<'_>,
        element: &Element<'_>,
        path: &[&str],
    ) -> Result<(), Problem> {
        for rule in self.rules.iter().filter(|rule| matches(&rule.steps, path)) {
            rule.check_attributes(document, element)
                .map_err(|what| problem("attribute", xml, element, &what))?;
            rule.check_text(element).map_err(|what| problem("text", xml, element, &what))?;
            rule.check_children(document, element)
                .map_err(|what| problem("children", xml, element, &what))?;
        }
        Ok(())
    }
}

impl Rule {
    fn new(rule: ElementRule, at: &str) -> Result<Self, Problem> {
        let steps: Vec<String> = rule.at.trim_start_matches('/').split('/').map(str::to_owned).collect();
        if steps.iter().any(String::is_empty) {
            let message =
                format!("`{}` is not a path: names with `/` between them, as in order/line", rule.at);
            return Err(Problem::new("bad-config", message).at(format!("{at}/at")));
        }
        let attributes = rule.attributes.into_iter().map(|(name, value)| {
            let place = format!("{at}/attributes/{}", name.replace('~', "~0").replace('/', "~1"));
            Ok((name, Value::new(value, &place)?))
        });
        Ok(Self {
            steps,
            attributes: attributes.collect::<Result<_, Problem>>()?,
            children: rule.children,
            text: rule.text.map(|text| Value::new(text, &format!("{at}/text"))).transpose()?,
            closed: rule.closed,
        })
    }

    fn check_attributes(&self, document: &Document<'_>, element: &Element<'_>) -> Result<(), String> {
        let (from, to) = element.attributes;
        let own = &document.attributes[from as usize..to as usize];
        for (name, rule) in &self.attributes {
            let value = own.iter().find(|attribute| attribute.name == name);
            let value = value.map(|attribute| attribute.value.as_ref());
            rule.check(value).map_err(|what| format!("attribute `{name}` of `{}` {what}", element.name))?;
        }
        let known = |name: &str| self.attributes.iter().any(|(known, _)| known == name);
        match own.iter().find(|attribute| self.closed && !known(attribute.name)) {
            Some(attribute) => {
                Err(format!("`{}` has an attribute `{}`, which is not allowed", element.name, attribute.name))
            }
            None => Ok(()),
        }
    }

    fn check_text(&self, element: &Element<'_>) -> Result<(), String> {
        let Some(rule) = &self.text else { return Ok(()) };
        rule.check(element.text.as_deref()).map_err(|what| format!("the text of `{}` {what}", element.name))
    }

    fn check_children(&self, document: &Document<'_>, element: &Element<'_>) -> Result<(), String> {
        if self.children.is_empty() && !self.closed {
            return Ok(());
        }
        let mut counts = vec![0_u32; self.children.len()];
        let mut child = element.first_child;
        while child != NONE {
            let own = &document.elements[child as usize];
            match self.children.keys().position(|name| name == own.name) {
                Some(at) => counts[at] += 1,
                None if self.closed => {
                    return Err(format!(
                        "`{}` has a child `{}`, which is not allowed",
                        element.name, own.name
                    ));
                }
                None => {}
            }
            child = own.next_sibling;
        }
        for ((name, rule), count) in self.children.iter().zip(counts) {
            let wanted = match rule {
                Count { min, .. } if count < *min => format!("at least {min}"),
                Count { max: Some(max), .. } if count > *max => format!("at most {max}"),
                _ => continue,
            };
            return Err(format!("`{}` has {count} of `{name}`, and is to have {wanted}", element.name));
        }
        Ok(())
    }
}

impl Value {
    fn new(rule: ValueRule, at: &str) -> Result<Self, Problem> {
        let compile = |pattern: String| match Regex::new(&format!("^(?:{pattern})$")) {
            Ok(regex) => Ok((pattern, regex)),
            Err(error) => {
                let message = format!("`{pattern}` is not a pattern: {error}");
                Err(Problem::new("bad-config", message).at(format!("{at}/pattern")))
            }
        };
        Ok(Self { required: rule.required, pattern: rule.pattern.map(compile).transpose()? })
    }

    fn check(&self, value: Option<&str>) -> Result<(), String> {
        match (value, &self.pattern) {
            (None, _) if self.required => Err("is missing".into()),
            (Some(value), Some((pattern, regex))) if !regex.is_match(value) => {
                let shown: String = value.chars().take(40).collect();
                Err(format!("is `{shown}`, which is not of the pattern `{pattern}`"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the steps lead to the path. The cost is their product, whatever the number of `**`.
fn matches(steps: &[String], path: &[&str]) -> bool {
    let (mut step, mut name) = (0, 0);
    // Where to go on after the last `**`, should what follows it not fit: it takes one name more.
    let mut again: Option<(usize, usize)> = None;
    while name < path.len() {
        match steps.get(step).map(String::as_str) {
            Some("**") => {
                again = Some((step, name));
                step += 1;
            }
            Some(wanted) if wanted == "*" || wanted == path[name] => {
                step += 1;
                name += 1;
            }
            _ => match &mut again {
                Some((at, taken)) => {
                    *taken += 1;
                    (step, name) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    steps[step..].iter().all(|step| step == "**")
}

/// At the name of the element, which is a slice of `xml`.
pub(crate) fn problem(code: &'static str, xml: &str, element: &Element<'_>, message: &str) -> Problem {
    let offset = (element.name.as_ptr() as usize).saturating_sub(xml.as_ptr() as usize);
    xml_document::problem(code, xml, offset, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_names() {
        let leads = |steps: &str, path: &str| {
            let steps: Vec<String> = steps.split('/').map(str::to_owned).collect();
            matches(&steps, &path.split('/').collect::<Vec<_>>())
        };
        assert!(leads("a/b", "a/b") && !leads("a/b", "a") && !leads("a/b", "a/b/c"));
        assert!(leads("a/*/c", "a/b/c") && !leads("a/*", "a"));
        assert!(
            leads("**/c", "c") && leads("**/c", "a/b/c") && leads("**/c", "c/b/c") && !leads("**/c", "a/c/b")
        );
        assert!(leads("a/**", "a") && leads("a/**/b/**/c", "a/b/b/x/c") && !leads("a/**/b/c", "a/b/x/c"));
    }
}
