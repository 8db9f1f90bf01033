//! Messages that a queue gives up, and where they are found again.

use super::*;

fn dead_lettering(lane: i32, to: &str) -> FieldTableBuilder {
    FieldTable::builder()
        .int("x-lane", lane)
        .string("x-dead-letter-exchange", "")
        .string("x-dead-letter-routing-key", to)
}

/// What is ready in both queues after a power cut and a restart.
fn found_after(cores: &mut Cores, end: End) -> (Vec<String>, Vec<String>) {
    cores.without_syncs.clear();
    cores.restart(end);
    let client = cores.connect(0);
    (cores.get_all(client, "source"), cores.get_all(client, "target"))
}

/// A message in `source` on core 0 that will go to `target` on core 1.
fn source_and_target() -> (Cores, ConnectionId) {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    cores.declare_with(client, "target", true, FieldTable::builder().int("x-lane", 1));
    cores.declare_with(client, "source", true, dead_lettering(0, "target"));
    cores.call(client, ConfirmSelect { nowait: false });
    cores.send(client, &publish("source", b"message", true, false));
    assert_eq!(cores.read(client), ["confirm.select-ok", "basic.ack 1"]);
    assert_eq!(cores.get(client, "source", false).as_deref(), Some("message"));
    (cores, client)
}

#[test]
fn a_dead_letter_is_in_its_old_queue_until_the_other_core_has_synced_it() {
    for seed in 0..12 {
        let (mut cores, client) = source_and_target();
        cores.without_syncs = vec![1];
        cores.reject(client, 1, false);
        // Long enough for the first core to sync all that it knows.
        for _ in 0..4 {
            cores.pass_time(100);
        }
        let (source, target) = found_after(&mut cores, End::PowerCut(seed));
        assert_eq!(source, ["again message"], "seed {seed}");
        assert!(target.len() <= 1, "seed {seed}: {target:?}");
    }
}

#[test]
fn a_dead_letter_is_lost_by_no_power_cut_and_by_no_kill() {
    for is_mail_held_up in [false, true] {
        for end in (0..12).map(End::PowerCut).chain([End::Kill]) {
            let (mut cores, client) = source_and_target();
            cores.are_syncs_run = false;
            cores.without_mail = if is_mail_held_up { vec![1] } else { vec![] };
            cores.reject(client, 1, false);
            cores.are_syncs_run = true;
            cores.without_mail.clear();
            let (source, target) = found_after(&mut cores, end);
            let found = source.len() + target.len();
            assert!((1..=2).contains(&found), "{end:?}: {source:?} and {target:?}");
        }
    }
}

#[test]
fn a_dead_letter_that_was_synced_is_in_its_new_queue_alone() {
    let (mut cores, client) = source_and_target();
    cores.reject(client, 1, false);
    for _ in 0..4 {
        cores.pass_time(100);
    }
    for end in [End::PowerCut(1), End::Kill, End::Stop] {
        cores.restart(end);
        let client = cores.connect(0);
        assert_eq!(cores.count(client, "source"), Some(0), "{end:?}");
        assert_eq!(cores.count(client, "target"), Some(1), "{end:?}");
    }
}

#[test]
fn a_circle_of_expiries_ends_and_a_rejection_in_it_keeps_it_going() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        let expiring = |lane, to| dead_lettering(lane, to).int("x-message-ttl", 10);
        cores.declare_with(client, "there", false, expiring(0, "back"));
        cores.declare_with(client, "back", false, expiring(lane, "there"));
        cores.send(client, &publish("there", b"message", false, false));
        for (there, back) in [(1, 0), (0, 1), (0, 0)] {
            assert_eq!(cores.count(client, "there"), Some(there));
            assert_eq!(cores.count(client, "back"), Some(back));
            cores.pass_time(10);
        }
        cores.send(client, &publish("there", b"message", false, false));
        cores.pass_time(10);
        for tag in 1..=3 {
            assert_eq!(cores.get(client, "back", false).as_deref(), Some("message"));
            cores.reject(client, tag, false);
            assert_eq!(cores.count(client, "there"), Some(1));
            cores.pass_time(10);
            assert_eq!(cores.count(client, "back"), Some(1));
        }
    }
}

#[test]
fn a_message_too_many_does_not_come_back_to_its_own_queue() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare_with(client, "q", false, dead_lettering(0, "q").int("x-max-length", 1));
    for body in ["first", "second"] {
        cores.send(client, &publish("q", body.as_bytes(), false, false));
    }
    assert_eq!(cores.get_all(client, "q"), ["second"]);
}

#[test]
fn purge_delete_and_the_end_of_an_unused_queue_send_no_dead_letters() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        cores.declare_with(client, "dead", false, FieldTable::builder());
        let publish_three = |cores: &mut Cores| {
            let source = dead_lettering(lane, "dead").int("x-expires", 50);
            cores.declare_with(client, "source", false, source);
            for _ in 0..3 {
                cores.send(client, &publish("source", b"message", false, false));
            }
        };
        publish_three(&mut cores);
        let queue = b"source";
        cores.call(client, QueuePurge { queue, nowait: false });
        publish_three(&mut cores);
        let (if_unused, if_empty, nowait) = (false, false, false);
        cores.call(
            client,
            QueueDelete {
                queue,
                if_unused,
                if_empty,
                nowait,
            },
        );
        publish_three(&mut cores);
        cores.pass_time(50);
        assert_eq!(cores.count(client, "source"), None);
        assert_eq!(cores.count(client, "dead"), Some(0));
    }
}

/// A message with these headers dies in a queue; what `first`, `open` and `blind` have of it, bound by its key, by `cc` and
/// by `bcc`.
fn dead_with_keys(headers: FieldTable) -> Vec<Option<u32>> {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    let source = FieldTable::builder()
        .string("x-dead-letter-exchange", "amq.direct")
        .int("x-message-ttl", 10);
    cores.declare_with(client, "source", false, source);
    let arguments = FieldTable::default();
    for (queue, key, lane) in [("first", "source", 0), ("open", "cc", 1), ("blind", "bcc", 1)] {
        cores.declare_with(client, queue, false, FieldTable::builder().int("x-lane", lane));
        let bind = QueueBind {
            queue: queue.as_bytes(),
            exchange: b"amq.direct",
            routing_key: key.as_bytes(),
            nowait: false,
            arguments: arguments.as_ref(),
        };
        cores.call(client, bind);
    }
    let properties = PropertiesBuilder {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    cores.send(client, &publish_with("source", "message", false, properties));
    cores.pass_time(10);
    let queues = ["first", "open", "blind"].into_iter();
    queues.map(|queue| cores.count(client, queue)).collect()
}

#[test]
fn a_dead_letter_goes_where_each_of_its_keys_leads() {
    let headers = FieldTable::builder().array("CC", &keys(&["cc"])).build();
    assert_eq!(dead_with_keys(headers), [Some(1), Some(1), Some(0)]);
}

#[test]
fn a_dead_letter_goes_where_its_blind_copies_went() {
    let headers = FieldTable::builder().array("BCC", &keys(&["bcc"])).build();
    assert_eq!(dead_with_keys(headers), [Some(1), Some(0), Some(1)]);
}
