//! Files as RabbitMQ writes them, and files with faults.

use super::*;
use crate::model::FieldValue;
use crate::topology::{ApplyTo, PolicyKind};

/// What RabbitMQ 3.10 exports, with mirroring, a quorum queue and a stream.
const EXPORTED: &str = r#"{
  "rabbit_version": "3.10.8", "rabbitmq_version": "3.10.8", "product_name": "RabbitMQ",
  "users": [
    {"name": "guest", "password_hash": "y+oQT3Y5/I+1c/qcimU5trRtleYYhtu0SVIk0XBDieMyskDg",
     "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator"], "limits": {}},
    {"name": "shop", "password_hash": "", "tags": "monitoring, management", "limits": {"max-connections": 3}}
  ],
  "vhosts": [
    {"name": "/", "limits": [], "metadata": {"description": "Default virtual host", "tags": []}},
    {"name": "shop", "limits": {"max-queues": 9, "max-connections": -1}, "default_queue_type": "stream"}
  ],
  "permissions": [{"user": "shop", "vhost": "shop", "configure": "^shop\\.", "write": ".*", "read": ""}],
  "topic_permissions": [{"user": "shop", "vhost": "shop", "exchange": "amq.topic", "write": "^{username}", "read": ".*"}],
  "parameters": [
    {"vhost": "shop", "component": "operator_policy", "name": "most",
     "value": {"pattern": ".*", "apply-to": "queues", "priority": 1, "definition": {"max-length": 1000}}},
    {"vhost": "shop", "component": "vhost-limits", "name": "limits", "value": {"max-connections": 7}},
    {"vhost": "shop", "component": "shovel", "name": "s", "value": {}}
  ],
  "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-1"}],
  "policies": [{"vhost": "shop", "name": "ha", "pattern": "^(?!amq\\.)", "apply-to": "all", "priority": 0,
                "definition": {"ha-mode": "all", "message-ttl": 5000, "invented-later": 1}}],
  "queues": [
    {"name": "q", "vhost": "shop", "durable": true, "auto_delete": false,
     "arguments": {"x-max-length": 5, "x-nested": {"a": [1, 1.5, null, "t", true, {}]}}},
    {"name": "qq", "vhost": "shop", "durable": true, "auto_delete": false, "type": "quorum",
     "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3}},
    {"name": "st", "vhost": "shop", "durable": true, "auto_delete": false,
     "arguments": {"x-queue-type": "stream", "x-max-age": "7D"}}
  ],
  "exchanges": [{"name": "x", "vhost": "shop", "type": "topic", "durable": true, "auto_delete": false,
                 "internal": false, "arguments": {"alternate-exchange": "amq.fanout"}}],
  "bindings": [{"source": "x", "vhost": "shop", "destination": "q", "destination_type": "queue",
                "routing_key": "a.*", "arguments": {}}]
}"#;

#[test]
fn what_rabbitmq_exports_is_read_and_what_is_ignored_is_told() {
    let definitions = read(EXPORTED).expect("a file of RabbitMQ");
    let counts = [
        definitions.users.len(),
        definitions.vhosts.len(),
        definitions.permissions.len(),
        definitions.topic_permissions.len(),
        definitions.policies.len(),
        definitions.queues.len(),
        definitions.exchanges.len(),
        definitions.bindings.len(),
    ];
    assert_eq!(counts, [2, 3, 1, 1, 2, 3, 1, 1]);
    assert_eq!(definitions.users[1].tags.len(), 2);
    assert_eq!(definitions.users[1].limits.max_connections, Some(3));
    let limits = definitions.vhosts[1].limits.expect("it has limits");
    assert_eq!((limits.max_queues, limits.max_connections), (Some(9), None));
    assert_eq!(definitions.vhosts[0].limits, None);
    let metadata = definitions.vhosts[0].metadata.as_ref().expect("it is described");
    assert_eq!(metadata.description, "Default virtual host");
    assert_eq!(
        definitions.vhosts[2].limits.expect("limits").max_connections,
        Some(7)
    );
    let operators = &definitions
        .policies
        .iter()
        .find(|policy| policy.kind == PolicyKind::Operator);
    assert_eq!(operators.expect("one").policy.apply_to, ApplyTo::Queues);

    let warnings: Vec<_> = definitions.warnings.iter().map(ToString::to_string).collect();
    for part in [
        "parameters[2] (\"s\" in vhost \"shop\"): component: \"shovel\" is not there",
        "policies[0] (\"ha\" in vhost \"shop\"): definition.ha-mode: has no effect",
        "definition.invented-later: [{<<\"invented-later\">>,1}] are not recognised policy settings",
        "vhosts[1] (\"shop\"): default_queue_type: \"stream\" is kept",
        "queues[2] (\"st\" in vhost \"shop\"): arguments.x-queue-type: streams are kept as queues",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "{part}: {warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
}

#[test]
fn arguments_have_the_types_that_rabbitmq_gives_them() {
    let definitions = read(EXPORTED).expect("a file of RabbitMQ");
    let arguments = definitions.queues[0].arguments.as_ref();
    assert_eq!(arguments.get(b"x-max-length"), Some(FieldValue::Int64(5)));
    let Some(FieldValue::Table(nested)) = arguments.get(b"x-nested") else {
        panic!("a table");
    };
    let Some(FieldValue::Array(array)) = nested.get(b"a") else {
        panic!("an array");
    };
    let values: Vec<_> = array.iter().map_while(Result::ok).collect();
    assert_eq!(values[1], FieldValue::Double(1.5));
    assert_eq!((values[2], values.len()), (FieldValue::Void, 6));
    let policy = &definitions
        .policies
        .iter()
        .find(|policy| policy.kind == PolicyKind::User);
    let definition = policy.expect("one").policy.definition.as_ref();
    assert_eq!(definition.get(b"message-ttl"), Some(FieldValue::Int64(5000)));
    assert_eq!(definition.get(b"invented-later"), None);
}

fn problems(text: &str) -> Vec<String> {
    let problems = read(text).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_names_list_index_entry_field_expected_found_and_fix() {
    for (text, told) in [
        (r#"{"#, "expected JSON, found a fault at line 1"),
        (r#"[]"#, "expected an object with lists"),
        (r#"{"users": 5}"#, "users: expected a list, found 5"),
        (r#"{"users": [5]}"#, "users[0]: expected an object"),
        (
            r#"{"users": [{"name": "x"}]}"#,
            "users[0] (\"x\"): password_hash: expected a text, found nothing",
        ),
        (
            r#"{"users": [{"name": "x", "password_hash": "zz!"}]}"#,
            "password_hash: expected a hash in base64, found text that is not base64",
        ),
        (
            r#"{"users": [{"name": "x", "password_hash": "", "hashing_algorithm": "foo"}]}"#,
            "hashing_algorithm: expected one of rabbit_password_hashing_sha256",
        ),
        (
            r#"{"users": [{"name": "x", "password_hash": "", "tags": 5}]}"#,
            "tags: expected a list",
        ),
        (
            r#"{"users": [{"name": "x", "password_hash": "", "limits": {"max-foo": 0}}]}"#,
            "limits.max-foo: expected one of max-connections, max-channels, found 0",
        ),
        (
            r#"{"vhosts": [{"name": "v", "limits": {"max-queues": "x"}}]}"#,
            "limits.max-queues: expected a whole number, found \"x\"",
        ),
        (
            r#"{"permissions": [{"user": "u", "vhost": "v", "configure": "*", "write": "", "read": ""}]}"#,
            "permissions[0] (user \"u\" in vhost \"v\"): configure: expected a regular expression, found \"*\"",
        ),
        (
            r#"{"queues": [{"name": "q", "vhost": "v", "durable": "yes", "auto_delete": false}]}"#,
            "queues[0] (\"q\" in vhost \"v\"): durable: expected true or false, found \"yes\"\n   fix: write true",
        ),
        (
            r#"{"queues": [{"name": "q", "vhost": "v", "durable": true, "auto_delete": false, "arguments": {"x-max-length": -1}}]}"#,
            "arguments: invalid arg 'x-max-length' for queue 'q' in vhost 'v': {value_negative,-1}",
        ),
        (
            r#"{"exchanges": [{"name": "x", "vhost": "v", "type": "x-foo", "durable": true, "auto_delete": false}]}"#,
            "type: unknown exchange type 'x-foo'\n   fix: use a type that LaneMQ has",
        ),
        (
            r#"{"bindings": [{"source": "x", "vhost": "v", "destination": "q", "destination_type": "foo", "routing_key": ""}]}"#,
            "bindings[0] (\"x\" to \"q\" in vhost \"v\"): destination_type: expected \"queue\" or \"exchange\", found \"foo\"",
        ),
        (
            r#"{"policies": [{"vhost": "v", "name": "p", "pattern": "a(?!b)", "definition": {"max-length": 1}}]}"#,
            "pattern: expected a regular expression, found \"a(?!b)\": look-aheads",
        ),
        (
            r#"{"policies": [{"vhost": "v", "name": "p", "pattern": "", "apply-to": "foo", "definition": {"max-length": 1}}]}"#,
            "apply-to: expected one of all, queues, exchanges",
        ),
        (
            r#"{"policies": [{"vhost": "v", "name": "p", "pattern": "", "definition": {"max-length": -1}}]}"#,
            "definition.max-length: -1 is not a valid maximum length",
        ),
        (
            r#"{"policies": [{"vhost": "v", "name": "p", "pattern": "", "definition": {}}]}"#,
            "definition: no policy provided",
        ),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].contains(told), "{text}: {}", found[0]);
        assert!(found[0].contains("\n   fix: "), "{}", found[0]);
    }
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let found = problems(
        r#"{"queues": [{"vhost": 5, "durable": 1}, {}], "exchanges": [{"name": "x"}], "bindings": [{"source": 1}]}"#,
    );
    assert!(found.len() >= 12, "{found:#?}");
}

#[test]
fn what_is_nested_too_deep_and_what_is_unknown_do_no_harm() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    let text = format!(
        r#"{{"queues": [{{"name": "q", "vhost": "v", "durable": true, "auto_delete": false, "arguments": {deep}}}]}}"#
    );
    assert!(problems(&text)[0].contains("recursion limit exceeded"));
    let definitions = read(r#"{"nonsense": 5, "vhosts": [{"name": "v", "more": 1}]}"#).expect("accepted");
    assert_eq!(definitions.warnings.len(), 2);
}
