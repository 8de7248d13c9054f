//! What can be lost without breaking a promise is damaged: the broker opens all the same, and serves.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::broker::Broker;

/// Compiled plugins in files of their own, and traces in sled's.
const FOLDERS: [&str; 2] = ["cache", "traces"];

/// A pipeline whose compiled plugin is cached.
const CONVERT: &str = r#"
name = "convert"
[[stage]]
plugin = "xml-to-json"
"#;

/// What is done to one file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit at so many hundredths of its length is another one.
    Flip(u64),
    /// It ends at so many hundredths of its length.
    Cut(u64),
    /// Something else is in its place.
    Noise,
    Gone,
}

const HARMS: [Harm; 7] =
    [Harm::Flip(0), Harm::Cut(50), Harm::Flip(50), Harm::Noise, Harm::Cut(0), Harm::Flip(99), Harm::Gone];

impl Harm {
    fn happen(self, file: &Path) {
        let mut bytes = fs::read(file).expect("it is there");
        let place = |percent: u64, bytes: &[u8]| bytes.len() * percent as usize / 100;
        match self {
            Self::Flip(percent) => {
                let place = place(percent, &bytes);
                bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= 0x10);
            }
            Self::Cut(percent) => bytes.truncate(place(percent, &bytes)),
            Self::Noise => bytes.iter_mut().zip((1..=251).cycle()).for_each(|(byte, noise)| *byte = noise),
            Self::Gone => return fs::remove_file(file).expect("removed"),
        }
        fs::write(file, bytes).expect("written");
    }
}

/// Every file below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("read").path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).expect("it is below"));
        fs::create_dir_all(copy.parent().expect("it has one")).expect("made");
        fs::copy(&file, copy).expect("copied");
    }
}

/// Damages one file of a stopped broker, and starts it again: what was confirmed is there, and all goes on.
fn survive(folder: TempDir, kept: &Path, file: &Path, harm: Harm, messages: u64) -> TempDir {
    let data = folder.path().join("data");
    for name in FOLDERS {
        fs::remove_dir_all(data.join(name)).expect("removed");
        copy(&kept.join(name), &data.join(name));
    }
    harm.happen(&data.join(file));

    let broker = Broker::start_in(folder);
    let what = format!("{}: {harm:?}", file.display());
    assert_eq!(broker.json("queue show orders -o json")["ready"], messages, "{what}");
    let traced = broker.ok("pub orders.eu <order>7</order> --trace");
    assert!(traced.contains("xml-to-json: changed"), "{what}: {traced}");
    assert_eq!(broker.ok("sub orders -n 1 -o raw"), "{\"order\":\"7\"}\n", "{what}");
    // The trace is kept again, in what was found whole or in what was begun anew.
    let id = traced.lines().next().expect("an id");
    assert!(broker.ok(&format!("trace show {id}")).contains("xml-to-json"), "{what}");
    broker.stop()
}

/// Each file of the cache and the traces, harmed in one way; in every way with `WHARF_DAMAGES=all`.
#[test]
fn a_damaged_cache_and_damaged_traces_are_moved_aside_or_do_no_harm() {
    let broker = Broker::start();
    broker.file("convert.toml", CONVERT);
    broker.ok("queue add orders");
    broker.ok("pipeline apply convert.toml");
    broker.ok("bind orders.# orders --pipeline convert");
    let messages = 10;
    for _ in 0..messages {
        broker.ok("pub orders.eu <order>7</order> --trace");
    }
    let mut folder = broker.stop();
    let kept = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    FOLDERS.iter().for_each(|name| copy(&data.join(name), &kept.path().join(name)));

    let all = std::env::var("WHARF_DAMAGES").is_ok_and(|which| which == "all");
    let files: Vec<PathBuf> = FOLDERS.iter().flat_map(|name| files(&kept.path().join(name))).collect();
    assert!(files.len() >= 4, "what is kept there: {files:?}");
    let (mut damages, mut aside) = (0, 0);
    for (n, file) in files.iter().enumerate() {
        let file = file.strip_prefix(kept.path()).expect("it is below");
        let harms = if all { &HARMS[..] } else { &HARMS[n % HARMS.len()..][..1] };
        for harm in harms {
            folder = survive(folder, kept.path(), file, *harm, messages);
            damages += 1;
            for name in FOLDERS {
                let broken = data.join(format!("{name}.broken"));
                if broken.exists() {
                    aside += 1;
                    fs::remove_dir_all(broken).expect("removed");
                }
            }
        }
    }
    println!("{damages} damages to {} files, {aside} times moved aside", files.len());
    assert!(aside > 0, "some of it does not open");
}
