import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.AmqpException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.AnonymousQueue;
import org.springframework.amqp.core.Binding;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Declarables;
import org.springframework.amqp.core.FanoutExchange;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.context.support.GenericApplicationContext;

/**
 * Spring's own recovery: the admin declares again when a connection opens, the containers restart their consumers,
 * the template's confirms go on.
 */
final class SpringRecovery {
    private SpringRecovery() {}

    static void recover(String uri, String bySignal) throws Exception {
        FanoutExchange exchange = new FanoutExchange(Proof.named("spring"));
        Queue durable = QueueBuilder.durable(Proof.named("durable")).build();
        Queue archive = QueueBuilder.durable(Proof.named("archive")).build();
        Queue anonymous = new AnonymousQueue();
        Queue passing = QueueBuilder.nonDurable(Proof.named("passing")).autoDelete().build();
        CachingConnectionFactory factory = SpringCases.connectionFactory(uri);
        GenericApplicationContext context = contextOf(factory, exchange, durable, archive, anonymous, passing);

        Collection<String> fromDurable = listen(context, simpleContainer(factory), durable);
        Collection<String> fromAnonymous = listen(context, new DirectMessageListenerContainer(factory), anonymous);
        Collection<String> fromPassing = listen(context, simpleContainer(factory), passing);
        RabbitTemplate template = SpringCases.template(factory);
        Publisher publisher = new Publisher(body -> publishAndWait(template, exchange.getName(), body), fromDurable);
        publisher.start();
        publisher.waitUntilUnderWay();
        Proof.restartBroker(bySignal);
        publisher.finish();
        publisher.checkKept(allBodies(template, archive.getName()));
        publishUntilReceived(template, exchange.getName(), "anonymous", fromAnonymous);
        publishUntilReceived(template, exchange.getName(), "auto-delete", fromPassing);
        context.close();
    }

    private static GenericApplicationContext contextOf(CachingConnectionFactory factory, FanoutExchange exchange,
            Queue... queues) {
        Declarables declarables = new Declarables(exchange);
        for (Queue queue : queues) {
            Binding binding = BindingBuilder.bind(queue).to(exchange);
            declarables.getDeclarables().add(queue);
            declarables.getDeclarables().add(binding);
        }
        GenericApplicationContext context = new GenericApplicationContext();
        context.registerBean(Declarables.class, () -> declarables);
        context.registerBean(RabbitAdmin.class, () -> new RabbitAdmin(factory));
        context.refresh();
        context.getBean(RabbitAdmin.class).initialize();
        return context;
    }

    private static SimpleMessageListenerContainer simpleContainer(CachingConnectionFactory factory) {
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setFailedDeclarationRetryInterval(300);
        return container;
    }

    private static Collection<String> listen(GenericApplicationContext context,
            AbstractMessageListenerContainer container, Queue queue) throws Exception {
        Collection<String> received = new ConcurrentLinkedQueue<>();
        container.setAmqpAdmin(context.getBean(RabbitAdmin.class));
        container.setApplicationContext(context);
        container.setQueues(queue);
        container.setRecoveryInterval(300);
        container.setAcknowledgeMode(AcknowledgeMode.AUTO);
        container.setPrefetchCount(50);
        container.setMessageListener(message -> received.add(new String(message.getBody())));
        container.afterPropertiesSet();
        container.start();
        return received;
    }

    private static void publishAndWait(RabbitTemplate template, String exchange, String body) throws Exception {
        CorrelationData correlation = new CorrelationData(body);
        template.convertAndSend(exchange, "", body, correlation);
        if (!correlation.getFuture().get(2, TimeUnit.SECONDS).isAck()) {
            throw new AmqpException("nacked");
        }
    }

    private static List<String> allBodies(RabbitTemplate template, String queue) {
        List<String> bodies = new ArrayList<>();
        for (Message message; (message = template.receive(queue)) != null; ) {
            bodies.add(new String(message.getBody()));
        }
        return bodies;
    }

    /** The consumer of a queue that is gone with the broker comes back some time after the connection does. */
    private static void publishUntilReceived(RabbitTemplate template, String exchange, String kind,
            Collection<String> received) throws Exception {
        String body = Proof.named("after");
        Proof.waitUntil("a message to the " + kind + " queue", () -> {
            publishAndWait(template, exchange, body);
            return received.contains(body);
        });
    }
}
