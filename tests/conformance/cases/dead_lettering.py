"""Dead letters: what becomes one, where it goes, and what it tells of its deaths."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel
from wire.connection import Received
from wire.values import plain


OTHERS_DEATH = {"queue": "elsewhere", "reason": "rejected", "count": 5, "exchange": "e"}


class Morgue:
    """A queue for dead letters, and queues that send their dead there."""

    def __init__(self, broker: Broker):
        self.broker = broker
        self.channel = broker.channel()
        self.exchange = broker.exchange("dlx")
        self.dead = broker.queue("dead")
        self.channel.declare_exchange(self.exchange, "fanout")
        self.channel.declare(self.dead)
        self.channel.bind(self.dead, self.exchange)

    def queue(self, suffix: str = "q", **arguments) -> str:
        queue = self.broker.queue(suffix)
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.channel.declare(queue, durable="x-queue-type" in named,
                             arguments={"x-dead-letter-exchange": self.exchange, **named})  # fmt: skip
        return queue

    def collect(self) -> Received:
        """The one dead letter there is."""
        self.channel.wait_for_count(self.dead, 1)
        return self.channel.get(self.dead)


def deaths(event: Received) -> list[dict]:
    return plain(event.properties["headers"]["x-death"])


def in_short(event: Received) -> list[tuple]:
    return [(death["queue"].rpartition(".")[2], death["reason"], death["count"]) for death in deaths(event)]


def get_and_reject(channel: Channel, queue: str):
    channel.wait_for_count(queue, 1)
    channel.reject(channel.get(queue, no_ack=False).delivery_tag, requeue=False)


@case(121, 122, "1.7", "a rejected message tells queue, reason, exchange, keys and time of its death")
def a_rejected_message_tells_of_its_death(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish("", queue, "dies", headers={"own": 1}, message_id="m", delivery_mode=2)
    get_and_reject(morgue.channel, queue)
    letter = morgue.collect()
    death = deaths(letter)[0]
    expect("fields in order", list(letter.properties["headers"]["x-death"].value[0].value),
           ["count", "reason", "queue", "time", "exchange", "routing-keys"])  # fmt: skip
    expect("death", (death["count"], death["reason"], death["queue"], death["exchange"], death["routing-keys"]),
           (1, "rejected", queue, "", [queue]))  # fmt: skip
    headers = plain(letter.properties["headers"])
    expect("first death", [headers[f"x-first-death-{name}"] for name in ("queue", "reason", "exchange")],
           [queue, "rejected", ""])  # fmt: skip
    expect("kept", (letter.properties["message_id"], letter.properties["delivery_mode"], headers["own"]), ("m", 2, 1))


@case(121, "1.12", "nack without requeue is a rejection, of several at once too")
def nacked_messages_are_dead_lettered(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish_confirmed("", queue, "1", "2", "3")
    for _ in range(3):
        morgue.channel.get(queue, no_ack=False)
    morgue.channel.nack(3, multiple=True, requeue=False)
    morgue.channel.wait_for_count(morgue.dead, 3)
    expect("order", [event.body for event in morgue.channel.get_all(morgue.dead)], [b"1", b"2", b"3"])


@case(120, "1.12", "an expired message loses its expiration, which its death tells")
def an_expired_message_loses_its_expiration(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish("", queue, "dies", expiration="50", delivery_mode=2, priority=3, headers={"own": "kept"})
    letter = morgue.collect()
    expect("expiration", "expiration" in letter.properties, False)
    expect("original expiration", deaths(letter)[0]["original-expiration"], "50")
    expect("reason", deaths(letter)[0]["reason"], "expired")
    expect("own header", plain(letter.properties["headers"])["own"], "kept")


@case(120, "1.12", "a message that expires by its queue's TTL has no expiration to tell")
def a_message_expired_by_its_queue(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue(x_message_ttl=50)
    morgue.channel.publish("", queue, "dies")
    letter = morgue.collect()
    expect("names", "original-expiration" in deaths(letter)[0], False)


@case(120, "1.12", "a rejected message with an expiration loses it as well")
def a_rejected_message_loses_its_expiration(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish("", queue, "dies", expiration="600000")
    get_and_reject(morgue.channel, queue)
    letter = morgue.collect()
    expect("original expiration", deaths(letter)[0]["original-expiration"], "600000")


@case(121, "1.12", "a message dropped from a full queue tells maxlen")
def a_dropped_message_tells_maxlen(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue(x_max_length=1)
    morgue.channel.publish_confirmed("", queue, "dies", "stays")
    expect("deaths", in_short(morgue.collect()), [("q", "maxlen", 1)])


@case(126, "reject-publish-dlx dead-letters the new message with maxlen, and refuses it")
def reject_publish_dlx_dead_letters_the_new_message(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue(x_max_length=1, x_overflow="reject-publish-dlx")
    publisher = broker.channel().confirm()
    publisher.publish("", queue, "stays")
    publisher.publish("", queue, "dies", expiration="600000")
    expect("confirms", publisher.confirms(1, 2), {"acked": [1], "nacked": [2]})
    letter = morgue.collect()
    expect("body", letter.body, b"dies")
    expect("deaths", in_short(letter), [("q", "maxlen", 1)])


@case(121, "deaths in the same queue for the same reason are counted in one entry")
def equal_deaths_are_counted(broker: Broker):
    channel = broker.channel()
    queue, retry = broker.queue(), broker.queue("retry")
    channel.declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry})
    channel.declare(retry, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue,
                                      "x-message-ttl": 20})  # fmt: skip
    channel.publish("", queue, "again and again")
    for _ in range(3):
        get_and_reject(channel, queue)
    channel.wait_for_count(queue, 1)
    expect("deaths", in_short(channel.get(queue)), [("retry", "expired", 3), ("q", "rejected", 3)])


@case(121, 122, "deaths of other queues and reasons stand newest first")
def deaths_stand_newest_first(broker: Broker):
    morgue = Morgue(broker)
    channel = morgue.channel
    third = morgue.queue("third")
    second = broker.queue("second")
    channel.declare(second, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": third,
                                       "x-message-ttl": 20})  # fmt: skip
    first = broker.queue("first")
    channel.declare(first, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second,
                                      "x-max-length": 0})  # fmt: skip
    channel.publish("", first, "dies three times")
    get_and_reject(channel, third)
    letter = morgue.collect()
    expect("last death", in_short(letter)[0], ("third", "rejected", 1))
    expect("deaths", sorted(in_short(letter)), [("first", "maxlen", 1), ("second", "expired", 1), ("third", "rejected", 1)])
    expect("first death", plain(letter.properties["headers"])["x-first-death-queue"], first)


@case(122, "x-first-death stays, and what tells of the last death follows")
def first_death_stays(broker: Broker):
    channel = broker.channel()
    one, two, three = broker.queue("one"), broker.queue("two"), broker.queue("three")
    channel.declare(three)
    channel.declare(two, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": three})
    channel.declare(one, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": two})
    channel.publish("", one, "dies twice")
    get_and_reject(channel, one)
    get_and_reject(channel, two)
    channel.wait_for_count(three, 1)
    headers = plain(channel.get(three).properties["headers"])
    broker.note("headers", names=sorted(headers))
    expect("first death", headers["x-first-death-queue"], one)


@case(123, "a message that comes back to the queue in which it expired is dropped")
def a_circle_of_expiry_drops(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue,
                                      "x-message-ttl": 50})  # fmt: skip
    channel.publish_confirmed("", queue, "once")
    channel.wait_for_count(queue, 0)
    channel.expect_nothing(queue)


@case(123, "a circle of two queues ends where it began")
def a_circle_of_two_queues_drops(broker: Broker):
    channel = broker.channel()
    one, two, witness = broker.queue("one"), broker.queue("two"), broker.queue("witness")
    exchange = broker.exchange()
    channel.declare_exchange(exchange, "fanout")
    channel.declare(one, arguments={"x-dead-letter-exchange": exchange, "x-message-ttl": 50})
    channel.declare(two, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": one,
                                    "x-message-ttl": 50})  # fmt: skip
    channel.declare(witness)
    channel.bind(two, exchange)
    channel.bind(witness, exchange)
    channel.publish_confirmed("", one, "once")
    channel.wait_for_count(witness, 1)
    channel.wait_for_count(one, 0)
    channel.wait_for_count(two, 0)
    expect("copies", len(channel.get_all(witness)), 1)


@case(123, "a full queue that dead-letters to itself drops")
def a_circle_of_maxlen_drops(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue,
                                      "x-max-length": 1})  # fmt: skip
    channel.publish_confirmed("", queue, "1", "2", "3")
    channel.wait_for_count(queue, 1)
    found = channel.get_all(queue)
    broker.note("left", bodies=[event.body for event in found])


@case(123, "a rejection in the circle keeps it going")
def a_rejection_keeps_the_circle_going(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
    channel.publish("", queue, "again")
    for _ in range(3):
        get_and_reject(channel, queue)
    channel.wait_for_count(queue, 1)
    expect("deaths", in_short(channel.get(queue)), [("q", "rejected", 3)])


@case(124, "purged and deleted messages are not dead-lettered, nor those of a queue that is deleted")
def purged_messages_are_not_dead_lettered(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish_confirmed("", queue, "1", "2")
    morgue.channel.call("queue.purge", queue=queue)
    morgue.channel.publish_confirmed("", queue, "3")
    morgue.channel.call("queue.delete", queue=queue)
    morgue.channel.expect_nothing(morgue.dead)
    expect("dead letters", morgue.channel.count(morgue.dead), 0)


@case("1.12", "an acknowledged message is no dead letter, nor one that is requeued")
def what_is_no_dead_letter(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish_confirmed("", queue, "1", "2")
    morgue.channel.get(queue, no_ack=False)
    morgue.channel.get(queue, no_ack=False)
    morgue.channel.ack(1)
    morgue.channel.reject(2)
    morgue.channel.wait_for_count(queue, 1)
    expect("dead letters", morgue.channel.count(morgue.dead), 0)


@case("1.12", "without a dead letter exchange, or with one that is not there, messages are dropped")
def a_missing_dead_letter_exchange_drops(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-dead-letter-exchange": broker.exchange("missing")})
    channel.publish("", queue, "gone")
    get_and_reject(channel, queue)
    channel.expect_nothing(queue)


@case("1.12", "a dead letter exchange that is declared later is used from then on")
def a_dead_letter_exchange_declared_later(broker: Broker):
    channel = broker.channel()
    queue, dead, exchange = broker.queue(), broker.queue("dead"), broker.exchange()
    channel.declare(queue, arguments={"x-dead-letter-exchange": exchange})
    channel.declare(dead)
    channel.declare_exchange(exchange, "fanout")
    channel.bind(dead, exchange)
    channel.publish("", queue, "dies")
    get_and_reject(channel, queue)
    channel.wait_for_count(dead, 1)


@case(125, "a dead letter goes by its own key, and by a queue's key if it has one")
def keys_of_dead_letters(broker: Broker):
    channel = broker.channel()
    exchange, source = broker.exchange("dlx"), broker.exchange("source")
    own, given = broker.queue("own"), broker.queue("given")
    channel.declare_exchange(exchange)
    channel.declare_exchange(source, "fanout")
    for queue, key in ((own, "own key"), (given, "given key")):
        channel.declare(queue)
        channel.bind(queue, exchange, key)
    plain_queue, keyed = broker.queue("plain"), broker.queue("keyed")
    channel.declare(plain_queue, arguments={"x-dead-letter-exchange": exchange, "x-max-length": 0})
    channel.declare(keyed, arguments={"x-dead-letter-exchange": exchange, "x-max-length": 0,
                                      "x-dead-letter-routing-key": "given key"})  # fmt: skip
    for queue in (plain_queue, keyed):
        channel.bind(queue, source)
    channel.publish(source, "own key", "dies")
    channel.wait_for_count(own, 1)
    channel.wait_for_count(given, 1)
    expect("keys", [channel.get(queue).routing_key for queue in (own, given)], ["own key", "given key"])


@case(125, "dead letters go by CC and BCC as well")
def dead_letters_go_by_copies_too(broker: Broker):
    channel = broker.channel()
    exchange, queue = broker.exchange("dlx"), broker.queue()
    channel.declare_exchange(exchange)
    channel.declare(queue, arguments={"x-dead-letter-exchange": exchange})
    for name in (queue, "cc", "bcc"):
        channel.declare(broker.queue(f"dead {name}"))
        channel.bind(broker.queue(f"dead {name}"), exchange, name)
    channel.publish("", queue, "dies", headers={"CC": ["cc"], "BCC": ["bcc"]})
    get_and_reject(channel, queue)
    channel.wait_for_count(broker.queue(f"dead {queue}"), 1)
    found = channel.get(broker.queue(f"dead {queue}"))
    expect("keys in the death", deaths(found)[0]["routing-keys"], [queue, "cc"])
    for name in ("cc", "bcc"):
        broker.note("by", name=name, count=channel.count(broker.queue(f"dead {name}")))


@case(125, "a queue's dead letter key takes CC away")
def a_dead_letter_key_takes_copies_away(broker: Broker):
    channel = broker.channel()
    queue, dead, copy = broker.queue(), broker.queue("dead"), broker.queue("copy")
    for name in (dead, copy):
        channel.declare(name)
    channel.declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
                                      "x-max-length": 0})  # fmt: skip
    channel.publish_confirmed("", queue, "dies", headers={"CC": [broker.queue("nobody")], "kept": 1})
    channel.wait_for_count(dead, 1)
    expect("headers", "CC" in channel.get(dead).properties["headers"], False)


@case("1.7", "a client that publishes a dead letter again")
def republishing_a_dead_letter(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish("", queue, "dies")
    get_and_reject(morgue.channel, queue)
    letter = morgue.collect()
    morgue.channel.publish("", queue, "again", headers=letter.properties["headers"])
    get_and_reject(morgue.channel, queue)
    letter = morgue.collect()
    broker.note("deaths", deaths=in_short(letter))


@case("1.7", "an x-death that a client made up")
def a_made_up_x_death(broker: Broker):
    morgue = Morgue(broker)
    for number, value in enumerate(("text", 1, [], [{"queue": "q"}], {"a": 1}, [OTHERS_DEATH])):
        queue = morgue.queue(f"q{number}")
        broker.note("publish with x-death", value=repr(value))
        morgue.channel.publish("", queue, "dies", headers={"x-death": value})
        get_and_reject(morgue.channel, queue)
        morgue.collect()


@case("1.12", "a dead letter through a topic exchange keeps the key, and names the dead letter exchange")
def dead_letters_name_the_dead_letter_exchange(broker: Broker):
    morgue = Morgue(broker)
    queue = morgue.queue()
    morgue.channel.publish("", queue, "dies")
    get_and_reject(morgue.channel, queue)
    letter = morgue.collect()
    expect("exchange and key", (letter.exchange, letter.routing_key), (morgue.exchange, queue))
    expect("redelivered", letter.redelivered, False)


@case("1.12", "the alternate exchange of a dead letter exchange gets what that does not route")
def alternate_of_a_dead_letter_exchange(broker: Broker):
    channel = broker.channel()
    exchange, alternate = broker.exchange("dlx"), broker.exchange("alternate")
    queue, dead = broker.queue(), broker.queue("dead")
    channel.declare_exchange(alternate, "fanout")
    channel.declare_exchange(exchange, "direct", arguments={"alternate-exchange": alternate})
    channel.declare(dead)
    channel.bind(dead, alternate)
    channel.declare(queue, arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue, "dies")
    get_and_reject(channel, queue)
    channel.wait_for_count(dead, 1)
