//! The admin API, called.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, RequestBuilder};
use wharf_admin::error::{ErrorBody, Problem};

/// The longest answer that is read: far over what the API sends.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long to wait for an answer: longer than the API itself waits.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(150);

/// How long to wait for a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The admin API of one broker.
pub(crate) struct Admin {
    agent: Agent,
    base: String,
    authorization: String,
}

/// A path below the API's root: `path(["v1", "queues", name])`.
pub(crate) fn path<'a>(segments: impl IntoIterator<Item = &'a str>) -> String {
    segments.into_iter().flat_map(|segment| ["/".to_owned(), percent_encoded(segment)]).collect()
}

impl Admin {
    /// The API at `base`, `http://127.0.0.1:6421`, for the bearer of `token`.
    pub(crate) fn new(base: &str, token: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_global(Some(ANSWER_TIME_MAX))
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            base: base.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {token}"),
        }
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.get_with(path, &[])
    }

    /// With parameters in the query.
    pub(crate) fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let request = self.prepared(self.agent.get(self.url(path)));
        self.read(request.query_pairs(query.iter().copied()).call())
    }

    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.read(self.prepared(self.agent.put(self.url(path))).send_json(body))
    }

    pub(crate) fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.read(self.prepared(self.agent.patch(self.url(path))).send_json(body))
    }

    /// With a body that is not JSON.
    pub(crate) fn put_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<T> {
        let request = self.prepared(self.agent.put(self.url(path))).content_type(content_type);
        self.read(request.query_pairs(query.iter().copied()).send(body))
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.read(self.prepared(self.agent.post(self.url(path))).send_json(body))
    }

    /// As [`put_bytes`](Self::put_bytes), with a header where there is one.
    pub(crate) fn put_bytes_with<T: DeserializeOwned>(
        &self,
        path: &str,
        header: Option<(&str, &str)>,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<T> {
        let mut request = self.prepared(self.agent.put(self.url(path))).content_type(content_type);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.read(request.send(body))
    }

    /// With a body that is not JSON.
    pub(crate) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<T> {
        let request = self.prepared(self.agent.post(self.url(path))).content_type(content_type);
        self.read(request.query_pairs(query.iter().copied()).send(body))
    }

    /// For the answer as it is, with parameters in the query.
    pub(crate) fn post_for_bytes(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
        let request = self.prepared(self.agent.post(self.url(path)));
        let mut answer = self.checked(request.query_pairs(query.iter().copied()).send_empty())?;
        Ok(answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?)
    }

    pub(crate) fn delete(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<()> {
        let request = self.prepared(self.agent.delete(self.url(path)));
        self.checked(request.query_pairs(query.iter().copied()).call())?;
        Ok(())
    }

    /// For the answer, with parameters in the query.
    pub(crate) fn delete_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let request = self.prepared(self.agent.delete(self.url(path)));
        self.read(request.query_pairs(query.iter().copied()).call())
    }

    /// For the answer.
    pub(crate) fn delete_for<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.read(self.prepared(self.agent.delete(self.url(path))).call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn prepared<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        request.header("authorization", &self.authorization)
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<T> {
        let mut answer = self.checked(answer)?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        body.read_json().with_context(|| format!("{} gave an answer that this wharf cannot read", self.base))
    }

    /// A success, or the error that the API told.
    fn checked(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        let mut answer = answer.map_err(|error| match error {
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Timeout(_) => {
                anyhow::Error::from(error).context(format!(
                    "no broker answers at {}; is `wharf serve` running, and is it the one meant (--context)?",
                    self.base
                ))
            }
            error => anyhow::Error::from(error).context(format!("calling {}", self.base)),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let told = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_json::<ErrorBody>();
        match told {
            Ok(told) => bail!("{}", sentence(told.error)),
            Err(_) => bail!("{} answered {}; is that a Wharf broker?", self.base, named(status)),
        }
    }
}

fn sentence(problem: Problem) -> String {
    match problem.hint {
        Some(hint) => format!("{}\nhint: {hint}", problem.message),
        None => problem.message,
    }
}

fn named(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("")).trim_end().to_owned()
}

/// RFC 3986 §2.1: everything but the unreserved characters.
fn percent_encoded(segment: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    segment.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment_of_the_path() {
        assert_eq!(path(["v1", "queues", "orders-1.a"]), "/v1/queues/orders-1.a");
        assert_eq!(path(["v1", "queues", "../ä?#"]), "/v1/queues/..%2F%C3%A4%3F%23");
    }
}
