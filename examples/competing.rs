//! Workers that share a queue and take their time: leases that are renewed, another try, and dead letters.
//!
//! ```text
//! wharf queue add images --lease 2s --max-attempts 3 --retry fixed:50ms && wharf bind images images
//! cargo run -p wharf-examples --bin competing
//! ```

use std::time::Duration;

use tokio::task::JoinSet;
use wharf_client::{Client, ConsumeOptions, Delivery, Message};

const IMAGES: [&str; 6] = ["cat.png", "dog.png", "notes.txt", "owl.png", "torn.png", "fox.png"];
const WORKERS: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    for image in IMAGES {
        client.publish(Message::new("images".parse()?, image)).await?.await?;
    }

    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(client.clone()));
    }
    let mut dead =
        client.consume("dead-letters", ConsumeOptions { limit: Some(2), ..Default::default() }).await?;
    while let Some(letter) = dead.next().await {
        if let Some(death) = &letter.death {
            let image = String::from_utf8_lossy(&letter.message.payload);
            println!("given up after {} attempts: {image}: {}", death.attempts, death.reason);
        }
        letter.ack().await?;
    }
    workers.shutdown().await;
    Ok(())
}

/// Takes one image at a time; while it works on it, its lease is renewed.
async fn work(client: Client) -> anyhow::Result<()> {
    let options = ConsumeOptions { prefetch: 1, renew: true, ..Default::default() };
    let mut images = client.consume("images", options).await?;
    while let Some(image) = images.next().await {
        match shrink(&image).await {
            Ok(()) => image.ack().await?,
            Err(Failure::NeverWill(reason)) => image.dead_letter(reason).await?,
            // Another try, when the queue's policy says; after its last the broker gives up.
            Err(Failure::MayWork) => image.nack(None).await?,
        }
    }
    Ok(())
}

enum Failure {
    NeverWill(&'static str),
    MayWork,
}

async fn shrink(image: &Delivery) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    match image.message.payload.as_ref() {
        b"notes.txt" => Err(Failure::NeverWill("not an image")),
        b"torn.png" => Err(Failure::MayWork),
        name => {
            println!("shrunk {}", String::from_utf8_lossy(name));
            Ok(())
        }
    }
}
