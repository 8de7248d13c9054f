//! What an operator lends to stages by name: reference tables, schemas, secrets.
//!
//! Each is in memory once and shared. A call keeps what it borrowed first to its end; the next call sees what
//! has been put there since.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use wharf_protocol::Name;

use crate::Grant;

/// Everything that is lent. Cheap to clone: clones share the shelves.
#[derive(Clone, Debug, Default)]
pub struct Library {
    shelves: Arc<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    tables: RwLock<Shelf<Table>>,
    schemas: RwLock<Shelf<Schema>>,
    secrets: RwLock<Shelf<Secret>>,
}

type Shelf<T> = BTreeMap<Name, Lent<T>>;

/// One thing by its name: itself, or why it cannot be read.
type Lent<T> = Result<Arc<T>, Arc<str>>;

/// A reference table.
#[derive(PartialEq, Eq)]
pub struct Table {
    /// 1 for the first of its name.
    pub version: u64,
    entries: HashMap<Box<str>, Bytes>,
}

/// A schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// 1 for the first of its name.
    pub version: u64,
    /// The document.
    pub bytes: Bytes,
}

/// A value that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Bytes);

/// Why something cannot be borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    NoSuchName,
    Unavailable(Arc<str>),
}

impl Library {
    /// Lends `table` as `name`, in place of the one before it.
    pub fn put_table(&self, name: Name, table: Table) {
        put(&self.shelves.tables, name, Ok(Arc::new(table)));
    }

    /// Lends `schema` as `name`, in place of the one before it.
    pub fn put_schema(&self, name: Name, schema: Schema) {
        put(&self.shelves.schemas, name, Ok(Arc::new(schema)));
    }

    /// Lends `secret` as `name`, in place of the one before it.
    pub fn put_secret(&self, name: Name, secret: Secret) {
        put(&self.shelves.secrets, name, Ok(Arc::new(secret)));
    }

    /// Lends these secrets, and no others.
    pub fn put_secrets(&self, secrets: BTreeMap<Name, Secret>) {
        let all = secrets.into_iter().map(|(name, secret)| (name, Ok(Arc::new(secret)))).collect();
        *self.shelves.secrets.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Lets table `name` be there and not readable: plugins are told `reason`, and may ask for a retry.
    pub fn spoil_table(&self, name: Name, reason: &str) {
        put(&self.shelves.tables, name, Err(reason.into()));
    }

    /// Lets schema `name` be there and not readable.
    pub fn spoil_schema(&self, name: Name, reason: &str) {
        put(&self.shelves.schemas, name, Err(reason.into()));
    }

    /// Lends table `name` no more.
    pub fn remove_table(&self, name: &Name) {
        remove(&self.shelves.tables, name);
    }

    /// Lends schema `name` no more.
    pub fn remove_schema(&self, name: &Name) {
        remove(&self.shelves.schemas, name);
    }

    /// Lends secret `name` no more.
    pub fn remove_secret(&self, name: &Name) {
        remove(&self.shelves.secrets, name);
    }

    /// Whether secret `name` is lent.
    pub fn has_secret(&self, name: &Name) -> bool {
        self.secret(name.as_str()).is_ok()
    }

    /// Of a table, how many keys it has; of a table or schema, why it cannot be read, when it cannot.
    pub fn look(&self, grant: &Grant) -> (Option<u64>, Option<String>) {
        let why = |absence| match absence {
            Absence::NoSuchName => None,
            Absence::Unavailable(reason) => Some(reason.to_string()),
        };
        match grant {
            Grant::Lookup(name) => match self.table(name.as_str()) {
                Ok(table) => (Some(table.keys() as u64), None),
                Err(absence) => (None, why(absence)),
            },
            Grant::Schema(name) => (None, self.schema(name.as_str()).err().and_then(why)),
            _ => (None, None),
        }
    }

    /// Which version of a table or schema is lent.
    pub(crate) fn version(&self, grant: &Grant) -> Option<u64> {
        match grant {
            Grant::Lookup(name) => self.table(name.as_str()).ok().map(|table| table.version),
            Grant::Schema(name) => self.schema(name.as_str()).ok().map(|schema| schema.version),
            _ => None,
        }
    }

    pub(crate) fn table(&self, name: &str) -> Result<Arc<Table>, Absence> {
        borrow(&self.shelves.tables, name)
    }

    pub(crate) fn schema(&self, name: &str) -> Result<Arc<Schema>, Absence> {
        borrow(&self.shelves.schemas, name)
    }

    pub(crate) fn secret(&self, name: &str) -> Result<Arc<Secret>, Absence> {
        borrow(&self.shelves.secrets, name)
    }
}

impl Table {
    /// A table of these pairs; of two with one key, the later counts.
    pub fn new(version: u64, entries: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into_boxed_str(), value)).collect();
        Self { version, entries }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Bytes> {
        self.entries.get(key)
    }

    /// How many keys it has.
    pub fn keys(&self) -> usize {
        self.entries.len()
    }
}

impl Secret {
    /// A secret of this value.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self(value.into())
    }

    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }
}

fn put<T>(shelf: &RwLock<Shelf<T>>, name: Name, lent: Lent<T>) {
    shelf.write().unwrap_or_else(PoisonError::into_inner).insert(name, lent);
}

fn remove<T>(shelf: &RwLock<Shelf<T>>, name: &Name) {
    shelf.write().unwrap_or_else(PoisonError::into_inner).remove(name);
}

fn borrow<T>(shelf: &RwLock<Shelf<T>>, name: &str) -> Result<Arc<T>, Absence> {
    let name: Name = name.parse().map_err(|_| Absence::NoSuchName)?;
    match shelf.read().unwrap_or_else(PoisonError::into_inner).get(&name) {
        None => Err(Absence::NoSuchName),
        Some(lent) => lent.clone().map_err(Absence::Unavailable),
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("version", &self.version).field("keys", &self.keys()).finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrower_keeps_the_version_that_it_borrowed() {
        let library = Library::default();
        let name: Name = "prices".parse().expect("a name");
        let table = |version: u64, price: &'static str| {
            Table::new(version, [("apple".to_owned(), Bytes::from(price))])
        };
        library.put_table(name.clone(), table(1, "10"));
        let borrowed = library.table("prices").expect("it is there");

        library.put_table(name.clone(), table(2, "12"));
        assert_eq!(borrowed.get("apple"), Some(&Bytes::from("10")));
        assert_eq!(library.table("prices").map(|table| table.version), Ok(2));

        library.spoil_table(name.clone(), "its file is damaged");
        assert_eq!(library.table("prices").err(), Some(Absence::Unavailable("its file is damaged".into())));
        library.remove_table(&name);
        assert_eq!(library.table("prices").err(), Some(Absence::NoSuchName));
    }

    #[test]
    fn a_secret_shows_its_value_to_nobody_who_prints_it() {
        let library = Library::default();
        library.put_secret("key".parse().expect("a name"), Secret::new("hunter2"));
        assert!(!format!("{library:?}").contains("hunter2"));
        assert_eq!(library.secret("key").expect("it is there").reveal(), b"hunter2");
    }
}
