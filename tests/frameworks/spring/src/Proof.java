import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ThreadLocalRandom;

/** How a case judges and waits. */
final class Proof {
    /** What a case found in place of what it expected. */
    static final class Unexpected extends RuntimeException {
        Unexpected(String message) {
            super(message);
        }
    }

    private Proof() {}

    static void expect(String what, Object expected, Object found) {
        if (!Objects.equals(expected, found)) {
            throw new Unexpected("expected " + what + " " + expected + ", found " + found);
        }
    }

    /** Waits until the condition holds, up to 30 s. */
    static void waitUntil(String what, Callable<Boolean> isSo) throws Exception {
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (!isSo.call()) {
            if (System.nanoTime() > deadline) {
                throw new Unexpected("expected " + what + " within 30 s, found that it did not come");
            }
            Thread.sleep(20);
        }
    }

    /** Stops the broker by TERM or KILL and starts it again; returns when it accepts connections. */
    static void restartBroker(String bySignal) throws Exception {
        String[] command = (System.getenv("RESTART_BROKER") + " " + bySignal).split(" ");
        int status = new ProcessBuilder(command)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start()
                .waitFor();
        expect("exit status of the restart", 0, status);
    }

    static String named(String label) {
        return label + "-" + Long.toHexString(ThreadLocalRandom.current().nextLong());
    }
}
