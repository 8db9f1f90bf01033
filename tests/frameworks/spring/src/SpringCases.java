import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageListener;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.rabbit.config.RetryInterceptorBuilder;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.retry.RepublishMessageRecoverer;
import org.springframework.amqp.rabbit.transaction.RabbitTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

/** What Spring AMQP asks of a broker that stays up. */
final class SpringCases {
    private SpringCases() {}

    /** Requests through a template that takes its replies from amq.rabbitmq.reply-to, several threads at once. */
    static void directReplyTo(String uri) throws Exception {
        CachingConnectionFactory factory = connectionFactory(uri);
        Queue requests = declare(factory, QueueBuilder.durable(Proof.named("requests")).autoDelete().build());
        AtomicReference<String> replyTo = new AtomicReference<>();
        RabbitTemplate server = new RabbitTemplate(factory);
        SimpleMessageListenerContainer container = listen(factory, requests.getName(), request -> {
            replyTo.set(request.getMessageProperties().getReplyTo());
            server.convertAndSend("", replyTo.get(), "re: " + new String(request.getBody()), reply -> {
                reply.getMessageProperties().setCorrelationId(request.getMessageProperties().getCorrelationId());
                return reply;
            });
        });
        RabbitTemplate client = new RabbitTemplate(factory);
        client.setReplyTimeout(10_000);
        List<Object> replies = IntStream.range(0, 100).parallel().boxed()
                .map(number -> client.convertSendAndReceive("", requests.getName(), "call " + number)).toList();
        Proof.expect("replies", IntStream.range(0, 100).boxed().map(number -> "re: call " + number).toList(), replies);
        Proof.expect("a direct reply address", true, replyTo.get().startsWith("amq.rabbitmq.reply-to."));
        container.stop();
    }

    /** Confirms by correlation; what is returned comes with its correlation, before the confirm. */
    static void confirmsAndReturns(String uri) throws Exception {
        CachingConnectionFactory factory = connectionFactory(uri);
        Queue queue = declare(factory, QueueBuilder.durable(Proof.named("confirmed")).build());
        RabbitTemplate template = template(factory);
        List<CorrelationData> sent = new ArrayList<>();
        for (int number = 0; number < 500; number++) {
            sent.add(new CorrelationData());
            template.convertAndSend("", queue.getName(), "message " + number, sent.get(number));
        }
        for (CorrelationData correlation : sent) {
            Proof.expect("ack", true, correlation.getFuture().get(20, TimeUnit.SECONDS).isAck());
            Proof.expect("return", null, correlation.getReturned());
        }
        CorrelationData lost = new CorrelationData();
        template.convertAndSend("", Proof.named("nowhere"), "lost", lost);
        Proof.expect("ack of the unroutable", true, lost.getFuture().get(20, TimeUnit.SECONDS).isAck());
        Proof.expect("reply code", 312, lost.getReturned().getReplyCode());
        Proof.expect("messages", 500, new RabbitAdmin(factory).getQueueInfo(queue.getName()).getMessageCount());
        Proof.expect("simple confirms", true, waitForConfirms(uri, queue.getName()));
    }

    private static boolean waitForConfirms(String uri, String queue) {
        CachingConnectionFactory factory = new CachingConnectionFactory(URI.create(uri));
        factory.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.SIMPLE);
        return new RabbitTemplate(factory).invoke(operations -> {
            IntStream.range(0, 100).forEach(number -> operations.convertAndSend("", queue, "more"));
            return operations.waitForConfirms(10_000);
        });
    }

    /** A transacted template: what a transaction sends is there when it commits, and not when it fails. */
    static void transactions(String uri) throws Exception {
        CachingConnectionFactory factory = new CachingConnectionFactory(URI.create(uri));
        Queue queue = declare(factory, QueueBuilder.durable(Proof.named("transacted")).build());
        RabbitTemplate template = new RabbitTemplate(factory);
        template.setChannelTransacted(true);
        TransactionTemplate transaction = new TransactionTemplate(new RabbitTransactionManager(factory));
        transaction.executeWithoutResult(status -> {
            template.convertAndSend("", queue.getName(), "committed");
            Proof.expect("message before the commit", null, new RabbitTemplate(factory).receive(queue.getName()));
        });
        transaction.executeWithoutResult(status -> {
            template.convertAndSend("", queue.getName(), "rolled back");
            status.setRollbackOnly();
        });
        transaction.executeWithoutResult(status -> {
            Proof.expect("message", "committed", template.receiveAndConvert(queue.getName()));
            status.setRollbackOnly();
        });
        Message again = template.receive(queue.getName(), 5000);
        Proof.expect("message after the rollback", "committed", new String(again.getBody()));
        Proof.expect("redelivered", true, again.getMessageProperties().isRedelivered());
        Proof.expect("messages left", null, template.receive(queue.getName()));
    }

    /** Two containers want the same queue for themselves: the second is refused, retries, and follows the first. */
    static void exclusiveConsumer(String uri) throws Exception {
        CachingConnectionFactory factory = connectionFactory(uri);
        Queue queue = declare(factory, QueueBuilder.durable(Proof.named("exclusive")).build());
        AtomicInteger first = new AtomicInteger();
        AtomicInteger second = new AtomicInteger();
        AtomicInteger refusals = new AtomicInteger();
        SimpleMessageListenerContainer active = exclusive(factory, queue, first);
        active.start();
        SimpleMessageListenerContainer waiting = exclusive(connectionFactory(uri), queue, second);
        waiting.setApplicationEventPublisher(event -> refusals.incrementAndGet());
        waiting.start();
        Proof.waitUntil("two refusals", () -> refusals.get() >= 2);
        RabbitTemplate template = new RabbitTemplate(factory);
        IntStream.range(0, 20).forEach(number -> template.convertAndSend("", queue.getName(), "to the first"));
        Proof.waitUntil("all messages at the first", () -> first.get() == 20);
        active.stop();
        IntStream.range(0, 20).forEach(number -> template.convertAndSend("", queue.getName(), "to the second"));
        Proof.waitUntil("all messages at the second", () -> second.get() == 20);
        Proof.expect("messages of the first", 20, first.get());
        waiting.stop();
    }

    private static SimpleMessageListenerContainer exclusive(CachingConnectionFactory factory, Queue queue,
            AtomicInteger count) {
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames(queue.getName());
        container.setExclusive(true);
        container.setRecoveryInterval(200);
        container.setMessageListener(message -> count.incrementAndGet());
        container.afterPropertiesSet();
        return container;
    }

    /** Both ways to a dead letter queue: rejected by the listener, and republished with the exception in its headers. */
    static void deadLetters(String uri) throws Exception {
        CachingConnectionFactory factory = connectionFactory(uri);
        Queue dead = declare(factory, QueueBuilder.durable(Proof.named("dlq")).build());
        Queue rejecting = declare(factory, QueueBuilder.durable(Proof.named("rejecting"))
                .deadLetterExchange("").deadLetterRoutingKey(dead.getName()).build());
        Queue republishing = declare(factory, QueueBuilder.durable(Proof.named("republishing")).build());
        RabbitTemplate template = template(factory);
        SimpleMessageListenerContainer rejects = listen(factory, rejecting.getName(), message -> {
            throw new AmqpRejectAndDontRequeueException("rejected");
        });
        AtomicInteger attempts = new AtomicInteger();
        SimpleMessageListenerContainer republishes = container(factory, republishing.getName(), message -> {
            attempts.incrementAndGet();
            throw new IllegalStateException("republished");
        });
        republishes.setAdviceChain(RetryInterceptorBuilder.stateless().maxAttempts(3)
                .recoverer(new RepublishMessageRecoverer(new RabbitTemplate(factory), "", dead.getName())).build());
        republishes.start();

        template.convertAndSend("", rejecting.getName(), "one");
        Message rejected = template.receive(dead.getName(), 10_000);
        Map<String, ?> death = rejected.getMessageProperties().getXDeathHeader().get(0);
        Proof.expect("reason and queue", "rejected " + rejecting.getName(), death.get("reason") + " " + death.get("queue"));
        Proof.expect("count", 1L, death.get("count"));
        template.convertAndSend("", republishing.getName(), "two");
        Message republished = template.receive(dead.getName(), 10_000);
        Proof.expect("attempts", 3, attempts.get());
        Object cause = republished.getMessageProperties().getHeaders().get(RepublishMessageRecoverer.X_EXCEPTION_STACKTRACE);
        Proof.expect("cause in the headers", true, cause.toString().contains("republished"));
        rejects.stop();
        republishes.stop();
    }

    /** Correlated confirms and returns. */
    static CachingConnectionFactory connectionFactory(String uri) {
        CachingConnectionFactory factory = new CachingConnectionFactory(URI.create(uri));
        factory.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
        factory.setPublisherReturns(true);
        return factory;
    }

    static RabbitTemplate template(CachingConnectionFactory factory) {
        RabbitTemplate template = new RabbitTemplate(factory);
        template.setMandatory(true);
        return template;
    }

    private static Queue declare(CachingConnectionFactory factory, Queue queue) {
        new RabbitAdmin(factory).declareQueue(queue);
        return queue;
    }

    private static SimpleMessageListenerContainer container(CachingConnectionFactory factory, String queue,
            MessageListener listener) {
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setQueueNames(queue);
        container.setConcurrentConsumers(2);
        container.setAcknowledgeMode(AcknowledgeMode.AUTO);
        container.setMessageListener(listener);
        return container;
    }

    private static SimpleMessageListenerContainer listen(CachingConnectionFactory factory, String queue,
            MessageListener listener) {
        SimpleMessageListenerContainer container = container(factory, queue, listener);
        container.afterPropertiesSet();
        container.start();
        return container;
    }
}
