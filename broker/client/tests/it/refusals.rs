use std::time::Duration;

use wharf_client::{
    Client, ConnectError, ConnectOptions, ConsumeError, ConsumeOptions, ErrorCode, PublishError, Trust,
};

use crate::broker::TestBroker;
use crate::publish::order;

#[tokio::test]
async fn a_wrong_or_missing_token_is_refused_with_the_reason() {
    let broker = TestBroker::start().await;
    let trust = Trust::Pinned(broker.fingerprint());

    let error = Client::connect(broker.options().token("wrong")).await.expect_err("refused");
    let ConnectError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.code, ErrorCode::Unauthenticated);

    let address = format!("{:?}", broker.options());
    let address = address.split('"').nth(1).expect("the address is shown").to_owned();
    let error = Client::connect(ConnectOptions::new(address).trust(trust)).await.expect_err("refused");
    let ConnectError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.reason, "neither a token nor a certificate was given");
}

#[tokio::test]
async fn a_broker_with_another_certificate_is_not_trusted() {
    let broker = TestBroker::start().await;
    let other = Trust::Pinned("00".repeat(32));
    let error = Client::connect(broker.options().trust(other)).await.expect_err("refused");
    assert!(matches!(error, ConnectError::Failed { .. }), "{error}");
    Client::connect(broker.options().trust(Trust::Pinned(broker.fingerprint()))).await.expect("pinned");
}

#[tokio::test]
async fn nobody_there_is_said_within_the_timeout() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address").to_string();
    let options = ConnectOptions::new(address).trust(Trust::Pinned("00".repeat(32)));
    let error = Client::connect(options.timeout(Duration::from_millis(300))).await.expect_err("nobody");
    assert!(error.to_string().contains("is the broker running?"), "{error}");
}

#[tokio::test]
async fn an_unknown_queue_is_refused_and_the_connection_goes_on() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;

    let error = client.consume("nothing", ConsumeOptions::default()).await.expect_err("unknown");

    let ConsumeError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.code, ErrorCode::NotFound);
    assert!(refusal.reason.contains("nothing"));
    client.publish(order("x")).await.expect("sent").await.expect("stored");
}

#[tokio::test]
async fn what_is_not_granted_is_refused() {
    let broker = TestBroker::start().await;
    let client = Client::connect(broker.options().token("reader")).await.expect("a reader");

    let error = client.publish(order("x")).await.expect("sent").await.expect_err("not granted");
    let PublishError::Rejected(rejection) = error else { panic!("{error}") };
    assert_eq!(rejection.code, ErrorCode::Forbidden);

    let error = client.consume("dead-letters", ConsumeOptions::default()).await.expect_err("not granted");
    let ConsumeError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    client.consume("orders", ConsumeOptions::default()).await.expect("granted");
}
