//! Definitions that are read while cores run.

use super::*;

fn import(cores: &mut Cores, text: &str) {
    let definitions = crate::definitions::read(text).expect("well formed");
    cores.events[0].push(Event::Definitions(Box::new(definitions)));
    cores.settle();
}

#[test]
fn a_queue_without_a_type_gets_its_vhosts_if_it_can_be_of_it() {
    let mut cores = Cores::new(2);
    let vhost = r#"{"vhosts": [{"name": "/", "default_queue_type": "quorum"}]}"#;
    import(&mut cores, vhost);
    let client = cores.connect(1);
    for (queue, durable) in [("lasting", true), ("passing", false)] {
        cores.declare_with(client, queue, durable, FieldTable::builder());
        cores.send(client, &publish(queue, b"message", true, false));
        assert_eq!(cores.get(client, queue, false).as_deref(), Some("message"));
    }
    let is_quorum = |cores: &Cores, queue: &str| {
        let topology = &cores.shards[0].topology;
        let id = topology.queue_id(b"/", queue.as_bytes()).expect("it is declared");
        let arguments = &topology.queue_by_id(id).expect("the same").arguments;
        arguments.as_ref().get(b"x-queue-type") == Some(FieldValue::LongString(b"quorum"))
    };
    assert!(is_quorum(&cores, "lasting"));
    assert!(!is_quorum(&cores, "passing"));
}

#[test]
fn policies_of_one_file_take_effect_together() {
    let mut cores = Cores::new(2);
    let policy = |name: &str, pattern: &str, priority: u8, most: u32| {
        format!(
            r#"{{"vhost": "/", "name": "{name}", "pattern": "{pattern}", "priority": {priority},
                "definition": {{"max-length": {most}}}}}"#
        )
    };
    import(
        &mut cores,
        &format!(r#"{{"policies": [{}]}}"#, policy("a", "^q", 0, 100)),
    );
    let client = cores.connect(0);
    cores.declare(client, "q", 1, false, false);
    cores.send(client, &publish("q", b"message", false, false).repeat(90));
    let narrow = policy("a", ".*", 0, 5);
    let wide = policy("b", "^q", 1, 100);
    import(&mut cores, &format!(r#"{{"policies": [{narrow}, {wide}]}}"#));
    assert_eq!(cores.count(client, "q"), Some(90));
}

#[test]
fn what_an_exchange_remembers_in_cannot_be_published_to() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    let arguments = FieldTable::builder().string("x-delayed-type", "direct").build();
    let declare = ExchangeDeclare {
        exchange: b"x",
        kind: b"x-delayed-message",
        passive: false,
        durable: false,
        auto_delete: false,
        internal: true,
        nowait: false,
        arguments: arguments.as_ref(),
    };
    cores.call(client, declare);
    cores.read(client);
    cores.send(client, &publish("amq.delayed-x", b"message", false, true));
    let seen = cores.read(client);
    assert!(seen[0].starts_with("basic.return"), "{seen:?}");
}
