//! Request and reply: ask a service that lives behind a queue, and wait for its answer.
//!
//! ```text
//! wharf queue add prices && wharf bind prices prices
//! cargo run -p wharf-examples --bin request_reply
//! ```

use std::time::Duration;

use wharf_client::{Client, ConsumeOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    let service = tokio::spawn(serve(Client::from_context().await?));

    for article in ["apple", "pear"] {
        let answer = client.request("prices", article, Duration::from_secs(5)).await?;
        println!("{article}: {}", String::from_utf8_lossy(&answer.payload));
    }
    service.abort();
    Ok(())
}

/// Answers requests for prices.
async fn serve(client: Client) -> anyhow::Result<()> {
    let mut requests = client.consume("prices", ConsumeOptions::default()).await?;
    while let Some(request) = requests.next().await {
        let price = 10 * request.message.payload.len();
        // The answer is safe before the request is gone: should this service die between, it is asked again.
        request.reply(format!("{price} cents")).await?.await?;
        request.ack().await?;
    }
    Ok(())
}
