import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Drives {@link WindowedCount}, a Kafka Streams application in processes of its own, which are killed. */
final class Streams {
    private static final int KEYS = 7;
    private static final long WINDOW_MS = 10_000;
    /** On a busy machine an instance misses its transaction's timeout, is fenced and starts over. */
    private static final Duration LIMIT = Duration.ofMinutes(3);
    private static final int MAX_SAID = 4_000;

    public static void main(String[] args) throws Exception {
        Drive.main(args, "kafka-streams", Streams::register);
    }

    private static void register(Map<String, Drive.Case> cases) {
        cases.put("streams/windowed-count", Streams::windowedCount);
        cases.put("streams/restored-after-a-kill", Streams::restoredAfterAKill);
        cases.put("streams/taken-over", Streams::takenOver);
    }

    /** Input, expected counts and processes of one run. */
    private static final class Run implements AutoCloseable {
        final Env env;
        final String id;
        final String in;
        final String out;
        final Map<String, Integer> wanted = new HashMap<>();
        final List<Process> processes = new ArrayList<>();
        final List<Path> folders = new ArrayList<>();
        /** What the instances complained of. */
        final Path complaints;
        private final long start = System.currentTimeMillis() / WINDOW_MS * WINDOW_MS - 600_000;
        private int written;

        Run(Env env) throws Exception {
            this.env = env;
            id = env.name();
            in = env.topic(3);
            out = env.topic(3);
            complaints = Files.createTempFile("streamward-conformance.", ".log");
        }

        Process instance(Path folder) throws IOException {
            String[] command = {System.getProperty("java.home") + "/bin/java", "-Xmx256m", "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp",
                System.getProperty("java.class.path"), "WindowedCount", env.at.get("plain"), id, in, out, folder.toString()};
            ProcessBuilder builder = new ProcessBuilder(command);
            builder.redirectOutput(ProcessBuilder.Redirect.DISCARD);
            builder.redirectError(ProcessBuilder.Redirect.appendTo(complaints.toFile()));
            Process process = builder.start();
            processes.add(process);
            return process;
        }

        Path folder() throws IOException {
            Path folder = Files.createTempDirectory("streamward-conformance.");
            folders.add(folder);
            return folder;
        }

        /** Writes records over all keys and six windows. */
        void write(int count) {
            try (KafkaProducer<String, String> producer = env.producer("linger.ms", "5")) {
                for (int n = written; n < written + count; n++) {
                    String key = "k" + n % KEYS;
                    long time = start + n % 60 * 1000;
                    producer.send(new ProducerRecord<>(in, null, time, "ignored-" + n, key));
                    wanted.merge(key + "@" + time / WINDOW_MS * WINDOW_MS, 1, Integer::sum);
                }
            }
            written += count;
        }

        /** The counts that were put out for each window, in order, committed ones only. */
        Map<String, List<Integer>> counted() {
            Map<String, List<Integer>> counts = new TreeMap<>();
            for (ConsumerRecord<String, String> record : env.readAll(out, 3, "isolation.level", "read_committed")) {
                counts.computeIfAbsent(record.key(), key -> new ArrayList<>()).add(Integer.valueOf(record.value()));
            }
            return counts;
        }

        int total() {
            return counted().values().stream().mapToInt(List::size).sum();
        }

        private String said() throws IOException {
            String all = Files.readString(complaints).strip();
            return all.substring(Math.max(0, all.length() - MAX_SAID));
        }

        /** Every count from one to the last was put out exactly once and in order. */
        void checkExact() throws Exception {
            Env.eventually("a count for each of " + written + " records", LIMIT, () -> {
                int total = total();
                Env.holds("only " + total + " counts; the instances said: " + said(), total >= written);
                return true;
            });
            Map<String, List<Integer>> exact = new TreeMap<>();
            wanted.forEach((window, count) -> exact.put(window, IntStream.rangeClosed(1, count).boxed().toList()));
            Map<String, List<Integer>> counts = counted();
            for (Map.Entry<String, List<Integer>> entry : exact.entrySet()) {
                Env.equal("counts of " + entry.getKey(), counts.get(entry.getKey()), entry.getValue());
            }
            Env.equal("windows", counts.keySet(), exact.keySet());
        }

        @Override
        public void close() throws IOException {
            processes.forEach(Process::destroyForcibly);
            processes.forEach(process -> process.onExit().join());
            for (Path folder : folders) {
                wipe(folder);
            }
            Files.delete(complaints);
        }
    }

    private static void wipe(Path folder) throws IOException {
        if (!Files.exists(folder)) {
            return;
        }
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(file);
            }
        }
    }

    private static void windowedCount(Env env) throws Exception {
        try (Run run = new Run(env)) {
            run.write(600);
            run.instance(run.folder());
            run.checkExact();
            run.write(300);
            run.checkExact();
        }
    }

    private static void restoredAfterAKill(Env env) throws Exception {
        try (Run run = new Run(env)) {
            Path folder = run.folder();
            Process first = run.instance(folder);
            run.write(600);
            Env.eventually("some counts", LIMIT, () -> run.total() > 0);
            run.write(600);
            first.destroyForcibly().waitFor();
            // Without its folder the state comes back from the changelog alone.
            wipe(folder);
            run.write(300);
            run.instance(run.folder());
            run.checkExact();
        }
    }

    private static int members(Env env, String group) throws Exception {
        try (Admin admin = env.admin()) {
            return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get().members().size();
        }
    }

    private static void takenOver(Env env) throws Exception {
        try (Run run = new Run(env)) {
            Process first = run.instance(run.folder());
            run.write(300);
            Env.eventually("some counts", LIMIT, () -> run.total() > 0);
            run.instance(run.folder());
            run.write(600);
            // Two threads each.
            Env.eventually("both instances in the group", LIMIT, () -> members(env, run.id) == 4);
            first.destroyForcibly().waitFor();
            run.write(300);
            run.checkExact();
        }
    }
}
