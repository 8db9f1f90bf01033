//! What the cases have in common: a connection with one channel, queues and exchanges under random names, and
//! consumers that are waited for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use lapin::{Confirmation, PublisherConfirm};

/// How a case failed: what it expected and found, or what the client library said.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The variable that tells a slow worker's process its queue.
pub const WORKER_QUEUE: &str = "WORKER_QUEUE";

/// A connection with one channel.
pub struct Client {
    connection: Connection,
    pub channel: Channel,
}

impl Client {
    pub async fn connect(uri: &str) -> Result<Client, Failure> {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok(Client { connection, channel })
    }

    /// Declares a queue named after `label`.
    pub async fn declare_queue(&self, label: &str, durable: bool) -> Result<String, Failure> {
        let name = named(label);
        let options = QueueDeclareOptions {
            durable,
            ..Default::default()
        };
        self.channel
            .queue_declare(name.as_str().into(), options, FieldTable::default())
            .await?;
        Ok(name)
    }

    /// Declares a transient exchange named after `label`.
    pub async fn declare_exchange(&self, label: &str, kind: ExchangeKind) -> Result<String, Failure> {
        let name = named(label);
        let options = ExchangeDeclareOptions::default();
        self.channel
            .exchange_declare(name.as_str().into(), kind, options, FieldTable::default())
            .await?;
        Ok(name)
    }

    /// Declares an exclusive queue that the broker names, and binds it to `exchange` with each of the keys.
    pub async fn bind_own_queue(&self, exchange: &str, binding_keys: &[&str]) -> Result<String, Failure> {
        let queue = self.own_queue().await?;
        for &key in binding_keys {
            let (queue, exchange) = (queue.as_str().into(), exchange.into());
            self.channel
                .queue_bind(
                    queue,
                    exchange,
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(queue)
    }

    /// Declares an exclusive queue that the broker names.
    pub async fn own_queue(&self) -> Result<String, Failure> {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let queue = self
            .channel
            .queue_declare("".into(), options, FieldTable::default())
            .await?;
        Ok(queue.name().to_string())
    }

    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<PublisherConfirm, Failure> {
        let options = BasicPublishOptions {
            mandatory: false,
            ..Default::default()
        };
        let channel = &self.channel;
        Ok(channel
            .basic_publish(exchange.into(), routing_key.into(), options, body, properties)
            .await?)
    }

    /// Publishes a message that no queue gets, and waits for what the broker says about it. The library hands
    /// over the returned message only if it came before the ack.
    pub async fn publish_unroutable(&self) -> Result<Confirmation, Failure> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let routing_key = named("nowhere").into();
        let properties = BasicProperties::default();
        Ok(self
            .channel
            .basic_publish("".into(), routing_key, options, b"lost", properties)
            .await?
            .await?)
    }

    pub async fn consume(&self, queue: &str) -> Result<Consumer, Failure> {
        let options = BasicConsumeOptions::default();
        Ok(self
            .channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?)
    }

    /// Gets messages until the queue is empty.
    pub async fn get_all(&self, queue: &str) -> Result<Vec<Delivery>, Failure> {
        let mut deliveries = Vec::new();
        while let Some(message) = self
            .channel
            .basic_get(queue.into(), BasicGetOptions { no_ack: true })
            .await?
        {
            deliveries.push(message.delivery);
        }
        Ok(deliveries)
    }

    pub async fn message_count(&self, queue: &str) -> Result<u32, Failure> {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        Ok(self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await?
            .message_count())
    }

    pub async fn delete_queue(&self, queue: &str) -> Result<(), Failure> {
        self.channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await?;
        Ok(())
    }

    pub async fn delete_exchange(&self, exchange: &str) -> Result<(), Failure> {
        self.channel
            .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
            .await?;
        Ok(())
    }

    pub async fn close(self) -> Result<(), Failure> {
        Ok(self.connection.close(200, "OK".into()).await?)
    }
}

/// Waits for `count` deliveries and acknowledges each.
pub async fn take(consumer: &mut Consumer, count: usize) -> Result<Vec<Delivery>, Failure> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let delivery = next(consumer).await?;
        delivery.ack(BasicAckOptions::default()).await?;
        taken.push(delivery);
    }
    Ok(taken)
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, Failure> {
    Ok(consumer
        .next()
        .await
        .ok_or("expected a delivery, found the end of the consumer")??)
}

/// A process that takes one task, never acknowledges it, and is killed.
pub struct SlowWorker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl SlowWorker {
    /// Starts the process, and waits until it consumes from `queue`.
    pub fn start(uri: &str, queue: &str) -> Result<SlowWorker, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([uri, "slow-worker"])
            .env(WORKER_QUEUE, queue)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("the worker's output is not piped")?;
        let mut worker = SlowWorker {
            process,
            lines: BufReader::new(output).lines(),
        };
        expect(
            "state of the slow worker",
            "consuming",
            worker.next_line()?.as_str(),
        )?;
        Ok(worker)
    }

    /// Waits until the worker has a task, and returns it.
    pub fn held_task(&mut self) -> Result<String, Failure> {
        self.next_line()
    }

    fn next_line(&mut self) -> Result<String, Failure> {
        Ok(self
            .lines
            .next()
            .ok_or("expected a line of the slow worker, found its end")??)
    }
}

impl Drop for SlowWorker {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The slow worker's process.
pub async fn hold_a_task(uri: &str, queue: &str) -> Result<(), Failure> {
    let client = Client::connect(uri).await?;
    client.channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut consumer = client.consume(queue).await?;
    println!("consuming");
    loop {
        let task = next(&mut consumer).await?;
        println!("{}", String::from_utf8_lossy(&task.data));
        std::io::stdout().flush()?;
    }
}

pub fn expect<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, found: T) -> Result<(), Failure> {
    if expected == found {
        return Ok(());
    }
    Err(format!("expected {what} {expected:?}, found {found:?}").into())
}

pub fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| String::from_utf8_lossy(&delivery.data).into_owned())
        .collect()
}

/// `label` with a random end, so that runs do not meet.
pub fn named(label: &str) -> String {
    format!(
        "{label}-{:012x}",
        RandomState::new().build_hasher().finish() >> 16
    )
}
