//! What a collector gets, by a small one that reads the real requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use wharf_node::{Binding, Config as NodeConfig, Node, Principal, TRACE};
use wharf_otlp::{Config, Counts, Exporter, StartError};
use wharf_protocol::{HeadersBuilder, Message};

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that answers its requests with these statuses, then 200; and the bodies of what it got.
fn collector(statuses: &'static [u16]) -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (got, bodies) = channel();
    std::thread::spawn(move || {
        let mut statuses = statuses.iter();
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let mut reader = BufReader::new(connection.try_clone().expect("cloned"));
            loop {
                let mut head = String::new();
                while reader.read_line(&mut head).expect("read") > 2 {}
                if head.is_empty() {
                    break;
                }
                let head = head.to_ascii_lowercase();
                assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
                assert!(head.contains("content-type: application/json"), "{head}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.expect("a length").trim().parse().expect("a number")];
                reader.read_exact(&mut body).expect("read");
                let status = statuses.next().copied().unwrap_or(200);
                let answer =
                    format!("HTTP/1.1 {status} X\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{{}}");
                connection.write_all(answer.as_bytes()).expect("written");
                if got.send(serde_json::from_slice(&body).expect("JSON")).is_err() {
                    return;
                }
            }
        }
    });
    (address, bodies)
}

async fn node() -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(NodeConfig::new(folder.path())).await.expect("it starts");
    let me = Principal::system();
    node.create_queue(&me, "q".parse().expect("a name"), Default::default()).await.expect("created");
    let queue = "q".parse().expect("a name");
    let binding = Binding { pattern: "orders.#".parse().expect("a pattern"), queue, pipeline: None };
    node.bind(&me, binding).await.expect("bound");
    (node, folder)
}

async fn publish(node: &Node, topic: &str, headers: &[(&str, &str)]) {
    let mut builder = HeadersBuilder::default();
    builder.set(TRACE, "1");
    for (name, value) in headers {
        builder.set(name, value);
    }
    let mut message = Message::new(topic.parse().expect("a topic"), "an order");
    message.headers = builder.build().expect("small");
    node.publish(&Principal::system(), vec![message.into()]).await.await;
}

fn config(address: SocketAddr) -> Config {
    Config { pause: Duration::ZERO, ..Config::new(format!("http://{address}")) }
}

fn spans(request: &Value) -> &Vec<Value> {
    request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans")
}

/// The value of an attribute, whatever its type.
fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().expect("attributes");
    let found = attributes.iter().find(|attribute| attribute["key"] == key).expect(key);
    found["value"].as_object().expect("a value").values().next().expect("one")
}

#[tokio::test]
async fn a_publish_is_a_span_that_goes_on_from_its_publishers() {
    let (address, got) = collector(&[]);
    let (node, _folder) = node().await;
    let exporter = Exporter::start(&node, config(address)).expect("it starts");
    let parent = format!("00-{ID}-00f067aa0ba902b7-01");
    publish(&node, "orders.eu", &[("traceparent", &parent), ("tracestate", "rojo=1")]).await;

    let request =
        tokio::task::spawn_blocking(move || got.recv().expect("a request")).await.expect("no panic");
    let service = &request["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(
        (&service["key"], &service["value"]["stringValue"]),
        (&"service.name".into(), &"wharf".into())
    );
    let [span] = &spans(&request)[..] else { panic!("one span: {request}") };
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&ID.into(), &"00f067aa0ba902b7".into()));
    assert_eq!(
        (&span["traceState"], &span["name"], &span["kind"]),
        (&"rojo=1".into(), &"send orders.eu".into(), &2.into())
    );
    assert_eq!(span["spanId"].as_str().map(str::len), Some(16));
    assert_eq!(attribute(span, "messaging.destination.name"), "orders.eu");
    assert_eq!(attribute(span, "messaging.message.body.size"), "8");
    assert_eq!(attribute(span, "wharf.verdict"), "stored");
    let nano = |key: &str| span[key].as_str().expect("a string").parse::<u64>().expect("a number");
    assert!(nano("startTimeUnixNano") <= nano("endTimeUnixNano"));
    node.shutdown().await;
    assert_eq!(exporter.stop().await, Counts { exported: 1, lost: 0 });
}

#[tokio::test]
async fn a_collector_that_is_busy_gets_the_same_again_and_one_that_refuses_does_not() {
    let (address, got) = collector(&[503, 429, 200, 400]);
    let (node, _folder) = node().await;
    let exporter = Exporter::start(&node, config(address)).expect("it starts");
    publish(&node, "orders.eu", &[]).await;
    let next =
        |got: Receiver<Value>| tokio::task::spawn_blocking(move || (got.recv().expect("a request"), got));
    let (first, got) = next(got).await.expect("no panic");
    let (second, got) = next(got).await.expect("no panic");
    let (third, got) = next(got).await.expect("no panic");
    assert_eq!((&first, &second), (&third, &third));

    publish(&node, "orders.us", &[]).await;
    let (refused, _got) = next(got).await.expect("no panic");
    assert_eq!(spans(&refused)[0]["name"], "send orders.us");
    node.shutdown().await;
    assert_eq!(exporter.stop().await, Counts { exported: 1, lost: 1 });
}

#[tokio::test]
async fn a_collector_that_is_away_costs_traces_and_no_message() {
    let (node, _folder) = node().await;
    // Nobody listens there: the port was given back.
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let exporter = Exporter::start(&node, config(address)).expect("it starts");
    for _ in 0..3 {
        publish(&node, "orders.eu", &[]).await;
    }
    assert_eq!(
        node.queue(&Principal::system(), &"q".parse().expect("a name")).await.expect("there").ready,
        3
    );
    node.shutdown().await;
    assert_eq!(exporter.stop().await, Counts { exported: 0, lost: 3 });
}

#[tokio::test]
async fn an_address_that_is_no_collectors_is_refused_with_what_one_is() {
    let (node, _folder) = node().await;
    for wrong in ["", "collector:4318", "https://collector", "http://"] {
        let error = Exporter::start(&node, Config::new(wrong)).expect_err("refused");
        assert!(
            matches!(error, StartError::Endpoint(_)) && error.to_string().contains("http://127.0.0.1:4318")
        );
    }
}
