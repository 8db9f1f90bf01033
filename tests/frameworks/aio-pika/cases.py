"""aio-pika's robust connection and its patterns: cases.py URI CASE."""

import asyncio

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import ChannelInvalidStateError
from aio_pika.patterns import RPC, Master

import proof
from proof import Unexpected, expect

MESSAGE_COUNT = 300


def server_properties(uri):
    asyncio.run(check_server_properties(uri))


async def check_server_properties(uri):
    """aiormq looks its capabilities up without a default; what is missing raises KeyError."""
    connection = await aio_pika.connect(uri)
    link = connection.transport.connection
    expect("basic.nack", True, link.connection_tune is not None and link.basic_nack)
    expect("publisher confirms", True, bool(link.publisher_confirms))
    expect("consumer cancel notify", True, link.consumer_cancel_notify)
    expect("exchange to exchange bindings", True, link.exchange_exchange_bindings)
    await connection.close()


def topology_survives_term(uri):
    asyncio.run(survive(uri, "TERM"))


def topology_survives_kill(uri):
    asyncio.run(survive(uri, "KILL"))


async def survive(uri, by_signal):
    """A robust connection while its broker goes and comes back: queues of three kinds and their consumers.

    A publisher sends all the time and repeats what was not confirmed. Whatever was confirmed has to come out of the
    durable queue, and to lie in another that nobody consumes.
    """
    connection = await aio_pika.connect_robust(uri, reconnect_interval=0.2, timeout=10)
    durable = await Subscriber.of(connection, durable=True)
    exclusive = await Subscriber.of(connection, exclusive=True)
    passing = await Subscriber.of(connection, auto_delete=True)
    subscribers = [durable, exclusive, passing]
    archive = await (await connection.channel()).declare_queue(proof.named("archive"), durable=True)
    await archive.bind(durable.exchange_name, "key.*")
    publisher = Publisher(await connection.channel(), durable)
    publishing = asyncio.create_task(publisher.publish_all())
    await until("some messages", lambda: len(durable.bodies) > MESSAGE_COUNT // 4)
    await asyncio.to_thread(proof.restart_broker, by_signal)
    publisher.pause = 0
    await asyncio.wait_for(publishing, 60)
    await until("all confirmed messages", lambda: publisher.confirmed <= set(durable.bodies))
    print(f"{publisher.repeated} publishes repeated, {len(durable.bodies) - len(set(durable.bodies))} messages twice")
    expect("confirmed messages", MESSAGE_COUNT, len(publisher.confirmed))
    expect("publishes repeated", True, publisher.repeated > 0)
    lost = publisher.confirmed - await all_bodies(archive)
    expect("confirmed messages that were not kept", (0, []), (len(lost), sorted(lost)[:5]))
    for subscriber in subscribers:
        await subscriber.check_that_it_consumes(await connection.channel())
    await connection.close()


def patterns(uri):
    asyncio.run(check_patterns(uri))


async def check_patterns(uri):
    """RPC (an exclusive reply queue, a headers exchange for dead letters) and a master with its workers."""
    connection = await aio_pika.connect_robust(uri)
    rpc = await RPC.create(await connection.channel())
    name = proof.named("double")
    await rpc.register(name, double, auto_delete=True)
    expect("answers", [2 * n for n in range(50)], await asyncio.gather(*(rpc.call(name, {"number": n}) for n in range(50))))
    expect("failure", "ValueError", await name_of_error(rpc.call(name, {"number": -1})))
    expect("expired call", "TimeoutError", await name_of_error(call_nobody(connection)))
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=4)
    master, done = Master(channel), []
    queue = proof.named("tasks")
    worker = await master.create_worker(queue, collector_into(done), auto_delete=True)
    for number in range(50):
        await master.create_task(queue, {"number": number})
    await until("all tasks", lambda: sorted(done) == list(range(50)))
    await worker.close()
    await connection.close()


def returns(uri):
    asyncio.run(check_returns(uri))


async def check_returns(uri):
    connection = await aio_pika.connect_robust(uri)
    channel = await connection.channel(on_return_raises=True)
    publish = channel.default_exchange.publish(Message(b"lost"), proof.named("nowhere"), mandatory=True)
    expect("error of an unroutable publish", "PublishError", await name_of_error(publish))
    await connection.close()


def transactions(uri):
    asyncio.run(check_transactions(uri))


async def check_transactions(uri):
    connection = await aio_pika.connect_robust(uri)
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(proof.named("transaction"), exclusive=True)
    async with channel.transaction():
        await channel.default_exchange.publish(Message(b"committed"), queue.name)
    transaction = channel.transaction()
    await transaction.select()
    await channel.default_exchange.publish(Message(b"rolled back"), queue.name)
    await transaction.rollback()
    reader = await (await connection.channel()).get_queue(queue.name)
    found = await reader.get(timeout=5)
    expect("message", b"committed", found.body)
    await found.ack()
    expect("messages left", None, await reader.get(timeout=5, fail=False))
    await connection.close()


CASES = [
    server_properties, topology_survives_term, topology_survives_kill, patterns, returns, transactions,
]  # fmt: skip


class Subscriber:
    """A queue bound to an exchange of its own, and what it delivers."""

    @classmethod
    async def of(cls, connection, **kind):
        subscriber = cls()
        subscriber.kind = next(iter(kind))
        subscriber.bodies = []
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=20)
        name = proof.named(subscriber.kind)
        subscriber.exchange_name = name
        exchange = await channel.declare_exchange(name, ExchangeType.TOPIC, durable=subscriber.kind == "durable")
        queue = await channel.declare_queue(name, **kind)
        await queue.bind(exchange, "key.*")
        await queue.consume(subscriber.receive)
        return subscriber

    async def receive(self, message):
        self.bodies.append(message.body)
        await message.ack()

    async def check_that_it_consumes(self, channel):
        """Publishes to its exchange: the exchange, the binding, the queue and the consumer have to be there again."""
        body = proof.named("after").encode()
        exchange = await channel.get_exchange(self.exchange_name)
        await exchange.publish(Message(body), "key.after", timeout=10)
        await until(f"a message to the {self.kind} queue", lambda: body in self.bodies)


class Publisher:
    """Publishes numbered messages, each until it is confirmed."""

    def __init__(self, channel, subscriber):
        self.channel = channel
        self.exchange_name = subscriber.exchange_name
        self.confirmed = set()
        self.repeated = 0
        # Between publishes, so that they last until the broker is stopped.
        self.pause = 0.005

    async def publish_all(self):
        exchange = await self.channel.get_exchange(self.exchange_name, ensure=False)
        for number in range(MESSAGE_COUNT):
            await self.publish(exchange, str(number).encode())
            await asyncio.sleep(self.pause)

    async def publish(self, exchange, body):
        message = Message(body, delivery_mode=DeliveryMode.PERSISTENT)
        while True:
            try:
                await exchange.publish(message, "key.number", timeout=5, mandatory=True)
                self.confirmed.add(body)
                return
            except (aio_pika.exceptions.AMQPError, ConnectionError, ChannelInvalidStateError, TimeoutError,
                    asyncio.CancelledError, RuntimeError):  # fmt: skip
                self.repeated += 1
                await asyncio.sleep(0.1)


async def all_bodies(queue):
    bodies = set()
    while (message := await queue.get(no_ack=True, fail=False, timeout=10)) is not None:
        bodies.add(message.body)
    return bodies


async def double(number):
    if number < 0:
        raise ValueError(number)
    return 2 * number


def collector_into(done):
    async def collect(number):
        done.append(number)

    return collect


async def call_nobody(connection):
    """A call that expires in a queue which nobody consumes comes back as a dead letter."""
    channel = await connection.channel()
    rpc = await RPC.create(channel)
    arguments = {"x-dead-letter-exchange": RPC.DLX_NAME}
    queue = await channel.declare_queue(proof.named("nobody"), auto_delete=True, arguments=arguments)
    await rpc.call(queue.name, {}, expiration=0.3)


async def name_of_error(awaitable):
    try:
        await asyncio.wait_for(awaitable, 15)
    except Exception as error:
        return type(error).__name__
    return None


async def until(what, is_so, seconds=30):
    for _ in range(seconds * 50):
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise Unexpected(f"expected {what} within {seconds} s, found that they did not come")


if __name__ == "__main__":
    proof.main(CASES, deadlines={"topology_survives_term": 140, "topology_survives_kill": 140})
