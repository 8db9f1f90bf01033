import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.impl.recovery.AutorecoveringConnection;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;

/** The Java client with automatic recovery of its connection and its topology. */
final class ClientCases {
    private ClientCases() {}

    static void recover(String uri, String bySignal) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(uri);
        factory.setAutomaticRecoveryEnabled(true);
        factory.setTopologyRecoveryEnabled(true);
        factory.setNetworkRecoveryInterval(300);
        Connection connection = factory.newConnection();
        AtomicInteger recoveries = countRecoveries(connection);
        Channel channel = connection.createChannel();
        String source = Proof.named("source");
        channel.exchangeDeclare(source, BuiltinExchangeType.TOPIC, true);

        Subscriber durable = new Subscriber(connection, source, Proof.named("durable"), true, false, false);
        Subscriber exclusive = new Subscriber(connection, source, "", false, true, true);
        Subscriber passing = new Subscriber(connection, source, Proof.named("passing"), false, false, true);
        String archive = channel.queueDeclare(Proof.named("archive"), true, false, false, Map.of()).getQueue();
        channel.queueBind(archive, source, "all");
        String nameBefore = exclusive.queue;

        Publisher publisher = new Publisher(body -> publishAndWait(channel, source, body), durable.bodies);
        publisher.start();
        publisher.waitUntilUnderWay();
        Proof.restartBroker(bySignal);
        publisher.finish();
        Proof.waitUntil("a recovered connection", () -> recoveries.get() == 1);
        publisher.checkKept(allBodies(channel, archive));
        for (Subscriber subscriber : new Subscriber[] {durable, exclusive, passing}) {
            subscriber.checkThatItConsumes(channel);
        }
        String nameAfter = ((AutorecoveringConnection) connection).getRecordedQueues().keySet().stream()
                .filter(name -> name.startsWith("amq.gen-")).findFirst().orElse("none");
        Proof.expect("a new name of the queue that the server names", false, nameAfter.equals(nameBefore));
        connection.close();
    }

    private static List<String> allBodies(Channel channel, String queue) throws IOException {
        List<String> bodies = new ArrayList<>();
        for (GetResponse got; (got = channel.basicGet(queue, true)) != null; ) {
            bodies.add(new String(got.getBody()));
        }
        return bodies;
    }

    private static AtomicInteger countRecoveries(Connection connection) {
        AtomicInteger recoveries = new AtomicInteger();
        ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recoverable) {
                recoveries.incrementAndGet();
            }

            @Override
            public void handleRecoveryStarted(Recoverable recoverable) {}
        });
        return recoveries;
    }

    /** The recovered channel is still in confirm mode; to select it again does no harm. */
    private static void publishAndWait(Channel channel, String exchange, String body) throws Exception {
        channel.confirmSelect();
        channel.basicPublish(exchange, "all", MessageProperties.PERSISTENT_BASIC, body.getBytes());
        channel.waitForConfirmsOrDie(5000);
    }

    /** A queue bound through an exchange of its own to the source, and what it delivers. */
    private static final class Subscriber {
        final Queue<String> bodies = new ConcurrentLinkedQueue<>();
        final String queue;
        private final String exchange = Proof.named("own");

        Subscriber(Connection connection, String source, String name, boolean durable, boolean exclusive,
                boolean autoDelete) throws IOException {
            Channel channel = connection.createChannel();
            channel.basicQos(50);
            channel.exchangeDeclare(exchange, BuiltinExchangeType.FANOUT, durable, autoDelete, Map.of());
            channel.exchangeBind(exchange, source, "all");
            AMQP.Queue.DeclareOk declared = channel.queueDeclare(name, durable, exclusive, autoDelete, Map.of());
            queue = declared.getQueue();
            channel.queueBind(queue, exchange, "");
            channel.basicConsume(queue, false, (tag, delivery) -> receive(channel, delivery), tag -> {});
        }

        private void receive(Channel channel, Delivery delivery) throws IOException {
            bodies.add(new String(delivery.getBody()));
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        }

        /** Publishes to its exchange: that, the binding, the queue and the consumer have to be there again. */
        void checkThatItConsumes(Channel channel) throws Exception {
            String body = Proof.named("after");
            channel.basicPublish(exchange, "", MessageProperties.PERSISTENT_BASIC, body.getBytes());
            channel.waitForConfirmsOrDie(5000);
            Proof.waitUntil("a message to queue '" + queue + "'", () -> bodies.contains(body));
        }
    }
}
