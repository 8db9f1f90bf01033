"""Kombu by itself, in the ways its users and Celery use it: cases.py URI CASE."""

import socket
import threading
import time
from contextlib import contextmanager

import amqp
from kombu import Connection, Consumer, Exchange, Producer, Queue, binding
from kombu.mixins import ConsumerProducerMixin
from kombu.pidbox import Mailbox
from kombu.pools import producers
from kombu.transport import native_delayed_delivery as delay

import proof
from proof import Unexpected, expect, wait_until


def server_properties(uri):
    """Kombu takes the prefetch of a server other than RabbitMQ 3.3 to 3.x for that of the specification."""
    with Connection(uri) as connection:
        connection.connect()
        properties = connection.connection.server_properties
        expect("product", "RabbitMQ", properties["product"])
        expect("meaning of global prefetch as in the specification", False, connection.qos_semantics_matches_spec)
        capabilities = properties["capabilities"]
        wanted = ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close", "publisher_confirms"]
        expect("missing capabilities", [], [name for name in wanted if not capabilities.get(name)])


def confirmed_publishes(uri):
    """With confirm_publish every publish waits for its ack; without a queue, mandatory tells."""
    returned = []
    with channel_of(uri, transport_options={"confirm_publish": True}) as channel:
        queue = declared(channel, Queue(proof.named("confirmed"), Exchange(proof.named("confirmed"), "direct"), "key"))
        producer = Producer(channel, queue.exchange, on_return=lambda error, _, key, __: returned.append((error.reply_code, key)))
        for number in range(200):
            producer.publish({"number": number}, routing_key="key", retry=True)
        expect("messages", 200, count(channel, queue.name))
        producer.publish({"number": -1}, routing_key="elsewhere", mandatory=True)
        expect("what came back", [(312, "elsewhere")], returned)


def refused_publishes(uri):
    """A queue that is full and refuses: the publish ends with a nack."""
    with channel_of(uri, transport_options={"confirm_publish": True}) as channel:
        arguments = {"x-overflow": "reject-publish"}
        queue = declared(channel, Queue(proof.named("full"), max_length=2, queue_arguments=arguments))
        producer = Producer(channel, routing_key=queue.name)
        outcomes = [outcome_of(lambda: producer.publish("body")) for _ in range(4)]
        expect("outcomes", ["ok", "ok", "MessageNacked", "MessageNacked"], outcomes)


def priorities(uri):
    with channel_of(uri) as channel:
        queue = declared(channel, Queue(proof.named("priorities"), max_priority=5))
        producer = Producer(channel, routing_key=queue.name)
        for number in range(24):
            producer.publish(number, priority=number % 8)
        expected = sorted(range(24), key=lambda number: -min(number % 8, 5))
        expect("order", expected, [message.payload for message in taken(channel, queue, 24)])


def expiry(uri):
    """Messages that expire by their own time and by their queue's, and a queue that expires unused."""
    # What is not confirmed yet need not be counted yet.
    with channel_of(uri, transport_options={"confirm_publish": True}) as channel:
        by_queue = declared(channel, Queue(proof.named("ttl"), message_ttl=1.5))
        by_message = declared(channel, Queue(proof.named("expiration")))
        unused = declared(channel, Queue(proof.named("expires"), expires=1))
        Producer(channel, routing_key=by_queue.name).publish("body")
        Producer(channel, routing_key=by_message.name).publish("body", expiration=1.2)
        Producer(channel, routing_key=by_message.name).publish("stays")
        expect("messages before", [1, 2], [count(channel, queue.name) for queue in (by_queue, by_message)])
        wait_until("no expired message", lambda: count(channel, by_queue.name) == 0)
        wait_until("no expired message", lambda: count(channel, by_message.name) == 1)
        expect("what stays", ["stays"], [message.payload for message in taken(channel, by_message, 1)])
        with Connection(uri) as other:
            # To ask for the queue is to use it.
            wait_until("no unused queue", lambda: not exists(other, unused.name), step=1.5)


def dead_letters(uri):
    """Rejected, expired and overflowing messages reach the dead letter queue with their x-death."""
    with channel_of(uri) as channel:
        dead = declared(channel, Queue(proof.named("dead"), Exchange(proof.named("dead"), "topic"), "#"))
        arguments = {"x-dead-letter-exchange": dead.exchange.name, "x-dead-letter-routing-key": "gone"}
        queue = declared(channel, Queue(proof.named("work"), max_length=1, queue_arguments=arguments))
        producer = Producer(channel, routing_key=queue.name)
        producer.publish("overflowing")
        producer.publish("rejected")
        taken(channel, queue, 1, settle=lambda message: message.reject())
        producer.publish("expired", expiration=0.2)
        found = {message.payload: message for message in taken(channel, dead, 3)}
        reasons = {body: message.headers["x-death"][0]["reason"] for body, message in found.items()}
        expect("reasons", {"overflowing": "maxlen", "rejected": "rejected", "expired": "expired"}, reasons)
        death = found["rejected"].headers["x-death"][0]
        expect("x-death", (queue.name, "", [queue.name], 1),
               (death["queue"], death["exchange"], death["routing-keys"], death["count"]))  # fmt: skip
        expect("routing key", "gone", found["rejected"].delivery_info["routing_key"])
        expect("original expiration", "200", found["expired"].headers["x-death"][0]["original-expiration"])
        expect("expiration", None, found["expired"].properties.get("expiration"))


def pidbox(uri):
    """Celery's remote control: a fanout exchange, mailboxes that expire, replies through a queue of the caller's."""
    mailbox = Mailbox(proof.named("control"), type="fanout")
    with Connection(uri) as server, Connection(uri) as client:
        names = ["first@host", "second@host"]
        for name in names:
            node = mailbox(server).Node(name, channel=server.channel())
            node.handlers["double"] = lambda state, number, name=name: {name: 2 * number}
            node.listen(callback=node.handle_message)
        box = mailbox(client)
        replies = run_beside(server, lambda: box.call(names, "double", {"number": 21}, timeout=5))
        expect("replies", [{"first@host": 42}, {"second@host": 42}], sorted(flat(replies), key=str))
        reply = run_beside(server, lambda: box.call(names[:1], "double", {"number": 1}, timeout=5))
        expect("reply of one", [{"first@host": 2}], flat(reply))
        expect("mailbox before the end", True, exists(client, mailbox.get_queue(names[0]).name))
        server.close()
        wait_until("no mailbox", lambda: not exists(client, mailbox.get_queue(names[0]).name), seconds=15, step=0.2)


def rpc(uri):
    """A ConsumerProducerMixin that answers to a reply queue, exclusive and named by the server."""
    with Connection(uri) as server, Connection(uri) as client:
        requests = Queue(proof.named("rpc"))
        requests(client.default_channel).declare()
        doubler = Doubler(server, requests)
        thread = threading.Thread(target=doubler.run, daemon=True)
        thread.start()
        replies = Queue("", exclusive=True, auto_delete=True)(client.channel())
        replies.declare()
        for number in range(20):
            Producer(client.default_channel).publish(
                number, routing_key=requests.name, reply_to=replies.name, correlation_id=str(number)
            )
        found = {message.properties["correlation_id"]: message.payload for message in taken(client, replies, 20)}
        expect("answers", {str(number): 2 * number for number in range(20)}, found)
        doubler.should_stop = True
        thread.join(10)


def topology(uri):
    """Several bindings of a queue, a headers exchange, an exchange bound to another, an alternate exchange."""
    with channel_of(uri) as channel:
        nowhere = declared(channel, Queue(proof.named("nowhere"), Exchange(proof.named("nowhere"), "fanout")))
        arguments = {"alternate-exchange": nowhere.exchange.name}
        source = Exchange(proof.named("source"), "topic", arguments=arguments)(channel)
        source.declare()
        target = Exchange(proof.named("target"), "headers")(channel)
        target.declare()
        target.bind_to(source, routing_key="by.headers")
        exact = {"x-match": "all", "colour": "red"}
        queue = declared(channel, Queue(proof.named("queue"), [
            binding(source, routing_key="a.*"), binding(source, routing_key="#.b"), binding(target, arguments=exact),
        ]))  # fmt: skip
        producer = Producer(channel, source)
        for key, headers in [("a.b", {}), ("c.b", {}), ("by.headers", {"colour": "red"}), ("no.one", {})]:
            producer.publish(key, routing_key=key, headers=headers)
        expect("routed", ["a.b", "c.b", "by.headers"], [message.payload for message in taken(channel, queue, 3)])
        expect("unroutable", ["no.one"], [message.payload for message in taken(channel, nowhere, 1)])


def delayed_delivery(uri):
    """What Celery declares for countdowns with quorum queues, here of classic ones: 28 levels of TTL and dead letters."""
    with Connection(uri) as connection:
        prefix = proof.named("delay")
        channel = connection.channel()
        delay.declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", prefix)
        queue = declared(channel, Queue(proof.named("target"), Exchange(proof.named("target"), "topic"), "key"))
        delay.bind_queue_to_native_delayed_delivery_exchange(connection, queue, prefix)
        producer, start = Producer(channel), time.monotonic()
        for seconds in (3, 1):
            key = delay.calculate_routing_key(seconds, "key")
            producer.publish(seconds, exchange=delay.level_name(delay.MAX_LEVEL, prefix), routing_key=key)
        arrivals = {}

        def note(message):
            arrivals[message.payload] = time.monotonic() - start
            message.ack()

        taken(connection, queue, 2, settle=note)
        expect("order", [1, 3], list(arrivals))
        wrong = {seconds: after for seconds, after in arrivals.items() if not seconds <= after < seconds + 2}
        expect("delays out of bounds", {}, wrong)


def pools_and_cancels(uri):
    """A pool of producers shared by threads; a consumer that is told when its queue is deleted."""
    with Connection(uri) as connection:
        queue = declared(connection.channel(), Queue(proof.named("pooled")))
        threads = [threading.Thread(target=publish_from_pool, args=(connection, queue.name)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until("160 messages", lambda: count(connection.default_channel, queue.name) == 160)
        with Consumer(connection.channel(), queue, callbacks=[lambda _body, message: message.ack()]):
            connection.drain_events(timeout=5)
            with Connection(uri) as other:
                other.channel().queue_delete(queue.name)
            outcome = wait_until("a cancelled consumer", lambda: cancelled(connection))
        expect("error of the consumer", "ConsumerCancelled", outcome)


CASES = [
    server_properties, confirmed_publishes, refused_publishes, priorities, expiry, dead_letters, pidbox, rpc, topology,
    delayed_delivery, pools_and_cancels,
]  # fmt: skip


class Doubler(ConsumerProducerMixin):
    def __init__(self, connection, queue):
        self.connection = connection
        self.queue = queue

    def get_consumers(self, Consumer, channel):
        return [Consumer([self.queue], on_message=self.answer, prefetch_count=4)]

    def answer(self, message):
        properties = message.properties
        self.producer.publish(
            2 * message.payload, routing_key=properties["reply_to"], correlation_id=properties["correlation_id"]
        )
        message.ack()


@contextmanager
def channel_of(uri, **options):
    with Connection(uri, **options) as connection:
        yield connection.channel()


def declared(channel, queue):
    bound = queue(channel)
    bound.declare()
    return bound


def count(channel, queue_name):
    return channel.queue_declare(queue_name, passive=True).message_count


def exists(connection, queue_name):
    channel = connection.channel()
    try:
        channel.queue_declare(queue_name, passive=True)
        channel.close()
        return True
    except amqp.NotFound:
        return False
    except amqp.ResourceLocked:  # Exclusive to another connection.
        return True


def taken(channel, queue, number, settle=lambda message: message.ack()):
    """Consumes that many messages, one in flight."""
    connection = channel if isinstance(channel, Connection) else channel.connection.client
    messages = []
    with Consumer(connection.channel(), queue, on_message=messages.append, prefetch_count=1, auto_declare=False):
        settled = 0
        while settled < number:
            while len(messages) == settled:
                drain(connection, 10, f"{number} messages, of which {settled} came,")
            settle(messages[settled])
            settled += 1
    return messages


def drain(connection, seconds, what):
    try:
        connection.drain_events(timeout=seconds)
    except socket.timeout:
        raise Unexpected(f"expected {what} within {seconds} s, found none more") from None


def run_beside(connection, call):
    """Runs the call in another thread while this one serves the connection."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    while thread.is_alive():
        try:
            connection.drain_events(timeout=0.1)
        except socket.timeout:
            pass
    return answers[0]


def flat(replies):
    """A mailbox's replies without the node's name around each."""
    return [answer for reply in replies for answer in reply.values()]


def publish_from_pool(connection, queue_name):
    for number in range(20):
        with producers[connection].acquire(block=True) as producer:
            producer.publish(number, routing_key=queue_name, retry=True)


def cancelled(connection):
    try:
        connection.drain_events(timeout=1)
    except socket.timeout:
        return None
    except amqp.exceptions.AMQPError as error:
        return type(error).__name__


def outcome_of(publish):
    try:
        publish()
        return "ok"
    except Exception as error:
        return type(error).__name__


if __name__ == "__main__":
    proof.main(CASES)
