//! Natively, and as a component.

use route_by::RouteBy;
use serde_json::json;
use wharf_plugin::harness::{Harness, Input};

fn by_region(plugin: Harness<RouteBy>) -> Harness<RouteBy> {
    let routes = json!({"eu": ["europe"], "us": ["america", "audit"]});
    plugin
        .config(json!({"by": {"header": "region"}, "routes": routes, "otherwise": "reject"}))
        .outputs(["europe", "america", "audit"])
}

#[test]
fn a_header_chooses_the_outputs() {
    Harness::each(|plugin| {
        let plugin = by_region(plugin);

        plugin.send(Input::new("x").header("region", "eu")).assert_routed(["europe"]);
        plugin.send(Input::new("x").header("region", "us")).assert_routed(["america", "audit"]);
    });
}

#[test]
fn a_value_without_a_route_is_rejected_with_those_that_have_one() {
    Harness::each(|plugin| {
        let plugin = by_region(plugin);

        let outcome = plugin.send(Input::new("x").header("region", "asia"));
        let problem = outcome.assert_rejected("no-route");
        assert_eq!(problem.message, "no route is for `region: asia`; there are: eu, us");

        let outcome = plugin.send("x");
        let problem = outcome.assert_rejected("no-route");
        assert_eq!(problem.message, "header `region`, which the route depends on, is missing");
    });
}

#[test]
fn a_member_of_the_payload_chooses_the_outputs() {
    Harness::each(|plugin: Harness<RouteBy>| {
        let plugin = plugin
            .config(json!({"by": {"json": "/order/priority"}, "routes": {"1": ["fast"], "true": ["fast"]}}))
            .outputs(["fast"]);

        plugin.send(r#"{"order": {"priority": 1}}"#).assert_routed(["fast"]);
        plugin.send(r#"{"order": {"priority": "1"}}"#).assert_routed(["fast"]);
        plugin.send(r#"{"order": {"priority": true}}"#).assert_routed(["fast"]);
        plugin.send(r#"{"order": {"priority": [1]}}"#).assert_routed([]);
        plugin.send("{").assert_rejected("not-json");
    });
}

#[test]
fn a_number_is_matched_as_it_was_written() {
    let config =
        json!({"by": {"json": "/n"}, "routes": {"12345678901234567890123": ["big"], "1.10": ["big"]}});
    let plugin = Harness::<RouteBy>::native().config(config).outputs(["big"]);

    plugin.send(r#"{"n": 12345678901234567890123}"#).assert_routed(["big"]);
    plugin.send(r#"{"n": 1.10}"#).assert_routed(["big"]);
    plugin.send(r#"{"n": 1, "n": 1.10}"#).assert_rejected("duplicate-member");
}

#[test]
fn otherwise_is_pass_drop_or_outputs() {
    let with = |otherwise| {
        let config = json!({"by": {"header": "region"}, "routes": {}, "otherwise": otherwise});
        Harness::<RouteBy>::native().config(config).outputs(["rest"])
    };

    with(json!("pass")).send("x").assert_routed([]);
    with(json!("drop")).send("x").assert_dropped();
    with(json!({"to": ["rest"]})).send("x").assert_routed(["rest"]);
}

#[test]
fn an_output_that_is_not_declared_refuses_the_configuration() {
    Harness::each(|plugin: Harness<RouteBy>| {
        let config = json!({"by": {"header": "region"}, "routes": {"a/b": ["nowhere"]}});
        plugin.config(config).outputs(["europe"]).assert_refused("no-such-output", Some("/routes/a~1b"));
    });
}

#[test]
fn what_is_no_pointer_refuses_the_configuration() {
    let plugin = Harness::<RouteBy>::native().config(json!({"by": {"json": "region"}, "routes": {}}));
    plugin.assert_refused("bad-config", Some("/by/json"));
}
