/* What the cases have in common: connections, queues and exchanges under random names, and deliveries that are
 * waited for. Whatever goes wrong ends the process with the line "FAILED ...". Texts that are returned belong to
 * the caller, who leaves them to the end of the process. */

#include <amqp.h>
#include <stdbool.h>
#include <stddef.h>

enum { CHANNEL = 1, PERSISTENT = 2 };

/* Every connection has one channel. */
typedef amqp_connection_state_t Connection;

typedef struct {
    char *body;
    size_t size;
    char *routing_key;
    char *reply_to;
    char *correlation_id;
    bool is_redelivered;
    uint64_t delivery_tag;
} Delivery;

/* Names the case for the lines "ok ..." and "FAILED ...". */
void begin_case(const char *uri, const char *name);

/* Prints "FAILED", the name of the case and the message, and ends the process. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Fails unless the two texts are equal. */
void expect_text(const char *what, const char *expected, const char *found);

/* Fails unless the two numbers are equal. */
void expect_number(const char *what, uint64_t expected, uint64_t found);

/* The text that printf would print. */
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

Connection open_connection(void);
void close_connection(Connection connection);

/* Loses the connection as a killed process does: the socket is gone, and no method says so. */
void kill_connection(Connection connection);

/* Declares a queue named after `label`. */
char *declare_queue(Connection connection, const char *label, bool is_durable);

/* Declares an exclusive queue that the broker names. */
char *declare_own_queue(Connection connection);

/* Declares an exclusive queue that the broker names, and binds it with each of the keys, up to a NULL. */
char *bind_own_queue(Connection connection, const char *exchange, const char *const *binding_keys);

/* Declares a transient exchange named after `label`. */
char *declare_exchange(Connection connection, const char *label, const char *type);

void delete_queue(Connection connection, const char *queue);
void delete_exchange(Connection connection, const char *exchange);
uint32_t message_count(Connection connection, const char *queue);

/* Publishes a text; `properties` may be NULL. */
void publish(Connection connection, const char *exchange, const char *routing_key, const char *body,
             const amqp_basic_properties_t *properties);

/* Publishes bytes with delivery mode 2. */
void publish_persistent(Connection connection, const char *queue, amqp_bytes_t body, bool is_mandatory);

/* Starts a consumer; with `prefetch_count` 0, it has no limit. */
void consume(Connection connection, const char *queue, uint16_t prefetch_count);

/* Waits for a delivery, and leaves it unacknowledged. */
Delivery next_delivery(Connection connection);

/* Waits for `count` deliveries, acknowledges each, and returns their bodies, joined by commas. */
char *take_bodies(Connection connection, int count);

/* Waits for a delivery, and acknowledges it. */
Delivery take(Connection connection);

/* Gets messages until the queue is empty; returns their routing keys, joined by commas. */
char *get_all_keys(Connection connection, const char *queue);

/* Asks for confirms. */
void select_confirms(Connection connection);

/* Waits until the publishes `first` to `last` of the channel are acknowledged; returns what came before the last
 * ack and that it came: "return 312 NO_ROUTE,acks". */
char *wait_for_confirms(Connection connection, uint64_t first, uint64_t last);
