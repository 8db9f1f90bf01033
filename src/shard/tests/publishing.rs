//! What a message may ask for when it is published: further queues, a user, a time to live.

use super::*;

fn bodies(seen: &[String]) -> Vec<&str> {
    seen.iter()
        .filter_map(|sentence| sentence.strip_prefix("basic.deliver "))
        .map(|delivery| delivery.rsplit(' ').next().expect("a body"))
        .collect()
}

#[test]
fn a_message_goes_once_to_each_queue_that_its_key_cc_or_bcc_names() {
    let mut cores = Cores::new(2);
    let (publisher, consumer) = (cores.connect(0), cores.connect(0));
    for (queue, lane) in [("own", 0), ("near", 0), ("far", 1), ("other", 1)] {
        cores.declare(publisher, queue, lane, false, false);
        cores.consume(consumer, queue, queue, true);
    }
    cores.read(consumer);
    let headers = FieldTable::builder()
        .array("CC", &keys(&["far", "own"]))
        .array("BCC", &keys(&["near", "far", "nowhere"]))
        .build();
    let with_keys = PropertiesBuilder {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    let plain = PropertiesBuilder::default();
    let run = [
        publish_with("own", "before", false, plain),
        publish_with("own", "all", false, with_keys),
        publish_with("own", "after", false, plain),
    ];
    // The first publish to a target is put together, the second time the run is recognised.
    for _ in 0..2 {
        cores.send(publisher, &run.concat());
        let mut seen = cores.read(consumer);
        seen.sort();
        let mut found = bodies(&seen);
        found.sort_unstable();
        assert_eq!(found, ["after", "all", "all", "all", "before"]);
    }
    let raw = cores.raw_of(publisher, consumer, &publish_with("own", "raw", false, with_keys));
    let has = |name: &[u8]| raw.windows(name.len()).any(|window| window == name);
    assert!(has(b"\x02CCA"), "receivers see CC");
    assert!(!has(b"\x03BCC"), "and no BCC");
}

#[test]
fn a_message_returned_as_unroutable_shows_no_bcc() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    let headers = FieldTable::builder().array("BCC", &keys(&["nowhere"])).build();
    let properties = PropertiesBuilder {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    let raw = cores.raw_of(client, client, &publish_with("nobody", "lost", true, properties));
    assert!(raw.windows(4).any(|window| window == b"lost"));
    assert!(!raw.windows(3).any(|window| window == b"BCC"));
}

#[test]
fn a_refused_message_closes_its_channel_and_costs_none_before_it() {
    let mut cores = Cores::new(1);
    let (publisher, consumer) = (cores.connect(0), cores.connect(0));
    cores.declare(publisher, "queue", 0, false, false);
    cores.consume(consumer, "queue", "tag", true);
    cores.send(publisher, &publish("queue", b"first", false, false));
    cores.read(publisher);
    let spoof = PropertiesBuilder {
        user_id: Some(b"nobody"),
        ..Default::default()
    };
    let plain = PropertiesBuilder::default();
    let run = [
        publish_with("queue", "second", false, plain),
        publish_with("queue", "spoof", false, spoof),
        publish_with("queue", "third", false, plain),
    ];
    cores.send(publisher, &run.concat());
    assert_eq!(
        cores.read(publisher),
        [
            "channel.close PRECONDITION_FAILED - user_id property set to 'nobody' but authenticated user was 'guest'"
        ]
    );
    let seen = cores.read(consumer);
    assert_eq!(bodies(&seen), ["first", "second"]);
}

#[test]
fn a_missing_exchange_is_named_before_what_else_is_wrong() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    let mut bytes = Vec::new();
    Method::from(BasicPublish {
        exchange: b"nope",
        routing_key: b"",
        mandatory: false,
        immediate: false,
    })
    .encode(1, &mut bytes);
    let mut properties = Vec::new();
    PropertiesBuilder {
        expiration: Some(b"soon"),
        ..Default::default()
    }
    .encode(&mut properties);
    encode_content(1, &properties, &[b"x"], FRAME_MAX, &mut bytes);
    cores.send(client, &bytes);
    assert_eq!(
        cores.read(client),
        ["channel.close NOT_FOUND - no exchange 'nope' in vhost '/'"]
    );
}
