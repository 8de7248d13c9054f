//! Holds every beast of the zoo in one broker, and names each. `cargo test -p wharf-zoo --test zoo -- loop` holds
//! those with `loop` in their names.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wharf_pipeline::{COMPILE_SUBCOMMAND, compile_plugin_main};
use wharf_zoo::{Beast, Cage, herd};

/// How many beasts are provoked at once: more than there are threads for them.
const AT_ONCE: usize = 4;

/// At least so many are kept.
const BEASTS_MIN: usize = 40;

fn main() -> ExitCode {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if argument.as_deref() == Some(COMPILE_SUBCOMMAND) {
        return compile_plugin_main();
    }
    let zoo = herd::all();
    assert!(zoo.len() >= BEASTS_MIN, "{} beasts", zoo.len());
    let mut names: Vec<_> = zoo.iter().map(|beast| beast.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), zoo.len(), "each has a name of its own");

    let filter = argument.unwrap_or_default();
    let chosen: Vec<Beast> = zoo.into_iter().filter(|beast| beast.name.contains(&filter)).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let escaped = runtime.block_on(hold(chosen));
    match escaped {
        0 => ExitCode::SUCCESS,
        escaped => {
            println!("{escaped} beasts broke out");
            ExitCode::FAILURE
        }
    }
}

async fn hold(beasts: Vec<Beast>) -> usize {
    let exe = std::env::current_exe().expect("this binary has a path");
    let cage = Arc::new(Cage::open(exe.to_str().expect("a path in UTF-8")).await);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for beast in beasts {
        let (cage, turns) = (Arc::clone(&cage), Arc::clone(&turns));
        under_way.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let start = Instant::now();
            let held = tokio::spawn({
                let beast = beast.clone();
                async move { cage.hold(&beast).await }
            });
            let outcome = if held.await.is_ok() { "ok" } else { "BROKE OUT" };
            println!("beast {} ({}) ... {outcome} in {:.1?}", beast.name, beast.tries, start.elapsed());
            usize::from(outcome != "ok")
        });
    }
    let mut escaped = 0;
    while let Some(each) = under_way.join_next().await {
        escaped += each.unwrap_or(1);
    }
    if let Some(cage) = Arc::into_inner(cage) {
        cage.close().await;
    }
    escaped
}
