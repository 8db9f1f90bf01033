"""What NServiceBus declares: the conventional routing topology, and 28 levels of queues to delay by."""

import time

from link import linked
from proof import expect, named

LEVEL_COUNT = 28


def nservicebus(uri):
    """Events through a hierarchy of fanout exchanges, sends to an endpoint's exchange, the queue for errors."""
    with linked(uri) as link:
        base, derived = named("Messages:IEvent"), named("Messages:OrderPlaced")
        sales, billing = declare_endpoint(link, named("Sales"), {}), declare_endpoint(link, named("Billing"), {})
        for name in (base, derived):
            link.exchange(name)
        link.channel.exchange_bind(base, derived)
        link.channel.exchange_bind(billing, base)
        link.channel.exchange_bind(sales, derived)
        link.publish(derived, "", b"event", message_id="1", type="Messages.OrderPlaced", headers={"NServiceBus.Id": "1"})
        bodies = [link.inbox(endpoint).take_and_ack().body for endpoint in (sales, billing)]
        expect("event", [b"event", b"event"], bodies)


def nservicebus_delays(uri):
    """The delay infrastructure of classic queues."""
    delay(uri, {"x-queue-mode": "lazy"}, {})


def nservicebus_delays_quorum(uri):
    """The second delay infrastructure: quorum queues that hold a message until its next level has it."""
    of_level = {"x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    delay(uri, of_level, {"x-queue-type": "quorum"})


def delay(uri, of_level, of_endpoint):
    with linked(uri) as link:
        levels = Levels(link, named("nsb.v2"), of_level)
        endpoint = declare_endpoint(link, named("Sales"), of_endpoint)
        link.channel.exchange_bind(endpoint, levels.delivery, f"#.{endpoint}")
        inbox, start = link.inbox(endpoint), time.monotonic()
        for seconds in (3, 2, 1):
            levels.publish(endpoint, seconds)
        for seconds in (1, 2, 3):
            delivery = inbox.take_and_ack()
            after = time.monotonic() - start
            expect("seconds of delay", str(seconds).encode(), delivery.body)
            expect(f"a delay of {seconds} s, which took {after:.2f} s", True, seconds <= after < seconds + 2)
            levels.check_deaths(seconds, [queue for queue, _, _ in delivery.deaths()])


def declare_endpoint(link, name, arguments):
    link.queue(name, arguments)
    link.exchange(name)
    link.channel.queue_bind(name, name)
    return name


class Levels:
    """Level N keeps a message for 2^N s when bit N of its delay is set, and then, or else at once, hands it down."""

    def __init__(self, link, prefix, arguments):
        self.link = link
        self.prefix = prefix
        self.delivery = link.exchange(f"{prefix}.delay-delivery", "topic")
        for level in range(LEVEL_COUNT):
            below = self.name(level - 1) if level else self.delivery
            name = link.exchange(self.name(level), "topic")
            to_wait = {"x-message-ttl": 2**level * 1000, "x-dead-letter-exchange": below}
            link.queue(name, arguments | to_wait)
            wildcards = "*." * (LEVEL_COUNT - 1 - level)
            link.channel.queue_bind(name, name, f"{wildcards}1.#")
            link.channel.exchange_bind(below, name, f"{wildcards}0.#")

    def name(self, level):
        return f"{self.prefix}.delay-level-{level:02}"

    def publish(self, endpoint, seconds):
        """Enters at the level of the highest bit."""
        key = ".".join(f"{seconds:0{LEVEL_COUNT}b}") + f".{endpoint}"
        headers = {"NServiceBus.Transport.RabbitMQ.DelayInSeconds": seconds}
        self.link.publish(self.name(seconds.bit_length() - 1), key, str(seconds).encode(), headers)

    def check_deaths(self, seconds, queues):
        expected = {self.name(level) for level in range(LEVEL_COUNT) if seconds >> level & 1}
        expect("levels at which it waited", expected, set(queues))
