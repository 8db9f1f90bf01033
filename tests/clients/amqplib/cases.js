// The eight programs of tests/clients with amqplib: node cases.js URI CASE.
'use strict';

const amqp = require('amqplib');
const { isDeepStrictEqual } = require('node:util');
const { createHash, randomBytes, randomUUID } = require('node:crypto');

const DEADLINE_SECONDS = 20;
const uri = process.argv[2];

const cases = {
  async hello() {
    const channel = await openChannel();
    const queue = await declareQueue(channel, 'hello');
    channel.sendToQueue(queue, Buffer.from('Hello World!'));
    const [message] = await (await consume(channel, queue)).take(1);
    expect('body', 'Hello World!', text(message));
  },

  async work() {
    const channel = await openChannel();
    const queue = await declareQueue(channel, 'work', { durable: true });
    const [slow, fast] = [await startWorker(queue), await startWorker(queue)];
    const tasks = Array.from({ length: 12 }, (_, number) => `task ${number}`);
    for (const task of tasks) channel.sendToQueue(queue, Buffer.from(task), { persistent: true });

    const held = text(await slow.next());
    const done = await fast.take(tasks.length - 1);
    expect('tasks of the fast worker', tasks.filter((task) => task !== held), done.map(text));
    die(slow.channel);
    const [again] = await fast.take(1);
    expect('redelivered task', [held, true], [text(again), again.fields.redelivered]);
    // A later answer on the worker's channel: its acks have been handled.
    expect('messages left', 0, (await fast.channel.checkQueue(queue)).messageCount);
  },

  async pubsub() {
    const channel = await openChannel();
    const exchange = await declareExchange(channel, 'pubsub', 'fanout');
    const subscribers = [];
    for (let number = 0; number < 2; number++) {
      subscribers.push(await consume(channel, await serverNamedQueue(channel, exchange)));
    }
    const messages = ['first', 'second', 'third'];
    for (const message of messages) channel.publish(exchange, 'ignored', Buffer.from(message));
    for (const subscriber of subscribers) {
      expect('messages of a subscriber', messages, (await subscriber.take(messages.length)).map(text));
    }
  },

  async routing() {
    const channel = await openChannel();
    const exchange = await declareExchange(channel, 'routing', 'direct');
    const errors = await serverNamedQueue(channel, exchange, ['error']);
    const everything = await serverNamedQueue(channel, exchange, ['info', 'warning', 'error']);
    for (const severity of ['info', 'warning', 'error', 'debug']) {
      channel.publish(exchange, severity, Buffer.from(severity));
    }
    expect('errors', ['error'], (await getAll(channel, errors)).map(text));
    expect('all severities', ['info', 'warning', 'error'], (await getAll(channel, everything)).map(text));
  },

  async topics() {
    const keys = [
      'quick.orange.rabbit', 'lazy.orange.elephant', 'quick.orange.fox', 'lazy.brown.fox', 'lazy.pink.rabbit',
      'quick.brown.fox', 'orange', 'quick.orange.new.rabbit', 'lazy.orange.new.rabbit', 'lazy',
    ];
    const expected = [
      [['*.orange.*'], keys.slice(0, 3)],
      [['*.*.rabbit', 'lazy.#'], [0, 1, 3, 4, 8, 9].map((index) => keys[index])],
      [['#'], keys],
    ];
    const channel = await openChannel();
    const exchange = await declareExchange(channel, 'topics', 'topic');
    const queues = [];
    for (const [patterns] of expected) queues.push(await serverNamedQueue(channel, exchange, patterns));
    for (const key of keys) channel.publish(exchange, key, Buffer.alloc(0));
    for (const [index, [patterns, matching]] of expected.entries()) {
      const found = (await getAll(channel, queues[index])).map((message) => message.fields.routingKey);
      expect(`keys that match ${patterns}`, matching, found);
    }
  },

  async rpc() {
    const [server, client] = [await openChannel(), await openChannel()];
    const queue = await declareQueue(server, 'rpc');
    const requests = await consume(server, queue);
    const replyTo = (await client.assertQueue('', { exclusive: true })).queue;
    const replies = await consume(client, replyTo);
    const calls = new Map([10, 15, 20].map((number) => [randomUUID(), number]));
    for (const [correlationId, number] of calls) {
      client.sendToQueue(queue, Buffer.from(String(number)), { correlationId, replyTo });
    }
    for (const { content, properties } of await requests.take(calls.size)) {
      const answer = Buffer.from(String(fibonacci(Number(content))));
      server.sendToQueue(properties.replyTo, answer, { correlationId: properties.correlationId });
    }
    const answers = new Map();
    for (const reply of await replies.take(calls.size)) answers.set(reply.properties.correlationId, text(reply));
    expect('answers', ['55', '610', '6765'], [...calls.keys()].map((id) => answers.get(id)));
  },

  async confirms() {
    const channel = await openChannel({ confirm: true });
    const queue = await declareQueue(channel, 'confirms', { durable: true });
    let confirmed = 0;
    for (let number = 0; number < 1000; number++) {
      channel.sendToQueue(queue, Buffer.from(String(number)), { persistent: true }, (failure) => {
        if (!failure) confirmed++;
      });
    }
    await channel.waitForConfirms();
    expect('confirmed messages', 1000, confirmed);
    expect('messages in the queue', 1000, (await channel.checkQueue(queue)).messageCount);
    expect('events of an unroutable message', ['return 312 NO_ROUTE', 'ack'], await publishUnroutable(channel));
  },

  async large() {
    const body = randomBytes(10 * 1024 * 1024);
    const channel = await openChannel({ confirm: true });
    const queue = await declareQueue(channel, 'large', { durable: true });
    channel.sendToQueue(queue, body, { persistent: true });
    await channel.waitForConfirms();
    const [message] = await (await consume(channel, queue)).take(1);
    expect('size', body.length, message.content.length);
    expect('SHA-256', sha256(body), sha256(message.content));
  },
};

class Unexpected extends Error {}

function expect(what, expected, found) {
  if (isDeepStrictEqual(expected, found)) return;
  throw new Unexpected(`expected ${what} ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
}

/** Collects what a queue delivers; acknowledges what is taken. */
class Consumer {
  constructor(channel) {
    this.channel = channel;
    this.deliveries = [];
    this.arrived = () => {};
  }

  deliver(message) {
    this.deliveries.push(message);
    this.arrived();
  }

  /** The next delivery, not acknowledged. */
  async next() {
    while (this.deliveries.length === 0) await new Promise((resolve) => (this.arrived = resolve));
    return this.deliveries.shift();
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) {
      const message = await this.next();
      this.channel.ack(message);
      taken.push(message);
    }
    return taken;
  }
}

async function consume(channel, queue) {
  const consumer = new Consumer(channel);
  await channel.consume(queue, (message) => consumer.deliver(message));
  return consumer;
}

/** A consumer with a connection of its own that holds one task at a time. */
async function startWorker(queue) {
  const channel = await openChannel();
  await channel.prefetch(1);
  return consume(channel, queue);
}

const connections = [];
const cleanups = [];

async function openChannel({ confirm = false } = {}) {
  const connection = await amqp.connect(uri);
  connections.push(connection);
  return confirm ? connection.createConfirmChannel() : connection.createChannel();
}

/** Loses the channel's connection as a killed process does: the socket is gone, and no method says so. */
function die(channel) {
  const index = connections.findIndex(({ connection }) => connection === channel.connection);
  const [lost] = connections.splice(index, 1);
  lost.on('error', () => {});
  lost.connection.stream.destroy();
}

async function declareQueue(channel, label, options = { durable: false }) {
  const { queue } = await channel.assertQueue(named(label), options);
  cleanups.push(() => channel.deleteQueue(queue));
  return queue;
}

async function declareExchange(channel, label, type) {
  const { exchange } = await channel.assertExchange(named(label), type, { durable: false });
  cleanups.push(() => channel.deleteExchange(exchange));
  return exchange;
}

async function serverNamedQueue(channel, exchange, bindingKeys = ['']) {
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const bindingKey of bindingKeys) await channel.bindQueue(queue, exchange, bindingKey);
  return queue;
}

async function getAll(channel, queue) {
  const messages = [];
  for (;;) {
    const message = await channel.get(queue, { noAck: true });
    if (!message) return messages;
    messages.push(message);
  }
}

async function publishUnroutable(channel) {
  const events = [];
  channel.on('return', ({ fields }) => events.push(`return ${fields.replyCode} ${fields.replyText}`));
  const settled = (failure) => events.push(failure ? 'nack' : 'ack');
  channel.sendToQueue(named('nowhere'), Buffer.from('lost'), { mandatory: true }, settled);
  await channel.waitForConfirms();
  return events;
}

function text(message) {
  return message.content.toString();
}

function named(label) {
  return `${label}-${randomBytes(6).toString('hex')}`;
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

function fibonacci(number) {
  let [before, current] = [0, 1];
  for (let step = 0; step < number; step++) [before, current] = [current, before + current];
  return before;
}

async function main(name) {
  const start = performance.now();
  const fail = (message) => {
    console.log(`FAILED ${name}: ${message}`);
    process.exit(1);
  };
  setTimeout(fail, DEADLINE_SECONDS * 1000, `expected an end within ${DEADLINE_SECONDS} s, found none`);
  try {
    await cases[name]();
    for (const cleanup of cleanups) await cleanup();
    for (const connection of connections) await connection.close();
  } catch (failure) {
    fail(failure.message);
  }
  console.log(`ok ${name} ${((performance.now() - start) / 1000).toFixed(3)}s`);
  process.exit(0); // The heartbeat timers of a lost connection would go on.
}

main(process.argv[3]);
