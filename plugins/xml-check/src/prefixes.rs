//! The prefixes of names that are declared where an element stands (Namespaces in XML 1.0 §5).

use std::collections::HashMap;

use wharf_plugin::Problem;
use xml_document::{Attribute, Document, Element};

use crate::rules::problem;

/// Declared by the recommendation itself.
const XML: &str = "xml";
/// What declares is no prefix of anything else.
const XMLNS: &str = "xmlns";

/// On the way down a document: what each element on the way declares.
#[derive(Debug, Default)]
pub(crate) struct Prefixes<'d> {
    /// By how many elements of the way; it holds for all inside them.
    declared: HashMap<&'d str, u32>,
}

impl<'d> Prefixes<'d> {
    /// Goes into `element`, whose own declarations hold for its own names too.
    ///
    /// # Errors
    /// `namespace`: a prefix that nobody declared, or a name that is none with a namespace.
    pub(crate) fn enter(
        &mut self,
        xml: &str,
        document: &'d Document<'_>,
        element: &Element<'_>,
    ) -> Result<(), Problem> {
        let attributes = of(document, element);
        let wrong = |what: String| Err(problem("namespace", xml, element, &what));
        for (prefix, attribute) in attributes.iter().filter_map(declaration) {
            if matches!(prefix, XML | XMLNS) || attribute.value.is_empty() {
                return wrong(format!("`{}` declares nothing that can be declared", attribute.name));
            }
            *self.declared.entry(prefix).or_default() += 1;
        }
        let names = attributes.iter().filter(|attribute| declaration(attribute).is_none());
        for name in std::iter::once(element.name).chain(names.map(|attribute| attribute.name)) {
            match name.split_once(':') {
                None => {}
                Some((prefix, local)) if prefix.is_empty() || local.is_empty() || local.contains(':') => {
                    return wrong(format!("`{name}` is no name with a prefix: one colon stands within"));
                }
                Some((prefix, _)) if prefix == XML || self.declared.contains_key(prefix) => {}
                Some((prefix, _)) => {
                    return wrong(format!(
                        "the prefix of `{name}` is not declared: `xmlns:{prefix}` is missing"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Comes out of `element`.
    pub(crate) fn leave(&mut self, document: &'d Document<'_>, element: &Element<'_>) {
        for (prefix, _) in of(document, element).iter().filter_map(declaration) {
            if let Some(count) = self.declared.get_mut(prefix) {
                *count -= 1;
                if *count == 0 {
                    self.declared.remove(prefix);
                }
            }
        }
    }
}

fn of<'d, 'x>(document: &'d Document<'x>, element: &Element<'_>) -> &'d [Attribute<'x>] {
    let (from, to) = element.attributes;
    &document.attributes[from as usize..to as usize]
}

/// The prefix that an attribute declares. `xmlns` alone declares none.
fn declaration<'d, 'x>(attribute: &'d Attribute<'x>) -> Option<(&'x str, &'d Attribute<'x>)> {
    let prefix = attribute.name.strip_prefix(XMLNS)?.strip_prefix(':')?;
    Some((prefix, attribute))
}
