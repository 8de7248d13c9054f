//! The functions of the language: those of the interpreter, and ours for what it has only with large libraries.

use cel_lang::Env;
use cel_lang::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};

use crate::{pattern, time};

/// What conditions are evaluated in.
pub(crate) fn language() -> Env {
    let mut env = Env::stdlib();
    let added = pattern::add(&mut env).and_then(|()| time::add(&mut env));
    added.expect("each function is declared once");
    env
}

/// What is wrong with a text that a condition gives to a function as it stands: a pattern, a time or a duration. Each
/// message would find it out.
pub(crate) fn wrong_literal(condition: &IdedExpr) -> Option<String> {
    let own = match &condition.expr {
        Expr::Call(call) => match call.args.last().map(|last| &last.expr) {
            Some(Expr::Literal(LiteralValue::String(text))) => wrong(&call.func_name, text.inner()),
            _ => None,
        },
        _ => None,
    };
    own.or_else(|| parts(&condition.expr).into_iter().find_map(wrong_literal))
}

fn wrong(function: &str, text: &str) -> Option<String> {
    match function {
        "matches" => pattern::compiled(text).err(),
        "timestamp" => time::timestamp(text).err(),
        "duration" => time::duration(text).err(),
        _ => None,
    }
}

/// What an expression is made of.
fn parts(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Comprehension(all) => {
            vec![&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
        }
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
