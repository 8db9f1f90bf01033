import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** The eight cases. */
class Cases {
    private static final boolean DURABLE = true;
    private static final boolean TRANSIENT = false;
    private static final BasicProperties PERSISTENT = MessageProperties.MINIMAL_PERSISTENT_BASIC;

    static void hello(Client client) throws Exception {
        Channel channel = client.channel();
        String queue = client.queue(channel, "hello", TRANSIENT);
        Client.publish(channel, "", queue, "Hello World!");
        List<Delivery> deliveries = Client.consume(channel, queue).take(1);
        expect("body", List.of("Hello World!"), bodies(deliveries));
    }

    static void work(Client client) throws Exception {
        Channel channel = client.channel();
        String queue = client.queue(channel, "work", DURABLE);
        Client.Worker slow = client.worker(queue);
        Client.Worker fast = client.worker(queue);
        List<String> tasks = numbered("task", 12);
        for (String task : tasks) {
            channel.basicPublish("", queue, PERSISTENT, task.getBytes());
        }

        String held = slow.heldTask();
        List<Delivery> done = fast.consumer().take(tasks.size() - 1);
        tasks.remove(held);
        expect("tasks of the fast worker", tasks, bodies(done));
        slow.die();
        Delivery again = fast.consumer().take(1).get(0);
        expect("redelivered task", held + " true", new String(again.getBody()) + " " + again.getEnvelope().isRedeliver());
        expect("messages left", 0L, fast.consumer().channel().messageCount(queue));
    }

    static void pubsub(Client client) throws Exception {
        Channel channel = client.channel();
        String exchange = client.exchange(channel, "pubsub", BuiltinExchangeType.FANOUT);
        List<Client.Consumer> subscribers = new ArrayList<>();
        for (int number = 0; number < 2; number++) {
            subscribers.add(Client.consume(channel, Client.ownQueue(channel, exchange, "")));
        }
        List<String> messages = numbered("message", 3);
        for (String message : messages) {
            Client.publish(channel, exchange, "ignored", message);
        }
        for (Client.Consumer subscriber : subscribers) {
            expect("messages of a subscriber", messages, bodies(subscriber.take(messages.size())));
        }
    }

    static void routing(Client client) throws Exception {
        Channel channel = client.channel();
        String exchange = client.exchange(channel, "routing", BuiltinExchangeType.DIRECT);
        String errors = Client.ownQueue(channel, exchange, "error");
        String everything = Client.ownQueue(channel, exchange, "info", "warning", "error");
        for (String severity : List.of("info", "warning", "error", "debug")) {
            Client.publish(channel, exchange, severity, severity);
        }
        expect("errors", List.of("error"), keys(Client.getAll(channel, errors)));
        expect("all severities", List.of("info", "warning", "error"), keys(Client.getAll(channel, everything)));
    }

    static void topics(Client client) throws Exception {
        List<String> keys = List.of(
            "quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit",
            "quick.brown.fox", "orange", "quick.orange.new.rabbit", "lazy.orange.new.rabbit", "lazy");
        Channel channel = client.channel();
        String exchange = client.exchange(channel, "topics", BuiltinExchangeType.TOPIC);
        String orange = Client.ownQueue(channel, exchange, "*.orange.*");
        String rabbitsAndLazy = Client.ownQueue(channel, exchange, "*.*.rabbit", "lazy.#");
        String everything = Client.ownQueue(channel, exchange, "#");
        for (String key : keys) {
            Client.publish(channel, exchange, key, "");
        }
        expect("keys that match *.orange.*", keys.subList(0, 3), keys(Client.getAll(channel, orange)));
        List<String> lazy = IntStream.of(0, 1, 3, 4, 8, 9).mapToObj(keys::get).toList();
        expect("keys that match *.*.rabbit or lazy.#", lazy, keys(Client.getAll(channel, rabbitsAndLazy)));
        expect("keys that match #", keys, keys(Client.getAll(channel, everything)));
    }

    static void rpc(Client client) throws Exception {
        Channel server = client.channel();
        Channel caller = client.channel();
        String queue = client.queue(server, "rpc", TRANSIENT);
        Client.Consumer requests = Client.consume(server, queue);
        String replyTo = Client.ownQueue(caller, "");
        Client.Consumer replies = Client.consume(caller, replyTo);
        for (int number : new int[] {10, 15, 20}) {
            var properties = new BasicProperties.Builder().replyTo(replyTo).correlationId("call of " + number).build();
            caller.basicPublish("", queue, properties, String.valueOf(number).getBytes());
        }
        for (Delivery request : requests.take(3)) {
            answer(server, request);
        }
        Map<String, String> answers = new TreeMap<>();
        for (Delivery reply : replies.take(3)) {
            answers.put(reply.getProperties().getCorrelationId(), new String(reply.getBody()));
        }
        expect("answers", Map.of("call of 10", "55", "call of 15", "610", "call of 20", "6765"), answers);
    }

    private static void answer(Channel server, Delivery request) throws Exception {
        int result = fibonacci(Integer.parseInt(new String(request.getBody())));
        String correlationId = request.getProperties().getCorrelationId();
        var properties = new BasicProperties.Builder().correlationId(correlationId).build();
        server.basicPublish("", request.getProperties().getReplyTo(), properties, String.valueOf(result).getBytes());
    }

    static void confirms(Client client) throws Exception {
        Channel channel = client.channel();
        String queue = client.queue(channel, "confirms", DURABLE);
        channel.confirmSelect();
        for (int number = 0; number < 1000; number++) {
            channel.basicPublish("", queue, PERSISTENT, String.valueOf(number).getBytes());
        }
        expect("all messages acknowledged", true, channel.waitForConfirms());
        expect("messages in the queue", 1000L, channel.messageCount(queue));
        List<String> events = eventsOfUnroutable(channel, queue + "-nowhere");
        expect("events of an unroutable message", List.of("return 312 NO_ROUTE", "ack"), events);
    }

    private static List<String> eventsOfUnroutable(Channel channel, String routingKey) throws Exception {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        channel.addReturnListener(returned -> events.add("return " + returned.getReplyCode() + " " + returned.getReplyText()));
        channel.addConfirmListener((tag, multiple) -> events.add("ack"), (tag, multiple) -> events.add("nack"));
        channel.basicPublish("", routingKey, true, PERSISTENT, "lost".getBytes());
        return List.of(events.take(), events.take());
    }

    static void large(Client client) throws Exception {
        byte[] body = new byte[10 << 20];
        new Random().nextBytes(body);
        Channel channel = client.channel();
        String queue = client.queue(channel, "large", DURABLE);
        channel.confirmSelect();
        channel.basicPublish("", queue, PERSISTENT, body);
        expect("message acknowledged", true, channel.waitForConfirms());
        byte[] found = Client.consume(channel, queue).take(1).get(0).getBody();
        expect("size", body.length, found.length);
        expect("SHA-256", sha256(body), sha256(found));
    }

    private static void expect(String what, Object expected, Object found) {
        if (!expected.equals(found)) {
            throw new IllegalStateException("expected " + what + " " + expected + ", found " + found);
        }
    }

    private static List<String> bodies(List<Delivery> deliveries) {
        return deliveries.stream().map(delivery -> new String(delivery.getBody())).toList();
    }

    private static List<String> keys(List<GetResponse> messages) {
        return messages.stream().map(message -> message.getEnvelope().getRoutingKey()).toList();
    }

    private static List<String> numbered(String label, int count) {
        return IntStream.range(0, count).mapToObj(number -> label + " " + number)
            .collect(Collectors.toCollection(ArrayList::new));
    }

    private static int fibonacci(int number) {
        int before = 0;
        int current = 1;
        for (int step = 0; step < number; step++) {
            int next = before + current;
            before = current;
            current = next;
        }
        return before;
    }

    private static String sha256(byte[] bytes) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    }
}
