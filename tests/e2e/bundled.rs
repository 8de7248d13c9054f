//! The plugins that come with Wharf.

use wharf_node::KnownPlugin;

use crate::broker::{TestBroker, me, name};

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
