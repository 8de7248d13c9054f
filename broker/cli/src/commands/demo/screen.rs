//! What the demo shows.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use wharf_admin::step::Step;

/// How much of a payload is shown.
const PAYLOAD_CHARS_MAX: usize = 150;

/// Standard output, with colour where somebody sees it.
pub(super) struct Screen {
    colour: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Begins a part.
    pub(super) fn part(&self, title: &str) -> anyhow::Result<()> {
        self.print("1", format_args!("\n{title}"))
    }

    pub(super) fn line(&self, text: impl Display) -> anyhow::Result<()> {
        self.print("", format_args!("  {text}"))
    }

    /// Something that takes a moment.
    pub(super) fn doing(&self, text: &str) {
        eprintln!("  {text}");
    }

    /// The end of a part, seen to be as it should be.
    pub(super) fn done(&self, text: impl Display) -> anyhow::Result<()> {
        self.print("32", format_args!("  ✓ {text}"))
    }

    /// Something that was not let through, on purpose.
    pub(super) fn refused(&self, text: impl Display) -> anyhow::Result<()> {
        self.print("33", format_args!("  ✗ {text}"))
    }

    /// The beginning of a payload, on one line.
    pub(super) fn payload(&self, label: &str, text: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut shown: String = words.join(" ").chars().take(PAYLOAD_CHARS_MAX).collect();
        if shown.chars().count() == PAYLOAD_CHARS_MAX {
            shown.push('…');
        }
        self.print("", format_args!("  {label} {shown}"))
    }

    /// What one stage did with a message.
    pub(super) fn step(&self, step: &Step) -> anyhow::Result<()> {
        let took = format!("{} µs", step.took_us);
        self.print("36", format_args!("  {} ({}, {took}): {}", step.stage, step.plugin, step.verdict))?;
        for output in &step.outputs {
            for (name, value) in &output.headers_set {
                self.line(format_args!("    header {name}: {}", value.text.as_deref().unwrap_or("…")))?;
            }
            if let Some(to) = &output.to {
                self.line(format_args!("    to {to}"))?;
            }
            if let Some(text) = output.payload.as_ref().and_then(|payload| payload.text.as_deref()) {
                self.payload("   ", text)?;
            }
        }
        Ok(())
    }

    /// Where to go from here.
    pub(super) fn next_steps(&self) -> anyhow::Result<()> {
        self.part("Try next")?;
        for (command, what) in [
            ("wharf serve", "a broker that stays, with its data in ./wharf-data"),
            ("wharf plugin new my-stage", "a plugin of your own; then `wharf plugin test` in it"),
            ("wharf pub orders.in --file order.xml", "your own message"),
            ("wharf bench publish", "what it does on this machine, and at what cost"),
        ] {
            self.line(format_args!("{command:<38} {what}"))?;
        }
        Ok(())
    }

    fn print(&self, colour: &str, text: impl Display) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if self.colour && !colour.is_empty() {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")?;
        } else {
            writeln!(out, "{text}")?;
        }
        out.flush()?;
        Ok(())
    }
}
