"""Channel and connection errors: codes, texts, what they name, and what goes on beside and after them."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Client
from suite.settings import PRIVATE
from wire.connection import METHOD, encode_frame
from wire.methods import encode_method

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


@case(1, "403, 404, 405 and 406 close the channel alone")
def soft_errors_close_the_channel_alone(broker: Broker):
    owner = broker.channel()
    owner.declare(broker.queue("mine"), exclusive=True)
    client = broker.connect()
    witness, channel = client.channel(), client.channel()
    channel.refuse(403, None, "queue.declare", queue="amq.reserved")
    channel.refuse(404, None, "queue.purge", queue=broker.queue("missing"))
    channel.refuse(405, None, "queue.purge", queue=broker.queue("mine"))
    channel.refuse(406, None, "tx.commit")
    witness.expect_nothing()


@case(1, 89, "503, 504, 505, 530 and 540 close the connection, whichever channel is at fault")
def hard_errors_close_the_connection(broker: Broker):
    def another() -> Client:
        client = broker.connect()
        client.channel()
        return client

    channel = another().channel()
    channel.send("basic.qos", prefetch_size=7)
    channel.expect_connection_close(540, "NOT_IMPLEMENTED - prefetch_size!=0 (7)", "basic.qos")
    channel = another().channel()
    channel.send("channel.open")
    channel.expect_connection_close(504, "CHANNEL_ERROR - second 'channel.open' seen", "channel.open")
    channel = another().channel()
    channel.send("connection.open", virtual_host="/")
    channel.expect_connection_close(503)
    channel = another().channel()
    channel.send("basic.publish", routing_key="x")
    channel.send("basic.qos")
    channel.expect_connection_close(505)
    channel = another().channel()
    channel.declare(broker.queue())
    channel.consume(broker.queue(), "twice")
    channel.send("basic.consume", queue=broker.queue(), consumer_tag="twice")
    channel.expect_connection_close(530)


@case(2, "an error of one channel leaves the connection's other channel consuming")
def an_error_of_one_channel_leaves_the_other_consuming(broker: Broker):
    client = broker.connect()
    failing, consuming = client.channel(), client.channel()
    queue = broker.queue()
    consuming.declare(queue)
    consuming.consume(queue, "tag", no_ack=True)
    failing.send("queue.declare", queue=broker.queue("missing"), passive=True)
    failing.expect_close(404, f"NOT_FOUND - no queue '{broker.queue('missing')}' in vhost '/'", "queue.declare")
    consuming.publish("", queue, "still here")
    consuming.expect("basic.deliver", body=b"still here")


@case(3, 5, 50, "passively declaring a missing queue closes the channel with 404, naming queue.declare")
def passive_declare_of_a_missing_queue(broker: Broker):
    channel = broker.channel()
    queue = broker.queue("missing")
    channel.send("queue.declare", queue=queue, passive=True)
    channel.expect_close(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare")


@case(3, 5, 50, "passively declaring a missing exchange closes the channel with 404, naming exchange.declare")
def passive_declare_of_a_missing_exchange(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange("missing")
    channel.send("exchange.declare", exchange=exchange, type="direct", passive=True)
    channel.expect_close(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", "exchange.declare")


@case(3, 5, "what is asked of a missing queue is refused with 404, naming the method")
def methods_on_a_missing_queue(broker: Broker):
    channel = broker.channel()
    queue = broker.queue("missing")
    text = f"NOT_FOUND - no queue '{queue}' in vhost '/'"
    channel.refuse(404, text, "queue.purge", queue=queue)
    channel.refuse(404, text, "basic.consume", queue=queue)
    channel.refuse(404, text, "basic.get", queue=queue)
    channel.refuse(404, text, "queue.bind", queue=queue, exchange="amq.direct", routing_key="k")


@case(4, "a text longer than 255 bytes is cut")
def a_long_text_is_cut_at_255_bytes(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue="q" * 255, passive=True)
    close = channel.expect_close(404)
    expect("length of the text", len(close.reply_text), 255)
    expect("start of the text", close.reply_text[:30], "NOT_FOUND - no queue 'qqqqqqqq")
    expect("end of the text", close.reply_text[-6:], "qqq...")


@case(4, "a text of many bytes for each character is cut as well")
def a_long_text_of_wide_characters_is_cut(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue="\u20ac" * 85, passive=True)
    channel.expect_close(404, None, "queue.declare")


@case(6, 100, "consuming beside an exclusive consumer is refused with 403, naming basic.consume and exclusive use")
def consuming_beside_an_exclusive_consumer(broker: Broker):
    holder, other = broker.channel(), broker.channel()
    queue = broker.queue()
    holder.declare(queue)
    holder.consume(queue, "holder", exclusive=True)
    other.send("basic.consume", queue=queue)
    other.expect_close(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", "basic.consume")


@case(6, 100, "asking for exclusive use beside another consumer is refused with 403")
def exclusive_use_beside_a_consumer(broker: Broker):
    holder, other = broker.channel(), broker.channel()
    queue = broker.queue()
    holder.declare(queue)
    holder.consume(queue, "holder")
    other.send("basic.consume", queue=queue, exclusive=True)
    other.expect_close(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", "basic.consume")


@case(100, "when the exclusive consumer has gone, others may consume")
def exclusive_use_ends_with_its_consumer(broker: Broker):
    holder, other = broker.channel(), broker.channel()
    queue = broker.queue()
    holder.declare(queue)
    holder.consume(queue, "holder", exclusive=True)
    holder.call("basic.cancel", consumer_tag="holder")
    other.consume(queue, "other")
    other.publish("", queue, "for the other")
    other.expect("basic.deliver", consumer_tag="other", body=b"for the other")


@case(7, 8, "redeclaring a queue with another durability is refused with 406, naming both values")
def queue_redeclared_with_another_durability(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    text = "PRECONDITION_FAILED - inequivalent arg '{}' for queue '{}' in vhost '/': received '{}' but current is '{}'"
    channel.declare(queue, durable=True)
    channel.refuse(406, text.format("durable", queue, "false", "true"), "queue.declare", queue=queue)
    channel.refuse(406, text.format("auto_delete", queue, "true", "false"), "queue.declare", queue=queue,
                   durable=True, auto_delete=True)  # fmt: skip
    channel.refuse(406, text.format("durable", queue, "false", "true"), "queue.declare", queue=queue, auto_delete=True)


@case(7, 8, "redeclaring an exchange with another type or property is refused with 406, naming both values")
def exchange_redeclared_with_other_properties(broker: Broker):
    channel = broker.channel()
    exchange = broker.exchange()
    text = f"PRECONDITION_FAILED - inequivalent arg '{{}}' for exchange '{exchange}' in vhost '/': " \
           "received '{}' but current is '{}'"  # fmt: skip
    channel.declare_exchange(exchange, "topic", durable=True)
    channel.refuse(406, text.format("type", "fanout", "topic"), "exchange.declare", exchange=exchange, type="fanout",
                   durable=True)  # fmt: skip
    channel.refuse(406, text.format("durable", "false", "true"), "exchange.declare", exchange=exchange, type="topic")
    channel.refuse(406, text.format("auto_delete", "true", "false"), "exchange.declare", exchange=exchange,
                   type="topic", durable=True, auto_delete=True)  # fmt: skip
    channel.refuse(406, text.format("internal", "true", "false"), "exchange.declare", exchange=exchange, type="topic",
                   durable=True, internal=True)  # fmt: skip


@case(13, 14, "redeclaring a queue as exclusive is refused with 405 before anything else is compared")
def queue_redeclared_as_exclusive(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, durable=True)
    channel.refuse(405, LOCKED.format(queue), "queue.declare", queue=queue, exclusive=True, auto_delete=True)


@case(13, 14, "redeclaring one's own exclusive queue as one for all is refused with 405")
def exclusive_queue_redeclared_for_all(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue, exclusive=True)
    channel.refuse(405, LOCKED.format(queue), "queue.declare", queue=queue)


@case(14, 15, "another connection's exclusive queue is refused with 405 to every method that names it")
def exclusive_queue_is_locked_for_others(broker: Broker):
    owner, other = broker.channel(), broker.channel()
    queue = broker.queue()
    owner.declare(queue, exclusive=True)
    text = LOCKED.format(queue)
    other.refuse(405, text, "queue.declare", queue=queue, passive=True)
    other.refuse(405, text, "queue.declare", queue=queue, exclusive=True)
    other.refuse(405, text, "queue.declare", queue=queue)
    other.refuse(405, text, "basic.consume", queue=queue)
    other.refuse(405, text, "basic.get", queue=queue)
    other.refuse(405, text, "queue.purge", queue=queue)
    other.refuse(405, text, "queue.delete", queue=queue)
    other.refuse(405, text, "queue.bind", queue=queue, exchange="amq.direct", routing_key="k")
    owner.bind(queue, "amq.direct", queue)
    other.call("queue.unbind", queue=queue, exchange="amq.direct", routing_key=queue)


@case(15, "others may publish to an exclusive queue")
def exclusive_queue_takes_messages_of_others(broker: Broker):
    owner, other = broker.channel(), broker.channel()
    queue = broker.queue()
    owner.declare(queue, exclusive=True)
    other.publish_confirmed("", queue, "from outside")
    expect("body", owner.get(queue).body, b"from outside")


@case(15, "two channels of one connection share its exclusive queue")
def channels_share_an_exclusive_queue(broker: Broker):
    client = broker.connect()
    first, second = client.channel(), client.channel()
    queue = broker.queue()
    first.declare(queue, exclusive=True)
    second.call("queue.declare", queue=queue, exclusive=True)
    second.consume(queue, "tag")
    first.publish("", queue, "shared")
    second.expect("basic.deliver", body=b"shared")
    expect("answer", first.call("queue.purge", queue=queue).name, "queue.purge-ok")
    expect("answer", first.call("queue.delete", queue=queue).name, "queue.delete-ok")


@case(17, "after channel.close the broker discards all frames of that channel until close-ok")
def frames_after_a_channel_error_are_discarded(broker: Broker):
    channel = broker.channel()
    queue = broker.queue()
    channel.declare(queue)
    channel.publish(broker.exchange("missing"), "k", "lost")
    channel.publish("", queue, "discarded")
    channel.send("queue.declare", queue=broker.queue("missing"), passive=True)
    channel.send("basic.ack", delivery_tag=99)
    channel.expect("channel.close", reply_code=404)
    channel.publish("", queue, "discarded as well")
    channel.send("tx.commit")
    channel.send("channel.close-ok")
    channel.reopen()
    channel.expect_nothing(queue)
    expect("messages", channel.call("queue.declare", queue=queue, passive=True).message_count, 0)


@case(17, "a channel.close that crosses the broker's own is answered")
def crossing_channel_closes_are_answered(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue=broker.queue("missing"), passive=True)
    channel.send("channel.close", reply_code=200, reply_text="crossing")
    channel.expect("channel.close", reply_code=404)
    channel.expect("channel.close-ok")
    channel.send("channel.close-ok")
    channel.reopen()
    channel.expect_nothing()


@case(18, "a channel's number can be used again at once after close-ok")
def channel_number_is_free_after_close_ok(broker: Broker):
    client = broker.connect()
    channel = client.channel(7)
    for _ in range(3):
        expect("answer", channel.call("channel.close", reply_code=200, reply_text="").name, "channel.close-ok")
        expect("answer", channel.call("channel.open").name, "channel.open-ok")
    channel.send("queue.declare", queue=broker.queue("missing"), passive=True)
    channel.expect_close(404)
    expect("answer", channel.call("channel.open").name, "channel.open-ok")


@case(18, 19, "channel.open in place of close-ok closes the connection with 504")
def channel_open_in_place_of_close_ok(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue=broker.queue("missing"), passive=True)
    channel.expect("channel.close", reply_code=404)
    channel.send("channel.open")
    channel.expect_connection_close(504, "CHANNEL_ERROR - second 'channel.open' seen", "channel.open")


@case(19, "a second channel.open closes the connection with 504")
def second_channel_open(broker: Broker):
    channel = broker.channel()
    channel.send("channel.open")
    channel.expect_connection_close(504, "CHANNEL_ERROR - second 'channel.open' seen", "channel.open")


@case(19, "a method on a channel that was never opened closes the connection with 504")
def method_on_a_channel_that_is_not_open(broker: Broker):
    channel = broker.connect().bare_channel(5)
    channel.send("queue.declare", queue=broker.queue())
    channel.expect_connection_close(504, "CHANNEL_ERROR - expected 'channel.open'", "queue.declare")


@case(19, "a method on a channel that was closed closes the connection with 504")
def method_on_a_closed_channel(broker: Broker):
    channel = broker.channel()
    channel.close()
    channel.send("basic.qos", prefetch_count=1)
    channel.expect_connection_close(504, "CHANNEL_ERROR - expected 'channel.open'", "basic.qos")


@case(19, "channel.close of a channel that was never opened")
def closing_a_channel_that_is_not_open(broker: Broker):
    channel = broker.connect().bare_channel(5)
    channel.send("channel.close", reply_code=200, reply_text="")
    channel.receive()


@case(20, "after connection.close only close and close-ok count, and a crossing close is answered")
def frames_after_a_connection_error_are_ignored(broker: Broker):
    client = broker.connect()
    channel = client.channel()
    queue = broker.queue()
    channel.send("basic.qos", prefetch_size=1)
    client.expect("connection.close", reply_code=540)
    channel.send("queue.declare", queue=queue)
    channel.publish("", queue, "nowhere")
    client.send("connection.close", reply_code=200, reply_text="crossing")
    client.expect("connection.close-ok")
    client.send("connection.close-ok")
    client.expect_end()
    other = broker.channel()
    other.refuse(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare", queue=queue, passive=True)


@case(20, "after connection.close-ok the broker ends the stream, if the client does not, within a heartbeat")
def stream_ends_after_close_ok(broker: Broker):
    client = broker.connect(heartbeat=1)
    client.channel()
    client.send("connection.close", reply_code=200, reply_text="bye")
    client.expect("connection.close-ok")
    client.expect_end()


@case(21, "a broker that shuts down closes its connections with 320", settings=PRIVATE)
def shutdown_closes_connections_with_320(broker: Broker):
    client = broker.connect()
    client.channel()
    broker.node.begin_to_stop()
    client.expect("connection.close", reply_code=320)
    client.send("connection.close-ok")
    client.expect_end()


@case(5, "an error that no method caused names class and method 0")
def an_error_without_a_method_names_none(broker: Broker):
    client = broker.connect()
    client.channel()
    client.connection.send_frame(9, 0, b"")
    client.expect_connection_close(501, None, "")


@case(45, "a method that no client may send closes the connection with 503")
def methods_of_the_server_are_refused(broker: Broker):
    for name in ("queue.declare-ok", "basic.deliver", "basic.get-empty", "channel.open-ok", "exchange.bind-ok"):
        channel = broker.channel()
        channel.send(name)
        if name == "basic.deliver":
            channel.client.connection.send_content(1, {}, b"")
        channel.expect_connection_close(503, None)


@case(45, "a class or method that AMQP does not have ends the connection")
def methods_that_do_not_exist_are_refused(broker: Broker):
    for numbers in ((50, 99), (99, 10), (60, 25), (0, 0)):
        client = broker.connect()
        client.channel()
        payload = numbers[0].to_bytes(2, "big") + numbers[1].to_bytes(2, "big")
        client.connection.send_frame(METHOD, 1, payload)
        client.receive()


@case(1, "502: arguments that cannot be read close the connection")
def arguments_that_cannot_be_read(broker: Broker):
    whole = encode_method("queue.declare", {"queue": "abc", "arguments": {"a": 1}})
    for cut in (len(whole) - 1, len(whole) - 6, 8, 5):
        client = broker.connect()
        client.channel()
        client.connection.send_bytes(encode_frame(METHOD, 1, whole[:cut]))
        client.receive()
        client.send("connection.close-ok")
        client.expect_end()


@case(1, "a method frame with bytes after its arguments")
def arguments_with_bytes_left_over(broker: Broker):
    whole = encode_method("basic.qos", {"prefetch_count": 1})
    client = broker.connect()
    client.channel()
    client.connection.send_bytes(encode_frame(METHOD, 1, whole + b"rest"))
    client.receive(1)
