use std::time::Duration;

use wharf_client::{ConsumeOptions, RequestError};

use crate::broker::TestBroker;

#[tokio::test]
async fn a_request_gets_the_answer_to_it() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut service =
        broker.connect().await.consume("orders", ConsumeOptions::default()).await.expect("a consumer");
    let serve = tokio::spawn(async move {
        while let Some(request) = service.next().await {
            let answer = format!("re: {}", String::from_utf8_lossy(&request.message.payload));
            request.reply(answer).await.expect("sent");
            request.ack();
        }
    });

    let patience = Duration::from_secs(10);
    let (one, two) = tokio::join!(
        client.request("orders.price", "one", patience),
        client.request("orders.price", "two", patience),
    );

    assert_eq!(one.expect("an answer").payload, "re: one");
    assert_eq!(two.expect("an answer").payload, "re: two");
    serve.abort();
}

#[tokio::test]
async fn a_request_that_nobody_answers_ends_in_time() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let _silent = client.consume("orders", ConsumeOptions::default()).await.expect("a consumer");
    let error = client.request("orders.price", "?", Duration::from_millis(100)).await.expect_err("silence");
    assert!(matches!(error, RequestError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_request_is_told_at_once_that_nobody_listens() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    // Much longer than the test may take: the answer does not wait for it.
    let patience = Duration::from_secs(3_600);

    let unbound = client.request("nobody.home", "?", patience).await.expect_err("nothing is bound");
    assert!(matches!(&unbound, RequestError::NoListener(reason) if reason.contains("bound")), "{unbound}");
    let idle = client.request("orders.price", "?", patience).await.expect_err("no consumer");
    assert!(matches!(&idle, RequestError::NoListener(reason) if reason.contains("consumer")), "{idle}");
    assert_eq!(broker.depth("orders").await, 0, "it is stored nowhere");

    let mut tap = client.tap("nobody.*").await.expect("a tap");
    let answering = client.clone();
    tokio::spawn(async move {
        let request = tap.next().await.expect("the request");
        answering.reply(&request, "me").await.expect("sent");
    });
    let answer = client.request("nobody.home", "?", patience).await.expect("a live subscription answers");
    assert_eq!(answer.payload, "me");
}
