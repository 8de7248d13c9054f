//! What queues do beside first in, first out: at what cost, beside the plain path of the same run.

use serde_json::{Value, json};

use super::load::{self, Dress, Publishing};
use super::report::Phase;
use super::{Bench, Load, TOPIC, plain};
use crate::admin::path;

/// Queues that a fan-out reaches.
const FAN_OUT: u64 = 10;
/// Keys that messages of the run with keys share.
const KEYS: u64 = 1_000;

/// Publishes to one queue, then to ten: a body is stored once.
pub(super) async fn fan_out(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    bench.publish("to 1", &plain(load), None).await?;
    for n in 0..FAN_OUT {
        bench.queue(load, &format!("fan-{n}"), "fan", json!({}))?;
    }
    let fan = Publishing { topic: "fan".parse()?, ..plain(load) };
    bench.publish("to 10", &fan, None).await?;
    let before = bench.cpu()?;
    let started = std::time::Instant::now();
    let mut messages = 0;
    for n in 0..FAN_OUT {
        let queue = format!("fan-{n}");
        messages += load::drain(bench.connection(), &queue, load.connections, load.window).await?.0;
    }
    let (took, cpu) = (started.elapsed(), bench.cpu()? - before);
    Phase { name: "drain 10", messages, took, broker_cpu: Some(cpu), latencies: None, floor: None }.print()
}

/// Publishes and drains without priorities, then with all 32.
pub(super) async fn priority(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    bench.through(load, "plain", TOPIC, super::QUEUE, None).await?;
    let dress: Dress = |n, message| message.priority = u8::try_from(n % 32).unwrap_or(0);
    bench.through(load, "32 levels", TOPIC, super::QUEUE, Some(dress)).await
}

/// Publishes and drains without order by keys, then with it, over a thousand keys.
pub(super) async fn keys(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    bench.queue(load, "keys", "keys", json!({ "order": "key" }))?;
    let dress: Dress = |n, message| message.key = Some((n % KEYS).to_string().into());
    bench.through(load, "fifo", TOPIC, super::QUEUE, Some(dress)).await?;
    bench.through(load, "by key", "keys", "keys", Some(dress)).await
}

/// Publishes without message ids, with them, and the same ones again.
pub(super) async fn dedup(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    bench.publish("plain", &plain(load), None).await?;
    let dress: Dress = |n, message| message.message_id = Some(format!("order-{n}").into());
    let with_ids = Publishing { dress: Some(dress), ..plain(load) };
    bench.publish("with ids", &with_ids, None).await?;
    bench.publish("again", &with_ids, None).await?;
    let admin = bench.connection().admin()?;
    let queue: Value = admin.get(&path(["v1", "queues", super::QUEUE]))?;
    let window: Value = admin.get(&path(["v1", "dedup"]))?;
    let told = told(load.messages, queue["ready"].as_u64().unwrap_or(0), window["max"].as_u64().unwrap_or(0));
    crate::output::line(format_args!("dedup      {told}"))
}

/// What became of so many ids that were published twice, after as many messages without one: `there` are stored, and the
/// broker remembers so many ids.
fn told(messages: u64, there: u64, remembered: u64) -> String {
    let again = there.saturating_sub(2 * messages);
    let mut told = format!(
        "{} of {messages} ids were duplicates, {again} were stored again",
        messages.saturating_sub(again)
    );
    if messages > remembered {
        // Published in the same order again, each id is met just after it was forgotten.
        told += &format!(
            ": the window remembers {remembered}, and forgets the oldest for each new one; fewer `--messages` stay \
             within it"
        );
    } else if again > 0 {
        told += ": the run took longer than the window remembers an id";
    }
    told
}

impl Bench {
    /// Makes a queue of the durability to measure, bound to `pattern`.
    pub(super) fn queue(&self, load: &Load, name: &str, pattern: &str, policy: Value) -> anyhow::Result<()> {
        let mut policy = policy;
        policy["durability"] = load.broker.durability.word().into();
        let admin = self.connection().admin()?;
        let _: Value = admin.put(&path(["v1", "queues", name]), &policy)?;
        let binding = json!({ "pattern": pattern, "queue": name });
        let _: Value = admin.post(&path(["v1", "bindings"]), &binding)?;
        Ok(())
    }

    /// Publishes into a queue and drains it.
    async fn through(
        &self,
        load: &Load,
        name: &str,
        topic: &str,
        queue: &str,
        dress: Option<Dress>,
    ) -> anyhow::Result<()> {
        let publishing = Publishing { topic: topic.parse()?, dress, ..plain(load) };
        self.publish(name, &publishing, None).await?;
        let before = self.cpu()?;
        let (messages, took) = load::drain(self.connection(), queue, load.connections, load.window).await?;
        let cpu = self.cpu()? - before;
        Phase { name: "  drain", messages, took, broker_cpu: Some(cpu), latencies: None, floor: None }.print()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_the_window_could_not_remember_are_told_apart_from_those_that_it_did_not() {
        assert_eq!(told(5, 10, 9), "5 of 5 ids were duplicates, 0 were stored again");
        assert!(
            told(5, 15, 4)
                .starts_with("0 of 5 ids were duplicates, 5 were stored again: the window remembers 4")
        );
        assert!(told(5, 11, 9).contains("took longer"));
    }

    /// A run with connections of their own numbers must not publish an id twice.
    #[test]
    fn connections_number_their_messages_apart() {
        let numbers: std::collections::BTreeSet<u64> =
            (0..3).flat_map(|connection| (0..5).map(move |n| load::number(connection, n))).collect();
        assert_eq!(numbers.len(), 15);
        let mut message = wharf_client::Message::new("t".parse().expect("a topic"), "x");
        let dress: Dress = |n, message| message.message_id = Some(n.to_string().into());
        dress(load::number(1, 0), &mut message);
        assert_ne!(message.message_id.as_deref(), Some("0"));
    }
}
