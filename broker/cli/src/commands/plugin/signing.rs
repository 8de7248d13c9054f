//! `wharf plugin keygen`, `sign` and `verify`: keys and signatures as files, with no broker.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use sha2::{Digest as _, Sha256};
use wharf_node::signature::{PublicKey, Signature, SigningKey};

use crate::output;

/// Makes a key to sign plugins with
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin keygen release                      makes release.key and release.pub

Keep the .key for yourself. The broker's configuration trusts what is in the .pub:
  [plugins]
  require-signed = true
  trusted-keys = { release = \"ed25519:…\" }")]
pub(super) struct Keygen {
    /// What the files are called, without their endings
    name: PathBuf,
}

/// Signs a component: writes FILE.sig, which `wharf plugin push` finds
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin sign strip_pii.wasm --key release.key")]
pub(super) struct Sign {
    /// The component
    file: PathBuf,
    /// The private key, PKCS #8 in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Checks a component's signature
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin verify strip_pii.wasm --key release.pub
  wharf plugin verify strip_pii.wasm --key ed25519:… --signature strip_pii.wasm.sig")]
pub(super) struct Verify {
    /// The component
    file: PathBuf,
    /// Who is to have signed it: a public key, or the file that it is in
    #[arg(long, value_name = "KEY")]
    key: String,
    /// The signature [default: FILE.sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

pub(super) fn keygen(args: &Keygen) -> anyhow::Result<()> {
    let (private, public) = (with_ending(&args.name, "key"), with_ending(&args.name, "pub"));
    for path in [&private, &public] {
        if path.exists() {
            bail!("{} is there already; a key is never overwritten", path.display());
        }
    }
    let (key, pem) = SigningKey::generate()?;
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&private)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", private.display()))?;
    fs::write(&public, format!("{}\n", key.public()))
        .with_context(|| format!("cannot write {}", public.display()))?;
    output::line(format_args!("{}  keep it for yourself", private.display()))?;
    output::line(format_args!("{}  {}", public.display(), key.public()))
}

pub(super) fn sign(args: &Sign) -> anyhow::Result<()> {
    let pem = fs::read_to_string(&args.key).with_context(|| format!("cannot read {}", args.key.display()))?;
    let key = SigningKey::from_pem(&pem).with_context(|| args.key.display().to_string())?;
    let signature = key.sign(&digest_of(&args.file)?);
    let path = beside(&args.file);
    fs::write(&path, format!("{signature}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    output::line(format_args!("{}  by {}", path.display(), key.public()))
}

pub(super) fn verify(args: &Verify) -> anyhow::Result<()> {
    let expected = public_key(&args.key)?;
    let path = args.signature.clone().unwrap_or_else(|| beside(&args.file));
    let signature = read(&path)?;
    if signature.key() != expected {
        bail!("{} is signed by {}, not by {expected}", args.file.display(), signature.key());
    }
    signature.verify(&digest_of(&args.file)?)?;
    output::line(format_args!("{} is as {expected} signed it", args.file.display()))
}

/// The signature to push a component with: the one that is named, or the one beside it, if there is one.
pub(super) fn of(file: &Path, named: Option<&Path>) -> anyhow::Result<Option<Signature>> {
    match named {
        Some(path) => read(path).map(Some),
        None => {
            let path = beside(file);
            if path.exists() { read(&path).map(Some) } else { Ok(None) }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Signature> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| path.display().to_string())
}

fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    match text.parse() {
        Ok(key) => Ok(key),
        Err(error) if !Path::new(text).exists() => Err(error.into()),
        Err(_) => {
            let key = fs::read_to_string(text).with_context(|| format!("cannot read {text}"))?;
            key.parse().with_context(|| text.to_owned())
        }
    }
}

fn digest_of(file: &Path) -> anyhow::Result<[u8; 32]> {
    let component = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256::digest(component).into())
}

/// `FILE.sig`.
fn beside(file: &Path) -> PathBuf {
    with_ending(file, "sig")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
