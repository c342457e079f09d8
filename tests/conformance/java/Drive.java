import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import org.apache.kafka.clients.producer.KafkaProducer;

/** Runs cases through Apache Kafka's own Java clients: {@code Drive --at plain=HOST:PORT CASE…}. */
final class Drive {
    interface Case {
        void run(Env env) throws Exception;
    }

    private static final int JOBS = 4;
    private static final int CASE_LIMIT_S = 120;

    private static void register(Map<String, Case> cases) {
        Records.register(cases);
        Transactions.register(cases);
        Groups.register(cases);
        GroupAdmin.register(cases);
        Topics.register(cases);
        Cluster.register(cases);
        Security.register(cases);
    }

    public static void main(String[] args) throws Exception {
        main(args, "kafka-clients", Drive::register);
    }

    /** The command line that drivers in Java share; `name` is what they call the library's version. */
    static void main(String[] args, String name, Consumer<Map<String, Case>> register) throws Exception {
        Map<String, Case> cases = new LinkedHashMap<>();
        register.accept(cases);
        Map<String, String> at = new HashMap<>();
        List<String> chosen = new ArrayList<>();
        for (int i = 0; i < args.length; i++) {
            switch (args[i]) {
                case "--list" -> cases.keySet().forEach(System.out::println);
                case "--versions" -> System.out.printf("{\"%s\": \"%s\"}%n", name, version());
                case "--at" -> {
                    String[] pair = args[++i].split("=", 2);
                    at.put(pair[0], pair[1]);
                }
                default -> chosen.add(args[i]);
            }
        }
        runAll(cases, chosen, at);
        System.out.flush();
        // A case that never ended may hold threads of its client.
        Runtime.getRuntime().halt(0);
    }

    /** As the library's own jar says. */
    private static String version() throws IOException {
        Properties properties = new Properties();
        try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
    }

    private static void runAll(Map<String, Case> cases, List<String> chosen, Map<String, String> at) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(JOBS);
        for (String name : chosen) {
            pool.submit(() -> print(System.out, name, cases.get(name), new Env(at, name)));
        }
        pool.shutdown();
        pool.awaitTermination(1, TimeUnit.HOURS);
    }

    private static void print(PrintStream out, String name, Case run, Env env) {
        long begun = System.nanoTime();
        String detail = outcome(run, env);
        double seconds = (System.nanoTime() - begun) / 1e9;
        String line = "{\"case\": \"%s\", \"ok\": %s, \"seconds\": %.2f, \"detail\": \"%s\"}";
        synchronized (out) {
            out.println(String.format(java.util.Locale.ROOT, line, name, detail.isEmpty(), seconds, escaped(detail)));
        }
    }

    /** What did not hold; empty when all did. */
    private static String outcome(Case run, Env env) {
        ExecutorService thread = Executors.newSingleThreadExecutor();
        Future<?> done = thread.submit(() -> {
            run.run(env);
            return null;
        });
        try {
            done.get(CASE_LIMIT_S, TimeUnit.SECONDS);
            return "";
        } catch (TimeoutException e) {
            return "no end within " + CASE_LIMIT_S + " s";
        } catch (Exception e) {
            Throwable cause = e.getCause() == null ? e : e.getCause();
            return place(cause) + cause;
        } finally {
            thread.shutdownNow();
        }
    }

    /** The line of the case that failed. */
    private static String place(Throwable cause) {
        for (StackTraceElement frame : cause.getStackTrace()) {
            String file = frame.getFileName();
            if (file != null && frame.getModuleName() == null && !file.equals("Env.java") && frame.getClassName().indexOf('.') < 0) {
                return file + ":" + frame.getLineNumber() + ": ";
            }
        }
        return "";
    }

    private static String escaped(String text) {
        String cut = text.length() > 600 ? text.substring(0, 600) + "…" : text;
        return cut.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ");
    }
}
