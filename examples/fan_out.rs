//! Fan-out: one message, a copy for each queue that is bound to its topic, and a live view beside them.
//!
//! ```text
//! wharf queue add billing  && wharf bind 'sales.#' billing
//! wharf queue add shipping && wharf bind 'sales.*.paid' shipping
//! cargo run -p wharf-examples --bin fan_out
//! ```

use wharf_client::{Client, ConsumeOptions, Message};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    let mut live = client.tap("sales.#").await?;

    for topic in ["sales.eu.opened", "sales.eu.paid"] {
        client.publish(Message::new(topic.parse()?, "sale 1")).await?.await?;
    }
    for queue in ["billing", "shipping"] {
        let options = ConsumeOptions { until_empty: true, ..Default::default() };
        let mut deliveries = client.consume(queue, options).await?;
        while let Some(delivery) = deliveries.next().await {
            println!("{queue}: {}", delivery.message.topic);
            delivery.ack().await?;
        }
    }
    // A tap is for looking on: it keeps nothing, and takes nothing from the queues.
    for _ in 0..2 {
        if let Some(message) = live.next().await {
            println!("live: {}", message.topic);
        }
    }
    Ok(())
}
