//! The names in a condition: one that nothing has would be an error of every message.

use std::sync::Arc;

use cel_lang::common::ast::{EntryExpr, Expr, IdedExpr};
use cel_lang::{Context, Env, ExecutionError, Program};

/// What a condition sees.
pub(crate) const KNOWN: [&str; 5] = ["payload", "topic", "key", "headers", "attempt"];

/// The types, which are values too, and the one namespace of functions.
const OF_THE_LANGUAGE: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "optional",
    "string",
    "type",
    "uint",
];

/// A name in the condition that is neither known nor bound by it. Recursion ends with the depth that the parser allows.
pub(crate) fn unknown(condition: &IdedExpr) -> Option<&str> {
    find(condition, &mut Vec::new())
}

/// A function in the condition that the language does not have.
pub(crate) fn unknown_function(condition: &Program, language: &Arc<Env>) -> Option<String> {
    // Operators are functions too, whose names are no words.
    let is_word = |name: &&str| name.starts_with(|first: char| first.is_alphabetic());
    let references = condition.references();
    let mut called = references.functions();
    called.sort_unstable();
    called.into_iter().filter(is_word).find(|name| !is_function(name, language)).map(str::to_owned)
}

/// Whether anything in the language can be called by this name: the language lists none, and tells a call of what is not
/// there from one with the wrong arguments.
fn is_function(name: &str, language: &Arc<Env>) -> bool {
    let context = Context::with_env(Arc::clone(language));
    [format!("{name}()"), format!("''.{name}()"), format!("optional.{name}()")].into_iter().any(|call| {
        let called = Program::compile(&call).map(|program| program.execute(&context));
        !matches!(called, Ok(Err(ExecutionError::UndeclaredReference(_))))
    })
}

fn find<'e>(expression: &'e IdedExpr, bound: &mut Vec<&'e str>) -> Option<&'e str> {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => None,
        Expr::Ident(name) => {
            let known = name.starts_with('@')
                || KNOWN.contains(&name.as_str())
                || OF_THE_LANGUAGE.contains(&name.as_str())
                || bound.contains(&name.as_str());
            (!known).then_some(name)
        }
        Expr::Select(select) => find(&select.operand, bound),
        Expr::Call(call) => {
            call.target.as_deref().into_iter().chain(&call.args).find_map(|part| find(part, bound))
        }
        Expr::List(list) => list.elements.iter().find_map(|item| find(item, bound)),
        Expr::Map(map) => map.entries.iter().find_map(|entry| in_entry(&entry.expr, bound)),
        Expr::Struct(made) => made.entries.iter().find_map(|entry| in_entry(&entry.expr, bound)),
        Expr::Comprehension(all) => {
            let outside = [&all.iter_range, &all.accu_init].into_iter().find_map(|part| find(part, bound));
            let depth = bound.len();
            bound.extend([all.iter_var.as_str(), all.accu_var.as_str()]);
            bound.extend(all.iter_var2.as_deref());
            let inside = [&all.loop_cond, &all.loop_step, &all.result];
            let inside = inside.into_iter().find_map(|part| find(part, bound));
            bound.truncate(depth);
            outside.or(inside)
        }
    }
}

fn in_entry<'e>(entry: &'e EntryExpr, bound: &mut Vec<&'e str>) -> Option<&'e str> {
    match entry {
        EntryExpr::StructField(field) => find(&field.value, bound),
        EntryExpr::MapEntry(entry) => find(&entry.key, bound).or_else(|| find(&entry.value, bound)),
    }
}
