//! Runs cases: `cargo run --release -p wharf-model --example cases -- FIRST COUNT [LENGTH]`.

fn main() {
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let (first, count, length) =
        (number(1).unwrap_or(0), number(2).unwrap_or(2_000), number(3).unwrap_or(40));
    let mut all = wharf_model::Tally::default();
    for seed in first..first + count {
        match wharf_model::check(seed, length as usize) {
            Ok(tally) => all += tally,
            Err(disagreement) => {
                println!("{disagreement}");
                std::process::exit(1);
            }
        }
    }
    println!("{count} cases: {all:#?}");
}
