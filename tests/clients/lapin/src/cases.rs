//! The eight cases. Each declares what it needs under names of its own, and deletes it at the end.

use lapin::{BasicProperties, Confirmation, ExchangeKind};

use crate::client::{self, Client, Failure, SlowWorker, bodies, expect, named, take};

const PERSISTENT: u8 = 2;

/// Runs the case `name` against the broker at `uri`.
pub async fn run(uri: &str, name: &str) -> Result<(), Failure> {
    match name {
        "hello" => hello(uri).await,
        "work" => work(uri).await,
        "pubsub" => pubsub(uri).await,
        "routing" => routing(uri).await,
        "topics" => topics(uri).await,
        "rpc" => rpc(uri).await,
        "confirms" => confirms(uri).await,
        "large" => large(uri).await,
        // Started by `work`, which hands the queue's name over in the environment.
        "slow-worker" => client::hold_a_task(uri, &std::env::var(client::WORKER_QUEUE)?).await,
        _ => Err(format!("expected the name of a case, found {name}").into()),
    }
}

pub async fn hello(uri: &str) -> Result<(), Failure> {
    let client = Client::connect(uri).await?;
    let queue = client.declare_queue("hello", false).await?;
    client
        .publish("", &queue, b"Hello World!", BasicProperties::default())
        .await?;
    let deliveries = take(&mut client.consume(&queue).await?, 1).await?;
    expect("body", vec!["Hello World!".to_string()], bodies(&deliveries))?;
    client.delete_queue(&queue).await?;
    client.close().await
}

pub async fn work(uri: &str) -> Result<(), Failure> {
    let (client, fast_worker) = (Client::connect(uri).await?, Client::connect(uri).await?);
    let queue = client.declare_queue("work", true).await?;
    let mut slow = SlowWorker::start(uri, &queue)?;
    fast_worker.channel.basic_qos(1, Default::default()).await?;
    let mut fast = fast_worker.consume(&queue).await?;
    let tasks: Vec<String> = (0..12).map(|number| format!("task {number}")).collect();
    for task in &tasks {
        client.publish("", &queue, task.as_bytes(), persistent()).await?;
    }

    let held = slow.held_task()?;
    let done = take(&mut fast, tasks.len() - 1).await?;
    let others: Vec<String> = tasks.into_iter().filter(|task| *task != held).collect();
    expect("tasks of the fast worker", others, bodies(&done))?;
    drop(slow);
    let again = take(&mut fast, 1).await?;
    expect(
        "redelivered task",
        (vec![held], true),
        (bodies(&again), again[0].redelivered),
    )?;
    expect("messages left", 0, fast_worker.message_count(&queue).await?)?;
    client.delete_queue(&queue).await?;
    fast_worker.close().await?;
    client.close().await
}

pub async fn pubsub(uri: &str) -> Result<(), Failure> {
    let client = Client::connect(uri).await?;
    let exchange = client.declare_exchange("pubsub", ExchangeKind::Fanout).await?;
    let mut subscribers = Vec::new();
    for _ in 0..2 {
        let queue = client.bind_own_queue(&exchange, &[""]).await?;
        subscribers.push(client.consume(&queue).await?);
    }
    let messages = ["first", "second", "third"];
    for message in messages {
        client
            .publish(
                &exchange,
                "ignored",
                message.as_bytes(),
                BasicProperties::default(),
            )
            .await?;
    }
    for mut subscriber in subscribers {
        let found = take(&mut subscriber, messages.len()).await?;
        expect("messages of a subscriber", owned(&messages), bodies(&found))?;
    }
    client.delete_exchange(&exchange).await?;
    client.close().await
}

pub async fn routing(uri: &str) -> Result<(), Failure> {
    let client = Client::connect(uri).await?;
    let exchange = client.declare_exchange("routing", ExchangeKind::Direct).await?;
    let errors = client.bind_own_queue(&exchange, &["error"]).await?;
    let everything = client
        .bind_own_queue(&exchange, &["info", "warning", "error"])
        .await?;
    for severity in ["info", "warning", "error", "debug"] {
        client
            .publish(
                &exchange,
                severity,
                severity.as_bytes(),
                BasicProperties::default(),
            )
            .await?;
    }
    expect(
        "errors",
        owned(&["error"]),
        bodies(&client.get_all(&errors).await?),
    )?;
    let all = owned(&["info", "warning", "error"]);
    expect("all severities", all, bodies(&client.get_all(&everything).await?))?;
    client.delete_exchange(&exchange).await?;
    client.close().await
}

const TOPICS: [&str; 10] = [
    "quick.orange.rabbit",
    "lazy.orange.elephant",
    "quick.orange.fox",
    "lazy.brown.fox",
    "lazy.pink.rabbit",
    "quick.brown.fox",
    "orange",
    "quick.orange.new.rabbit",
    "lazy.orange.new.rabbit",
    "lazy",
];

pub async fn topics(uri: &str) -> Result<(), Failure> {
    let expected: [(&[&str], Vec<&str>); 3] = [
        (&["*.orange.*"], TOPICS[..3].to_vec()),
        (
            &["*.*.rabbit", "lazy.#"],
            [0, 1, 3, 4, 8, 9].map(|index| TOPICS[index]).to_vec(),
        ),
        (&["#"], TOPICS.to_vec()),
    ];
    let client = Client::connect(uri).await?;
    let exchange = client.declare_exchange("topics", ExchangeKind::Topic).await?;
    let mut queues = Vec::new();
    for (patterns, _) in &expected {
        queues.push(client.bind_own_queue(&exchange, patterns).await?);
    }
    for key in TOPICS {
        client
            .publish(&exchange, key, b"", BasicProperties::default())
            .await?;
    }
    for ((patterns, matching), queue) in expected.iter().zip(&queues) {
        let deliveries = client.get_all(queue).await?;
        let found = deliveries
            .iter()
            .map(|delivery| delivery.routing_key.to_string())
            .collect();
        expect(&format!("keys that match {patterns:?}"), owned(matching), found)?;
    }
    client.delete_exchange(&exchange).await?;
    client.close().await
}

pub async fn rpc(uri: &str) -> Result<(), Failure> {
    let (server, client) = (Client::connect(uri).await?, Client::connect(uri).await?);
    let queue = server.declare_queue("rpc", false).await?;
    let mut requests = server.consume(&queue).await?;
    let reply_to = client.own_queue().await?;
    let mut replies = client.consume(&reply_to).await?;
    for number in [10, 15, 20] {
        let properties = BasicProperties::default()
            .with_reply_to(reply_to.as_str().into())
            .with_correlation_id(format!("call of {number}").into());
        client
            .publish("", &queue, number.to_string().as_bytes(), properties)
            .await?;
    }
    answer(&server, take(&mut requests, 3).await?).await?;
    let mut answers = Vec::new();
    for reply in take(&mut replies, 3).await? {
        let call = reply
            .properties
            .correlation_id()
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        answers.push(format!("{call}: {}", String::from_utf8_lossy(&reply.data)));
    }
    expect(
        "answers",
        owned(&["call of 10: 55", "call of 15: 610", "call of 20: 6765"]),
        answers,
    )?;
    server.delete_queue(&queue).await?;
    client.close().await?;
    server.close().await
}

async fn answer(server: &Client, requests: Vec<lapin::message::Delivery>) -> Result<(), Failure> {
    for request in requests {
        let number: u32 = String::from_utf8_lossy(&request.data).parse()?;
        let reply_to = request
            .properties
            .reply_to()
            .clone()
            .ok_or("expected reply-to, found none")?;
        let call = request
            .properties
            .correlation_id()
            .clone()
            .ok_or("expected correlation-id, found none")?;
        let properties = BasicProperties::default().with_correlation_id(call);
        server
            .publish(
                "",
                reply_to.as_str(),
                fibonacci(number).to_string().as_bytes(),
                properties,
            )
            .await?;
    }
    Ok(())
}

pub async fn confirms(uri: &str) -> Result<(), Failure> {
    let client = Client::connect(uri).await?;
    let queue = client.declare_queue("confirms", true).await?;
    client.channel.confirm_select(Default::default()).await?;
    let mut pending = Vec::new();
    for number in 0..1000 {
        pending.push(
            client
                .publish("", &queue, number.to_string().as_bytes(), persistent())
                .await?,
        );
    }
    for confirm in pending {
        expect("confirmation", Confirmation::Ack(None), confirm.await?)?;
    }
    expect("messages in the queue", 1000, client.message_count(&queue).await?)?;

    let confirmation = client.publish_unroutable().await?;
    expect("ack of an unroutable message", true, confirmation.is_ack())?;
    let returned = confirmation
        .take_message()
        .ok_or("expected a return before the ack, found none")?;
    let found = (returned.reply_code, returned.reply_text.to_string());
    expect("reason of the return", (312, "NO_ROUTE".to_string()), found)?;
    client.delete_queue(&queue).await?;
    client.close().await
}

pub async fn large(uri: &str) -> Result<(), Failure> {
    let body = random_bytes(10 << 20);
    let client = Client::connect(uri).await?;
    let queue = client.declare_queue("large", true).await?;
    client.channel.confirm_select(Default::default()).await?;
    let confirm = client.publish("", &queue, &body, persistent()).await?;
    expect("confirmation", Confirmation::Ack(None), confirm.await?)?;
    let deliveries = take(&mut client.consume(&queue).await?, 1).await?;
    expect("size", body.len(), deliveries[0].data.len())?;
    expect("checksum (FNV-1a)", fnv1a(&body), fnv1a(&deliveries[0].data))?;
    client.delete_queue(&queue).await?;
    client.close().await
}

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT)
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn fibonacci(number: u32) -> u64 {
    (0..number)
        .fold((0, 1), |(before, current), _| (current, before + current))
        .0
}

/// Bytes of a xorshift generator, seeded by a random name.
fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = fnv1a(named("seed").as_bytes());
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
