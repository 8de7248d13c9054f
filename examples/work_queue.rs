//! A work queue: several workers share one queue, each takes the next task when it has settled the last.
//!
//! ```text
//! wharf queue add tasks && wharf bind tasks tasks
//! cargo run -p wharf-examples --bin work_queue
//! ```

use tokio::task::JoinSet;
use wharf_client::{Client, ConsumeOptions, Message};

const TASKS: usize = 12;
const WORKERS: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_context().await?;
    for number in 1..=TASKS {
        client.publish(Message::new("tasks".parse()?, format!("task {number}"))).await?.await?;
    }

    let mut workers = JoinSet::new();
    for worker in 1..=WORKERS {
        workers.spawn(work(client.clone(), worker));
    }
    let done = workers.join_all().await.into_iter().sum::<anyhow::Result<usize>>()?;
    println!("{done} tasks done");
    Ok(())
}

/// Works until the queue is empty; returns how many tasks that were.
async fn work(client: Client, worker: usize) -> anyhow::Result<usize> {
    // One task at a time: a slow worker holds no task that another could do.
    let options = ConsumeOptions { prefetch: 1, until_empty: true, ..Default::default() };
    let mut tasks = client.consume("tasks", options).await?;
    let mut done = 0;
    while let Some(task) = tasks.next().await {
        println!("worker {worker}: {}", String::from_utf8_lossy(&task.message.payload));
        task.ack().await?;
        done += 1;
    }
    Ok(done)
}
