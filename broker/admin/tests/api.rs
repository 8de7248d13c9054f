//! What the admin API promises, over real HTTP to a real node.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharf_node::{Config, Identity, Node};

const ADMIN: &str = "admin-token";
const SHOP: &str = "shop-token";

/// A node with its API on a port of its own.
struct Api {
    address: SocketAddr,
    node: Node,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

impl Api {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(folder.path());
        config.plugin_bytes_max = 64 * 1024;
        config.segment_bytes = 1024 * 1024;
        let shop = Identity { admin: false, plugins: false, ..Identity::administrator("shop", sha256(SHOP)) };
        config.principals = vec![Identity::administrator("admin", sha256(ADMIN)), shop];
        change(&mut config);
        let node = Node::start(config).await.expect("the node starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(wharf_admin::serve(node.clone(), listener, async { drop(stopped.await) }));
        Self { address, node, stop, served, _folder: folder }
    }

    async fn end(self) {
        drop(self.stop);
        self.served.await.expect("it was not aborted").expect("it ends well");
        self.node.shutdown().await;
    }

    /// Status and JSON body, as the administrator.
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        let (status, text) = self.send(method, path, Some(ADMIN), body).await;
        let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        (status, json)
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> (u16, String) {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let (status, _, body) = self.exchange(method, path, &token.unwrap_or_default(), body).await;
        (status, body)
    }

    /// A change as the administrator, under a condition: the status, and the version that there is then.
    async fn patch_if(&self, path: &str, version: &str, change: Value) -> (u16, Option<String>) {
        let headers = format!("authorization: Bearer {ADMIN}\r\nif-match: {version}\r\n");
        let body = ("application/json", change.to_string().into_bytes());
        let (status, head, _) = self.exchange("PATCH", path, &headers, Some(body)).await;
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: "));
        (status, etag.map(ToOwned::to_owned))
    }

    /// Status, head and body of the answer to a request with these header lines.
    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> (u16, String, String) {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: wharf\r\nconnection: close\r\n{headers}");
        let (kind, body) = body.unwrap_or_default();
        if !kind.is_empty() {
            request += &format!("content-type: {kind}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", body.len());
        let address = self.address;
        let exchange = move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.write_all(request.as_bytes()).expect("sent");
            // A refused body may not be read to its end.
            let _ = stream.write_all(&body);
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("answered");
            answer
        };
        let answer = tokio::task::spawn_blocking(exchange).await.expect("no panic");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        assert!(!head.contains("transfer-encoding"), "the reader here is a simple one");
        (status, head.to_owned(), body.to_owned())
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text))
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_default()
}

/// A document's routes as (method, path with every parameter filled in).
fn documented() -> Vec<(String, String)> {
    let document = serde_json::to_value(wharf_admin::document()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").clone();
    let filled = |path: &str| path.replace("{name}", "n").replace("{version}", "1").replace("{id}", "1-0");
    let routes = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods").keys();
        methods.map(|method| (method.to_uppercase(), filled(path))).collect::<Vec<_>>()
    });
    routes.collect()
}

#[tokio::test]
async fn every_documented_route_is_there_and_only_health_is_open() {
    let api = Api::start().await;

    let routes = documented();
    assert!(routes.len() > 25, "{routes:?}");
    for (method, path) in routes {
        let open = path == "/healthz" || path == "/readyz";
        let (anonymous, _) = api.send(&method, &path, None, None).await;
        assert_eq!(anonymous, if open { 200 } else { 401 }, "{method} {path} without a token");
        let (status, body) = api.send(&method, &path, Some(ADMIN), None).await;
        assert!(status != 405 && !body.contains("there is no route"), "{method} {path}: {status} {body}");
        let (status, _) = api.send("TRACE", &path, Some(ADMIN), None).await;
        assert_eq!(status, 405, "TRACE {path}");
    }

    let (status, served) = api.call("GET", "/v1/openapi.json", None).await;
    assert_eq!((status, served), (200, serde_json::to_value(wharf_admin::document()).expect("JSON")));
    api.end().await;
}

#[tokio::test]
async fn a_token_that_is_nobodys_or_no_administrators_gets_nothing() {
    let api = Api::start().await;

    for (token, expected) in [(None, 401), (Some("wrong"), 401), (Some(""), 401), (Some(SHOP), 403)] {
        for path in ["/v1/queues", "/metrics", "/v1/openapi.json", "/v1/no-such-route"] {
            let (status, body) = api.send("GET", path, token, None).await;
            assert_eq!(status, expected, "{token:?} {path}: {body}");
            assert!(body.starts_with(r#"{"error":{"code":"#), "{body}");
        }
    }
    api.end().await;
}

#[tokio::test]
async fn a_queue_is_made_shown_bound_and_removed() {
    let api = Api::start().await;

    let policy = json!({"lease_ms": 5000, "durability": "os"});
    let (status, queue) = api.call("PUT", "/v1/queues/orders", Some(policy.clone())).await;
    assert_eq!((status, &queue["policy"]["lease_ms"], &queue["ready"]), (200, &json!(5000), &json!(0)));
    assert_eq!(queue["policy"]["max_attempts"], 20, "what is not given is the default");
    let (status, _) = api.call("PUT", "/v1/queues/orders", Some(policy)).await;
    assert_eq!(status, 200, "the same again changes nothing");
    let (status, body) = api.call("PUT", "/v1/queues/orders", None).await;
    assert_eq!((status, code(&body)), (409, "conflict"));

    let binding = json!({"pattern": "orders.#", "queue": "orders"});
    assert_eq!(api.call("POST", "/v1/bindings", Some(binding.clone())).await, (201, binding.clone()));
    assert_eq!(api.call("GET", "/v1/bindings", None).await, (200, json!([binding])));
    let (status, _) = api.call("DELETE", "/v1/bindings?pattern=orders.%23&queue=orders", None).await;
    assert_eq!(status, 204);
    let (status, body) = api.call("DELETE", "/v1/bindings?pattern=orders.%23&queue=orders", None).await;
    assert_eq!((status, code(&body)), (404, "not-found"));

    let (status, purged) = api.call("POST", "/v1/queues/orders/purge", None).await;
    assert_eq!((status, purged), (200, json!({"messages": 0})));
    assert_eq!(api.call("DELETE", "/v1/queues/orders", None).await.0, 204);
    let (status, body) = api.call("GET", "/v1/queues/orders", None).await;
    assert_eq!((status, code(&body)), (404, "not-found"));
    assert!(body["error"]["hint"].as_str().is_some_and(|hint| hint.contains("wharf queue ls")));
    api.end().await;
}

#[tokio::test]
async fn a_policy_is_changed_where_it_is_given() {
    let api = Api::start().await;
    api.call("PUT", "/v1/queues/orders", Some(json!({"lease_ms": 5000, "fair_by": "tenant"}))).await;

    let change = json!({"max_messages": 10, "overflow": "drop-oldest", "lease_ms": null});
    let (status, queue) = api.call("PATCH", "/v1/queues/orders", Some(change)).await;

    let policy = &queue["policy"];
    assert_eq!(
        (status, &policy["max_messages"], &policy["overflow"]),
        (200, &json!(10), &json!("drop-oldest"))
    );
    assert_eq!((&policy["lease_ms"], &policy["fair_by"]), (&json!(30_000), &json!("tenant")));
    let refused = [("orders", json!({"leaze_ms": 1}), 400), ("orders", json!({"max_attempts": 0}), 400)];
    for (queue, change, expected) in refused.into_iter().chain([("nowhere", json!({}), 404)]) {
        let (status, body) = api.call("PATCH", &format!("/v1/queues/{queue}"), Some(change)).await;
        assert_eq!(status, expected, "{body}");
    }
    api.end().await;
}

#[tokio::test]
async fn a_policy_that_somebody_else_changed_is_not_overwritten_by_who_names_its_version() {
    let api = Api::start().await;
    for path in ["/v1/queues/orders", "/v1/streams/events"] {
        api.call("PUT", path, None).await;
        let (status, first) = api.patch_if(path, "*", json!({"max_messages": 10})).await;
        let first = first.expect("a version");
        assert_eq!(status, 200);

        let (status, second) = api.patch_if(path, &first, json!({"max_messages": 20})).await;
        assert_eq!(status, 200);
        assert_ne!(second.as_ref(), Some(&first));
        let (status, _) = api.patch_if(path, &first, json!({"max_messages": 30})).await;
        assert_eq!(status, 412);
        let (_, kept) = api.call("GET", path, None).await;
        assert_eq!(kept["policy"]["max_messages"], 20);
        let (status, _) = api.patch_if(path, &second.expect("a version"), json!({"max_messages": 30})).await;
        assert_eq!(status, 200);
    }
    api.end().await;
}

#[tokio::test]
async fn a_streams_groups_give_up_as_its_policy_says() {
    let api = Api::start().await;
    let (_, stream) = api.call("PUT", "/v1/streams/events", None).await;
    assert_eq!(
        (&stream["policy"]["max_attempts"], &stream["policy"]["give_up"]),
        (&json!(20), &json!("dead-letter"))
    );
    let change = json!({"max_attempts": 0, "give_up": "skip"});
    let (status, stream) = api.call("PATCH", "/v1/streams/events", Some(change)).await;
    assert_eq!(
        (status, &stream["policy"]["max_attempts"], &stream["policy"]["give_up"]),
        (200, &json!(0), &json!("skip"))
    );
    api.end().await;
}

#[tokio::test]
async fn a_schedule_is_put_shown_and_removed() {
    let api = Api::start().await;

    let message = json!({"topic": "reports.daily", "payload": "go", "headers": {"kind": "daily"}});
    let spec = json!({"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin", "message": message});
    let (status, put) = api.call("PUT", "/v1/schedules/daily", Some(spec)).await;
    assert_eq!((status, &put["message"], &put["paused"]), (200, &message, &json!(false)));
    assert!(put["next"].as_str().is_some_and(|next| next.starts_with("20")), "{put}");
    assert_eq!(api.call("GET", "/v1/schedules", None).await, (200, json!([put])));

    let (_, paused) = api.call("POST", "/v1/schedules/daily/pause", None).await;
    assert_eq!((&paused["paused"], &paused["next"]), (&json!(true), &Value::Null));
    let wrong = json!({"cron": "0 9 * *", "message": message});
    let (status, body) = api.call("PUT", "/v1/schedules/wrong", Some(wrong)).await;
    assert_eq!((status, code(&body)), (400, "invalid"));
    assert_eq!(api.call("DELETE", "/v1/schedules/daily", None).await.0, 204);
    let (status, body) = api.call("GET", "/v1/schedules/daily", None).await;
    assert!(status == 404 && body["error"]["hint"].as_str().is_some_and(|hint| hint.contains("schedule ls")));
    api.end().await;
}

#[tokio::test]
async fn messages_are_moved_by_a_task_that_tells_its_end() {
    let api = Api::start().await;
    for queue in ["a", "b"] {
        api.call("PUT", &format!("/v1/queues/{queue}"), None).await;
    }

    let order = json!({"to": "b", "per_second": 1000});
    let (status, begun) = api.call("POST", "/v1/queues/a/move", Some(order)).await;
    assert_eq!((status, &begun["queue"], &begun["to"]), (202, &json!("a"), &json!("b")));
    let (status, ended) = api.call("GET", "/v1/queues/a/transfer?wait_ms=60000", None).await;
    assert_eq!((status, &ended["state"], &ended["moved"]), (200, &json!("done"), &json!(0)));
    assert_eq!(api.call("GET", "/v1/queues/a/messages?bodies=true", None).await, (200, json!({"items": []})));
    assert_eq!(api.call("GET", "/v1/queues/a/next", None).await, (200, json!([])));

    for (method, path, body, expected) in [
        ("POST", "/v1/queues/a/move", json!({"to": "a"}), 400),
        ("POST", "/v1/queues/a/move", json!({"to": "nowhere"}), 404),
        ("POST", "/v1/queues/a/move", json!({"to": "b", "per_second": 0}), 400),
        ("POST", "/v1/queues/a/move", json!({"to": "b", "ids": ["17"]}), 400),
        ("GET", "/v1/queues/a/messages?limit=0", Value::Null, 400),
        ("DELETE", "/v1/queues/b/transfer", Value::Null, 404),
    ] {
        let (status, told) = api.call(method, path, Some(body).filter(|body| !body.is_null())).await;
        assert_eq!(status, expected, "{method} {path}: {told}");
    }
    api.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_by_its_place() {
    let api = Api::start().await;

    let refused = |method, path, body: &'static str| {
        let body = Some(("application/json", body.as_bytes().to_vec()));
        let sent = api.send(method, path, Some(ADMIN), body);
        async move {
            let (status, text) = sent.await;
            let json: Value = serde_json::from_str(&text).expect("JSON");
            (status, json["error"]["message"].as_str().expect("a message").to_owned())
        }
    };
    let (status, message) = refused("PUT", "/v1/queues/q", "{\"lease_ms\": \"long\"}").await;
    assert_eq!(status, 400);
    assert!(message.contains("line 1 column"), "{message}");
    let (status, message) = refused("PUT", "/v1/queues/q", "{\"leaze_ms\": 1}").await;
    assert!(status == 400 && message.contains("leaze_ms"), "{message}");
    let (status, message) = refused("PUT", "/v1/queues/a%20b", "{}").await;
    assert!(status == 400 && message.contains("letters, digits"), "{message}");
    let (status, message) = refused("POST", "/v1/bindings", "{\"pattern\": \"a*\", \"queue\": \"q\"}").await;
    assert!(status == 400 && message.contains("wildcard"), "{message}");
    let (status, message) = refused("POST", "/v1/dead-letters/redrive", "{}").await;
    assert!(status == 400 && message.contains("all"), "{message}");
    let (status, message) = refused("POST", "/v1/dead-letters/discard", "{}").await;
    assert!(status == 400 && message.contains("all"), "{message}");
    let both = "{\"ids\": [\"1-0\"], \"filter\": {\"reason\": \"x\"}}";
    let (status, message) = refused("POST", "/v1/dead-letters/discard", both).await;
    assert!(status == 400 && message.contains("go with `all: true`"), "{message}");
    for path in ["/v1/dead-letters/redrive", "/v1/dead-letters/discard"] {
        let (status, body) = api.call("POST", path, Some(json!({"ids": vec!["1-0"; 1_001]}))).await;
        assert!(status == 413 && body.to_string().contains("at most 1000"), "{body}");
    }
    let (status, message) = refused("DELETE", "/v1/dead-letters/4711-0", "").await;
    assert!(status == 404 && message.contains("4711-0"), "{message}");
    let (status, message) = refused("GET", "/v1/dead-letters?limit=5000", "").await;
    assert!(status == 400 && message.contains("1 to 1000"), "{message}");
    let (status, message) = refused("GET", "/v1/dead-letters/17", "").await;
    assert!(status == 400 && message.contains("4711-0"), "{message}");
    let (status, message) = refused("PUT", "/v1/pipelines/p", "{\"name\": \"p\"}").await;
    assert!(status == 400 && message.contains("stage"), "{message}");
    let (status, _) =
        api.send("PUT", "/v1/queues/q", Some(ADMIN), Some(("text/xml", b"<q/>".to_vec()))).await;
    assert_eq!(status, 415);
    api.end().await;
}

#[tokio::test]
async fn what_is_no_plugin_or_too_large_is_refused_and_nothing_is_kept() {
    let api = Api::start().await;

    let upload =
        |bytes: Vec<u8>| api.send("PUT", "/v1/plugins/p/1", Some(ADMIN), Some(("application/wasm", bytes)));
    let (status, body) = upload(b"not a component".to_vec()).await;
    assert!(status == 400 && body.contains("component"), "{status} {body}");
    let (status, body) = upload(b"\0asm\x01\0\0\0".to_vec()).await;
    assert!(status == 400 && body.contains("component"), "{status} {body}");
    let (status, body) = upload(vec![0; 64 * 1024 + 1]).await;
    assert!(status == 413 && body.contains("too-large"), "{status} {body}");
    let (_, plugins) = api.call("GET", "/v1/plugins", None).await;
    assert_eq!(plugins, json!([]));
    api.end().await;
}

#[tokio::test]
async fn metrics_are_lines_that_prometheus_reads() {
    let api = Api::start().await;
    api.call("PUT", "/v1/queues/orders", None).await;

    let (status, text) = api.send("GET", "/metrics", Some(ADMIN), None).await;

    assert_eq!(status, 200);
    assert!(text.contains("wharf_queue_ready{queue=\"orders\"} 0\n"), "{text}");
    assert!(text.contains("wharf_log_fsync_seconds_bucket{le=\"+Inf\"} "), "{text}");
    let mut family = String::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            family = declared.split(' ').next().expect("a name").to_owned();
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        assert!(line.starts_with(&family), "{line:?} is not of {family}");
        let value = line.rsplit(' ').next().expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    api.end().await;
}

#[tokio::test]
async fn a_full_disk_is_told_to_load_balancers_scrapers_and_people() {
    let api = Api::start_with(|config| config.disk_free_bytes_min = u64::MAX).await;

    assert_eq!(api.send("GET", "/healthz", None, None).await.0, 200);
    let (status, reason) = api.send("GET", "/readyz", None, None).await;
    assert!(status == 503 && reason.contains("disk"), "{status} {reason:?}");
    let (_, metrics) = api.send("GET", "/metrics", Some(ADMIN), None).await;
    assert!(metrics.contains("\nwharf_alarm 1\n"), "{metrics}");
    let (status, shown) = api.call("GET", "/v1/status", None).await;
    assert!(status == 200 && shown["alarm"].as_str().is_some_and(|alarm| alarm.contains("disk")), "{shown}");
    api.end().await;
}

#[tokio::test]
async fn a_stopped_node_takes_no_changes() {
    let api = Api::start().await;

    api.node.shutdown().await;

    assert_eq!(api.send("GET", "/healthz", None, None).await.0, 200);
    let (status, body) = api.call("PUT", "/v1/queues/late", None).await;
    assert_eq!((status, code(&body)), (503, "unavailable"));
    api.end().await;
}

#[tokio::test]
async fn who_may_not_is_noted_too_and_changes_nothing() {
    let api = Api::start().await;
    let (status, _) = api.send("PUT", "/v1/queues/orders", Some(SHOP), None).await;
    assert_eq!(status, 403);
    let (status, _) = api.send("GET", "/v1/queues", Some(SHOP), None).await;
    assert_eq!(status, 403);

    let (_, page) = api.call("GET", "/v1/audit", None).await;
    let lines = page["items"].as_array().expect("a list");
    assert_eq!(lines.len(), 1, "who only looks is not noted: {lines:?}");
    let line = &lines[0];
    assert_eq!(
        (&line["who"], &line["target"], &line["status"]),
        (&json!("shop"), &json!("/v1/queues/orders"), &json!(403))
    );
    assert_eq!(api.call("GET", "/v1/queues/orders", None).await.0, 404);
    api.end().await;
}

#[tokio::test]
async fn every_change_is_noted_with_who_what_and_its_outcome_and_no_secret_is() {
    let api = Api::start().await;
    api.call("PUT", "/v1/queues/orders", Some(json!({"lease_ms": 5000}))).await;
    api.call("PUT", "/v1/queues/orders", Some(json!({"lease_ms": 1}))).await;
    api.call("GET", "/v1/queues", None).await;
    api.call("POST", "/v1/dead-letters/search", Some(json!({}))).await;
    api.call("PUT", "/v1/secrets/key", Some(json!({"value": "hunter2"}))).await;
    api.call("DELETE", "/v1/queues/nowhere?force=1", None).await;

    let (status, page) = api.call("GET", "/v1/audit", None).await;
    assert_eq!(status, 200);
    let lines = page["items"].as_array().expect("a list");
    let brief: Vec<_> = lines.iter().map(|line| (line["target"].as_str(), line["status"].as_u64())).collect();
    assert_eq!(brief[0], (Some("/v1/queues/nowhere?force=1"), Some(404)));
    assert_eq!(brief[2..], [(Some("/v1/queues/orders"), Some(409)), (Some("/v1/queues/orders"), Some(200))]);
    let made = &lines[3];
    assert_eq!((&made["who"], &made["method"]), (&json!("admin"), &json!("PUT")));
    assert!(made["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{made}");
    assert_eq!(made["body_sha256"], sha256("{\"lease_ms\":5000}"), "by which the body can be known again");
    assert!(lines[1]["body_sha256"].is_null(), "a secret could be guessed by its digest: {}", lines[1]);

    let (_, report) = api.call("GET", "/v1/audit/verify", None).await;
    assert_eq!((&report["problem"], &report["entries"]), (&Value::Null, &json!(9)));
    let folder = api.node.config().data.join("audit");
    let file = std::fs::read_dir(&folder).expect("read").next().expect("one").expect("read").path();
    let text = std::fs::read_to_string(&file).expect("read");
    assert!(!text.contains("hunter2") && !text.contains(ADMIN), "{text}");
    std::fs::write(&file, text.replace("\"status\":409", "\"status\":200")).expect("written");
    let (_, report) = api.call("GET", "/v1/audit/verify", None).await;
    assert!(report["problem"].as_str().is_some_and(|problem| problem.starts_with("entry 5 ")), "{report}");
    api.end().await;
}

#[tokio::test]
async fn nothing_is_changed_when_the_change_cannot_be_noted() {
    let api = Api::start().await;
    let folder = api.node.config().data.join("audit");
    std::fs::remove_dir_all(&folder).expect("removed");
    std::fs::write(&folder, "no folder").expect("written");

    let (status, body) = api.call("PUT", "/v1/queues/orders", Some(json!({}))).await;
    assert_eq!((status, code(&body)), (503, "unavailable"));
    assert!(body["error"]["message"].as_str().is_some_and(|told| told.contains("audit")), "{body}");
    assert_eq!(api.call("GET", "/v1/queues/orders", None).await.0, 404);
    api.end().await;
}
