//! An event: its attributes and its data (CloudEvents 1.0.2).

use std::borrow::Cow;

use json_value::{Bytes, Value};
use wharf_plugin::Problem;

#[derive(Debug, Default)]
pub(crate) struct Event<'a> {
    attributes: Vec<(String, String)>,
    pub(crate) data: Data<'a>,
}

#[derive(Debug, Default)]
pub(crate) enum Data<'a> {
    #[default]
    None,
    Bytes(Cow<'a, [u8]>),
    Json(Value<'a>),
}

/// What every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

impl<'a> Event<'a> {
    /// The event that a payload is, in structured mode.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, Problem> {
        let Value::Object(members) = json_value::read(payload)? else {
            return Err(Problem::new("not-an-event", "an event in structured mode is a JSON object"));
        };
        let mut event = Self::default();
        for (name, value) in members {
            match (name.as_ref(), &value, &event.data) {
                ("data" | "data_base64", Value::Null, _) => {}
                ("data" | "data_base64", _, Data::Json(_) | Data::Bytes(_)) => {
                    return Err(bad(&name, "an event has `data` or `data_base64`, and not both"));
                }
                ("data", ..) => event.data = Data::Json(value),
                ("data_base64", ..) => {
                    let bytes = value.as_str().and_then(|text| Bytes::Base64.decode(text));
                    let bytes = bytes.ok_or_else(|| bad(&name, "`data_base64` is a text in base64"))?;
                    event.data = Data::Bytes(Cow::Owned(bytes));
                }
                // An attribute that is null is one that is not there.
                (_, Value::Null, _) => {}
                (_, value, _) => match value.plain() {
                    Some(text) => event.set(&name, text.to_owned()),
                    None => {
                        let message = format!(
                            "the attribute `{name}` is {}, and is to be a text, number or boolean",
                            value.kind()
                        );
                        return Err(bad(&name, &message));
                    }
                },
            }
        }
        event.check()?;
        Ok(event)
    }

    /// The event that headers and payload are, in binary mode; `None` where there is no `specversion`.
    pub(crate) fn of_headers(
        headers: &[(String, Vec<u8>)],
        prefix: &str,
        content_type: Option<&str>,
        payload: &'a [u8],
    ) -> Result<Option<Self>, Problem> {
        let mut event = Self::default();
        for (header, value) in headers {
            let Some(name) = header.strip_prefix(prefix).filter(|_| !prefix.is_empty()) else { continue };
            let value = std::str::from_utf8(value)
                .map_err(|_| bad(name, &format!("header `{header}` is not UTF-8 text")))?;
            event.set(name, value.to_owned());
        }
        if event.attribute("specversion").is_none() {
            return Ok(None);
        }
        if let Some(of) = content_type {
            event.set("datacontenttype", of.to_owned());
        }
        event.check()?;
        event.data = Data::of(payload, content_type);
        Ok(Some(event))
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.attributes.iter_mut().find(|(own, _)| own == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (name, value) in &self.attributes {
            if out.len() > 1 {
                out.push(b',');
            }
            json_value::write_string(&mut out, name);
            out.push(b':');
            json_value::write_string(&mut out, value);
        }
        match &self.data {
            Data::None => {}
            Data::Json(value) => {
                out.extend_from_slice(b",\"data\":");
                value.write(&mut out);
            }
            Data::Bytes(bytes) => {
                out.extend_from_slice(b",\"data_base64\":");
                json_value::write_string(&mut out, &Bytes::Base64.encode(bytes));
            }
        }
        out.push(b'}');
        out
    }

    fn check(&self) -> Result<(), Problem> {
        for name in REQUIRED {
            if self.attribute(name).unwrap_or_default().is_empty() {
                return Err(bad(name, &format!("the attribute `{name}` is missing or empty")));
            }
        }
        if let Some(version) = self.attribute("specversion").filter(|version| *version != "1.0") {
            return Err(bad(
                "specversion",
                &format!("version {version} of the specification is not known; 1.0 is"),
            ));
        }
        for (name, value) in self.attributes() {
            if !is_extension(name) {
                let message =
                    format!("`{name}` is not the name of an attribute: lower-case letters and digits");
                return Err(bad(name, &message));
            }
            match name {
                "time" if !is_rfc3339(value) => {
                    return Err(bad(name, &format!("`{value}` is not a time as RFC 3339 writes it")));
                }
                "subject" | "dataschema" | "datacontenttype" if value.is_empty() => {
                    return Err(bad(name, &format!("the attribute `{name}` is there and empty")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> Data<'a> {
    /// JSON stays JSON in the event; all else is bytes.
    pub(crate) fn of(payload: &'a [u8], content_type: Option<&str>) -> Self {
        let of = content_type.map(|of| of.split(';').next().unwrap_or_default().trim());
        let may_be_json = of.is_none_or(|of| of == "application/json" || of.ends_with("+json"));
        match json_value::read(payload) {
            _ if payload.is_empty() => Self::None,
            Ok(value) if may_be_json => Self::Json(value),
            _ => Self::Bytes(Cow::Borrowed(payload)),
        }
    }

    pub(crate) fn to_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::None => Cow::Borrowed(&[]),
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::Json(value) => Cow::Owned(value.to_json()),
        }
    }
}

/// CloudEvents §Naming Conventions; up to 20 characters is a recommendation there.
pub(crate) fn is_extension(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// `2026-01-31T12:00:00.5+01:00`; a day that the month does not have is not noticed.
fn is_rfc3339(text: &str) -> bool {
    let (Some(fixed), Some(rest)) = (text.get(..19), text.get(19..)) else { return false };
    let shape = fixed.bytes().zip("0000-00-00T00:00:00".bytes()).all(|(byte, wanted)| match wanted {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    });
    let number = |from: usize, to: usize| fixed[from..to].parse::<u8>().unwrap_or(u8::MAX);
    let ranges = (1..=12).contains(&number(5, 7))
        && (1..=31).contains(&number(8, 10))
        && number(11, 13) <= 23
        && number(14, 16) <= 59
        && number(17, 19) <= 60;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if zone.len() == fraction.len() { "" } else { zone }
        }
        None => rest,
    };
    let offset = |zone: &str| {
        let bytes = zone.as_bytes();
        bytes.len() == 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|&at| bytes[at].is_ascii_digit())
    };
    shape && ranges && (zone.eq_ignore_ascii_case("z") || offset(zone))
}

fn bad(attribute: &str, message: &str) -> Problem {
    Problem::new("bad-attribute", message).at(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        for time in ["2026-01-31T12:00:00Z", "2026-01-31t12:00:00.123456789z", "2026-01-31T12:00:60+01:00"] {
            assert!(is_rfc3339(time), "{time}");
        }
        for time in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-13-31T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:0éZ",
        ] {
            assert!(!is_rfc3339(time), "{time}");
        }
    }
}
