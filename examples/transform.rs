//! Consume, transform, produce, exactly once: each order becomes an invoice, and is done in the same instant.
//!
//! ```text
//! wharf queue add orders && wharf bind 'orders.#' orders
//! wharf queue add invoices && wharf bind 'invoices.#' invoices
//! cargo run -p wharf-examples --bin publish
//! cargo run -p wharf-examples --bin transform
//! ```
//!
//! Whenever this program, its connection or the broker dies: no order is lost, and none is invoiced twice.

use wharf_client::{Client, ConsumeOptions, Message};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    let options = ConsumeOptions { until_empty: true, ..ConsumeOptions::default() };
    let mut orders = client.consume("orders", options).await?;
    let mut invoiced = 0;
    while let Some(order) = orders.next().await {
        let text = String::from_utf8_lossy(&order.message.payload);
        let invoice = Message::new("invoices.new".parse()?, format!("<invoice>{text}</invoice>"));

        let mut transaction = client.transaction();
        transaction.ack(&order);
        transaction.publish(invoice);
        transaction.commit().await?;
        invoiced += 1;
    }
    println!("{invoiced} orders invoiced");
    client.close().await;
    Ok(())
}
