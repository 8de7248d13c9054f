//! The compiled component in the broker's engine: in the `wharf` binary, or in this process.

mod build;
#[cfg(feature = "harness-engine")]
mod engine;
#[cfg(not(feature = "harness-engine"))]
mod process;

use std::path::{Path, PathBuf};

use crate::Level;
use crate::harness::outcome::{Outcome, Result as Verdict, Usage};
use crate::harness::{Changes, Input, Setup, Subject, Trouble, wire};

#[cfg(feature = "harness-engine")]
use engine::Engine;
#[cfg(not(feature = "harness-engine"))]
use process::Engine;

/// A component under test, of whatever language, with the broker's limits.
pub struct Component {
    file: PathBuf,
    /// Started with the first batch.
    engine: Option<Engine>,
    /// Whether the next batch goes to a new instance.
    renew: bool,
}

impl Component {
    /// The component in `file`.
    pub fn open(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), engine: None, renew: false }
    }

    /// The component of the package under test, built where it has to be.
    #[track_caller]
    pub(crate) fn of_this_package() -> Self {
        Self::open(build::component())
    }

    fn ask(&mut self, request: &wire::Request) -> Result<wire::Response, String> {
        let engine = match &mut self.engine {
            Some(engine) => engine,
            None => self.engine.insert(Engine::start(&self.file)?),
        };
        engine.ask(request)
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Subject for Component {
    fn run(&mut self, setup: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
        let renew = std::mem::take(&mut self.renew);
        let request = wire::Request { renew, ..wire::Request::new(setup, inputs) };
        let ran = match self.ask(&request).map_err(Trouble::Failed)? {
            wire::Response::Ran(ran) => ran,
            wire::Response::Refused(problem) => return Err(Trouble::Refused(problem.into())),
            wire::Response::Error(error) => return Err(Trouble::Failed(error)),
        };
        if ran.results.len() != inputs.len() {
            let text = format!("{} results for {} messages", ran.results.len(), inputs.len());
            return Err(Trouble::Failed(text));
        }
        outcomes(ran, inputs).map_err(Trouble::Failed)
    }

    fn renew(&mut self) {
        self.renew = true;
    }
}

fn outcomes(ran: wire::Ran, inputs: &[Input]) -> Result<Vec<Outcome>, String> {
    let usage = Usage {
        time: std::time::Duration::from_micros(ran.time_us),
        memory_bytes: Some(ran.memory_bytes),
        fuel: ran.fuel,
    };
    let log: Vec<_> = ran.log.into_iter().map(|(level, line)| (parse_level(&level), line)).collect();
    let changes = ran.kv.into_iter().chain(std::iter::repeat_with(Changes::new));
    let outcome = |((result, input), changes): ((wire::Result, &Input), Changes)| {
        let result = Verdict::try_from(result)?;
        Ok(Outcome { result, changes, log: log.clone(), usage, given_bytes: input.payload.len() as u64 })
    };
    ran.results.into_iter().zip(inputs).zip(changes).map(outcome).collect()
}

fn parse_level(level: &str) -> Level {
    match level {
        "debug" => Level::Debug,
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => Level::Info,
    }
}
