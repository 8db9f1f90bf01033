"""Channel and connection errors: codes, texts, and what goes on beside them."""

from suite.broker import Broker
from suite.case import case, expect


@case(2, "an error of one channel leaves the connection's other channel consuming")
def an_error_of_one_channel_leaves_the_other_consuming(broker: Broker):
    client = broker.connect()
    failing, consuming = client.channel(), client.channel()
    queue = broker.queue()
    consuming.declare(queue)
    consuming.consume(queue, "tag", no_ack=True)
    failing.send("queue.declare", queue=broker.queue("missing"), passive=True)
    failing.expect_close(404)
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


@case(4, "a text longer than 255 bytes is cut")
def a_long_text_is_cut_at_255_bytes(broker: Broker):
    channel = broker.channel()
    channel.send("queue.declare", queue="q" * 255, passive=True)
    close = channel.expect_close(404)
    expect("length of the text", len(close.reply_text), 255)
