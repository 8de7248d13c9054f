//! The capabilities that a stage grants by name: `config`, `lookup`, `schema`, `secrets`, `kv`.
//!
//! What is borrowed from the library stays the same to the end of the call.

use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use wasmtime::Result;
use wharf_protocol::{KV_READS_MAX, Kept, Name, Timestamp};

use super::{Breach, Host};
use crate::bindings::wharf::plugin::{config, kv, lookup, schema, secrets, types};
use crate::library::{Absence, Schema, Table};
use crate::memory::{self, Remembering, Shared};
use crate::{Fault, Grant};

/// What the pipeline of the call remembers.
#[derive(Clone)]
pub(crate) struct Remembered(pub(crate) Shared);

/// What a stage tells its instances of itself.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) pipeline: String,
    pub(crate) stage: String,
    pub(crate) outputs: Vec<String>,
    pub(crate) config: String,
}

/// What a call has borrowed so far.
#[derive(Debug, Default)]
pub(crate) struct Borrowed {
    tables: Vec<(String, Arc<Table>)>,
    schemas: Vec<(String, Arc<Schema>)>,
}

impl Borrowed {
    /// Which versions the call has used.
    pub(crate) fn versions(&self) -> Vec<(Grant, u64)> {
        let tables =
            self.tables.iter().map(|(name, table)| (name, Grant::Lookup as fn(Name) -> Grant, table.version));
        let schemas = self
            .schemas
            .iter()
            .map(|(name, schema)| (name, Grant::Schema as fn(Name) -> Grant, schema.version));
        let named = |(name, grant, version): (&String, fn(Name) -> Grant, u64)| {
            Some((grant(name.parse().ok()?), version))
        };
        tables.chain(schemas).filter_map(named).collect()
    }
}

/// Some shelf's part of [`Borrowed`]: the same thing again, or borrowed now.
fn keep<T>(
    kept: &mut Vec<(String, Arc<T>)>,
    name: &str,
    borrow: impl FnOnce() -> Result<Arc<T>, Absence>,
) -> Result<Arc<T>, types::Absence> {
    if let Some((_, thing)) = kept.iter().find(|(each, _)| each == name) {
        return Ok(Arc::clone(thing));
    }
    let thing = borrow()?;
    kept.push((name.to_owned(), Arc::clone(&thing)));
    Ok(thing)
}

impl Host {
    /// Whether the stage grants one of a kind by this name.
    fn granted_by_name(&self, kind: fn(Name) -> Grant, interface: &str, name: &str) -> Result<()> {
        let grant = name.parse().ok().map(kind);
        if grant.is_some_and(|grant| self.grants.contains(&grant)) {
            return Ok(());
        }
        let name: String = name.chars().take(128).collect();
        let wanted = format!("{interface}:{name}");
        let message = format!(
            "it used {wanted:?}, which its stage does not grant; add {wanted:?} to the stage's grants"
        );
        Err(Breach::error(Fault::Grant, message))
    }

    fn table(&mut self, name: &str) -> Result<Result<Arc<Table>, types::Absence>> {
        self.granted_by_name(Grant::Lookup, "lookup", name)?;
        Ok(keep(&mut self.call.borrowed.tables, name, || self.library.table(name)))
    }
}

impl config::Host for Host {
    fn get(&mut self) -> Result<String> {
        self.granted(&Grant::Config)?;
        Ok(self.about.config.clone())
    }

    fn pipeline(&mut self) -> Result<String> {
        self.granted(&Grant::Config)?;
        Ok(self.about.pipeline.clone())
    }

    fn stage(&mut self) -> Result<String> {
        self.granted(&Grant::Config)?;
        Ok(self.about.stage.clone())
    }

    fn outputs(&mut self) -> Result<Vec<String>> {
        self.granted(&Grant::Config)?;
        Ok(self.about.outputs.clone())
    }
}

impl lookup::Host for Host {
    fn get(&mut self, table: String, key: String) -> Result<Result<Option<Vec<u8>>, types::Absence>> {
        let table = self.table(&table)?;
        Ok(table.map(|table| table.get(&key).map(|value| value.to_vec())))
    }

    fn get_many(
        &mut self,
        table: String,
        keys: Vec<String>,
    ) -> Result<Result<Vec<Option<Vec<u8>>>, types::Absence>> {
        let table = match self.table(&table)? {
            Ok(table) => table,
            Err(absence) => return Ok(Err(absence)),
        };
        // Counted before anything is copied: a key of one byte may have a value of a million.
        let bytes: usize = keys.iter().filter_map(|key| table.get(key)).map(|value| value.len()).sum();
        if bytes > self.limits.crossing_bytes {
            let message = format!(
                "it asked for {} values of {bytes} bytes at once; at most {} bytes are handed over",
                keys.len(),
                self.limits.crossing_bytes
            );
            return Err(Breach::error(Fault::Answer, message));
        }
        Ok(Ok(keys.iter().map(|key| table.get(key).map(|value| value.to_vec())).collect()))
    }

    fn version(&mut self, table: String) -> Result<Result<u64, types::Absence>> {
        Ok(self.table(&table)?.map(|table| table.version))
    }
}

impl schema::Host for Host {
    fn get(&mut self, name: String) -> Result<Result<schema::Document, types::Absence>> {
        self.granted_by_name(Grant::Schema, "schema", &name)?;
        let schema = keep(&mut self.call.borrowed.schemas, &name, || self.library.schema(&name));
        Ok(schema.map(|schema| schema::Document { version: schema.version, bytes: schema.bytes.to_vec() }))
    }
}

impl secrets::Host for Host {
    fn get(&mut self, name: String) -> Result<Result<Vec<u8>, types::Absence>> {
        self.granted_by_name(Grant::Secret, "secrets", &name)?;
        Ok(self.library.secret(&name).map(|secret| secret.reveal().to_vec()).map_err(Into::into))
    }
}

impl kv::Host for Host {
    fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, kv::Error>> {
        let now = self.call.now();
        Ok(self.recalling(&key)?.get(&key, now).map(|kept| kept.map(|kept| kept.value.to_vec())))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<Result<(), kv::Error>> {
        let kept = Kept { value: value.into(), expires: self.end(ttl_ms) };
        Ok(self.remembering()?.set(&key, Some(kept)))
    }

    fn remove(&mut self, key: String) -> Result<Result<(), kv::Error>> {
        Ok(self.remembering()?.set(&key, None))
    }

    fn add(&mut self, key: String, by: i64, ttl_ms: Option<u64>) -> Result<Result<i64, kv::Error>> {
        let (now, ends) = (self.call.now(), self.end(ttl_ms));
        Ok(self.recalling(&key)?.add(&key, by, ends, now))
    }
}

impl Host {
    fn remembering(&self) -> Result<MutexGuard<'_, Remembering>> {
        self.granted(&Grant::Kv)?;
        match &self.call.remembering {
            Some(Remembered(shared)) => Ok(memory::lock(shared)),
            None => Err(Breach::error(Fault::Grant, "it used kv outside of a message")),
        }
    }

    /// What the pipeline remembers, to read `key` of it. The contract has no error for one key too many, and what it
    /// released does not change: the call ends.
    fn recalling(&self, key: &str) -> Result<MutexGuard<'_, Remembering>> {
        let remembering = self.remembering()?;
        if !remembering.may_read(key) {
            let message = format!(
                "it read more than {KV_READS_MAX} keys of what its pipeline remembers for one message"
            );
            return Err(Breach::error(Fault::Answer, message));
        }
        Ok(remembering)
    }

    fn end(&self, ttl_ms: Option<u64>) -> Option<Timestamp> {
        ttl_ms.map(|ttl_ms| self.call.now().after(Duration::from_millis(ttl_ms)))
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

impl From<Absence> for types::Absence {
    fn from(absence: Absence) -> Self {
        match absence {
            Absence::NoSuchName => Self::NoSuchName,
            Absence::Unavailable(reason) => Self::Unavailable(reason.to_string()),
        }
    }
}
