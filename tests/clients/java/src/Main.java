import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** The eight programs of tests/clients with the Java client: {@code Main URI CASE}. */
public class Main {
    private static final int DEADLINE_SECONDS = 20;

    public static void main(String[] arguments) throws InterruptedException {
        String name = arguments[1];
        long start = System.nanoTime();
        try {
            runInTime(arguments[0], name);
        } catch (TimeoutException late) {
            fail(name, "expected an end within " + DEADLINE_SECONDS + " s, found none");
        } catch (ExecutionException failure) {
            fail(name, describe(failure.getCause()));
        }
        System.out.printf("ok %s %.3fs%n", name, (System.nanoTime() - start) / 1e9);
        System.exit(0);
    }

    private static void runInTime(String uri, String name)
            throws InterruptedException, ExecutionException, TimeoutException {
        FutureTask<Void> task = new FutureTask<>(() -> {
            try (Client client = new Client(uri)) {
                run(name, client);
            }
            return null;
        });
        new Thread(task).start();
        task.get(DEADLINE_SECONDS, TimeUnit.SECONDS);
    }

    private static void run(String name, Client client) throws Exception {
        switch (name) {
            case "hello" -> Cases.hello(client);
            case "work" -> Cases.work(client);
            case "pubsub" -> Cases.pubsub(client);
            case "routing" -> Cases.routing(client);
            case "topics" -> Cases.topics(client);
            case "rpc" -> Cases.rpc(client);
            case "confirms" -> Cases.confirms(client);
            case "large" -> Cases.large(client);
            default -> throw new IllegalArgumentException("expected the name of a case, found " + name);
        }
    }

    /** The client wraps what the broker said in an exception without a message of its own. */
    private static String describe(Throwable failure) {
        Throwable root = failure;
        while (root.getMessage() == null && root.getCause() != null) {
            root = root.getCause();
        }
        return root.getMessage() == null ? root.toString() : root.getMessage();
    }

    private static void fail(String name, String message) {
        System.out.println("FAILED " + name + ": " + message);
        System.exit(1);
    }
}
