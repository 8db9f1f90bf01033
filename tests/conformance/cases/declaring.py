"""Declaring, purging and deleting queues: names, equivalence, counts."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Channel
from wire.values import Typed

INEQUIVALENT = "PRECONDITION_FAILED - inequivalent arg '{}' for queue '{}' in vhost '/': {}"
NO_QUEUE = "NOT_FOUND - no queue '{}' in vhost '/'"


def expect_missing(channel: Channel, queue: str):
    channel.refuse(404, NO_QUEUE.format(queue), "queue.declare", queue=queue, passive=True)


@case(9, "a declaration with an argument the queue does not have is refused with 406, naming value and type")
def redeclared_with_an_argument_more(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    text = INEQUIVALENT.format("x-message-ttl", queue, "received the value '1000' of type 'signedint' but current is none")
    channel.refuse(406, text, "queue.declare", queue=queue, arguments={"x-message-ttl": 1000})


@case(9, "a declaration without an argument the queue has is refused with 406, naming value and type")
def redeclared_with_an_argument_less(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-message-ttl": 1000})
    text = INEQUIVALENT.format("x-message-ttl", queue, "received none but current is the value '1000' of type 'signedint'")
    channel.refuse(406, text, "queue.declare", queue=queue)


@case(9, "a declaration with another value of an argument is refused with 406, naming both")
def redeclared_with_another_value(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-max-length": 5, "x-dead-letter-exchange": "one"})
    channel.refuse(406, None, "queue.declare", queue=queue,
                   arguments={"x-max-length": 6, "x-dead-letter-exchange": "one"})  # fmt: skip
    channel.refuse(406, None, "queue.declare", queue=queue,
                   arguments={"x-max-length": 5, "x-dead-letter-exchange": "two"})  # fmt: skip


@case(9, "1.6", "each argument is compared, and the refusal names it")
def every_argument_is_compared(broker: Broker):
    channel = broker.channel()
    arguments = {
        "x-expires": 600000, "x-message-ttl": 60000, "x-dead-letter-exchange": "dlx",
        "x-dead-letter-routing-key": "key", "x-max-length": 10, "x-max-length-bytes": 1000, "x-max-priority": 5,
        "x-overflow": "reject-publish", "x-queue-mode": "lazy", "x-single-active-consumer": True,
        "x-queue-type": "classic",
    }  # fmt: skip
    queue = broker.queue()
    channel.declare(queue, arguments=arguments)
    for name in arguments:
        others = {other: value for other, value in arguments.items() if other != name}
        channel.send("queue.declare", queue=queue, arguments=others)
        if channel.receive().name == "channel.close":
            channel.send("channel.close-ok")
            channel.reopen()


@case(10, "integers of any width are equal, a float is none")
def integers_of_any_width_are_equal(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-message-ttl": Typed("I", 100)})
    for code in "lsLbBuiI":
        channel.call("queue.declare", queue=queue, arguments={"x-message-ttl": Typed(code, 100)})
    channel.refuse(406, None, "queue.declare", queue=queue, arguments={"x-message-ttl": Typed("d", 100.0)})


@case(11, "arguments nobody knows are accepted, and not compared")
def unknown_arguments_are_not_compared(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, arguments={"x-nobody-knows": 1, "also-unknown": "v"})
    for arguments in ({"x-nobody-knows": 2}, {}, {"x-other": True}):
        expect("answer", channel.call("queue.declare", queue=queue, arguments=arguments).name, "queue.declare-ok")


@case(12, "no queue type equals classic, both ways")
def no_queue_type_equals_classic(broker: Broker):
    channel = broker.channel()
    plain, typed = broker.queue("plain"), broker.queue("typed")
    channel.declare(plain)
    channel.declare(typed, arguments={"x-queue-type": "classic"})
    for queue, arguments in ((plain, {"x-queue-type": "classic"}), (typed, {})):
        expect("answer", channel.call("queue.declare", queue=queue, arguments=arguments).name, "queue.declare-ok")


@case(12, "a queue of one type cannot be declared with another")
def another_queue_type_is_refused(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, durable=True)
    channel.refuse(406, None, "queue.declare", queue=queue, durable=True, arguments={"x-queue-type": "quorum"})


@case(50, "a passive declaration of a queue takes no notice of its other fields")
def passive_declaration_ignores_the_rest(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare(queue, durable=True, arguments={"x-max-length": 3})
    channel.declare_exchange(exchange, "fanout", durable=True)
    channel.call("queue.declare", queue=queue, passive=True, durable=False, auto_delete=True,
                 arguments={"x-max-length": "nonsense", "x-queue-type": "nonsense"})  # fmt: skip
    channel.call("exchange.declare", exchange=exchange, passive=True, type="nonsense", internal=True,
                 arguments={"alternate-exchange": 7})  # fmt: skip


@case(50, 15, "a passive declaration with exclusive of a queue that is not")
def passive_declaration_with_exclusive(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.call("queue.declare", queue=queue, passive=True, exclusive=True)


@case(51, "a passive declaration without a name does not mean the last queue")
def passive_declaration_without_a_name(broker: Broker):
    channel = broker.channel()
    channel.declare(broker.queue())
    channel.refuse(404, NO_QUEUE.format(""), "queue.declare", passive=True)


@case(51, "elsewhere no name means the last queue that the channel declared")
def no_name_means_the_last_queue(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare_exchange(exchange)
    channel.declare(broker.queue("before"))
    channel.declare(queue)
    channel.call("queue.bind", exchange=exchange, routing_key="k")
    channel.publish(exchange, "k", "one")
    expect("body", channel.get("").body, b"one")
    channel.call("queue.unbind", exchange=exchange, routing_key="k")
    channel.call("queue.purge")
    channel.call("basic.consume", consumer_tag="tag")
    channel.publish("", queue, "two")
    channel.expect("basic.deliver", body=b"two")
    channel.call("basic.cancel", consumer_tag="tag")
    channel.call("queue.delete")
    expect_missing(channel, queue)


@case(51, "a passive declaration names the last queue as well")
def passive_declaration_sets_the_last_queue(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.declare(broker.queue("later"))
    channel.call("queue.declare", queue=queue, passive=True)
    channel.publish("", queue, "mine")
    expect("body", channel.get("").body, b"mine")


@case(51, "without a last queue no name is refused with 404")
def no_name_without_a_last_queue(broker: Broker):
    channel = broker.channel()
    text = "NOT_FOUND - no previously declared queue"
    channel.refuse(404, text, "basic.get")
    channel.refuse(404, text, "basic.consume")
    channel.refuse(404, text, "queue.bind", exchange="amq.direct", routing_key="k")
    channel.refuse(404, text, "queue.unbind", exchange="amq.direct", routing_key="k")
    channel.refuse(404, text, "queue.purge")
    channel.refuse(404, text, "queue.delete")


@case(51, "a channel's last queue is forgotten when the channel closes")
def last_queue_is_forgotten_with_the_channel(broker: Broker):
    channel = broker.channel()
    channel.declare(broker.queue())
    channel.close()
    channel.reopen()
    channel.refuse(404, "NOT_FOUND - no previously declared queue", "basic.get")


@case(52, "binding without queue and key takes the last queue's name for both")
def bind_without_queue_and_key(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare_exchange(exchange)
    channel.declare(queue)
    channel.call("queue.bind", exchange=exchange)
    channel.publish(exchange, queue, "by name", mandatory=True)
    channel.publish(exchange, "", "by nothing", mandatory=True)
    channel.expect("basic.return", body=b"by nothing")
    expect("body", channel.get(queue).body, b"by name")
    channel.call("queue.unbind", exchange=exchange)
    channel.publish(exchange, queue, "unbound", mandatory=True)
    channel.expect("basic.return", body=b"unbound")


@case(52, "binding with a queue but no key binds with the empty key")
def bind_without_a_key(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    channel.declare_exchange(exchange)
    channel.declare(queue)
    channel.call("queue.bind", queue=queue, exchange=exchange)
    channel.publish(exchange, queue, "by name", mandatory=True)
    channel.expect("basic.return", body=b"by name")


@case(53, "a queue without a name gets one of amq.gen- and 22 characters")
def server_named_queues(broker: Broker):
    channel = broker.channel()
    name = channel.call("queue.declare", exclusive=True).queue
    expect("prefix and length", (name[:8], len(name)), ("amq.gen-", 30))
    other = channel.call("queue.declare", exclusive=True).queue
    expect("names are equal", name == other, False)


@case(53, "declaring a name of the server's again is refused, passively it is not")
def server_given_name_declared_again(broker: Broker):
    channel = broker.channel()
    name = channel.call("queue.declare", exclusive=True).queue
    channel.call("queue.declare", queue=name, passive=True)
    text = f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"
    channel.refuse(403, text, "queue.declare", queue=name, exclusive=True)


@case(53, "a name that begins with amq. is refused, whether it is there or not")
def reserved_queue_names(broker: Broker):
    channel = broker.channel()
    text = "ACCESS_REFUSED - queue name '{}' contains reserved prefix 'amq.*'"
    for name in ("amq.", "amq.something"):
        channel.refuse(403, text.format(name), "queue.declare", queue=name)
    channel.refuse(404, NO_QUEUE.format("amq.something"), "queue.declare", queue="amq.something", passive=True)
    channel.call("queue.declare", queue=broker.queue("AMQ.fine"))


@case(56, "CR and LF are taken out of names when declaring, binding and deleting")
def line_ends_are_taken_out_of_names(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    expect("name", channel.call("queue.declare", queue=queue[:-1] + "\r\n" + queue[-1:] + "\n").queue, queue)
    channel.call("exchange.declare", exchange=exchange + "\n", type="direct")
    channel.call("exchange.declare", exchange=exchange, type="direct", passive=True)
    channel.call("queue.bind", queue=queue + "\n", exchange=exchange + "\r", routing_key="k")
    channel.publish(exchange, "k", "routed")
    expect("body", channel.get(queue).body, b"routed")
    channel.call("queue.unbind", queue=queue + "\n", exchange=exchange + "\n", routing_key="k")
    channel.call("queue.delete", queue=queue + "\n")
    expect_missing(channel, queue)


@case(56, "CR and LF stay in names when publishing, purging, consuming and getting")
def line_ends_stay_elsewhere(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish("", queue + "\n", "lost", mandatory=True)
    channel.expect("basic.return", reply_code=312)
    for method in ("basic.get", "basic.consume", "queue.purge"):
        channel.refuse(404, NO_QUEUE.format(queue + "\n"), method, queue=queue + "\n")


@case(57, "names may have any characters, blanks and 255 bytes")
def names_of_any_characters(broker: Broker):
    channel = broker.channel()
    for suffix in ("\u043f\u0440\u0438\u0432\u0435\u0442", "with blanks and \t tabs", "\U0001f600", "'quoted' \"twice\"",
                   "nul\0inside"):  # fmt: skip
        queue = broker.queue(suffix)
        channel.call("queue.declare", queue=queue)
        channel.publish("", queue, "body")
        channel.get(queue)
    queue = broker.queue("")
    channel.call("queue.declare", queue=broker.queue("n" * (255 - len(queue))))


@case(57, 3, "names that are no text are shown in refusals as they came")
def odd_names_in_refusals(broker: Broker):
    channel = broker.channel()
    for suffix in ("\u00e9", "it's", "~p", "%s", "tab\t", "\"", "\\"):
        queue = broker.queue(suffix)
        channel.refuse(404, NO_QUEUE.format(queue), "queue.declare", queue=queue, passive=True)


@case(57, "a name that is no UTF-8 closes the connection with 501")
def names_that_are_no_utf_8(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue=broker.queue("\udcff\udcfe"))
    channel.expect_connection_close(501, "FRAME_ERROR - Malformed UTF-8 in shortstr", "")


@case(58, "declare-ok counts ready messages and all consumers")
def declare_ok_counts_ready_messages_and_consumers(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish_confirmed("", queue, "1", "2", "3")
    channel.get(queue, no_ack=False)
    check_counts(channel, queue, 2, 0)
    channel.qos(1)
    channel.consume(queue, "one")
    channel.deliveries(1)
    channel.consume(queue, "two")
    channel.deliveries(1)
    check_counts(channel, queue, 0, 2)


def check_counts(channel: Channel, queue: str, messages: int, consumers: int):
    channel.send("queue.declare", queue=queue)
    channel.expect("queue.declare-ok", message_count=messages, consumer_count=consumers)


@case(59, "deleting what is not there succeeds")
def deleting_what_is_not_there(broker: Broker):
    channel = broker.channel()
    queue, exchange = broker.queue(), broker.exchange()
    for _ in range(2):
        channel.send("queue.delete", queue=queue)
        channel.expect("queue.delete-ok", message_count=0)
        channel.send("exchange.delete", exchange=exchange)
        channel.expect("exchange.delete-ok")
    channel.call("queue.delete", queue=queue, if_unused=True, if_empty=True)
    channel.call("exchange.delete", exchange=exchange, if_unused=True)


@case(60, "delete-ok and purge-ok count ready messages, and unacknowledged ones survive a purge")
def purge_spares_what_is_unacknowledged(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish_confirmed("", queue, "1", "2", "3")
    channel.get(queue, no_ack=False)
    channel.send("queue.purge", queue=queue)
    channel.expect("queue.purge-ok", message_count=2)
    channel.reject(1)
    channel.wait_for_count(queue, 1)
    channel.publish_confirmed("", queue, "4")
    expect("body", channel.get(queue, no_ack=False).body, b"1")
    channel.send("queue.delete", queue=queue)
    channel.expect("queue.delete-ok", message_count=1)


@case(61, "deleting with if-unused is refused while there are consumers")
def delete_if_unused(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.consume(queue, "tag")
    other = broker.channel()
    text = f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"
    other.refuse(406, text, "queue.delete", queue=queue, if_unused=True)
    channel.call("basic.cancel", consumer_tag="tag")
    other.call("queue.delete", queue=queue, if_unused=True)


@case(61, "deleting with if-empty is refused while there are messages")
def delete_if_empty(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish_confirmed("", queue, "1")
    text = f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"
    channel.refuse(406, text, "queue.delete", queue=queue, if_empty=True)
    channel.get(queue, no_ack=False)
    channel.call("queue.delete", queue=queue, if_empty=True)


@case(61, "with both conditions the consumer is named first")
def delete_if_unused_and_empty(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.qos(1)
    channel.consume(queue, "tag")
    channel.publish_confirmed("", queue, "1", "2")
    channel.deliveries(1)
    other = broker.channel()
    other.refuse(406, None, "queue.delete", queue=queue, if_unused=True, if_empty=True)


@case(61, "a quorum queue cannot be deleted on conditions")
def conditional_delete_of_a_quorum_queue(broker: Broker):
    for condition in ("if_unused", "if_empty"):
        channel = broker.channel()
        queue = broker.queue()
        channel.call("queue.declare", queue=queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.call("queue.delete", queue=queue, **{condition: True})


@case(67, "exclusive says nothing about durable: the owner may declare it again with the same")
def durable_exclusive_queues(broker: Broker):
    channel = broker.channel()
    queue, other = broker.queue(), broker.queue("other")
    channel.declare(queue, exclusive=True, durable=True)
    channel.call("queue.declare", queue=queue, exclusive=True, durable=True)
    channel.call("queue.declare", queue=queue, exclusive=True)
    channel.client.close()
    channel = broker.channel()
    channel.declare(other, exclusive=True)
    channel.call("queue.declare", queue=other, exclusive=True, durable=True)


@case("1.6", "queues of every combination of durable, exclusive and auto-delete can be declared")
def queues_of_every_property(broker: Broker):
    channel = broker.channel()
    for durable in (False, True):
        for exclusive in (False, True):
            for auto_delete in (False, True):
                queue = broker.queue(f"{durable}-{exclusive}-{auto_delete}")
                properties = {"durable": durable, "exclusive": exclusive, "auto_delete": auto_delete}
                answer = channel.call("queue.declare", queue=queue, **properties)
                expect("answer", answer.name, "queue.declare-ok")


@case("1.6", "a declaration that changes nothing keeps messages and answers with their count")
def redeclaring_keeps_messages(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish_confirmed("", queue, "1", "2")
    check_counts(channel, queue, 2, 0)
