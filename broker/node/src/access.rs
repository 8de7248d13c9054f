//! Who may do what: credentials → principal → permission, checked at every operation.

use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wharf_protocol::Pattern;

use crate::NodeError;
use crate::quota::{Presence, Quota, Usage};

/// What a connection shows of itself.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// A bearer token.
    pub token: Option<&'a str>,
    /// The SHA-256 of the client certificate that the TLS handshake verified, in lower-case hexadecimal.
    pub certificate: Option<&'a str>,
}

/// Somebody who was recognised. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Principal(Arc<Known>);

#[derive(Debug)]
struct Known {
    identity: Identity,
    usage: Arc<Usage>,
}

/// One principal of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Identity {
    /// Its name, in logs and histories.
    pub name: String,
    /// The SHA-256 of its token, in lower-case hexadecimal; the token itself is nowhere stored.
    #[serde(default)]
    pub token_sha256: Option<String>,
    /// The SHA-256 of its client certificate (DER), in lower-case hexadecimal.
    #[serde(default)]
    pub certificate_sha256: Option<String>,
    /// Topics it may publish to.
    #[serde(default)]
    pub publish: Vec<Pattern>,
    /// Queues it may consume, and topics it may tap, as patterns over their names.
    #[serde(default)]
    pub consume: Vec<Pattern>,
    /// Whether it may use the admin API.
    #[serde(default)]
    pub admin: bool,
    /// Whether it may load plugins; a role of its own, since it runs code in the broker.
    #[serde(default)]
    pub plugins: bool,
    /// Topics of which it may keep durable subscriptions, in queues whose names it may consume.
    #[serde(default)]
    pub subscribe: Vec<Pattern>,
    /// How much it may have.
    #[serde(default)]
    pub quota: Quota,
}

impl Identity {
    /// One that may do everything, known by the SHA-256 of its token.
    pub fn administrator(name: &str, token_sha256: String) -> Self {
        let everything: Pattern = "#".parse().expect("# is a pattern");
        Self {
            name: name.to_owned(),
            token_sha256: Some(token_sha256),
            certificate_sha256: None,
            publish: vec![everything.clone()],
            consume: vec![everything],
            admin: true,
            plugins: true,
            ..Self::default()
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// To publish to this topic.
    Publish(&'a str),
    /// To consume this queue, or to see a live message of this topic.
    Consume(&'a str),
    /// To keep a durable subscription of these topics.
    Subscribe(&'a Pattern),
    /// To read or change anything by the admin API.
    Administer,
    /// To load or remove a plugin.
    LoadPlugin,
}

impl Principal {
    fn new(identity: Identity) -> Self {
        let usage = Arc::new(Usage::new(identity.quota));
        Self(Arc::new(Known { identity, usage }))
    }

    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.0.usage
    }

    /// How much it may have.
    pub fn quota(&self) -> &Quota {
        self.usage().quota()
    }

    /// Lets one more connection of it in, as long as what comes back is kept.
    ///
    /// # Errors
    /// Its quota of connections is used up ([`NodeError::Unavailable`]).
    pub fn enter(&self) -> Result<Presence, NodeError> {
        self.usage().enter(self.name())
    }

    /// The broker itself, in histories.
    pub fn system() -> Self {
        Self::new(Identity::administrator("wharf", String::new()))
    }

    /// Whether it is the broker itself: no token hashes to nothing.
    pub(crate) fn is_system(&self) -> bool {
        self.0.identity.token_sha256.as_deref() == Some("")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// Whether it may; a refusal names the principal, the action and the resource.
    ///
    /// # Errors
    /// [`NodeError::Forbidden`].
    pub fn check(&self, action: Action<'_>) -> Result<(), NodeError> {
        let (allowed, verb, resource) = match action {
            Action::Publish(topic) => (matches_any(&self.0.identity.publish, topic), "publish to", topic),
            Action::Consume(name) => (matches_any(&self.0.identity.consume, name), "consume", name),
            Action::Subscribe(pattern) => {
                let covered = self.0.identity.subscribe.iter().any(|mine| mine.covers(pattern));
                (covered || self.0.identity.admin, "keep a subscription of", pattern.as_str())
            }
            Action::Administer => (self.0.identity.admin, "administer", "the broker"),
            Action::LoadPlugin => (self.0.identity.plugins, "load", "plugins"),
        };
        if allowed {
            return Ok(());
        }
        Err(NodeError::Forbidden {
            principal: self.0.identity.name.clone(),
            action: verb,
            resource: resource.to_owned(),
        })
    }
}

/// Whether one of `patterns` matches `name`: a topic or a queue's name.
fn matches_any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches_text(name))
}

/// Everybody the node knows.
#[derive(Debug, Default)]
pub(crate) struct Access {
    principals: Vec<Principal>,
}

impl Access {
    pub(crate) fn new(identities: Vec<Identity>) -> Self {
        Self { principals: identities.into_iter().map(Principal::new).collect() }
    }

    /// Everybody, in the order of the configuration.
    pub(crate) fn principals(&self) -> &[Principal] {
        &self.principals
    }

    /// Whose credentials these are. Tokens are compared as digests, in constant time.
    pub(crate) fn authenticate(&self, credentials: Credentials<'_>) -> Option<Principal> {
        let token = credentials.token.map(|token| hex::encode(Sha256::digest(token)));
        let known = |principal: &&Principal| {
            same(principal.0.identity.token_sha256.as_deref(), token.as_deref())
                || same(principal.0.identity.certificate_sha256.as_deref(), credentials.certificate)
        };
        self.principals.iter().find(known).cloned()
    }
}

fn same(expected: Option<&str>, given: Option<&str>) -> bool {
    let (Some(expected), Some(given)) = (expected, given) else { return false };
    expected.len() == given.len() && expected.as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Identity {
        Identity {
            name: "shop".into(),
            token_sha256: Some(hex::encode(Sha256::digest("secret"))),
            publish: vec!["orders.#".parse().expect("a pattern")],
            consume: vec!["orders-out".parse().expect("a pattern")],
            ..Identity::default()
        }
    }

    #[test]
    fn only_the_right_token_is_recognised() {
        let access = Access::new(vec![shop()]);
        let with = |token| Credentials { token, certificate: None };
        assert_eq!(access.authenticate(with(Some("secret"))).expect("known").name(), "shop");
        assert!(access.authenticate(with(Some("Secret"))).is_none());
        assert!(access.authenticate(with(Some(""))).is_none());
        assert!(access.authenticate(with(None)).is_none());
    }

    #[test]
    fn what_is_not_granted_is_forbidden() {
        let access = Access::new(vec![shop()]);
        let credentials = Credentials { token: Some("secret"), certificate: None };
        let shop = access.authenticate(credentials).expect("known");
        assert!(shop.check(Action::Publish("orders.eu")).is_ok());
        assert!(shop.check(Action::Consume("orders-out")).is_ok());
        for forbidden in
            [Action::Publish("prices"), Action::Consume("#"), Action::Administer, Action::LoadPlugin]
        {
            assert!(shop.check(forbidden).is_err(), "{forbidden:?}");
        }
    }
}
