"""The eight programs of tests/clients with pika: cases.py URI CASE."""

import hashlib
import multiprocessing
import random
import signal
import sys
import time
import uuid
from contextlib import contextmanager

import pika
from pika.exceptions import UnroutableError

DEADLINE_SECONDS = 20
# The blocking channel waits for the disk a thousand times, one after the other.
DEADLINE_SECONDS_OF_CONFIRMS = 60
PERSISTENT = pika.DeliveryMode.Persistent


class Unexpected(Exception):
    """What a case found in place of what it expected."""


def expect(what, expected, found):
    if expected != found:
        raise Unexpected(f"expected {what} {expected!r}, found {found!r}")


def hello(uri):
    with channel_of(uri) as channel, queue(channel, "hello") as name:
        channel.basic_publish("", name, b"Hello World!")
        [delivery] = Consumer(channel, name).take(1)
        expect("body", b"Hello World!", delivery.body)


def work(uri):
    tasks = [f"task {number}".encode() for number in range(12)]
    with channel_of(uri) as channel, queue(channel, "work", durable=True) as name:
        channel.basic_qos(prefetch_count=1)
        slow, fast = DyingWorker(uri, name), Consumer(channel, name)
        for task in tasks:
            channel.basic_publish("", name, task, pika.BasicProperties(delivery_mode=PERSISTENT))
        held = slow.held_task()
        done = fast.take(len(tasks) - 1)
        expect("tasks of the fast worker", [task for task in tasks if task != held], bodies(done))
        slow.die()
        [again] = fast.take(1)
        expect("redelivered task", (held, True), (again.body, again.redelivered))
        expect("messages left", 0, message_count(channel, name))


def pubsub(uri):
    messages = [b"first", b"second", b"third"]
    with channel_of(uri) as channel, exchange(channel, "pubsub", "fanout") as name:
        subscribers = [Consumer(channel, server_named_queue(channel, name)) for _ in range(2)]
        for message in messages:
            channel.basic_publish(name, "ignored", message)
        for subscriber in subscribers:
            expect("messages of a subscriber", messages, bodies(subscriber.take(len(messages))))


def routing(uri):
    with channel_of(uri) as channel, exchange(channel, "routing", "direct") as name:
        errors = server_named_queue(channel, name, ["error"])
        everything = server_named_queue(channel, name, ["info", "warning", "error"])
        for severity in ["info", "warning", "error", "debug"]:
            channel.basic_publish(name, severity, severity.encode())
        expect("errors", [b"error"], bodies(get_all(channel, errors)))
        expect("all severities", [b"info", b"warning", b"error"], bodies(get_all(channel, everything)))


def topics(uri):
    keys = [
        "quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit",
        "quick.brown.fox", "orange", "quick.orange.new.rabbit", "lazy.orange.new.rabbit", "lazy",
    ]  # fmt: skip
    expected = {
        ("*.orange.*",): keys[0:3],
        ("*.*.rabbit", "lazy.#"): [keys[0], keys[1], keys[3], keys[4], keys[8], keys[9]],
        ("#",): keys,
    }
    with channel_of(uri) as channel, exchange(channel, "topics", "topic") as name:
        queues = {patterns: server_named_queue(channel, name, patterns) for patterns in expected}
        for key in keys:
            channel.basic_publish(name, key, b"")
        for patterns, matching in expected.items():
            found = [delivery.routing_key for delivery in get_all(channel, queues[patterns])]
            expect(f"keys that match {patterns}", matching, found)


def rpc(uri):
    with channel_of(uri) as server, channel_of(uri) as client, queue(server, "rpc") as name:
        requests = Consumer(server, name)
        replies_to = client.queue_declare("", exclusive=True).method.queue
        replies = Consumer(client, replies_to)
        calls = {str(uuid.uuid4()): number for number in [10, 15, 20]}
        for correlation_id, number in calls.items():
            properties = pika.BasicProperties(reply_to=replies_to, correlation_id=correlation_id)
            client.basic_publish("", name, str(number).encode(), properties)
        for request in requests.take(len(calls)):
            answer = str(fibonacci(int(request.body))).encode()
            properties = pika.BasicProperties(correlation_id=request.properties.correlation_id)
            server.basic_publish("", request.properties.reply_to, answer, properties)
        answers = {reply.properties.correlation_id: int(reply.body) for reply in replies.take(len(calls))}
        expect("answers", [55, 610, 6765], [answers.get(correlation_id) for correlation_id in calls])


def confirms(uri):
    persistent = pika.BasicProperties(delivery_mode=PERSISTENT)
    with channel_of(uri) as channel, queue(channel, "confirms", durable=True) as name:
        channel.confirm_delivery()  # From here on, each publish waits for its ack.
        for number in range(1000):
            channel.basic_publish("", name, str(number).encode(), persistent)
        expect("messages in the queue", 1000, message_count(channel, name))
        expect("fate of an unroutable message", [(312, "NO_ROUTE")], returns_before_ack(channel, f"{name}-nowhere"))


def returns_before_ack(channel, routing_key):
    try:
        channel.basic_publish("", routing_key, b"lost", mandatory=True)
    except UnroutableError as unroutable:
        return [(message.method.reply_code, message.method.reply_text) for message in unroutable.messages]
    return []


def large(uri):
    body = random.Random(1).randbytes(10 * 1024 * 1024)
    with channel_of(uri) as channel, queue(channel, "large", durable=True) as name:
        channel.confirm_delivery()
        channel.basic_publish("", name, body, pika.BasicProperties(delivery_mode=PERSISTENT))
        [delivery] = Consumer(channel, name).take(1)
        expect("size", len(body), len(delivery.body))
        expect("SHA-256", hashlib.sha256(body).hexdigest(), hashlib.sha256(delivery.body).hexdigest())


CASES = [hello, work, pubsub, routing, topics, rpc, confirms, large]


class Delivery:
    def __init__(self, method, properties, body):
        self.tag = method.delivery_tag
        self.routing_key = method.routing_key
        self.redelivered = method.redelivered
        self.properties = properties
        self.body = body


class Consumer:
    """Collects what a queue delivers; acknowledges what is taken."""

    def __init__(self, channel, queue_name):
        self.channel = channel
        self.deliveries = []
        channel.basic_consume(queue_name, self._deliver)

    def _deliver(self, _channel, method, properties, body):
        self.deliveries.append(Delivery(method, properties, body))

    def take(self, count):
        taken = []
        while len(taken) < count:
            while not self.deliveries:
                self.channel.connection.process_data_events(time_limit=1)
            taken.append(self.deliveries.pop(0))
            self.channel.basic_ack(taken[-1].tag)
        return taken


class DyingWorker:
    """A process that takes one task, never acknowledges it, and is killed."""

    def __init__(self, uri, queue_name):
        self.pipe, worker_end = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=hold_a_task, args=(uri, queue_name, worker_end), daemon=True)
        self.process.start()
        expect("state of the slow worker", "consuming", self.pipe.recv())

    def held_task(self):
        return self.pipe.recv()

    def die(self):
        self.process.kill()
        self.process.join()


def hold_a_task(uri, queue_name, pipe):
    channel = pika.BlockingConnection(pika.URLParameters(uri)).channel()
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue_name, lambda _channel, _method, _properties, body: pipe.send(body))
    pipe.send("consuming")
    channel.start_consuming()


@contextmanager
def channel_of(uri):
    connection = pika.BlockingConnection(pika.URLParameters(uri))
    yield connection.channel()
    connection.close()


@contextmanager
def queue(channel, label, durable=False):
    name = channel.queue_declare(named(label), durable=durable).method.queue
    yield name
    channel.queue_delete(name)


@contextmanager
def exchange(channel, label, kind):
    name = named(label)
    channel.exchange_declare(name, kind)
    yield name
    channel.exchange_delete(name)


def server_named_queue(channel, exchange_name, binding_keys=("",)):
    name = channel.queue_declare("", exclusive=True).method.queue
    for binding_key in binding_keys:
        channel.queue_bind(name, exchange_name, binding_key)
    return name


def get_all(channel, queue_name):
    deliveries = []
    while True:
        method, properties, body = channel.basic_get(queue_name, auto_ack=True)
        if method is None:
            return deliveries
        deliveries.append(Delivery(method, properties, body))


def message_count(channel, queue_name):
    return channel.queue_declare(queue_name, passive=True).method.message_count


def bodies(deliveries):
    return [delivery.body for delivery in deliveries]


def named(label):
    return f"{label}-{uuid.uuid4().hex[:12]}"


def fibonacci(number):
    before, current = 0, 1
    for _ in range(number):
        before, current = current, before + current
    return before


def set_deadline(seconds):
    def end_late(_signal, _frame):
        raise Unexpected(f"expected an end within {seconds} s, found none")

    signal.signal(signal.SIGALRM, end_late)
    signal.alarm(seconds)


def main(uri, name):
    case = {case.__name__: case for case in CASES}[name]
    set_deadline(DEADLINE_SECONDS_OF_CONFIRMS if case is confirms else DEADLINE_SECONDS)
    start = time.monotonic()
    try:
        case(uri)
    except Exception as failure:
        print(f"FAILED {name}: {str(failure) or repr(failure)}")
        sys.exit(1)
    print(f"ok {name} {time.monotonic() - start:.3f}s")


if __name__ == "__main__":
    main(*sys.argv[1:])
