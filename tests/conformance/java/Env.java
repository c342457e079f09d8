import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What a case is given: the servers, names that nobody else uses, clients, and how to say what must hold. */
final class Env {
    static final Duration PATIENCE = Duration.ofSeconds(30);

    /** What should hold does not. */
    static final class Failed extends RuntimeException {
        Failed(String text) {
            super(text);
        }
    }

    final Map<String, String> at;
    private final String label;

    Env(Map<String, String> at, String name) {
        this.at = at;
        this.label = name.replaceAll("[^a-z0-9]+", "-");
    }

    /** A name for a topic, a group or a transactional id. */
    String name() {
        return label + "-" + Long.toHexString(ThreadLocalRandom.current().nextLong(1L << 40));
    }

    private Map<String, Object> settings(String... pairs) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", at.get("plain")));
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put(pairs[i], pairs[i + 1]);
        }
        return settings;
    }

    Admin admin() {
        return Admin.create(settings());
    }

    KafkaProducer<String, String> producer(String... pairs) {
        return new KafkaProducer<>(settings(pairs), new StringSerializer(), new StringSerializer());
    }

    /** A transactional producer that has begun nothing yet. */
    KafkaProducer<String, String> transactional(String id, String... pairs) {
        String[] all = Arrays.copyOf(pairs, pairs.length + 2);
        all[pairs.length] = "transactional.id";
        all[pairs.length + 1] = id;
        KafkaProducer<String, String> producer = producer(all);
        producer.initTransactions();
        return producer;
    }

    /** A consumer that commits only when told to and begins at the earliest record; group null for none. */
    KafkaConsumer<String, String> consumer(String group, String... pairs) {
        Map<String, Object> settings = settings("enable.auto.commit", "false", "auto.offset.reset", "earliest");
        settings.putAll(settings(pairs));
        if (group != null) {
            settings.put("group.id", group);
        }
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    String topic(int partitions, String... configs) throws Exception {
        String name = name();
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) {
            map.put(configs[i], configs[i + 1]);
        }
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(map))).all().get();
            eventually("the topic", () -> describes(admin, name, partitions));
            // A broker may list partitions sooner than they answer.
            Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
            for (int number = 0; number < partitions; number++) {
                ends.put(new TopicPartition(name, number), OffsetSpec.latest());
            }
            admin.listOffsets(ends).all().get();
        }
        return name;
    }

    static boolean describes(Admin admin, String name, int partitions) throws Exception {
        try {
            return admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == partitions;
        } catch (ExecutionException e) {
            return false;
        }
    }

    /** Sends values to a partition one after the other; their offsets. */
    List<Long> fill(String topic, int partition, String... values) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            return send(producer, topic, partition, values);
        }
    }

    static List<Long> send(KafkaProducer<String, String> producer, String topic, int partition, String... values)
            throws Exception {
        List<Long> offsets = new ArrayList<>();
        for (String value : values) {
            Future<RecordMetadata> sent = producer.send(new ProducerRecord<>(topic, partition, null, value));
            offsets.add(sent.get().offset());
        }
        return offsets;
    }

    /** All records of a topic up to the ends that its consumer sees, by partition and offset. */
    List<ConsumerRecord<String, String>> readAll(String topic, int partitions, String... pairs) {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer(null, pairs)) {
            List<TopicPartition> places = new ArrayList<>();
            for (int number = 0; number < partitions; number++) {
                places.add(new TopicPartition(topic, number));
            }
            consumer.assign(places);
            consumer.seekToBeginning(places);
            Map<TopicPartition, Long> ends = consumer.endOffsets(places);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (!ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue())) {
                holds("read to the ends " + ends, System.nanoTime() < deadline);
                consumer.poll(Duration.ofMillis(200)).forEach(found::add);
            }
        }
        found.sort(Comparator.comparing((ConsumerRecord<String, String> r) -> r.partition()).thenComparing(r -> r.offset()));
        return found;
    }

    List<String> values(String topic, int partitions, String... pairs) {
        return values(readAll(topic, partitions, pairs));
    }

    static List<String> values(Collection<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    /** The next records of a consumer, `count` of them. */
    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (found.size() < count) {
            holds(count + " records, not only " + found.size(), System.nanoTime() < deadline);
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        equal("records read", found.size(), count);
        return found;
    }

    static void equal(String what, Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new Failed(what + ": " + got + " instead of " + wanted);
        }
    }

    static void holds(String what, boolean condition) {
        if (!condition) {
            throw new Failed("not so: " + what);
        }
    }

    /** Waits until a probe answers true; a check that fails counts as not yet. */
    static void eventually(String what, Callable<Boolean> probe) throws Exception {
        eventually(what, PATIENCE.multipliedBy(2), probe);
    }

    static void eventually(String what, Duration limit, Callable<Boolean> probe) throws Exception {
        long deadline = System.nanoTime() + limit.toNanos();
        String last = "";
        while (System.nanoTime() < deadline) {
            try {
                if (probe.call()) {
                    return;
                }
            } catch (Failed failed) {
                last = failed.getMessage();
            }
            Thread.sleep(50);
        }
        throw new Failed(what + " did not come: " + last);
    }

    interface Action {
        void run() throws Exception;
    }

    /** The protocol's name of the error that an action ends with, else the exception's; null when it ends well. */
    static String error(Action action) {
        try {
            action.run();
            return null;
        } catch (OffsetOutOfRangeException e) {
            return Errors.OFFSET_OUT_OF_RANGE.name();
        } catch (Exception e) {
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                Errors known = Errors.forException(cause);
                if (known != Errors.UNKNOWN_SERVER_ERROR) {
                    return known.name();
                }
            }
            return e.toString();
        }
    }
}
