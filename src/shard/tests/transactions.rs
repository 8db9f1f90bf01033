//! Transactions: what waits for tx.commit, what it waits for itself, and what an end without it gives back.

use super::*;

fn select() -> TxSelect {
    TxSelect {}
}

fn commit() -> TxCommit {
    TxCommit {}
}

fn ack(delivery_tag: u64, multiple: bool) -> BasicAck {
    BasicAck {
        delivery_tag,
        multiple,
    }
}

fn get(queue: &str) -> BasicGet<'_> {
    BasicGet {
        queue: queue.as_bytes(),
        no_ack: false,
    }
}

/// Cores, a client in a transaction, and a consumer of `near` on core 0 and of `far` on core 1.
fn transacting() -> (Cores, ConnectionId, ConnectionId) {
    let mut cores = Cores::new(2);
    let (client, consumer) = (cores.connect(0), cores.connect(1));
    for (queue, lane) in [("near", 0), ("far", 1)] {
        cores.declare(client, queue, lane, true, false);
        cores.consume(consumer, queue, queue, true);
    }
    cores.call(client, select());
    cores.read(client);
    cores.read(consumer);
    (cores, client, consumer)
}

/// Ready and unacked messages of the only queue of a core.
fn counts(cores: &Cores, core: usize) -> (u32, u32) {
    let mut queues = cores.shards[core].queues().iter();
    let queue = &queues.next().expect("there is a queue").queue;
    (queue.ready_count(), queue.unacked_count())
}

fn body_of(sentence: &str) -> &str {
    sentence.rsplit(' ').next().expect("a body")
}

#[test]
fn published_messages_reach_their_queues_in_order_with_the_commit() {
    let (mut cores, client, consumer) = transacting();
    let run: Vec<u8> = (0..300)
        .flat_map(|number| publish("far", format!("{number}").as_bytes(), number % 3 == 0, false))
        .collect();
    cores.send(client, &run);
    cores.send(client, &publish("near", b"last", false, false));
    assert_eq!(cores.read(consumer), Vec::<String>::new());
    cores.call(client, commit());
    assert_eq!(cores.read(client), ["tx.commit-ok"]);
    let seen = cores.read(consumer);
    let mut bodies: Vec<&str> = seen.iter().map(|sentence| body_of(sentence)).collect();
    bodies.retain(|body| *body != "last");
    let expected: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!(
        (bodies, seen.len()),
        (expected.iter().map(String::as_str).collect(), 301)
    );
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
}

#[test]
fn a_commit_is_answered_when_every_owner_has_synced() {
    for queue in ["near", "far"] {
        let (mut cores, client, _) = transacting();
        cores.are_syncs_run = false;
        cores.send(client, &publish(queue, b"kept", true, false));
        cores.call(client, commit());
        assert_eq!(cores.read(client), Vec::<String>::new());
        assert!(cores.is_waiting(client), "nothing behind a commit is read");
        cores.are_syncs_run = true;
        cores.settle();
        assert_eq!(cores.read(client), ["tx.commit-ok"]);
        cores.call(client, commit());
        assert_eq!(
            cores.read(client),
            ["tx.commit-ok"],
            "an empty one is answered at once"
        );
    }
}

#[test]
fn deliveries_are_settled_when_what_was_published_for_them_is_durable_elsewhere() {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    cores.declare(client, "source", 0, true, false);
    cores.declare(client, "target", 1, true, false);
    cores.send(client, &publish("source", b"work", true, false));
    cores.call(client, select());
    cores.call(client, get("source"));
    cores.are_syncs_run = false;
    cores.call(client, ack(1, false));
    cores.send(client, &publish("target", b"done", true, false));
    cores.call(client, commit());
    cores.read(client);
    assert_eq!((counts(&cores, 0), counts(&cores, 1)), ((0, 1), (1, 0)));
    // The target's core syncs, then the source's.
    let request = cores.syncs[1].take().expect("the commit waits for it");
    let result = request.run();
    cores.events[1].push(Event::Synced(request, result));
    cores.settle();
    assert_eq!(counts(&cores, 0), (0, 0));
    assert_eq!(
        cores.read(client),
        Vec::<String>::new(),
        "the ack is not durable yet"
    );
    cores.are_syncs_run = true;
    cores.settle();
    assert_eq!(cores.read(client), ["tx.commit-ok"]);
}

#[test]
fn a_commit_of_acks_waits_for_the_sync_of_their_queues_core() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        cores.declare(client, "source", lane, true, false);
        cores.send(client, &publish("source", b"work", true, false));
        cores.call(client, select());
        cores.call(client, get("source"));
        cores.call(client, ack(1, false));
        cores.pass_time(1000);
        cores.read(client);
        cores.are_syncs_run = false;
        cores.call(client, commit());
        assert_eq!(counts(&cores, lane as usize), (0, 0));
        assert_eq!(cores.read(client), Vec::<String>::new());
        cores.are_syncs_run = true;
        cores.settle();
        assert_eq!(
            cores.read(client),
            ["tx.commit-ok"],
            "the queue is on core {lane}"
        );
    }
}

#[test]
fn a_rollback_throws_publishes_away_and_leaves_deliveries_with_their_client() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "queue", 0, false, false);
    for body in [b"one", b"two"] {
        cores.send(client, &publish("queue", body, false, false));
    }
    cores.call(client, select());
    cores.call(client, get("queue"));
    cores.call(client, get("queue"));
    cores.read(client);
    cores.send(client, &publish("queue", b"lost", false, false));
    cores.call(client, ack(2, true));
    cores.call(client, TxRollback {});
    cores.call(client, commit());
    assert_eq!(cores.read(client), ["tx.rollback-ok", "tx.commit-ok"]);
    assert_eq!(counts(&cores, 0), (0, 2));
    cores.call(client, ack(2, true));
    cores.call(client, commit());
    assert_eq!(cores.read(client), ["tx.commit-ok"]);
    assert_eq!(counts(&cores, 0), (0, 0));
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
}

#[test]
fn nacks_and_rejects_wait_for_the_commit_as_well() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "queue", 0, false, false);
    for body in [b"one", b"two"] {
        cores.send(client, &publish("queue", body, false, false));
    }
    cores.call(client, select());
    cores.call(client, get("queue"));
    cores.call(client, get("queue"));
    cores.call(
        client,
        BasicNack {
            delivery_tag: 1,
            multiple: false,
            requeue: true,
        },
    );
    cores.call(
        client,
        BasicReject {
            delivery_tag: 2,
            requeue: false,
        },
    );
    assert_eq!(counts(&cores, 0), (0, 2));
    cores.call(client, commit());
    assert_eq!(counts(&cores, 0), (1, 0));
    cores.read(client);
    cores.call(client, ack(1, false));
    assert_eq!(
        cores.read(client),
        ["channel.close PRECONDITION_FAILED - unknown delivery tag 1"]
    );
}

#[test]
fn unroutable_messages_come_back_at_the_commit_before_its_answer() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "going", 0, false, false);
    cores.call(client, select());
    cores.read(client);
    cores.send(client, &publish("nowhere", b"first", true, true));
    cores.send(client, &publish("going", b"second", true, true));
    let delete = QueueDelete {
        queue: b"going",
        if_unused: false,
        if_empty: false,
        nowait: false,
    };
    cores.call(client, delete);
    assert_eq!(cores.read(client), ["queue.delete-ok"]);
    cores.call(client, commit());
    assert_eq!(
        cores.read(client),
        ["basic.return first", "basic.return second", "tx.commit-ok"]
    );
}

#[test]
fn a_message_goes_to_queues_of_the_names_that_it_led_to_when_it_was_published() {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    cores.declare(client, "anew", 0, false, false);
    cores.call(client, select());
    cores.send(client, &publish("anew", b"one", false, true));
    cores.send(client, &publish("later", b"two", false, true));
    let mut bytes = Vec::new();
    Method::from(BasicPublish {
        exchange: b"amq.fanout",
        routing_key: b"",
        mandatory: true,
        immediate: false,
    })
    .encode(1, &mut bytes);
    encode_content(1, &[0, 0], &[b"unbound"], FRAME_MAX, &mut bytes);
    cores.send(client, &bytes);
    let delete = QueueDelete {
        queue: b"anew",
        if_unused: false,
        if_empty: false,
        nowait: false,
    };
    cores.call(client, delete);
    cores.declare(client, "anew", 1, false, false);
    cores.declare(client, "later", 0, false, false);
    let bind = QueueBind {
        queue: b"later",
        exchange: b"amq.fanout",
        routing_key: b"",
        nowait: false,
        arguments: crate::model::FieldTableRef::default(),
    };
    cores.call(client, bind);
    cores.read(client);
    cores.call(client, commit());
    assert_eq!(cores.read(client), ["basic.return unbound", "tx.commit-ok"]);
    assert_eq!((counts(&cores, 0), counts(&cores, 1)), ((1, 0), (1, 0)));
}

#[test]
fn an_exchange_that_is_missing_is_refused_before_the_commit() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.call(client, select());
    cores.read(client);
    let mut bytes = Vec::new();
    Method::from(BasicPublish {
        exchange: b"nope",
        routing_key: b"",
        mandatory: false,
        immediate: false,
    })
    .encode(1, &mut bytes);
    encode_content(1, &[0, 0], &[b"x"], FRAME_MAX, &mut bytes);
    cores.send(client, &bytes);
    assert_eq!(
        cores.read(client),
        ["channel.close NOT_FOUND - no exchange 'nope' in vhost '/'"]
    );
}

#[test]
fn whatever_ends_without_a_commit_rolls_back() {
    let ends: [fn(&mut Cores, ConnectionId); 3] = [
        |cores, client| {
            cores.call(
                client,
                ChannelClose {
                    reply_code: 200,
                    reply_text: b"",
                    class_id: 0,
                    method_id: 0,
                },
            );
        },
        |cores, client| cores.call(client, ack(77, false)),
        |cores, client| {
            cores.events[0].push(Event::Disconnected {
                slot: (client.slot, client.generation),
                reason: "test".to_owned(),
            });
            cores.settle();
        },
    ];
    for end in ends {
        let mut cores = Cores::new(1);
        let (client, other) = (cores.connect(0), cores.connect(0));
        cores.declare(client, "queue", 0, false, false);
        for body in [b"one", b"two"] {
            cores.send(client, &publish("queue", body, false, false));
        }
        cores.call(client, select());
        cores.call(client, get("queue"));
        cores.call(client, get("queue"));
        cores.call(client, ack(1, false));
        cores.send(client, &publish("queue", b"lost", false, false));
        assert!(cores.shards[0].unfinished_bytes > 0);
        end(&mut cores, client);
        cores.consume(other, "queue", "tag", true);
        assert_eq!(
            cores.read(other),
            [
                "basic.consume-ok",
                "basic.deliver 1 again one",
                "basic.deliver 2 again two"
            ]
        );
        assert_eq!(cores.shards[0].unfinished_bytes, 0);
    }
}

#[test]
fn a_connection_that_is_lost_during_its_commit_keeps_what_it_acknowledged_for_others() {
    let mut cores = Cores::new(2);
    let (client, other) = (cores.connect(0), cores.connect(0));
    cores.declare(client, "source", 0, true, false);
    cores.declare(client, "target", 1, true, false);
    cores.send(client, &publish("source", b"work", true, false));
    cores.call(client, select());
    cores.call(client, get("source"));
    cores.are_syncs_run = false;
    cores.call(client, ack(1, false));
    cores.send(client, &publish("target", b"done", true, false));
    cores.call(client, commit());
    cores.events[0].push(Event::Disconnected {
        slot: (client.slot, client.generation),
        reason: "test".to_owned(),
    });
    cores.settle();
    cores.are_syncs_run = true;
    cores.settle();
    cores.consume(other, "source", "tag", true);
    assert_eq!(
        cores.read(other),
        ["basic.consume-ok", "basic.deliver 1 again work"]
    );
}

#[test]
fn a_transaction_that_grows_too_large_closes_its_channel_and_leaves_nothing() {
    let mut cores = Cores::with_settings(1, |settings| settings.transaction_bytes_max = 100_000);
    let client = cores.connect(0);
    cores.declare(client, "queue", 0, false, false);
    cores.call(client, select());
    cores.read(client);
    let body = vec![b'.'; 200_000];
    cores.send(client, &publish("queue", &body, false, false));
    assert_eq!(
        cores.read(client),
        Vec::<String>::new(),
        "one message is always let through"
    );
    cores.send(client, &publish("queue", b"more", false, false));
    let seen = cores.read(client);
    let [text] = &seen[..] else {
        panic!("refused once: {seen:?}");
    };
    assert!(
        text.starts_with("channel.close PRECONDITION_FAILED - transaction size 200")
            && text.ends_with(" is larger than configured max size 100000"),
        "{text}"
    );
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
    assert_eq!(counts(&cores, 0), (0, 0));
}

#[test]
fn what_transactions_keep_beyond_the_memory_costs_the_connection_that_keeps_most() {
    const MEBIBYTE: u64 = 1 << 20;
    let mut cores = Cores::with_settings(1, |settings| {
        settings.message_memory_max = MEBIBYTE;
        settings.message_bytes_max = MEBIBYTE;
    });
    let (greedy, modest) = (cores.connect(0), cores.connect(0));
    cores.declare(modest, "queue", 0, false, false);
    let body = vec![b'.'; 100_000];
    for client in [greedy, modest] {
        cores.call(client, select());
        cores.send(client, &publish("queue", &body, false, false));
        cores.read(client);
    }
    for _ in 0..12 {
        cores.send(greedy, &publish("queue", &body, false, false));
    }
    let refused = cores.read(greedy);
    assert!(
        refused[0].starts_with("connection.close RESOURCE_ERROR - low on memory, and "),
        "{refused:?}"
    );
    cores.call(modest, commit());
    assert_eq!(cores.read(modest), ["tx.commit-ok"]);
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
    assert_eq!(counts(&cores, 0), (1, 0));
}

#[test]
fn a_message_that_a_queue_refuses_fails_the_commit_and_settles_nothing() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let client = cores.connect(0);
        cores.declare(client, "source", 0, true, false);
        let arguments = FieldTable::builder()
            .int("x-lane", lane)
            .int("x-max-length", 1)
            .string("x-overflow", "reject-publish")
            .build();
        cores.call(
            client,
            QueueDeclare {
                queue: b"full",
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: arguments.as_ref(),
            },
        );
        cores.send(client, &publish("source", b"work", true, false));
        cores.call(client, select());
        cores.call(client, get("source"));
        cores.call(client, ack(1, false));
        cores.read(client);
        for body in [b"one", b"two"] {
            cores.send(client, &publish("full", body, true, false));
        }
        cores.call(client, commit());
        assert_eq!(
            cores.read(client),
            ["channel.close PRECONDITION_FAILED - partial tx completion"]
        );
        let other = cores.connect(0);
        cores.call(other, get("source"));
        cores.call(other, get("full"));
        assert_eq!(
            cores.read(other),
            ["basic.get-ok again work", "basic.get-ok one"],
            "the queue is on core {lane}"
        );
    }
}

#[test]
fn a_commit_waits_for_credit_and_goes_on_where_it_stopped() {
    let mut cores = Cores::with_settings(2, |settings| settings.ring_credit_bytes = 4_000);
    let (client, consumer) = (cores.connect(0), cores.connect(1));
    cores.declare(client, "far", 1, false, false);
    cores.consume(consumer, "far", "tag", true);
    cores.read(consumer);
    cores.call(client, select());
    cores.read(client);
    let body = [b'.'; 1000];
    for number in 0..20 {
        let body = [format!("{number:08}").as_bytes(), &body].concat();
        cores.send(client, &publish("far", &body, false, false));
    }
    cores.without_mail = vec![1];
    cores.call(client, commit());
    assert!(cores.shards[0].unfinished_bytes > 10_000, "most of it waits");
    assert_eq!(cores.read(client), Vec::<String>::new());
    cores.without_mail.clear();
    cores.settle();
    assert_eq!(cores.read(client), ["tx.commit-ok"]);
    let seen = cores.read(consumer);
    let bodies: Vec<&str> = seen.iter().map(|sentence| body_of(sentence)).collect();
    let expected: Vec<String> = (0..20).map(|number| format!("{number:08}")).collect();
    assert_eq!(bodies, expected);
    assert_eq!(cores.shards[0].unfinished_bytes, 0);
}

#[test]
fn a_commit_under_way_is_published_whole_though_its_connection_ends() {
    type End = fn(&mut Cores, ConnectionId);
    let ends: [End; 2] = [
        |cores, client| {
            let slot = (client.slot, client.generation);
            let reason = "test".to_owned();
            cores.events[0].push(Event::Disconnected { slot, reason });
        },
        |cores, _| cores.shards[0].bound_unfinished(),
    ];
    for end in ends {
        let mut cores = Cores::with_settings(2, |settings| {
            settings.ring_credit_bytes = 4_000;
            settings.message_memory_max = 1;
            settings.message_bytes_max = 1_000_000;
        });
        let (client, consumer) = (cores.connect(0), cores.connect(1));
        cores.declare(client, "far", 1, false, false);
        cores.consume(consumer, "far", "tag", true);
        cores.read(consumer);
        cores.call(client, select());
        for number in 0..20 {
            let body = [format!("{number:08}").as_bytes(), &[b'.'; 1000]].concat();
            cores.send(client, &publish("far", &body, false, false));
        }
        cores.without_mail = vec![1];
        cores.call(client, commit());
        assert!(cores.shards[0].unfinished_bytes > 10_000, "most of it waits");
        cores.shards[0].settings.message_bytes_max = 1;
        cores.shards[0].settings.tuning.frame_max = 1;
        end(&mut cores, client);
        cores.without_mail.clear();
        cores.settle();
        let seen = cores.read(consumer);
        let bodies: Vec<&str> = seen.iter().map(|sentence| body_of(sentence)).collect();
        let expected: Vec<String> = (0..20).map(|number| format!("{number:08}")).collect();
        assert_eq!(bodies, expected);
        assert_eq!(cores.shards[0].unfinished_bytes, 0);
    }
}

#[test]
fn a_large_commit_takes_several_ticks() {
    let mut cores = Cores::new(1);
    let client = cores.connect(0);
    cores.declare(client, "queue", 0, false, false);
    cores.call(client, select());
    let body = vec![b'.'; 100_000];
    for _ in 0..30 {
        cores.send(client, &publish("queue", &body, false, false));
    }
    cores.read(client);
    cores.post_call(client, commit());
    cores.tick(0);
    let (ready, _) = counts(&cores, 0);
    assert!((10..20).contains(&ready), "{ready} of 30 in the first tick");
    cores.settle();
    assert_eq!(cores.read(client), ["tx.commit-ok"]);
    assert_eq!(counts(&cores, 0), (30, 0));
}

#[test]
fn an_ack_frees_its_channels_prefetch_with_the_commit() {
    for lane in [0, 1] {
        let mut cores = Cores::new(2);
        let (client, publisher) = (cores.connect(0), cores.connect(0));
        cores.declare(client, "queue", lane, false, false);
        cores.call(client, select());
        cores.call(
            client,
            BasicQos {
                prefetch_size: 0,
                prefetch_count: 1,
                global: true,
            },
        );
        cores.consume(client, "queue", "tag", false);
        for body in [b"one", b"two"] {
            cores.send(publisher, &publish("queue", body, false, false));
        }
        cores.call(client, ack(1, false));
        assert_eq!(
            cores.read(client).last().expect("it consumes"),
            "basic.deliver 1 one"
        );
        cores.call(client, commit());
        let mut seen = cores.read(client);
        seen.sort();
        assert_eq!(
            seen,
            ["basic.deliver 2 two", "tx.commit-ok"],
            "the queue is on core {lane}"
        );
    }
}

#[test]
fn modes_exclude_each_other_and_a_commit_needs_its_mode() {
    let refusal = |methods: &[Method<'_>]| {
        let mut cores = Cores::new(1);
        let client = cores.connect(0);
        methods.iter().for_each(|method| cores.call(client, *method));
        cores.read(client).pop().expect("an answer")
    };
    let confirms = Method::from(ConfirmSelect { nowait: false });
    assert_eq!(
        refusal(&[confirms, select().into()]),
        "channel.close PRECONDITION_FAILED - cannot switch from confirm to tx mode"
    );
    assert_eq!(
        refusal(&[select().into(), select().into(), confirms]),
        "channel.close PRECONDITION_FAILED - cannot switch from tx to confirm mode"
    );
    for method in [Method::from(commit()), Method::from(TxRollback {})] {
        assert_eq!(
            refusal(&[method]),
            "channel.close PRECONDITION_FAILED - channel is not transactional"
        );
    }
}

#[test]
fn a_channel_opened_after_a_transactional_one_counts_its_own_confirms() {
    let mut cores = Cores::new(2);
    let client = cores.connect(0);
    cores.declare(client, "far", 1, true, false);
    cores.call(client, select());
    cores.send(client, &publish("far", b"one", true, false));
    cores.call(client, commit());
    cores.call(client, TxRollback {});
    cores.call(
        client,
        ChannelClose {
            reply_code: 200,
            reply_text: b"",
            class_id: 0,
            method_id: 0,
        },
    );
    cores.call(client, ChannelOpen { out_of_band: b"" });
    cores.call(client, ConfirmSelect { nowait: false });
    cores.read(client);
    cores.send(client, &publish("far", b"two", true, false));
    assert_eq!(cores.read(client), ["basic.ack 1"]);
}
