"""From the protocol header to open-ok: versions, mechanisms, refusals, and what is agreed upon."""

from suite.broker import Broker
from suite.case import case, expect
from suite.client import Client
from suite.settings import LIMITED
from wire.connection import PROTOCOL_HEADER
from wire.values import encode_table, plain

NINE_ONE = b"AMQP\x00\x00\x09\x01"
SERVER_CAPABILITIES = {
    "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
    "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
}  # fmt: skip
DEFINITIONS = {
    "users": [{"name": "handshake.stranger", "password": "secret", "tags": ""}],
    "vhosts": [{"name": "handshake.v"}],
}


def answer_to_header(broker: Broker, header: bytes) -> bytes:
    """All that the broker says to a header before it ends the stream."""
    client = broker.raw()
    client.connection.send_bytes(header)
    answer = read_to_end(client)
    broker.note("answer to a header", header=repr(header), answer=repr(answer))
    return answer


def read_to_end(client: Client) -> bytes:
    connection = client.connection
    connection.socket.settimeout(15)
    parts = []
    try:
        while part := connection.socket.recv(4096):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answers_to_start_ok(broker: Broker, answers: list[tuple[str, str]]):
    """What the broker says to each mechanism and response. It may take its time before it says nothing."""
    clients = [broker.raw() for _ in answers]
    for client, (mechanism, response) in zip(clients, answers, strict=True):
        client.start()
        client.start_ok(mechanism, response)
    for client in clients:
        client.receive()


def answers_to_tune_ok(broker: Broker, tunings: list[dict[str, int]]):
    clients = [broker.raw() for _ in tunings]
    for client, tuning in zip(clients, tunings, strict=True):
        client.log_in()
        client.tune(**tuning)
    for client in clients:
        client.receive()


@case(23, "an unknown header is answered with the version the broker speaks, and the stream ends")
def unknown_headers_are_answered_with_the_version(broker: Broker):
    for header in (b"AMQP\x00\x00\x08\x00", b"AMQP\x00\x01\x00\x00", b"AMQP\x00\x00\x09\x02", b"AMQP\x00\x00\x09\x00",
                   b"AMQP\x00\x00\x0a\x00", b"HTTP/1.1", b"GET / HT", b"\x16\x03\x01\x02\x00\x01\x00\x01",
                   b"AMQP\x02\x01\x00\x00", b"AMQP\x01\x01\x00\x0a"):  # fmt: skip
        expect(f"answer to {header!r}", answer_to_header(broker, header), NINE_ONE)


@case(23, "a header of AMQP 1.0")
def headers_of_amqp_1_0(broker: Broker):
    for header in (b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"):
        answer_to_header(broker, header)


@case(24, "the header of 0-9 is accepted")
def header_of_amqp_0_9(broker: Broker):
    client = broker.raw()
    client.connection.send_bytes(b"AMQP\x01\x01\x00\x09")
    start = client.demand(0, "connection.start")
    broker.note("answered with start", major=start.version_major, minor=start.version_minor)


@case(24, "the header may come byte by byte")
def header_byte_by_byte(broker: Broker):
    client = broker.raw()
    for byte in PROTOCOL_HEADER:
        client.connection.send_bytes(bytes([byte]))
    start = client.demand(0, "connection.start")
    broker.note("start", major=start.version_major, minor=start.version_minor)


@case(25, "connecting and going without a byte leaves the broker at ease")
def a_connection_without_a_byte(broker: Broker):
    for _ in range(3):
        broker.raw().connection.close()
    broker.raw().abort()
    broker.channel().expect_nothing()


@case("1.2", 46, "connection.start names product, version, mechanisms and capabilities")
def start_names_product_and_capabilities(broker: Broker):
    start = broker.raw().start()
    properties = plain(start.server_properties)
    expect("product", properties["product"], "RabbitMQ")
    expect("capabilities", set(properties["capabilities"]), SERVER_CAPABILITIES)
    expect("all capabilities are true", set(properties["capabilities"].values()), {True})
    expect("version is major.minor.patch", len(properties["version"].split(".")), 3)
    broker.note(
        "start", major=start.version_major, minor=start.version_minor, locales=start.locales,
        mechanisms=sorted(start.mechanisms.decode().split()), names=sorted(properties),
        types={name: value.code for name, value in start.server_properties.items()}, product=properties["product"],
    )  # fmt: skip


@case("1.2", 30, "connection.tune offers 2047 channels, frames of 131072 bytes and 60 s between heartbeats")
def tune_offers_the_defaults(broker: Broker):
    client = broker.raw()
    client.log_in()
    client.expect("connection.tune", channel_max=2047, frame_max=131072, heartbeat=60)


@case("1.2", "AMQPLAIN takes a table as its response")
def amqplain_logs_in(broker: Broker):
    client = broker.raw()
    client.start()
    response = encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    client.start_ok("AMQPLAIN", response)
    client.expect("connection.tune")


@case("1.2", "AMQPLAIN without what it needs is refused")
def amqplain_with_an_incomplete_table(broker: Broker):
    client = broker.raw()
    client.start()
    client.start_ok("AMQPLAIN", encode_table({"LOGIN": "guest"})[4:])
    client.receive()


@case("1.2", "a PLAIN response that is none ends the connection")
def plain_with_a_malformed_response(broker: Broker):
    answers_to_start_ok(broker, [("PLAIN", response) for response in ("guest", "", "\0guest")])


@case("1.2", "PLAIN may name an authorisation identity, which is ignored")
def plain_with_an_authorisation_identity(broker: Broker):
    client = broker.raw()
    client.start()
    client.start_ok("PLAIN", "somebody\0guest\0guest")
    client.receive()


@case(26, "start-ok of more than three kilobytes passes")
def start_ok_of_several_kilobytes(broker: Broker):
    client = broker.raw()
    client.start()
    client.start_ok(properties={"text": "p" * 3500})
    client.expect("connection.tune")


@case(26, "a frame as large as frame_max is refused before tune")
def large_frames_before_tune_are_refused(broker: Broker):
    client = broker.raw()
    client.start()
    client.start_ok(properties={"text": "p" * 131072})
    client.receive()


@case(26, "a password of eight kilobytes")
def a_password_of_eight_kilobytes(broker: Broker):
    client = broker.raw()
    client.log_in(password="p" * 8192)
    client.receive()


@case(27, "an unknown mechanism ends the connection")
def unknown_mechanisms_are_refused(broker: Broker):
    answers_to_start_ok(broker, [(mechanism, "") for mechanism in ("X-UNKNOWN", "EXTERNAL", "plain", "")])


@case(28, 47, "a wrong password is refused with 403 when the client can bear it")
def a_wrong_password_is_refused_with_403(broker: Broker):
    client = broker.raw()
    client.log_in(password="wrong")
    client.expect_connection_close(
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
        "",
    )


@case(28, "an unknown user is refused as a wrong password is")
def an_unknown_user_is_refused_with_403(broker: Broker):
    client = broker.raw()
    client.log_in(user="nobody")
    client.expect_connection_close(403)


@case(28, 47, "a wrong password ends the stream without a frame for a client that cannot bear it")
def a_wrong_password_without_the_capability(broker: Broker):
    client = broker.raw()
    client.log_in(password="wrong", capabilities={})
    client.expect_end()


@case(28, "the capability counts only when it is true")
def a_capability_that_is_false(broker: Broker):
    client = broker.raw()
    client.log_in(password="wrong", capabilities={"authentication_failure_close": False})
    client.expect_end()


@case(29, "an unknown vhost is refused with 530")
def an_unknown_vhost_is_refused(broker: Broker):
    client = broker.raw()
    client.log_in()
    client.tune()
    client.send("connection.open", virtual_host="handshake.missing")
    client.expect_connection_close(530, "NOT_ALLOWED - vhost handshake.missing not found", "connection.open")


@case(29, "a vhost that the user may not use is refused with 530", definitions=DEFINITIONS)
def a_vhost_without_permission_is_refused(broker: Broker):
    client = broker.raw()
    client.log_in(user="handshake.stranger", password="secret")
    client.tune()
    client.send("connection.open", virtual_host="handshake.v")
    client.expect_connection_close(
        530, "NOT_ALLOWED - access to vhost 'handshake.v' refused for user 'handshake.stranger'", "connection.open"
    )


@case(29, "1.2", "connection.open may ask for capabilities and insist, which says nothing")
def open_with_reserved_fields(broker: Broker):
    client = broker.raw()
    client.log_in()
    client.tune()
    client.send("connection.open", virtual_host="/", capabilities="something", insist=True)
    client.expect("connection.open-ok", known_hosts="")


@case(30, "a frame_max or channel_max above the broker's ends the connection")
def limits_above_the_brokers(broker: Broker):
    answers_to_tune_ok(broker, [{"frame_max": 131073}, {"channel_max": 2048}])


@case(30, "no limit is above every limit: frame_max and channel_max of 0 end the connection")
def no_limit_is_above_the_brokers(broker: Broker):
    answers_to_tune_ok(broker, [{"frame_max": 0}, {"channel_max": 0}])


@case(31, "a frame_max below the least ends the connection")
def frame_max_below_the_least(broker: Broker):
    answers_to_tune_ok(broker, [{"frame_max": 4095}, {"frame_max": 1}])


@case(31, "a frame_max of 4096 is accepted")
def frame_max_of_4096(broker: Broker):
    broker.channel(frame_max=4096).expect_nothing()


@case(30, "a heartbeat longer than the broker's is taken as the client says")
def heartbeat_of_the_clients_word(broker: Broker):
    broker.channel(heartbeat=600).expect_nothing()


@case("1.2", "a method out of turn in the handshake ends it")
def methods_out_of_turn_in_the_handshake(broker: Broker):
    clients = [broker.raw() for _ in range(3)]
    for client, name in zip(clients, ("connection.open", "connection.tune-ok", "connection.close"), strict=True):
        client.start()
        client.send(name)
    for client in clients:
        client.receive()


@case("1.2", "a frame of another channel in the handshake ends it")
def a_channel_in_the_handshake(broker: Broker):
    client = broker.raw()
    client.start()
    client.connection.send_method(1, "channel.open")
    client.receive()


@case("1.2", "a second connection.open, start-ok and tune-ok of an open connection")
def handshake_methods_of_an_open_connection(broker: Broker):
    for name in ("connection.open", "connection.start-ok", "connection.tune-ok", "connection.close-ok"):
        client = broker.connect()
        client.send(name)
        client.receive()


@case(19, "a method of a channel sent on channel 0 closes the connection")
def a_channels_method_on_channel_0(broker: Broker):
    for name in ("queue.declare", "channel.open", "basic.publish"):
        client = broker.connect()
        client.send(name)
        client.receive()


@case("1.2", "update-secret is answered")
def update_secret_is_answered(broker: Broker):
    client = broker.connect()
    client.send("connection.update-secret", new_secret="guest", reason="because")
    client.receive()


@case("1.2", "a client that says nothing is left after the handshake's time", settings=LIMITED)
def a_silent_client_is_left(broker: Broker):
    client = broker.raw()
    expect("what is said", read_to_end(client), b"")
    broker.note("the stream ended")


@case(39, "channel_max counts the channels that are open")
def channel_max_counts_open_channels(broker: Broker):
    client = broker.connect(channel_max=2)
    client.channel()
    client.channel()
    client.bare_channel().send("channel.open")
    client.expect_connection_close(
        530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)", ""
    )


@case(39, "a channel that is closed makes room for another")
def closed_channels_make_room(broker: Broker):
    client = broker.connect(channel_max=1)
    for _ in range(3):
        channel = client.channel(1)
        channel.expect_nothing()
        channel.close()


@case(39, "a channel's number may be above channel_max if not so many are open")
def a_high_channel_number(broker: Broker):
    client = broker.connect(channel_max=5)
    client.bare_channel(300).send("channel.open")
    client.receive(300)
