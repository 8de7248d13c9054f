//! Publish: send without waiting for the one before, then wait for the confirms.
//!
//! ```text
//! wharf queue add orders && wharf bind 'orders.#' orders
//! cargo run -p wharf-examples --bin publish
//! ```

use wharf_client::{Client, HeadersBuilder, Message};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    let publisher = client.publisher().await?;

    let mut confirms = Vec::new();
    for number in 1..=10 {
        let mut order = Message::new("orders.eu".parse()?, format!("<order number=\"{number}\"/>"));
        order.headers = HeadersBuilder::default().set("content-type", "application/xml").build()?;
        order.message_id = Some(format!("order-{number}").into());
        confirms.push(publisher.publish(order).await?);
    }
    // An order that is sent twice, by mistake or for safety, is stored once: its message id is known.
    for confirm in confirms {
        println!("{:?}", confirm.await?);
    }
    Ok(())
}
