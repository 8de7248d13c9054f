//! What serde makes of a type's attributes: names, defaults, how an enum is told apart.

use proc_macro2::TokenStream;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, LitStr, Result, Token, parenthesized};

/// The attributes of a struct or enum.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) rename_all: Option<Case>,
    /// Of the fields of an enum's variants.
    pub(crate) rename_all_fields: Option<Case>,
    pub(crate) deny_unknown_fields: bool,
    pub(crate) default: bool,
    pub(crate) transparent: bool,
    pub(crate) untagged: bool,
    pub(crate) tag: Option<LitStr>,
    pub(crate) content: Option<LitStr>,
    /// `#[config(open)]`: unknown members are meant to be there.
    pub(crate) open: bool,
}

/// The attributes of a field or variant.
#[derive(Default)]
pub(crate) struct Field {
    pub(crate) rename: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    /// Of a variant's fields.
    pub(crate) rename_all: Option<Case>,
    pub(crate) default: bool,
    pub(crate) skip: bool,
    pub(crate) flatten: bool,
    /// Something else than the type reads it.
    pub(crate) foreign: bool,
    /// `#[config(min = …, max = …)]`
    pub(crate) min: Option<Expr>,
    pub(crate) max: Option<Expr>,
}

/// How names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Container {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut container = Self::default();
        each(attributes, "serde", |meta| {
            match name(&meta).as_str() {
                "rename_all" => container.rename_all = case(&meta)?,
                "rename_all_fields" => container.rename_all_fields = case(&meta)?,
                "deny_unknown_fields" => container.deny_unknown_fields = true,
                "default" => {
                    container.default = true;
                    skip_value(&meta)?;
                }
                "transparent" => container.transparent = true,
                "untagged" => container.untagged = true,
                "tag" => container.tag = Some(meta.value()?.parse()?),
                "content" => container.content = Some(meta.value()?.parse()?),
                "from" | "try_from" => {
                    let message = "another type reads this one: derive Config for that type, or implement \
                                   wharf_plugin::Configuration by hand";
                    return Err(meta.error(message));
                }
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        each(attributes, "config", |meta| match name(&meta).as_str() {
            "open" => {
                container.open = true;
                Ok(())
            }
            _ => Err(meta.error("a type says #[config(open)] or nothing")),
        })?;
        Ok(container)
    }
}

impl Field {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut field = Self::default();
        each(attributes, "serde", |meta| {
            match name(&meta).as_str() {
                "rename" => field.rename = renamed(&meta)?,
                "alias" => field.aliases.push(meta.value()?.parse()?),
                "rename_all" => field.rename_all = case(&meta)?,
                "default" => {
                    field.default = true;
                    skip_value(&meta)?;
                }
                "skip" | "skip_deserializing" => field.skip = true,
                "flatten" => field.flatten = true,
                "with" | "deserialize_with" => {
                    field.foreign = true;
                    skip_value(&meta)?;
                }
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        each(attributes, "config", |meta| {
            match name(&meta).as_str() {
                "min" => field.min = Some(meta.value()?.parse()?),
                "max" => field.max = Some(meta.value()?.parse()?),
                "any" => field.foreign = true,
                _ => return Err(meta.error("a field says #[config(min = …, max = …, any)]")),
            }
            Ok(())
        })?;
        Ok(field)
    }
}

fn each(
    attributes: &[Attribute],
    of: &str,
    mut say: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(of))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut say))
}

fn name(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(ToString::to_string).unwrap_or_default()
}

/// `= value` or `(…)`, of what matters to serde alone.
fn skip_value(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let inside;
        parenthesized!(inside in meta.input);
        inside.parse::<TokenStream>()?;
    }
    Ok(())
}

/// `rename = "a"`, or `rename(deserialize = "a")`.
fn renamed(meta: &ParseNestedMeta<'_>) -> Result<Option<LitStr>> {
    if meta.input.peek(Token![=]) {
        return Ok(Some(meta.value()?.parse()?));
    }
    let mut renamed = None;
    meta.parse_nested_meta(|inner| {
        let to: LitStr = inner.value()?.parse()?;
        if inner.path.is_ident("deserialize") {
            renamed = Some(to);
        }
        Ok(())
    })?;
    Ok(renamed)
}

fn case(meta: &ParseNestedMeta<'_>) -> Result<Option<Case>> {
    let Some(text) = renamed(meta)? else { return Ok(None) };
    let case = match text.value().as_str() {
        "lowercase" => Case::Lower,
        "UPPERCASE" => Case::Upper,
        "PascalCase" => Case::Pascal,
        "camelCase" => Case::Camel,
        "snake_case" => Case::Snake,
        "SCREAMING_SNAKE_CASE" => Case::ScreamingSnake,
        "kebab-case" => Case::Kebab,
        "SCREAMING-KEBAB-CASE" => Case::ScreamingKebab,
        _ => return Err(meta.error("this is no case that serde knows")),
    };
    Ok(Some(case))
}

impl Case {
    /// A field's `snake_case` name.
    pub(crate) fn field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => pascal(name),
            Self::Camel => first_small(&pascal(name)),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }

    /// A variant's `PascalCase` name.
    pub(crate) fn variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => first_small(name),
            Self::Snake => snake(name),
            Self::ScreamingSnake => snake(name).to_ascii_uppercase(),
            Self::Kebab => snake(name).replace('_', "-"),
            Self::ScreamingKebab => snake(name).to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn pascal(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

fn first_small(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (i, letter) in name.char_indices() {
        if i > 0 && letter.is_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_serde_writes_them() {
        assert_eq!(Case::Kebab.field("max_depth"), "max-depth");
        assert_eq!(Case::Camel.field("max_depth"), "maxDepth");
        assert_eq!(Case::Pascal.field("max_depth"), "MaxDepth");
        assert_eq!(Case::ScreamingSnake.field("max_depth"), "MAX_DEPTH");
        assert_eq!(Case::Kebab.variant("ToOutputs"), "to-outputs");
        assert_eq!(Case::Snake.variant("ToOutputs"), "to_outputs");
        assert_eq!(Case::Camel.variant("ToOutputs"), "toOutputs");
        assert_eq!(Case::Lower.variant("ToOutputs"), "tooutputs");
    }
}
