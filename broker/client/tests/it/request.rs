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
    let error = client.request("nobody.home", "?", Duration::from_millis(100)).await.expect_err("nobody");
    assert!(matches!(error, RequestError::Timeout(_)), "{error}");
}
