//! A message's headers: a MessagePack map from names to bytes, kept in its encoded form.
//!
//! Headers are written by a publisher and read by a consumer, and most hops look at none of them: they are
//! checked once on the way in, then stored, forwarded and compared as the bytes they are.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// The most bytes that the encoded headers of a message may take.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// The header that says when a message is delivered at the earliest: RFC 3339, or milliseconds since 1970.
///
/// The broker turns it into a [`delay`](crate::Message::delay) when the message comes in, and leaves it there.
pub const DELIVER_AT: &str = "wharf-deliver-at";

/// The header by which a publisher asks the broker to trace a message.
///
/// Its value is the trace's id, 32 lower-case hexadecimal digits, or anything else: then the broker chooses one.
pub const TRACE: &str = "wharf-trace";

/// Why bytes are not headers, or a header cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// Over [`HEADERS_BYTES_MAX`].
    #[error("headers take at most {HEADERS_BYTES_MAX} bytes, these take {0}")]
    TooLarge(usize),
    /// Not one MessagePack map whose keys are strings and whose values are strings or binary.
    #[error("headers are one MessagePack map of strings to strings or binary: {0}")]
    Malformed(&'static str),
    /// One name, twice.
    #[error("header {0:?} is given twice")]
    Duplicate(String),
}

/// An ordered map from header names (UTF-8) to values (bytes, often UTF-8). Cheap to clone.
///
/// No headers are no bytes; a map of none is accepted and becomes that.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Headers(Bytes);

impl Headers {
    /// No headers.
    pub const EMPTY: Self = Self(Bytes::new());

    /// Checks `bytes` and keeps them; no copy is made.
    ///
    /// # Errors
    /// What keeps them from being headers.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, HeadersError> {
        if bytes.is_empty() {
            return Ok(Self::EMPTY);
        }
        if bytes.len() > HEADERS_BYTES_MAX {
            return Err(HeadersError::TooLarge(bytes.len()));
        }
        let mut entries = Entries::open(&bytes).map_err(HeadersError::Malformed)?;
        if entries.remaining == 0 && entries.rest.is_empty() {
            return Ok(Self::EMPTY);
        }
        let mut seen: Vec<&str> = Vec::new();
        while let Some((name, _)) = entries.next_entry().map_err(HeadersError::Malformed)? {
            seen.push(name);
        }
        if !entries.rest.is_empty() {
            return Err(HeadersError::Malformed("bytes after the map"));
        }
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(HeadersError::Duplicate(pair[0].to_owned()));
        }
        Ok(Self(bytes))
    }

    /// The encoded form: empty, or one MessagePack map.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the header `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter_bytes().find(|(each, _)| *each == name.as_bytes()).map(|(_, value)| value)
    }

    /// The value of the header `name`, where it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Names and values, in the publisher's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut entries = self.entries();
        std::iter::from_fn(move || entries.as_mut()?.next_entry().ok().flatten())
    }

    /// As [`iter`](Self::iter), with names as the bytes they are: for who compares them only, since text is checked
    /// wherever it becomes a `str`.
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut entries = self.entries();
        std::iter::from_fn(move || entries.as_mut()?.next_bytes().ok().flatten())
    }

    /// These with some removed and then some set: in place where the name is still there, at the end where it is not.
    /// What stays is copied as it is encoded. A name that is set twice has its last value.
    ///
    /// # Errors
    /// [`HeadersError::TooLarge`].
    pub fn changed<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        set: &[(N, V)],
        remove: &[impl AsRef<str>],
    ) -> Result<Self, HeadersError> {
        let stays = |name: &[u8]| remove.iter().all(|removed| removed.as_ref().as_bytes() != name);
        let value_of = |name: &[u8]| set.iter().rfind(|(each, _)| each.as_ref().as_bytes() == name);
        let is_new = |at: usize, name: &str| {
            let is_first = set[..at].iter().all(|(other, _)| other.as_ref() != name);
            is_first && !(stays(name.as_bytes()) && self.get(name).is_some())
        };
        let new = || set.iter().enumerate().filter(|(at, (name, _))| is_new(*at, name.as_ref()));
        let length = self.iter_bytes().filter(|(name, _)| stays(name)).count() + new().count();
        if length == 0 {
            return Ok(Self::EMPTY);
        }
        let set_bytes = |(name, value): &(N, V)| name.as_ref().len() + value.as_ref().len() + 10;
        let mut out = BytesMut::with_capacity(self.0.len() + 5 + set.iter().map(set_bytes).sum::<usize>());
        write_map_length(&mut out, length);
        if let Some(mut entries) = self.entries() {
            let mut rest = entries.rest;
            while let Ok(Some((name, _))) = entries.next_bytes() {
                let entry = &rest[..rest.len() - entries.rest.len()];
                rest = entries.rest;
                match value_of(name).filter(|_| stays(name)) {
                    Some((name, value)) => write_entry(&mut out, name.as_ref(), value.as_ref()),
                    None if stays(name) => out.extend_from_slice(entry),
                    None => {}
                }
            }
        }
        for (_, (name, value)) in new() {
            let value = value_of(name.as_ref().as_bytes()).map_or(value, |(_, last)| last);
            write_entry(&mut out, name.as_ref(), value.as_ref());
        }
        Self::finished(out)
    }

    /// A copy to change.
    pub fn edit(&self) -> HeadersBuilder {
        HeadersBuilder(self.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect())
    }

    fn entries(&self) -> Option<Entries<'_>> {
        if self.0.is_empty() { None } else { Entries::open(&self.0).ok() }
    }

    fn finished(out: BytesMut) -> Result<Self, HeadersError> {
        if out.len() > HEADERS_BYTES_MAX {
            return Err(HeadersError::TooLarge(out.len()));
        }
        Ok(Self(out.freeze()))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(shown).finish()
    }
}

/// Headers being put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadersBuilder(Vec<(String, Vec<u8>)>);

impl HeadersBuilder {
    /// Sets `name`, replacing a value that was there.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref().to_vec();
        match self.0.iter_mut().find(|(each, _)| each == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        self
    }

    /// Removes `name`, if it is there.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.0.retain(|(each, _)| each != name);
        self
    }

    /// The finished headers.
    ///
    /// # Errors
    /// [`HeadersError::TooLarge`].
    pub fn build(&self) -> Result<Headers, HeadersError> {
        if self.0.is_empty() {
            return Ok(Headers::EMPTY);
        }
        let mut out = BytesMut::with_capacity(self.0.iter().map(|(n, v)| n.len() + v.len() + 10).sum());
        write_map_length(&mut out, self.0.len());
        for (name, value) in &self.0 {
            write_entry(&mut out, name, value);
        }
        Headers::finished(out)
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for HeadersBuilder {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(pairs: I) -> Self {
        let mut builder = Self::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder
    }
}

/// Why bytes are no map of headers; small, because it is in the way of each entry that is read.
type Malformed = &'static str;

/// A name and a value, as they are encoded.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// What is left to read of an encoded map.
struct Entries<'a> {
    remaining: usize,
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let remaining = match take_byte(&mut rest)? {
            marker @ 0x80..=0x8f => usize::from(marker & 0x0f),
            0xde => take_length(&mut rest, 2)?,
            0xdf => take_length(&mut rest, 4)?,
            _ => return Err("not a map"),
        };
        Ok(Self { remaining, rest })
    }

    fn next_entry(&mut self) -> Result<Option<(&'a str, &'a [u8])>, Malformed> {
        let Some((name, value)) = self.next_bytes()? else { return Ok(None) };
        let name = std::str::from_utf8(name).map_err(|_| "a name is not UTF-8")?;
        Ok(Some((name, value)))
    }

    #[inline]
    fn next_bytes(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        if self.remaining == 0 {
            return Ok(None);
        }
        self.remaining -= 1;
        Ok(Some((self.take_bytes(false)?, self.take_bytes(true)?)))
    }

    #[inline]
    fn take_bytes(&mut self, binary_allowed: bool) -> Result<&'a [u8], Malformed> {
        let length = match take_byte(&mut self.rest)? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => usize::from(take_byte(&mut self.rest)?),
            0xda => take_length(&mut self.rest, 2)?,
            0xdb => take_length(&mut self.rest, 4)?,
            0xc4 if binary_allowed => usize::from(take_byte(&mut self.rest)?),
            0xc5 if binary_allowed => take_length(&mut self.rest, 2)?,
            0xc6 if binary_allowed => take_length(&mut self.rest, 4)?,
            _ => return Err("an entry is not a string or binary"),
        };
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("cut short")?;
        self.rest = rest;
        Ok(taken)
    }
}

#[inline]
fn take_byte(rest: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, others) = rest.split_first().ok_or("cut short")?;
    *rest = others;
    Ok(*first)
}

/// A big-endian length of `width` bytes.
fn take_length(rest: &mut &[u8], width: usize) -> Result<usize, Malformed> {
    (0..width).try_fold(0, |length, _| Ok(length << 8 | usize::from(take_byte(rest)?)))
}

#[expect(clippy::cast_possible_truncation, reason = "each cast is in the range of its arm")]
fn write_map_length(out: &mut BytesMut, length: usize) {
    match length {
        0..=15 => out.extend_from_slice(&[0x80 | length as u8]),
        16..=0xffff => {
            out.extend_from_slice(&[0xde]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[0xdf]);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

fn write_entry(out: &mut BytesMut, name: &str, value: &[u8]) {
    write_str(out, name);
    write_binary(out, value);
}

#[expect(clippy::cast_possible_truncation, reason = "each cast is in the range of its arm")]
fn write_str(out: &mut BytesMut, text: &str) {
    match text.len() {
        length @ 0..=31 => out.extend_from_slice(&[0xa0 | length as u8]),
        length @ 32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        length => {
            out.extend_from_slice(&[0xdb]);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "each cast is in the range of its arm")]
fn write_binary(out: &mut BytesMut, value: &[u8]) {
    match value.len() {
        length @ 0..=0xff => out.extend_from_slice(&[0xc4, length as u8]),
        length => {
            out.extend_from_slice(&[0xc6]);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back_in_order() {
        let headers = HeadersBuilder::default().set("b", "2").set("a", [0xff]).build().expect("small");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("b", &b"2"[..]), ("a", &[0xff][..])]);
        assert_eq!(headers.text("b"), Some("2"));
        assert_eq!(headers.text("a"), None);
    }

    #[test]
    fn a_map_from_another_language_is_accepted() {
        let map = std::collections::BTreeMap::from([("content-type", "application/xml")]);
        let bytes = rmp_serde::to_vec(&map).expect("encodes");
        let headers = Headers::from_bytes(bytes.into()).expect("headers");
        assert_eq!(headers.text("content-type"), Some("application/xml"));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let bytes = [0x82, 0xa1, b'a', 0xa1, b'1', 0xa1, b'a', 0xa1, b'2'];
        let error = Headers::from_bytes(Bytes::copy_from_slice(&bytes)).expect_err("refused");
        assert_eq!(error, HeadersError::Duplicate("a".into()));
    }

    proptest::proptest! {
        #[test]
        fn what_is_built_is_read_back(pairs in proptest::collection::btree_map(".{0,40}", ".{0,400}", 0..20)) {
            let builder: HeadersBuilder = pairs.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
            let headers = Headers::from_bytes(builder.build().expect("small").as_bytes().clone());
            let headers = headers.expect("well-formed");
            let read: Vec<_> = headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            let expected: Vec<_> = pairs.into_iter().map(|(n, v)| (n, v.into_bytes())).collect();
            proptest::prop_assert_eq!(read, expected);
        }

        #[test]
        fn headers_are_changed_at_once_as_they_are_one_by_one(
            there in proptest::collection::btree_map("[a-f]", ".{0,40}", 0..6),
            set in proptest::collection::vec(("[a-h]", ".{0,40}"), 0..5),
            removed in proptest::collection::vec("[a-h]", 0..4),
        ) {
            let builder: HeadersBuilder = there.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
            let headers = builder.build().expect("small");
            let mut one_by_one = headers.edit();
            removed.iter().for_each(|name| { one_by_one.remove(name); });
            set.iter().for_each(|(name, value)| { one_by_one.set(name, value); });
            let changed = headers.changed(&set, &removed).expect("small");
            proptest::prop_assert_eq!(&changed, &one_by_one.build().expect("small"));
            proptest::prop_assert_eq!(&Headers::from_bytes(changed.0.clone()).expect("well-formed"), &changed);
        }

        #[test]
        fn garbage_is_refused_or_readable_but_never_a_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            if let Ok(headers) = Headers::from_bytes(Bytes::from(bytes)) {
                headers.iter().count();
            }
        }
    }
}
