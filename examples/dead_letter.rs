//! Dead letters: try again a little later, give up after some attempts, and look at what was given up.
//!
//! ```text
//! wharf queue add mails && wharf bind mails mails
//! cargo run -p wharf-examples --bin dead_letter
//! ```

use std::time::Duration;

use wharf_client::{Client, ConsumeOptions, Message};

/// A queue has a bound of its own (20 unless told otherwise); this program gives up earlier.
const ATTEMPTS_MAX: u32 = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    for address in ["ann@example.com", "nowhere"] {
        client.publish(Message::new("mails".parse()?, address)).await?.await?;
    }

    let mut mails = client.consume("mails", ConsumeOptions::default()).await?;
    let mut settled = 0;
    while settled < 2 {
        let Some(mail) = mails.next().await else { break };
        let address = String::from_utf8_lossy(&mail.message.payload).into_owned();
        println!("attempt {}: {address}", mail.attempt);
        if address.contains('@') {
            mail.ack().await?;
        } else if mail.attempt < ATTEMPTS_MAX {
            mail.nack(Some(Duration::from_millis(20))).await?;
            continue;
        } else {
            mail.dead_letter(format!("{address:?} is no address")).await?;
        }
        settled += 1;
    }

    let options = ConsumeOptions { until_empty: true, ..Default::default() };
    let mut dead = client.consume("dead-letters", options).await?;
    while let Some(letter) = dead.next().await {
        if let Some(death) = &letter.death {
            println!("dead after {} attempts in {}: {}", death.attempts, death.queue, death.reason);
        }
        letter.ack().await?;
    }
    Ok(())
}
