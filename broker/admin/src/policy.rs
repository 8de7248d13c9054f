//! What a queue promises, as it is written and shown.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use wharf_protocol::QueueName;

use crate::error::Problem;

/// What a queue promises. What is not given is the broker's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePolicy {
    /// What a confirm waits for.
    pub durability: Durability,
    /// How long a consumer may hold a message before it is delivered again.
    pub lease_ms: u64,
    /// After how many failed deliveries a message goes to the dead-letter queue.
    pub max_attempts: u32,
    /// How the pause before a retry grows from failure to failure.
    pub retry: Backoff,
    /// The first pause before a retry.
    pub retry_min_ms: u64,
    /// The longest pause before a retry.
    pub retry_max_ms: u64,
    /// How much is added to a pause at most, by chance, in hundredths of it: it spreads retries. 0 to 100.
    pub retry_jitter_percent: u8,
    /// Where dead letters go; to the queue `dead-letters` when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dead_letter: Option<QueueName>,
    /// Whether a message whose time to live runs out is dead-lettered; otherwise it is dropped.
    pub dead_letter_expired: bool,
    /// How long a message may wait here; 0: for ever. A message's own time to live holds where it is shorter.
    pub ttl_ms: u64,
    /// The most messages that lie here, whether they wait or a consumer holds them; 0: no limit.
    pub max_messages: u64,
    /// The most bytes of messages that lie here; 0: no limit.
    pub max_bytes: u64,
    /// What happens to a message that comes when the queue is full.
    pub overflow: Overflow,
    /// Which messages wait for one another.
    pub order: Order,
    /// Deliver to one consumer only, the one that came first; the next takes over when it leaves.
    pub single_active: bool,
    /// One consumer at a time: a second is refused, and the queue goes when its consumer does.
    pub exclusive: bool,
    /// The queue is removed after so long without a consumer; 0: never.
    pub expires_ms: u64,
    /// The header whose value is a message's tenant: tenants take turns, so that one which floods the queue waits
    /// behind its own messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fair_by: Option<String>,
}

/// What a confirm waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The disk.
    Fsync,
    /// The operating system: a message survives a crash of the broker, not of the machine.
    Os,
    /// Nothing but its place in the order.
    Memory,
}

/// How the pause before a retry grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backoff {
    /// Always the first one.
    Fixed,
    /// The first one, times the number of failures.
    Linear,
    /// Doubled with each failure.
    Exponential,
}

/// What happens to a message that comes when its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Its publisher is told that the queue is full, and it is stored nowhere.
    Reject,
    /// The oldest message that waits makes room.
    DropOldest,
    /// The oldest message that waits makes room and becomes a dead letter.
    DeadLetter,
}

/// Which messages of a queue wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// None: first deliveries are in the order of coming, and one that comes back holds nothing up.
    Fifo,
    /// Those of one key: the next is delivered when the one before it is settled, through its retries.
    Key,
}

impl QueuePolicy {
    /// This policy with what `changes` gives; `null` is the default.
    pub(crate) fn with(&self, changes: Map<String, Value>) -> Result<Self, Problem> {
        changed(self, &Self::default(), changes)
    }
}

/// `policy` with what `changes` gives; `null` is what `default` has.
pub(crate) fn changed<T: Serialize + DeserializeOwned>(
    policy: &T,
    default: &T,
    changes: Map<String, Value>,
) -> Result<T, Problem> {
    let fields = |policy: &T| match serde_json::to_value(policy) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a struct of plain fields is an object"),
    };
    let (mut all, default) = (fields(policy), fields(default));
    for (name, value) in changes {
        let value = if value.is_null() { default.get(&name).cloned() } else { Some(value) };
        match value {
            Some(value) => drop(all.insert(name, value)),
            None => drop(all.remove(&name)),
        }
    }
    serde_json::from_value(Value::Object(all))
        .map_err(|error| Problem::invalid(format_args!("the body: {error}")))
}

impl From<wharf_node::Durability> for Durability {
    fn from(durability: wharf_node::Durability) -> Self {
        match durability {
            wharf_node::Durability::Fsync => Self::Fsync,
            wharf_node::Durability::Os => Self::Os,
            wharf_node::Durability::Memory => Self::Memory,
        }
    }
}

impl From<Durability> for wharf_node::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Fsync => Self::Fsync,
            Durability::Os => Self::Os,
            Durability::Memory => Self::Memory,
        }
    }
}

impl Default for QueuePolicy {
    fn default() -> Self {
        wharf_node::QueuePolicy::default().into()
    }
}

impl From<wharf_node::QueuePolicy> for QueuePolicy {
    fn from(policy: wharf_node::QueuePolicy) -> Self {
        Self {
            durability: policy.durability.into(),
            lease_ms: policy.lease_ms,
            max_attempts: policy.max_attempts,
            retry: match policy.retry {
                wharf_node::Backoff::Fixed => Backoff::Fixed,
                wharf_node::Backoff::Linear => Backoff::Linear,
                wharf_node::Backoff::Exponential => Backoff::Exponential,
            },
            retry_min_ms: policy.retry_min_ms,
            retry_max_ms: policy.retry_max_ms,
            retry_jitter_percent: policy.retry_jitter_percent,
            dead_letter: policy.dead_letter,
            dead_letter_expired: policy.dead_letter_expired,
            ttl_ms: policy.ttl_ms,
            max_messages: policy.max_messages,
            max_bytes: policy.max_bytes,
            overflow: match policy.overflow {
                wharf_node::Overflow::Reject => Overflow::Reject,
                wharf_node::Overflow::DropOldest => Overflow::DropOldest,
                wharf_node::Overflow::DeadLetter => Overflow::DeadLetter,
            },
            order: match policy.order {
                wharf_node::Order::Fifo => Order::Fifo,
                wharf_node::Order::Key => Order::Key,
            },
            single_active: policy.single_active,
            exclusive: policy.exclusive,
            expires_ms: policy.expires_ms,
            fair_by: policy.fair_by,
        }
    }
}

impl From<QueuePolicy> for wharf_node::QueuePolicy {
    fn from(policy: QueuePolicy) -> Self {
        Self {
            durability: policy.durability.into(),
            lease_ms: policy.lease_ms,
            max_attempts: policy.max_attempts,
            retry: match policy.retry {
                Backoff::Fixed => wharf_node::Backoff::Fixed,
                Backoff::Linear => wharf_node::Backoff::Linear,
                Backoff::Exponential => wharf_node::Backoff::Exponential,
            },
            retry_min_ms: policy.retry_min_ms,
            retry_max_ms: policy.retry_max_ms,
            retry_jitter_percent: policy.retry_jitter_percent,
            dead_letter: policy.dead_letter,
            dead_letter_expired: policy.dead_letter_expired,
            ttl_ms: policy.ttl_ms,
            max_messages: policy.max_messages,
            max_bytes: policy.max_bytes,
            overflow: match policy.overflow {
                Overflow::Reject => wharf_node::Overflow::Reject,
                Overflow::DropOldest => wharf_node::Overflow::DropOldest,
                Overflow::DeadLetter => wharf_node::Overflow::DeadLetter,
            },
            order: match policy.order {
                Order::Fifo => wharf_node::Order::Fifo,
                Order::Key => wharf_node::Order::Key,
            },
            single_active: policy.single_active,
            exclusive: policy.exclusive,
            expires_ms: policy.expires_ms,
            fair_by: policy.fair_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(json: Value) -> Map<String, Value> {
        json.as_object().expect("an object").clone()
    }

    #[test]
    fn a_change_touches_what_it_gives_and_null_is_the_default() {
        let policy = QueuePolicy { lease_ms: 7, fair_by: Some("tenant".into()), ..QueuePolicy::default() };
        let given = json!({"overflow": "drop-oldest", "max_messages": 10, "lease_ms": null, "fair_by": null});
        let expected =
            QueuePolicy { overflow: Overflow::DropOldest, max_messages: 10, ..QueuePolicy::default() };
        assert_eq!(policy.with(changes(given)).expect("a policy"), expected);
        assert_eq!(policy.with(Map::new()).expect("a policy"), policy);
    }

    #[test]
    fn a_change_of_what_is_not_there_names_it() {
        for wrong in [json!({"leaze_ms": 1}), json!({"leaze_ms": null, "order": "keys"}), json!({"order": 7})]
        {
            assert!(QueuePolicy::default().with(changes(wrong.clone())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_policy_goes_to_the_node_and_comes_back() {
        let policy = QueuePolicy {
            retry: Backoff::Linear,
            overflow: Overflow::DeadLetter,
            order: Order::Key,
            retry_jitter_percent: 3,
            expires_ms: 4,
            ..QueuePolicy::default()
        };
        assert_eq!(QueuePolicy::from(wharf_node::QueuePolicy::from(policy.clone())), policy);
    }
}
