//! Consume: take what a queue holds, and ack each message once it is dealt with.
//!
//! ```text
//! cargo run -p wharf-examples --bin publish
//! cargo run -p wharf-examples --bin consume
//! ```

use wharf_client::{Client, ConsumeOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    let options = ConsumeOptions { until_empty: true, ..Default::default() };
    let mut orders = client.consume("orders", options).await?;

    while let Some(delivery) = orders.next().await {
        println!("{} {}", delivery.message.topic, String::from_utf8_lossy(&delivery.message.payload));
        // Await the ack to know that the message never comes again.
        delivery.ack().await?;
    }
    Ok(())
}
