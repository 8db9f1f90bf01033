#include "client.h"

#include <amqp_tcp_socket.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { FRAME_BYTES_MAX = 131072, HEARTBEAT_SECONDS = 60 };

static const char *broker_uri;
static const char *case_name;

void begin_case(const char *uri, const char *name) {
    broker_uri = uri;
    case_name = name;
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED %s: ", case_name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(1);
}

void expect_text(const char *what, const char *expected, const char *found) {
    if (strcmp(expected, found) != 0) fail("expected %s \"%s\", found \"%s\"", what, expected, found);
}

void expect_number(const char *what, uint64_t expected, uint64_t found) {
    if (expected != found) fail("expected %s %lu, found %lu", what, expected, found);
}

char *text(const char *format, ...) {
    char *result;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&result, format, arguments) < 0) abort();
    va_end(arguments);
    return result;
}

static char *text_of(amqp_bytes_t bytes) {
    return text("%.*s", (int)bytes.len, (char *)bytes.bytes);
}

static char *named(const char *label) {
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != sizeof random) abort();
    return text("%s-%012lx", label, random >> 16);
}

static char *joined(char *list, const char *item) {
    return *list ? text("%s,%s", list, item) : text("%s", item);
}

/* Fails when the library could not do what it was asked for. */
static void check_status(const char *what, int status) {
    if (status != AMQP_STATUS_OK) fail("expected %s, found %s", what, amqp_error_string2(status));
}

/* Fails when the broker closed the channel or the connection in place of an answer, and tells its reason. */
static void check_reply(const char *what, amqp_rpc_reply_t reply) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) check_status(what, reply.library_error);
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *close = reply.reply.decoded;
        fail("expected %s, found channel.close %u %s", what, close->reply_code, text_of(close->reply_text));
    }
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_t *close = reply.reply.decoded;
        fail("expected %s, found connection.close %u %s", what, close->reply_code, text_of(close->reply_text));
    }
    fail("expected %s, found method %#x", what, reply.reply.id);
}

Connection open_connection(void) {
    struct amqp_connection_info info;
    check_status("a URI", amqp_parse_url(text("%s", broker_uri), &info));
    Connection connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    check_status("a TCP connection", amqp_socket_open(socket, info.host, info.port));
    check_reply("a login", amqp_login(connection, info.vhost, 0, FRAME_BYTES_MAX, HEARTBEAT_SECONDS,
                                      AMQP_SASL_METHOD_PLAIN, info.user, info.password));
    amqp_channel_open(connection, CHANNEL);
    check_reply("channel.open-ok", amqp_get_rpc_reply(connection));
    return connection;
}

void close_connection(Connection connection) {
    check_reply("connection.close-ok", amqp_connection_close(connection, AMQP_REPLY_SUCCESS));
    check_status("a closed socket", amqp_destroy_connection(connection));
}

void kill_connection(Connection connection) {
    close(amqp_get_sockfd(connection));
}

char *declare_queue(Connection connection, const char *label, bool is_durable) {
    char *queue = named(label);
    amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(queue), 0, is_durable, 0, 0, amqp_empty_table);
    check_reply("queue.declare-ok", amqp_get_rpc_reply(connection));
    return queue;
}

char *declare_own_queue(Connection connection) {
    amqp_queue_declare_ok_t *declared =
        amqp_queue_declare(connection, CHANNEL, amqp_empty_bytes, 0, 0, 1, 0, amqp_empty_table);
    check_reply("queue.declare-ok", amqp_get_rpc_reply(connection));
    return text_of(declared->queue);
}

char *bind_own_queue(Connection connection, const char *exchange, const char *const *binding_keys) {
    char *queue = declare_own_queue(connection);
    for (; *binding_keys; binding_keys++) {
        amqp_queue_bind(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange),
                        amqp_cstring_bytes(*binding_keys), amqp_empty_table);
        check_reply("queue.bind-ok", amqp_get_rpc_reply(connection));
    }
    return queue;
}

char *declare_exchange(Connection connection, const char *label, const char *type) {
    char *exchange = named(label);
    amqp_exchange_declare(connection, CHANNEL, amqp_cstring_bytes(exchange), amqp_cstring_bytes(type), 0, 0, 0, 0,
                          amqp_empty_table);
    check_reply("exchange.declare-ok", amqp_get_rpc_reply(connection));
    return exchange;
}

void delete_queue(Connection connection, const char *queue) {
    amqp_queue_delete(connection, CHANNEL, amqp_cstring_bytes(queue), 0, 0);
    check_reply("queue.delete-ok", amqp_get_rpc_reply(connection));
}

void delete_exchange(Connection connection, const char *exchange) {
    amqp_exchange_delete(connection, CHANNEL, amqp_cstring_bytes(exchange), 0);
    check_reply("exchange.delete-ok", amqp_get_rpc_reply(connection));
}

uint32_t message_count(Connection connection, const char *queue) {
    amqp_queue_declare_ok_t *declared =
        amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    check_reply("queue.declare-ok", amqp_get_rpc_reply(connection));
    return declared->message_count;
}

void publish(Connection connection, const char *exchange, const char *routing_key, const char *body,
             const amqp_basic_properties_t *properties) {
    check_status("a publish", amqp_basic_publish(connection, CHANNEL, amqp_cstring_bytes(exchange),
                                                 amqp_cstring_bytes(routing_key), 0, 0, properties,
                                                 amqp_cstring_bytes(body)));
}

void publish_persistent(Connection connection, const char *queue, amqp_bytes_t body, bool is_mandatory) {
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = PERSISTENT};
    check_status("a publish", amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue),
                                                 is_mandatory, 0, &properties, body));
}

void consume(Connection connection, const char *queue, uint16_t prefetch_count) {
    amqp_basic_qos(connection, CHANNEL, 0, prefetch_count, 0);
    check_reply("basic.qos-ok", amqp_get_rpc_reply(connection));
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    check_reply("basic.consume-ok", amqp_get_rpc_reply(connection));
}

Delivery next_delivery(Connection connection) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(connection);
    check_reply("a delivery", amqp_consume_message(connection, &envelope, NULL, 0));
    amqp_message_t *message = &envelope.message;
    Delivery delivery = {
        .body = malloc(message->body.len + 1),
        .size = message->body.len,
        .routing_key = text_of(envelope.routing_key),
        .reply_to = text_of(message->properties.reply_to),
        .correlation_id = text_of(message->properties.correlation_id),
        .is_redelivered = envelope.redelivered,
        .delivery_tag = envelope.delivery_tag,
    };
    memcpy(delivery.body, message->body.bytes, delivery.size);
    delivery.body[delivery.size] = 0;
    amqp_destroy_envelope(&envelope);
    return delivery;
}

Delivery take(Connection connection) {
    Delivery delivery = next_delivery(connection);
    check_status("an ack", amqp_basic_ack(connection, CHANNEL, delivery.delivery_tag, 0));
    return delivery;
}

char *take_bodies(Connection connection, int count) {
    char *bodies = "";
    while (count-- > 0) bodies = joined(bodies, take(connection).body);
    return bodies;
}

char *get_all_keys(Connection connection, const char *queue) {
    char *keys = "";
    for (;;) {
        amqp_rpc_reply_t reply = amqp_basic_get(connection, CHANNEL, amqp_cstring_bytes(queue), 1);
        check_reply("basic.get-ok", reply);
        if (reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD) return keys;
        amqp_basic_get_ok_t *got = reply.reply.decoded;
        keys = joined(keys, text_of(got->routing_key));
        amqp_message_t message;
        check_reply("a message", amqp_read_message(connection, CHANNEL, &message, 0));
        amqp_destroy_message(&message);
    }
}

void select_confirms(Connection connection) {
    amqp_confirm_select(connection, CHANNEL);
    check_reply("confirm.select-ok", amqp_get_rpc_reply(connection));
}

static char *read_return(Connection connection, const amqp_basic_return_t *returned) {
    char *event = text("return %u %s", returned->reply_code, text_of(returned->reply_text));
    amqp_message_t message;
    check_reply("the returned message", amqp_read_message(connection, CHANNEL, &message, 0));
    amqp_destroy_message(&message);
    return event;
}

/* Marks what the ack confirms among the publishes that begin with `first`; returns how many that are. */
static uint64_t mark_confirmed(bool *is_confirmed, uint64_t first, uint64_t last, const amqp_basic_ack_t *ack) {
    uint64_t count = 0, end = ack->delivery_tag;
    if (end < first || end > last) fail("expected an ack of %lu to %lu, found %lu", first, last, end);
    for (uint64_t tag = ack->multiple ? first : end; tag <= end; tag++) {
        if (is_confirmed[tag - first] && !ack->multiple) fail("expected one ack of %lu, found two", tag);
        count += !is_confirmed[tag - first];
        is_confirmed[tag - first] = true;
    }
    return count;
}

char *wait_for_confirms(Connection connection, uint64_t first, uint64_t last) {
    char *events = "";
    uint64_t missing = last - first + 1;
    bool *is_confirmed = calloc(missing, sizeof *is_confirmed);
    while (missing > 0) {
        amqp_frame_t frame;
        amqp_maybe_release_buffers(connection);
        check_status("an ack", amqp_simple_wait_frame(connection, &frame));
        if (frame.frame_type != AMQP_FRAME_METHOD) fail("expected a method, found frame type %u", frame.frame_type);
        if (frame.payload.method.id == AMQP_BASIC_RETURN_METHOD) {
            events = joined(events, read_return(connection, frame.payload.method.decoded));
        } else if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            missing -= mark_confirmed(is_confirmed, first, last, frame.payload.method.decoded);
        } else {
            fail("expected basic.ack, found method %#x", frame.payload.method.id);
        }
    }
    free(is_confirmed);
    return joined(events, "acks");
}
