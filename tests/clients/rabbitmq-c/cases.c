/* The eight programs of tests/clients with rabbitmq-c: cases URI CASE. */

#include "client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_SECONDS = 20, LARGE_BYTES = 10 << 20 };

static void hello(void) {
    Connection connection = open_connection();
    char *queue = declare_queue(connection, "hello", false);
    publish(connection, "", queue, "Hello World!", NULL);
    consume(connection, queue, 0);
    expect_text("body", "Hello World!", take_bodies(connection, 1));
    delete_queue(connection, queue);
    close_connection(connection);
}

/* The tasks "0" to "11" without the one the slow worker holds, joined by commas. */
static char *tasks_without(const char *held) {
    char *tasks = "";
    for (int number = 0; number < 12; number++) {
        char *task = text("%d", number);
        if (strcmp(task, held) != 0) tasks = *tasks ? text("%s,%s", tasks, task) : task;
    }
    return tasks;
}

static void work(void) {
    Connection publisher = open_connection(), slow = open_connection(), fast = open_connection();
    char *queue = declare_queue(publisher, "work", true);
    consume(slow, queue, 1);
    consume(fast, queue, 1);
    for (int number = 0; number < 12; number++)
        publish_persistent(publisher, queue, amqp_cstring_bytes(text("%d", number)), false);

    char *held = next_delivery(slow).body;
    expect_text("tasks of the fast worker", tasks_without(held), take_bodies(fast, 11));
    kill_connection(slow);
    Delivery again = take(fast);
    expect_text("redelivered task", held, again.body);
    expect_number("redelivered flag", true, again.is_redelivered);
    expect_number("messages left", 0, message_count(fast, queue));
    delete_queue(publisher, queue);
    close_connection(fast);
    close_connection(publisher);
}

static void pubsub(void) {
    Connection publisher = open_connection();
    Connection subscribers[] = {open_connection(), open_connection()};
    char *exchange = declare_exchange(publisher, "pubsub", "fanout");
    for (int index = 0; index < 2; index++) {
        const char *const no_key[] = {"", NULL};
        consume(subscribers[index], bind_own_queue(subscribers[index], exchange, no_key), 0);
    }
    publish(publisher, exchange, "ignored", "first", NULL);
    publish(publisher, exchange, "ignored", "second", NULL);
    publish(publisher, exchange, "ignored", "third", NULL);
    for (int index = 0; index < 2; index++) {
        expect_text("messages of a subscriber", "first,second,third", take_bodies(subscribers[index], 3));
        close_connection(subscribers[index]);
    }
    delete_exchange(publisher, exchange);
    close_connection(publisher);
}

static void routing(void) {
    static const char *const severities[] = {"info", "warning", "error", NULL};
    Connection connection = open_connection();
    char *exchange = declare_exchange(connection, "routing", "direct");
    char *errors = bind_own_queue(connection, exchange, &severities[2]);
    char *everything = bind_own_queue(connection, exchange, severities);
    for (const char *const *severity = severities; *severity; severity++)
        publish(connection, exchange, *severity, *severity, NULL);
    publish(connection, exchange, "debug", "debug", NULL);
    expect_text("errors", "error", get_all_keys(connection, errors));
    expect_text("all severities", "info,warning,error", get_all_keys(connection, everything));
    delete_exchange(connection, exchange);
    close_connection(connection);
}

static void topics(void) {
    static const char *const keys[] = {
        "quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit",
        "quick.brown.fox", "orange", "quick.orange.new.rabbit", "lazy.orange.new.rabbit", "lazy", NULL,
    };
    static const struct {
        const char *patterns[3], *matching;
    } expected[] = {
        {{"*.orange.*"}, "quick.orange.rabbit,lazy.orange.elephant,quick.orange.fox"},
        {{"*.*.rabbit", "lazy.#"},
         "quick.orange.rabbit,lazy.orange.elephant,lazy.brown.fox,lazy.pink.rabbit,lazy.orange.new.rabbit,lazy"},
        {{"#"},
         "quick.orange.rabbit,lazy.orange.elephant,quick.orange.fox,lazy.brown.fox,lazy.pink.rabbit,"
         "quick.brown.fox,orange,quick.orange.new.rabbit,lazy.orange.new.rabbit,lazy"},
    };
    char *queues[3];
    Connection connection = open_connection();
    char *exchange = declare_exchange(connection, "topics", "topic");
    for (int index = 0; index < 3; index++)
        queues[index] = bind_own_queue(connection, exchange, expected[index].patterns);
    for (const char *const *key = keys; *key; key++) publish(connection, exchange, *key, "", NULL);
    for (int index = 0; index < 3; index++) {
        char *what = text("keys that match %s", expected[index].patterns[0]);
        expect_text(what, expected[index].matching, get_all_keys(connection, queues[index]));
    }
    delete_exchange(connection, exchange);
    close_connection(connection);
}

static unsigned fibonacci(unsigned number) {
    unsigned before = 0, current = 1;
    while (number-- > 0) {
        unsigned next = before + current;
        before = current;
        current = next;
    }
    return before;
}

static void call(Connection client, const char *queue, const char *reply_to, const char *number) {
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG,
        .reply_to = amqp_cstring_bytes(reply_to),
        .correlation_id = amqp_cstring_bytes(text("call of %s", number)),
    };
    publish(client, "", queue, number, &properties);
}

static void answer(Connection server) {
    Delivery request = take(server);
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CORRELATION_ID_FLAG,
        .correlation_id = amqp_cstring_bytes(request.correlation_id),
    };
    publish(server, "", request.reply_to, text("%u", fibonacci(atoi(request.body))), &properties);
}

static void rpc(void) {
    static const char *const numbers[] = {"10", "15", "20"}, *const results[] = {"55", "610", "6765"};
    Connection server = open_connection(), client = open_connection();
    char *queue = declare_queue(server, "rpc", false), *reply_to = declare_own_queue(client);
    consume(server, queue, 0);
    consume(client, reply_to, 0);
    for (int index = 0; index < 3; index++) call(client, queue, reply_to, numbers[index]);
    for (int index = 0; index < 3; index++) answer(server);
    for (int index = 0; index < 3; index++) {
        Delivery reply = take(client);
        expect_text("correlation-id", text("call of %s", numbers[index]), reply.correlation_id);
        expect_text("answer", results[index], reply.body);
    }
    delete_queue(server, queue);
    close_connection(client);
    close_connection(server);
}

static void confirms(void) {
    Connection connection = open_connection();
    char *queue = declare_queue(connection, "confirms", true);
    select_confirms(connection);
    for (int number = 0; number < 1000; number++)
        publish_persistent(connection, queue, amqp_cstring_bytes(text("%d", number)), false);
    expect_text("events of 1,000 messages", "acks", wait_for_confirms(connection, 1, 1000));
    expect_number("messages in the queue", 1000, message_count(connection, queue));

    publish_persistent(connection, text("%s-nowhere", queue), amqp_cstring_bytes("lost"), true);
    expect_text("events of an unroutable message", "return 312 NO_ROUTE,acks",
                wait_for_confirms(connection, 1001, 1001));
    delete_queue(connection, queue);
    close_connection(connection);
}

static uint64_t fnv1a(const char *bytes, size_t size) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t index = 0; index < size; index++) hash = (hash ^ (unsigned char)bytes[index]) * 0x100000001b3;
    return hash;
}

static void large(void) {
    static char body[LARGE_BYTES];
    for (size_t index = 0; index < sizeof body; index++) body[index] = random();
    Connection connection = open_connection();
    char *queue = declare_queue(connection, "large", true);
    select_confirms(connection);
    publish_persistent(connection, queue, (amqp_bytes_t){sizeof body, body}, false);
    expect_text("events of the message", "acks", wait_for_confirms(connection, 1, 1));
    consume(connection, queue, 0);
    Delivery delivery = take(connection);
    expect_number("size", sizeof body, delivery.size);
    expect_number("checksum (FNV-1a)", fnv1a(body, sizeof body), fnv1a(delivery.body, delivery.size));
    delete_queue(connection, queue);
    close_connection(connection);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"hello", hello},   {"work", work}, {"pubsub", pubsub},     {"routing", routing},
    {"topics", topics}, {"rpc", rpc},   {"confirms", confirms}, {"large", large},
};

static void end_late(int signal) {
    (void)signal;
    fail("expected an end within %d s, found none", DEADLINE_SECONDS);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argument_count, char **arguments) {
    if (argument_count != 3) return fputs("usage: cases URI CASE\n", stderr), 64;
    const char *name = arguments[2];
    begin_case(arguments[1], name);
    signal(SIGALRM, end_late);
    alarm(DEADLINE_SECONDS);
    double start = seconds_now();
    for (size_t index = 0; index < sizeof cases / sizeof *cases; index++) {
        if (strcmp(cases[index].name, name) != 0) continue;
        cases[index].run();
        printf("ok %s %.3fs\n", name, seconds_now() - start);
        return 0;
    }
    fail("expected the name of a case, found %s", name);
}
