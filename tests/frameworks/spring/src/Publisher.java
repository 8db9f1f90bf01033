import java.util.Collection;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Publishes numbered messages, each until it is confirmed, while the broker goes and comes back. */
final class Publisher extends Thread {
    /** Publishes one message and returns when it is confirmed. */
    interface Publish {
        void publish(String body) throws Exception;
    }

    private static final int MESSAGE_COUNT = 300;

    private final Publish publish;
    private final Collection<String> received;
    private final Set<String> confirmed = ConcurrentHashMap.newKeySet();
    private volatile int repeated;
    /** Milliseconds between two publishes, so that they last until the broker is stopped. */
    private volatile int pause = 5;

    Publisher(Publish publish, Collection<String> received) {
        this.publish = publish;
        this.received = received;
        setDaemon(true);
    }

    @Override
    public void run() {
        try {
            for (int number = 0; number < MESSAGE_COUNT; number++) {
                publishUntilConfirmed("message-" + number);
                Thread.sleep(pause);
            }
        } catch (InterruptedException end) {
            Thread.currentThread().interrupt();
        }
    }

    private void publishUntilConfirmed(String body) throws InterruptedException {
        while (true) {
            try {
                publish.publish(body);
                confirmed.add(body);
                return;
            } catch (Exception lost) {
                repeated++;
                Thread.sleep(100);
            }
        }
    }

    void waitUntilUnderWay() throws Exception {
        Proof.waitUntil("some messages", () -> received.size() > MESSAGE_COUNT / 4);
    }

    /** Waits for the last confirm, and until whatever was confirmed has been received. */
    void finish() throws Exception {
        pause = 0;
        Proof.waitUntil("all messages confirmed", () -> confirmed.size() == MESSAGE_COUNT);
        Proof.waitUntil("all confirmed messages", () -> new HashSet<>(received).containsAll(confirmed));
        int twice = received.size() - new HashSet<>(received).size();
        System.out.println(repeated + " publishes repeated, " + twice + " messages twice");
        Proof.expect("publishes repeated", true, repeated > 0);
    }

    /** Whatever was confirmed has to be in the queue that nobody consumes. */
    void checkKept(Collection<String> kept) {
        Set<String> lost = new HashSet<>(confirmed);
        lost.removeAll(new HashSet<>(kept));
        Proof.expect("count of confirmed messages that were not kept", 0, lost.size());
    }
}
