//! How plugins come in, who vouches for them, and how they go.

use std::fs;
use std::path::Path;

use wharf_node::signature::{Signer, SigningKey, Trust};
use wharf_node::{Config, Identity, Node, NodeError, PluginView, Principal, Upload};

use wharf_protocol::Receipt;

use crate::broker::{me, name};

const STRAY: &str = "0000000000000000000000000000000000000000000000000000000000000001";

fn guest() -> Vec<u8> {
    fs::read(wharf_test_artifacts::GUEST).expect("it was compiled")
}

fn zoo() -> Vec<u8> {
    fs::read(wharf_test_artifacts::ZOO).expect("it was compiled")
}

/// Somebody who is not the broker itself.
fn deployer() -> Identity {
    Identity { name: "deployer".to_owned(), ..Identity::administrator("deployer", hex_of("token")) }
}

fn hex_of(token: &str) -> String {
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(token))
}

async fn start(folder: &Path, trust: Trust) -> (Node, Principal) {
    let node = Node::start(Config { principals: vec![deployer()], trust, ..Config::new(folder) }).await;
    let node = node.expect("it starts");
    let credentials = wharf_node::Credentials { token: Some("token"), certificate: None };
    let deployer = node.authenticate(credentials).expect("known");
    (node, deployer)
}

fn upload(version: &str, wasm: &[u8], key: Option<&SigningKey>) -> Upload {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(wasm).into();
    Upload {
        name: name("p"),
        version: name(version),
        wasm: wasm.to_vec().into(),
        signature: key.map(|key| key.sign(&digest)),
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("plugins")).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_version_never_changes_and_the_same_bytes_are_fine() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, who) = start(folder.path(), Trust::default()).await;
    let first = node.upload_plugin(&who, upload("1", &guest(), None)).await.expect("taken");
    assert!(first.uses.as_ref().is_some_and(|uses| uses.contains(&"clock".to_owned())), "{:?}", first.uses);
    let again = node.upload_plugin(&who, upload("1", &guest(), None)).await.expect("the same");
    assert_eq!(again.digest, first.digest);

    let refused = node.upload_plugin(&who, upload("1", &zoo(), None)).await.expect_err("other bytes");
    let NodeError::Conflict(reason) = refused else { panic!("{refused}") };
    let other = node.upload_plugin(&who, upload("2", &zoo(), None)).await.expect("another version").digest;
    assert!(reason.contains(&first.digest) && reason.contains(&other), "both digests: {reason}");
    node.shutdown().await;
}

#[tokio::test]
async fn what_comes_with_the_broker_is_replaced_by_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, deployer) = start(folder.path(), Trust::default()).await;
    let ours = node.put_plugin(&Principal::system(), name("p"), name("1"), guest().into()).await;
    ours.expect("it is the broker's own");
    for version in ["1", "2"] {
        let refused = node.upload_plugin(&deployer, upload(version, &zoo(), None)).await;
        assert!(
            matches!(&refused, Err(NodeError::Conflict(why)) if why.contains("comes with Wharf")),
            "{refused:?}"
        );
    }
    let refused = node.remove_plugin(&deployer, &name("p"), &name("1")).await;
    assert!(matches!(refused, Err(NodeError::Conflict(_))), "{refused:?}");
}

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_taken_where_that_is_required() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mine, _) = SigningKey::generate().expect("random numbers");
    let (theirs, _) = SigningKey::generate().expect("random numbers");
    let trust = Trust { keys: [("release".to_owned(), mine.public())].into(), required: true };
    let (node, who) = start(folder.path(), trust.clone()).await;

    let refused = |upload| async { node.upload_plugin(&who, upload).await.expect_err("refused").to_string() };
    assert!(refused(upload("1", &guest(), None)).await.contains("require-signed"));
    let stranger = refused(upload("1", &guest(), Some(&theirs))).await;
    assert!(stranger.contains(&theirs.public().to_string()) && stranger.contains("release"), "{stranger}");
    let mut other_bytes = upload("1", &guest(), Some(&mine));
    other_bytes.wasm = zoo().into();
    assert!(refused(other_bytes).await.contains("not of this component"));
    assert!(files(folder.path()).is_empty(), "nothing was stored");

    let taken = node.upload_plugin(&who, upload("1", &guest(), Some(&mine))).await.expect("signed");
    assert_eq!(taken.signer, Signer::Trusted { name: "release".to_owned(), key: mine.public() });
    node.shutdown().await;

    let (node, who) = start(folder.path(), trust).await;
    let known = node.plugin(&who, &name("p"), Some("1")).await.expect("there");
    assert_eq!(known.signer, taken.signer, "who signed it is known after a restart");
    node.shutdown().await;
}

#[tokio::test]
async fn a_plugin_from_before_signatures_were_required_gets_into_no_new_pipeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, who) = start(folder.path(), Trust::default()).await;
    node.upload_plugin(&who, upload("1", &guest(), None)).await.expect("taken");
    node.shutdown().await;

    let (mine, _) = SigningKey::generate().expect("random numbers");
    let trust = Trust { keys: [("release".to_owned(), mine.public())].into(), required: true };
    let (node, who) = start(folder.path(), trust).await;
    let spec = "name = \"x\"\n[[stage]]\nplugin = \"p\"\nkind = \"validator\"\n";
    let refused = node.apply_pipeline(&who, name("x"), spec, None).await.expect_err("refused").to_string();
    assert!(refused.contains("p@1") && refused.contains("nobody"), "{refused}");
    // The signature alone can be brought later.
    node.upload_plugin(&who, upload("1", &guest(), Some(&mine))).await.expect("the same bytes, signed");
    node.apply_pipeline(&who, name("x"), spec, None).await.expect("applied");
    // What comes with the broker needs none.
    node.put_plugin(&me(), name("own"), name("1"), zoo().into()).await.expect("the broker's own");
    let spec = spec.replace("\"p\"", "\"own\"").replace("\"x\"", "\"y\"");
    node.apply_pipeline(&who, name("y"), &spec, None).await.expect("applied");
    node.shutdown().await;
}

#[tokio::test]
async fn a_component_over_the_limit_is_refused_before_it_is_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let limited = |bytes| Config { plugin_bytes_max: bytes, ..Config::new(folder.path()) };
    let node = Node::start(limited(guest().len() - 1)).await.expect("it starts");
    let refused = node.upload_plugin(&me(), upload("1", &guest(), None)).await.expect_err("too large");
    assert!(
        matches!(&refused, NodeError::TooLarge(reason) if reason.contains("over the limit")),
        "{refused}"
    );
    assert!(files(folder.path()).is_empty(), "nothing was stored");
    node.shutdown().await;
}

#[tokio::test]
async fn a_pipeline_in_use_stops_when_its_plugin_has_to_be_signed_and_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, who) = start(folder.path(), Trust::default()).await;
    node.upload_plugin(&who, upload("1", &guest(), None)).await.expect("taken");
    node.put_plugin(&me(), name("own"), name("1"), zoo().into()).await.expect("the broker's own");
    let stage = |plugin| {
        format!("name = \"x\"\ningress = \"in\"\n[[stage]]\nplugin = \"{plugin}\"\nkind = \"validator\"\n")
    };
    for plugin in ["p@1", "own@1", "p@1"] {
        node.apply_pipeline(&who, name("x"), &stage(plugin), None).await.expect("applied");
    }
    node.shutdown().await;

    let (mine, _) = SigningKey::generate().expect("random numbers");
    let trust = Trust { keys: [("release".to_owned(), mine.public())].into(), required: true };
    let (node, who) = start(folder.path(), trust).await;
    let told = "require-signed";
    let broken = node.pipeline(&who, &name("x")).await.expect("there").broken;
    assert!(broken.is_some_and(|reason| reason.contains(told)), "it does not run");
    let sent = async || {
        let message = wharf_protocol::Message::new("in".parse().expect("a topic"), "x");
        node.publish(&me(), vec![message.into()]).await.await.remove(0)
    };
    let Receipt::Rejected(rejection) = sent().await else { panic!("nothing passes unprocessed") };
    assert!(rejection.reason.contains(told), "{}", rejection.reason);

    // Version 2 is of the broker's own; to neither of the others is there a way back.
    node.rollback_pipeline(&who, &name("x"), None, None).await.expect("version 2");
    assert!(matches!(sent().await, Receipt::Stored(_)));
    let back =
        node.rollback_pipeline(&who, &name("x"), Some(1), None).await.expect_err("unsigned").to_string();
    assert!(back.contains(told) && back.contains("p@1"), "{back}");
    let tried = node.activate_pipeline(&who, &name("x"), 3, None).await.expect_err("unsigned").to_string();
    assert!(tried.contains(told), "{tried}");

    node.upload_plugin(&who, upload("1", &guest(), Some(&mine))).await.expect("the same bytes, signed");
    node.rollback_pipeline(&who, &name("x"), Some(1), None).await.expect("signed now");
    node.shutdown().await;
}

#[tokio::test]
async fn a_collection_takes_what_nothing_uses_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, who) = start(folder.path(), Trust::default()).await;
    for (version, wasm) in [("1", guest()), ("2", zoo()), ("3", guest())] {
        node.upload_plugin(&who, upload(version, &wasm, None)).await.expect("taken");
    }
    node.put_plugin(&me(), name("own"), name("1"), guest().into()).await.expect("the broker's own");
    let spec = |version| format!("name = \"x\"\n[[stage]]\nplugin = \"p@{version}\"\nkind = \"validator\"\n");
    // Version 1 is in the history of a pipeline, version 2 in its active version, version 3 nowhere.
    for version in ["1", "2"] {
        node.apply_pipeline(&who, name("x"), &spec(version), None).await.expect("applied");
    }
    let strays = ["wasm", "sig", "part"].map(|kind| format!("{STRAY}.{kind}"));
    for stray in &strays {
        fs::write(folder.path().join("plugins").join(stray), b"left by a crash").expect("written");
    }

    let told = node.collect_plugins(&who, true).await.expect("allowed");
    let names = |plugins: &[wharf_node::CollectedPlugin]| -> Vec<String> {
        plugins.iter().map(|plugin| format!("{}@{}", plugin.name, plugin.version)).collect()
    };
    assert_eq!((names(&told.plugins), told.strays, told.dry_run), (vec!["p@3".to_owned()], 3, true));
    assert!(strays.iter().all(|stray| files(folder.path()).contains(stray)), "nothing is gone yet");

    let done = node.collect_plugins(&who, false).await.expect("allowed");
    assert_eq!((done.plugins, done.strays, done.more), (told.plugins, 3, false));
    let left: Vec<PluginView> = node.plugins(&who).await.expect("allowed");
    let left: Vec<String> = left.iter().map(|plugin| format!("{}@{}", plugin.name, plugin.version)).collect();
    assert_eq!(left, ["own@1", "p@1", "p@2"]);
    assert_eq!(files(folder.path()).len(), 2, "the component that two versions share stays");
    let again = node.collect_plugins(&who, false).await.expect("allowed");
    assert_eq!((again.plugins.len(), again.strays), (0, 0));
    node.shutdown().await;

    let (node, who) = start(folder.path(), Trust::default()).await;
    node.rollback_pipeline(&who, &name("x"), Some(1), None).await.expect("its plugin is still there");
    node.shutdown().await;
}

#[tokio::test]
async fn a_damaged_component_is_mended_by_the_same_upload() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, who) = start(folder.path(), Trust::default()).await;
    let digest = node.upload_plugin(&who, upload("1", &guest(), None)).await.expect("taken").digest;
    node.shutdown().await;
    let path = folder.path().join("plugins").join(format!("{digest}.wasm"));
    fs::write(&path, b"damaged").expect("written");

    let (node, who) = start(folder.path(), Trust::default()).await;
    let spec = "name = \"x\"\n[[stage]]\nplugin = \"p\"\nkind = \"validator\"\n";
    let refused = node.apply_pipeline(&who, name("x"), spec, None).await.expect_err("damaged").to_string();
    assert!(refused.contains("upload it again"), "{refused}");
    node.upload_plugin(&who, upload("1", &guest(), None)).await.expect("the same bytes");
    node.apply_pipeline(&who, name("x"), spec, None).await.expect("mended");
    node.shutdown().await;
}

#[tokio::test]
async fn who_may_not_load_plugins_loads_collects_and_removes_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let clerk = Identity { plugins: false, ..deployer() };
    let node = Node::start(Config { principals: vec![clerk], ..Config::new(folder.path()) }).await;
    let node = node.expect("it starts");
    let credentials = wharf_node::Credentials { token: Some("token"), certificate: None };
    let clerk = node.authenticate(credentials).expect("known");
    let refusals = [
        node.upload_plugin(&clerk, upload("1", &guest(), None)).await.err(),
        node.collect_plugins(&clerk, true).await.err(),
        node.remove_plugin(&clerk, &name("p"), &name("1")).await.err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Some(NodeError::Forbidden { .. })), "{refusal:?}");
    }
    node.shutdown().await;
}
