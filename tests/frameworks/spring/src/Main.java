import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;

/** Runs one case: Main URI CASE. */
public final class Main {
    private static final int DEADLINE_SECONDS = 140;

    interface Case {
        void run(String uri) throws Exception;
    }

    private static final Map<String, Case> CASES = new LinkedHashMap<>();

    static {
        CASES.put("client_recovers_from_term", uri -> ClientCases.recover(uri, "TERM"));
        CASES.put("client_recovers_from_kill", uri -> ClientCases.recover(uri, "KILL"));
        CASES.put("spring_recovers_from_term", uri -> SpringRecovery.recover(uri, "TERM"));
        CASES.put("spring_recovers_from_kill", uri -> SpringRecovery.recover(uri, "KILL"));
        CASES.put("direct_reply_to", SpringCases::directReplyTo);
        CASES.put("confirms_and_returns", SpringCases::confirmsAndReturns);
        CASES.put("transactions", SpringCases::transactions);
        CASES.put("exclusive_consumer", SpringCases::exclusiveConsumer);
        CASES.put("dead_letters", SpringCases::deadLetters);
    }

    public static void main(String[] arguments) {
        String name = arguments[1];
        endLate(name);
        long start = System.nanoTime();
        try {
            CASES.get(name).run(arguments[0]);
        } catch (Proof.Unexpected unexpected) {
            end(1, "FAILED " + name + ": " + oneLine(unexpected.getMessage()));
        } catch (Throwable failure) {
            failure.printStackTrace();
            end(1, "FAILED " + name + ": expected no error, found " + oneLine(failure.toString()));
        }
        end(0, String.format("ok %s %.3fs", name, (System.nanoTime() - start) / 1e9));
    }

    private static void endLate(String name) {
        String line = "FAILED " + name + ": expected an end within " + DEADLINE_SECONDS + " s, found none";
        TimerTask task = new TimerTask() {
            @Override
            public void run() {
                end(1, line);
            }
        };
        new Timer(true).schedule(task, DEADLINE_SECONDS * 1000L);
    }

    private static String oneLine(String text) {
        return text.replaceAll("\\s+", " ");
    }

    /** Ends at once: what a framework still holds open must not keep a case that is judged. */
    private static void end(int status, String line) {
        System.out.println(line);
        System.out.flush();
        Runtime.getRuntime().halt(status);
    }
}
