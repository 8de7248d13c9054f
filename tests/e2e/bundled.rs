//! The plugins that come with Wharf.

use wharf_node::{KnownPlugin, LentFormat, LentKind};
use wharf_protocol::{Delivery, ErrorCode, Receipt};

use crate::broker::{TestBroker, me, message, name};

/// A broker that has these of them.
async fn broker_with(plugins: &[&str]) -> TestBroker {
    let broker = TestBroker::start().await;
    for plugin in plugins {
        let found = wharf_bundle::find(plugin).expect("it comes with Wharf");
        let put = broker.node.put_plugin(&me(), name(plugin), name(found.version), found.wasm.into()).await;
        put.expect("it is sound");
    }
    broker
}

#[tokio::test]
async fn programs_conditions_and_templates_follow_one_another() {
    let broker = broker_with(&["jq", "cel", "template"]).await;
    broker.queue("small", "in", None).await;
    broker.queue("large", "nothing-comes-here", None).await;
    let spec = r#"
        ingress = "in"
        [[stage]]
        plugin = "jq"
        config = { program = ".lines[] | {sku, cents: (.qty * .cents)}" }
        [[stage]]
        plugin = "cel"
        outputs = { large = "queue:large" }
        [stage.config]
        rules = [
            { when = "payload.cents > 1000", then = { to = ["large"] } },
            { when = "payload.cents == 0", then = "drop" },
        ]
        [[stage]]
        plugin = "template"
        config = { template = "{{ payload.sku }}: {{ payload.cents }}" }
    "#;
    broker.apply("texts", spec).await;

    let order = r#"{"lines":[{"sku":"A","qty":2,"cents":3},{"sku":"B","qty":0,"cents":1},{"sku":"C","qty":2,"cents":900}]}"#;
    let receipt = broker.publish(message("in", order, &[])).await;
    assert!(matches!(receipt, Receipt::Stored(_)), "{receipt:?}");
    let texts = |deliveries: Vec<Delivery>| {
        let text = |delivery: Delivery| String::from_utf8_lossy(&delivery.message.payload).into_owned();
        deliveries.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(texts(broker.take("small").await), ["A: 6"]);
    assert_eq!(texts(broker.take("large").await), ["C: 1800"]);
}

#[tokio::test]
async fn what_a_configuration_names_is_to_be_granted_and_is_used_as_it_changes() {
    let broker = broker_with(&["avro-to-json", "enrich"]).await;
    broker.queue("q", "in", None).await;
    let spec = |grants: &str| {
        format!(
            "name = \"p\"\ningress = \"in\"\n[[stage]]\nplugin = \"avro-to-json\"\n{grants}\nconfig = {{ schema-name = \"order\" }}\n\
             [[stage]]\nplugin = \"enrich\"\nconfig = {{ key = {{ json = \"/id\" }}, table = {{}} }}\n"
        )
    };
    let put = async |kind: &str| {
        let schema =
            format!(r#"{{"type": "record", "name": "O", "fields": [{{"name": "id", "type": "{kind}"}}]}}"#);
        let (schema, name) = (schema.into(), name("order"));
        let put = broker.node.put_lent(&me(), LentKind::Schema, name, LentFormat::Json, schema).await;
        put.expect("it is put");
    };
    put("int").await;
    let refused = broker.node.apply_pipeline(&me(), name("p"), &spec(""), None).await;
    let refused = refused.expect_err("it does not grant what it names").to_string();
    assert!(refused.contains("its configuration names schema:order; add \"schema:order\""), "{refused}");
    let granted = spec("grants = [\"config\", \"schema:order\"]");
    broker.node.apply_pipeline(&me(), name("p"), &granted, None).await.expect("it is granted");

    let becomes = async |avro: &str, json: &str| {
        let receipt = broker.publish(message("in", avro, &[])).await;
        assert!(matches!(receipt, Receipt::Stored(_)), "{receipt:?}");
        let taken = broker.take("q").await;
        assert_eq!(String::from_utf8_lossy(&taken[0].message.payload), json);
    };
    becomes("\x02", r#"{"id":1}"#).await;
    put("boolean").await;
    becomes("\x01", r#"{"id":true}"#).await;
    put("{").await;
    let receipt = broker.publish(message("in", "\x01", &[])).await;
    let Receipt::Rejected(told) = receipt else { panic!("it is no schema: {receipt:?}") };
    assert_eq!(told.code, ErrorCode::StageFailed, "the message is to be tried again");
    assert!(told.reason.contains("schema `order` cannot be used"), "{}", told.reason);
}

#[tokio::test]
async fn what_comes_with_wharf_is_what_its_list_says() {
    let broker = TestBroker::start().await;
    for plugin in wharf_bundle::BUNDLED {
        let known = KnownPlugin {
            name: name(plugin.name),
            version: name(plugin.version),
            kinds: vec![plugin.kind.to_owned()],
            summary: plugin.summary.to_owned(),
            wasm: plugin.wasm.into(),
        };
        broker.node.register_plugin(known).await.expect("registered");

        // An upload reads the component itself.
        let loaded =
            broker.node.put_plugin(&me(), name(plugin.name), name("loaded"), plugin.wasm.into()).await;
        let loaded = loaded.expect("it is sound");
        let listed =
            broker.node.plugin(&me(), &name(plugin.name), Some(plugin.version)).await.expect("it is there");
        assert_eq!((&listed.kinds, &listed.summary), (&loaded.kinds, &loaded.summary), "{}", plugin.name);
        assert!(listed.config_schema.is_some(), "{} describes its configuration", plugin.name);
    }
}
