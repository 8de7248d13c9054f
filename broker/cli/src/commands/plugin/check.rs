//! `wharf plugin test FILE.wasm`: a component of any language, by cases, properties and recordings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args as ClapArgs;
use wharf_plugin::harness::{
    CaseReport, Component, Input, Recording, Setup, case_inputs, check_properties, run_cases,
};

use crate::output;

/// What of a component is tested.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Args {
    /// A folder of cases
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// A recording, whose messages are to become what they became
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// How the stage is configured, as JSON, where the cases do not say it; in place of the recording's own
    #[arg(long, value_name = "FILE")]
    stage: Option<PathBuf>,
    /// Writes what becomes of the cases instead of comparing it
    #[arg(long)]
    update: bool,
    /// Leaves out what holds for every plugin: that it never breaks, and says the same in any batch and instance
    #[arg(long)]
    no_properties: bool,
}

impl Args {
    /// Whether there is anything to test.
    pub(super) fn is_asked(&self) -> bool {
        self.cases.is_some() || self.recording.is_some()
    }

    /// The same; by the cases of a project where nothing else is asked.
    pub(super) fn or_cases(&self, cases: PathBuf) -> Self {
        let cases = if self.is_asked() { self.cases.clone() } else { Some(cases) };
        Self { cases, ..self.clone() }
    }
}

/// Tests the component in `file`.
pub(super) fn run(file: &Path, args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.is_asked(),
        "there is nothing to test {} by: give --cases DIR or --recording FILE",
        file.display()
    );
    let mut component = Component::open(file);
    let stage = args.stage.as_deref().map(read_stage).transpose()?;
    let mut wrong = 0;
    if let Some(folder) = &args.cases {
        let setup = stage.clone().unwrap_or_default();
        let reports = cases(&mut component, folder, &setup, args.update)?;
        wrong += reports.iter().filter(|report| !report.wrong.is_empty()).count();
        if !args.no_properties {
            let inputs = case_inputs(folder, &setup).map_err(|error| anyhow!(error))?;
            // That it never breaks is not asked where it is to break.
            let whole = inputs.into_iter().zip(&reports).filter(|(_, report)| !report.broke);
            wrong += properties(&mut component, whole.map(|(input, _)| input).collect())?;
        }
    }
    if let Some(file) = &args.recording {
        wrong += recording(&mut component, file, stage)?;
    }
    if wrong > 0 {
        bail!("{wrong} of the tests fail");
    }
    Ok(())
}

fn cases(
    component: &mut Component,
    folder: &Path,
    setup: &Setup,
    update: bool,
) -> anyhow::Result<Vec<CaseReport>> {
    let update = update || std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let reports = run_cases(component, folder, setup, update).map_err(|error| anyhow!(error))?;
    for report in &reports {
        let verdict = match (report.wrong.is_empty(), report.written) {
            (true, false) => "ok",
            (true, true) => "written",
            (false, _) => "WRONG",
        };
        output::line(format_args!("case {} ... {verdict}", report.name))?;
        for line in &report.wrong {
            output::line(format_args!("  {line}"))?;
        }
    }
    Ok(reports)
}

/// What holds for every plugin, for each stage that the cases have.
fn properties(component: &mut Component, cases: Vec<(Setup, Input)>) -> anyhow::Result<usize> {
    if cases.is_empty() {
        output::line(format_args!("properties ... left out: each case breaks the plugin"))?;
        return Ok(0);
    }
    let mut stages: Vec<(Setup, Vec<Input>)> = Vec::new();
    for (setup, input) in cases {
        match stages.iter_mut().find(|(each, _)| *each == setup) {
            Some((_, inputs)) => inputs.push(input),
            None => stages.push((setup, vec![input])),
        }
    }
    let mut messages = 0;
    for (setup, inputs) in &stages {
        match check_properties(component, None, setup, inputs) {
            Ok(run) => messages += run,
            Err(error) => {
                output::line(format_args!("properties ... WRONG\n  {error}"))?;
                return Ok(1);
            }
        }
    }
    output::line(format_args!(
        "properties ... ok: {messages} messages never break it, and become the same in any batch and instance"
    ))?;
    Ok(0)
}

fn recording(component: &mut Component, file: &Path, stage: Option<Setup>) -> anyhow::Result<usize> {
    let recording = Recording::read(file).map_err(|error| anyhow!(error))?;
    let setup = stage.unwrap_or_else(|| recording.setup());
    let divergences = recording.replay(component, &setup).map_err(|error| anyhow!(error))?;
    let head = &recording.head;
    let of = format!("{}/{} version {} ({})", head.pipeline, head.stage, head.version, head.plugin);
    let (messages, others) = (recording.entries.len(), divergences.len());
    if divergences.is_empty() {
        output::line(format_args!("recording of {of} ... ok: {messages} messages become the same"))?;
        return Ok(0);
    }
    output::line(format_args!(
        "recording of {of} ... WRONG: {others} of {messages} messages become something else"
    ))?;
    for divergence in divergences.iter().take(10) {
        output::line(format_args!("  message {}", divergence.entry))?;
        for line in &divergence.lines {
            output::line(format_args!("    {line}"))?;
        }
    }
    if others > 10 {
        output::line(format_args!("  and {} more", others - 10))?;
    }
    Ok(1)
}

/// A stage as JSON: `{"config": {…}, "outputs": ["eu"]}`.
pub(super) fn read_stage(file: &Path) -> anyhow::Result<Setup> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| file.display().to_string())
}
