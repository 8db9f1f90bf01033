import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import java.net.Socket;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicReference;

/** Opens channels, each on a connection of its own, and remembers what to delete and close at the end. */
class Client implements AutoCloseable {
    private final String uri;
    private final Deque<AutoCloseable> cleanups = new ArrayDeque<>();

    Client(String uri) {
        this.uri = uri;
    }

    Channel channel() throws Exception {
        Connection connection = factory().newConnection();
        cleanups.push(connection::close);
        return connection.createChannel();
    }

    /** A consumer with a connection of its own that holds one task at a time. */
    Worker worker(String queue) throws Exception {
        AtomicReference<Socket> socket = new AtomicReference<>();
        ConnectionFactory factory = factory();
        factory.setSocketConfigurator(socket::set);
        Channel channel = factory.newConnection().createChannel();
        channel.basicQos(1);
        return new Worker(consume(channel, queue), socket.get());
    }

    String queue(Channel channel, String label, boolean isDurable) throws Exception {
        String name = named(label);
        channel.queueDeclare(name, isDurable, false, false, null);
        cleanups.push(() -> channel.queueDelete(name));
        return name;
    }

    String exchange(Channel channel, String label, BuiltinExchangeType type) throws Exception {
        String name = named(label);
        channel.exchangeDeclare(name, type);
        cleanups.push(() -> channel.exchangeDelete(name));
        return name;
    }

    /** An exclusive queue that the broker names, bound to {@code exchange} with each of the keys. */
    static String ownQueue(Channel channel, String exchange, String... bindingKeys) throws Exception {
        String name = channel.queueDeclare().getQueue();
        for (String bindingKey : bindingKeys) {
            channel.queueBind(name, exchange, bindingKey);
        }
        return name;
    }

    static Consumer consume(Channel channel, String queue) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        return new Consumer(channel, deliveries);
    }

    static List<GetResponse> getAll(Channel channel, String queue) throws Exception {
        List<GetResponse> messages = new ArrayList<>();
        GetResponse message;
        while ((message = channel.basicGet(queue, true)) != null) {
            messages.add(message);
        }
        return messages;
    }

    static void publish(Channel channel, String exchange, String routingKey, String body) throws Exception {
        channel.basicPublish(exchange, routingKey, new BasicProperties(), body.getBytes());
    }

    static String named(String label) {
        return label + "-" + UUID.randomUUID().toString().substring(24);
    }

    /** Deletes and closes everything, the latest first. */
    @Override
    public void close() throws Exception {
        for (AutoCloseable cleanup : cleanups) {
            cleanup.close();
        }
    }

    private ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(uri);
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    /** Collects what a queue delivers; acknowledges what is taken. */
    record Consumer(Channel channel, BlockingQueue<Delivery> deliveries) {
        List<Delivery> take(int count) throws Exception {
            List<Delivery> taken = new ArrayList<>();
            while (taken.size() < count) {
                Delivery delivery = deliveries.take();
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                taken.add(delivery);
            }
            return taken;
        }
    }

    /** A worker that can die as a killed process does: its socket is gone, and no method says so. */
    record Worker(Consumer consumer, Socket socket) {
        String heldTask() throws InterruptedException {
            return new String(consumer.deliveries().take().getBody());
        }

        void die() throws Exception {
            socket.close();
        }
    }
}
