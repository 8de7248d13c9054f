//! Configuration files changed at random: each is a configuration or an error with a sentence, never a panic.
//!
//! `WHARF_EXECUTIONS=1000000 cargo test -p wharf configuration -- --nocapture` for more than a few; `WHARF_SEED` begins
//! elsewhere.

use super::{Config, Overrides, tests};
use wharf_node::Identity;

/// Files that were whole once.
fn corpus() -> Vec<Vec<u8>> {
    let documented = tests::documented();
    let files = [
        documented.as_str(),
        "",
        "data = \"d\"\n[quic]\nlisten = \"[::1]:0\"\nnames = [\"a\", \"b\"]\ncertificate = \"c\"\nkey = \"k\"\n",
        "[limits]\nmessage = 1048576\nplugin = \"1KiB\"\ndisk-free = 0\nmemory = \"18446744073709551615\"\nhops = 255\n",
        "drain = \"0s\"\n[log]\nsegment = \"4GiB\"\n[plugins]\nthreads = 9223372036854775807\n",
        "[[principals]]\nname = \"x\"\ntoken-sha256 = \"00\"\n[[principals]]\nname = \"x\"\nadmin = true\n",
    ];
    files.iter().map(|file| file.as_bytes().to_vec()).collect()
}

/// Reads it as a start of the broker does, up to where ports are opened.
fn read(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let file = toml::from_str(text).map_err(|error| error.to_string())?;
    let config = Config::new(file, Overrides::default());
    let told = |error: anyhow::Error| error.to_string();
    config.certificate().map_err(told)?;
    config.node(Identity::administrator("admin", String::new())).map_err(told)?;
    Ok(())
}

#[test]
fn configuration_files_changed_at_random_are_read_or_refused_with_a_sentence() {
    let setting = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (executions, seed): (u64, u64) = (setting("WHARF_EXECUTIONS", 5_000), setting("WHARF_SEED", 1));
    let corpus = corpus();
    for whole in &corpus {
        read(whole).map_or_else(|error| assert!(!error.is_empty()), drop);
    }
    let (mut good, mut refused) = (0_u64, 0_u64);
    for at in 0..executions {
        let input = wharf_checker::fuzz::input(&corpus, seed << 32 ^ at);
        match read(&input) {
            Ok(()) => good += 1,
            Err(error) => {
                let bounded = error.len() < 4_096 + 2 * input.len();
                assert!(!error.is_empty() && bounded, "execution {at}: {} bytes of {error:?}", error.len());
                refused += 1;
            }
        }
    }
    println!("{executions} files: {good} are configurations, {refused} were refused");
    assert!(good > executions / 50, "where all is refused nothing is tried");
}
