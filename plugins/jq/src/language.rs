//! Which jq this is: its functions, its variables, and the text that becomes a program.

use jaq_core::load::parse;
use jaq_core::load::parse::Def;
use jaq_core::load::{Arena, Error, Errors, File, Loader};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{Compiler, Filter, data};
use jaq_json::Val;
use json_value::Bytes;

use crate::{regex, value};

/// What a program is run with.
pub(crate) type Data = data::JustLut<Val>;

/// A compiled program.
pub(crate) type Program = Filter<Data>;

/// In the order in which their values are given.
pub(crate) const VARIABLES: [&str; 3] = ["$topic", "$key", "$headers"];

/// What jaq defines by functions that are not here, with how many arguments they take: each would keep every program
/// from compiling.
const LEFT_OUT: [(&str, usize); 14] = [
    // The process.
    ("stderr", 0),
    ("debug", 0),
    ("debug", 1),
    ("halt", 0),
    ("halt_error", 0),
    ("halt_error", 1),
    // Mathematics.
    ("logb", 0),
    ("significand", 0),
    ("pow10", 0),
    ("drem", 2),
    ("nexttoward", 2),
    ("scalb", 2),
    ("gamma", 0),
    // What is decoded.
    ("@htmld", 0),
];

/// The program, or what is wrong with it and where.
pub(crate) fn compile(program: &str) -> Result<Program, String> {
    let arena = Arena::default();
    let modules = Loader::new(definitions())
        .load(&arena, File { code: program, path: () })
        .map_err(|errors| unreadable(program, &errors))?;
    let compiler = Compiler::default().with_funs(functions()).with_global_vars(VARIABLES);
    compiler.compile(modules).map_err(|errors| {
        let undefined = errors.into_iter().flat_map(|(_, undefined)| undefined);
        let said = undefined
            .map(|(name, kind)| format!("there is no {} `{name}` ({})", kind.as_str(), place(program, name)));
        said.collect::<Vec<_>>().join("; ")
    })
}

fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let more = parse(include_str!("more.jq"), |parser| parser.defs()).expect("it is jq");
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(more);
    all.filter(|def| !LEFT_OUT.contains(&(def.name, def.args.len())))
}

/// Those of jaq that need nothing of the process, and a few of our own in place of large libraries.
fn functions() -> impl Iterator<Item = Fun<Data>> {
    let theirs = jaq_core::funs().chain(jaq_std::base_funs()).chain(jaq_json::funs());
    // A stage does not end the process that it is in.
    theirs.filter(|(name, ..)| *name != "halt").chain(our_own()).chain(regex::functions())
}

fn our_own() -> [Fun<Data>; 9] {
    [
        run(("encode_base64", v(0), |input| {
            bome(value::map_text(&input.1, |text| Ok(Bytes::Base64.encode(text.as_bytes()))))
        })),
        run(("decode_base64", v(0), |input| bome(value::map_text(&input.1, value::from_base64)))),
        run(("escape_html", v(0), |input| {
            bome(value::map_text(&input.1, |text| Ok(value::escape_html(text))))
        })),
        run(("encode_uri", v(0), |input| {
            bome(value::map_text(&input.1, |text| Ok(value::encode_uri(text))))
        })),
        run(("decode_uri", v(0), |input| bome(value::map_text(&input.1, value::decode_uri)))),
        run(("todateiso8601", v(0), |input| bome(value::to_date(&input.1)))),
        run(("fromdateiso8601", v(0), |input| bome(value::from_date(&input.1)))),
        run(("sqrt", v(0), |input| bome(value::number(&input.1).map(|number| Val::from(number.sqrt()))))),
        run(("pow", v(2), |mut input| {
            let (exponent, base) = (input.0.pop_var(), input.0.pop_var());
            bome(value::number(&base).and_then(|base| Ok(Val::from(base.powf(value::number(&exponent)?)))))
        })),
    ]
}

fn unreadable(program: &str, errors: &Errors<&str, ()>) -> String {
    let said = errors.iter().flat_map(|(_, error)| match error {
        Error::Io(errors) => {
            errors.iter().map(|(what, error)| format!("{error} ({})", place(program, what))).collect()
        }
        Error::Lex(errors) => {
            let expected = errors.iter().map(|(expected, rest)| {
                format!("{} was expected ({})", expected.as_str(), place(program, rest))
            });
            expected.collect::<Vec<_>>()
        }
        Error::Parse(errors) => {
            let expected = errors.iter().map(|(expected, rest)| {
                format!("{} was expected ({})", expected.as_str(), place(program, rest))
            });
            expected.collect::<Vec<_>>()
        }
    });
    format!("the program is no jq: {}", said.collect::<Vec<_>>().join("; "))
}

/// Where a part of the program stands in it.
fn place(program: &str, part: &str) -> String {
    let at = (part.as_ptr() as usize).checked_sub(program.as_ptr() as usize);
    let Some(before) = at.and_then(|at| program.get(..at)) else { return "at the end".to_owned() };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}
