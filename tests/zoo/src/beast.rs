//! A hostile plugin, and what must become of it.

use std::fmt;

use wharf_node::KvEntryView;
use wharf_protocol::Delivery;

use crate::wild::Wild;

/// The line of a stage that grants what the cage lends to beasts, and what their pipelines remember.
macro_rules! grants {
    () => {
        "grants = [\"config\", \"kv\", \"lookup:lent\", \"schema:lent\", \"secrets:lent\"]\n"
    };
}
pub(crate) use grants;

/// The lines of a stage that grants that, and has no deadline to speak of.
pub const GRANTED: &str = concat!("deadline-ms = 10000\n", grants!());

/// A hostile plugin by name.
#[derive(Clone, Debug)]
pub struct Beast {
    /// What everybody calls it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// What it is made of.
    pub body: Body,
    /// As what it is used, in a pipeline file's words.
    pub kind: &'static str,
    /// More lines of its stage in the pipeline file.
    pub stage: &'static str,
    /// Lines of the pipeline file before its stage.
    pub pipeline: &'static str,
    /// What must become of it.
    pub fate: Fate,
    /// What must be true of each message that it lets through.
    pub check: Option<fn(&Delivery)>,
    /// How many messages come before those that provoke it, each to fill 8 MiB of what its pipeline remembers.
    pub fodder: usize,
    /// What must be true of what its pipeline remembers in the end.
    pub remembers: Option<fn(&[KvEntryView])>,
}

/// What a beast is made of.
#[derive(Clone)]
pub enum Body {
    /// The guest in Rust, in this mode.
    Guest(&'static str),
    /// The one that imports all that a stage grants by name.
    GuestWithMemory(&'static str),
    /// A core module in text.
    Wild(fn() -> Wild),
    /// Bytes as they are.
    Bytes(fn() -> Vec<u8>),
}

/// What must become of a beast, or of the messages that provoke it. The texts must be in what is said of it.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It is refused at upload.
    NotUploaded(&'static [&'static str]),
    /// It is refused when a pipeline is applied with it.
    NotApplied(&'static [&'static str]),
    /// What provokes it is dead-lettered with this reason.
    DeadLetters(&'static [&'static str]),
    /// Whoever publishes what provokes it is told this.
    Rejected(&'static [&'static str]),
    /// Everything passes; each message that provokes it becomes so many.
    Passes(usize),
    /// Everything is settled on purpose, and nothing comes out of what provokes it.
    Swallows,
    /// It may be taken or refused, but must be decided about.
    Decided,
}

impl Beast {
    /// A validator of the Rust guest that breaks on bait, with no deadline to speak of: only loops are to meet one,
    /// however busy the machine.
    pub const fn guest(name: &'static str, mode: &'static str, tries: &'static str, fate: Fate) -> Self {
        Self {
            name,
            tries,
            body: Body::Guest(mode),
            kind: "validator",
            stage: "deadline-ms = 10000",
            pipeline: "",
            fate,
            check: None,
            fodder: 0,
            remembers: None,
        }
    }

    /// As [`guest`](Self::guest), granted what the cage lends and what its pipeline remembers.
    pub const fn granted(name: &'static str, mode: &'static str, tries: &'static str, fate: Fate) -> Self {
        Self { body: Body::GuestWithMemory(mode), stage: GRANTED, ..Self::guest(name, mode, tries, fate) }
    }

    /// A validator in WebAssembly text.
    pub const fn wild(name: &'static str, wild: fn() -> Wild, tries: &'static str, fate: Fate) -> Self {
        Self { body: Body::Wild(wild), ..Self::guest(name, "", tries, fate) }
    }

    /// Bytes that claim to be a plugin.
    pub const fn bytes(name: &'static str, bytes: fn() -> Vec<u8>, tries: &'static str, fate: Fate) -> Self {
        Self { body: Body::Bytes(bytes), ..Self::guest(name, "", tries, fate) }
    }

    /// As another kind.
    #[must_use]
    pub const fn kind(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    /// With a deadline that it is to meet.
    #[must_use]
    pub const fn hurried(self) -> Self {
        Self { stage: "deadline-ms = 50", ..self }
    }

    /// With these lines in its stage.
    #[must_use]
    pub const fn stage(self, stage: &'static str) -> Self {
        Self { stage, ..self }
    }

    /// With these lines in its pipeline.
    #[must_use]
    pub const fn pipeline(self, pipeline: &'static str) -> Self {
        Self { pipeline, ..self }
    }

    /// With a look at what it lets through.
    #[must_use]
    pub const fn check(self, check: fn(&Delivery)) -> Self {
        Self { check: Some(check), ..self }
    }

    /// With so many messages that fill what its pipeline remembers.
    #[must_use]
    pub const fn fodder(self, fodder: usize) -> Self {
        Self { fodder, ..self }
    }

    /// With a look at what its pipeline remembers.
    #[must_use]
    pub const fn remembers(self, remembers: fn(&[KvEntryView])) -> Self {
        Self { remembers: Some(remembers), ..self }
    }

    /// The component to upload.
    pub fn component(&self) -> Vec<u8> {
        match &self.body {
            Body::Guest(_) => std::fs::read(wharf_test_artifacts::ZOO).expect("it was compiled"),
            Body::GuestWithMemory(_) => {
                std::fs::read(wharf_test_artifacts::ZOO_WITH_MEMORY).expect("it was compiled")
            }
            Body::Wild(wild) => wild().component(),
            Body::Bytes(bytes) => bytes(),
        }
    }

    /// The pipeline file that gives it a stage.
    pub fn spec(&self) -> String {
        let Self { name, kind, stage, pipeline, .. } = self;
        let config = match self.body {
            Body::Guest(mode) | Body::GuestWithMemory(mode) => format!("config = {{ mode = \"{mode}\" }}\n"),
            Body::Wild(_) | Body::Bytes(_) => String::new(),
        };
        let policy = match self.fate {
            Fate::Rejected(_) => "reject",
            _ => "dead-letter",
        };
        format!(
            "name = \"{name}\"\n{pipeline}\n[[stage]]\nplugin = \"{name}\"\nkind = \"{kind}\"\n\
             on-failure = \"{policy}\"\n{config}{stage}\n"
        )
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(mode) => f.debug_tuple("Guest").field(mode).finish(),
            Self::GuestWithMemory(mode) => f.debug_tuple("GuestWithMemory").field(mode).finish(),
            Self::Wild(_) => f.write_str("Wild"),
            Self::Bytes(_) => f.write_str("Bytes"),
        }
    }
}
