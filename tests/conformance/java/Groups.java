import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Consumer groups: who gets what, what happens when members come and go, committed offsets. */
final class Groups {
    static final String RANGE = "org.apache.kafka.clients.consumer.RangeAssignor";
    private static final String ROUND_ROBIN = "org.apache.kafka.clients.consumer.RoundRobinAssignor";
    private static final String STICKY = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    private static final String STRATEGY = "partition.assignment.strategy";
    private static final String INSTANCE = "group.instance.id";

    static void register(Map<String, Drive.Case> cases) {
        cases.put("groups/range", env -> assignor(env, RANGE, List.of(List.of(0, 1, 2), List.of(3, 4))));
        cases.put("groups/round-robin", env -> assignor(env, ROUND_ROBIN, List.of(List.of(0, 2, 4), List.of(1, 3))));
        cases.put("groups/cooperative-sticky", Groups::cooperativeSticky);
        cases.put("groups/join-leave", Groups::joinLeave);
        cases.put("groups/static-member", Groups::staticMember);
        cases.put("groups/dead-member", Groups::deadMember);
        cases.put("groups/fenced-member", Groups::fencedMember);
        cases.put("groups/first-record", Groups::firstRecord);
        cases.put("groups/offset-reset", Groups::offsetReset);
        cases.put("groups/commit", Groups::commit);
        cases.put("groups/commit-without-group-management", Groups::commitAlone);
        cases.put("groups/metadata-limit", Groups::metadataLimit);
        cases.put("groups/new-partitions", Groups::newPartitions);
        cases.put("groups/pattern", Groups::pattern);
        cases.put("groups/many", Groups::many);
    }

    private static void sharedOut(List<List<Integer>> wanted, Worker... workers) throws Exception {
        Comparator<List<Integer>> order = Comparator.comparing(List::toString);
        List<List<Integer>> sorted = wanted.stream().sorted(order).toList();
        Env.eventually("the assignment " + sorted, () -> {
            List<List<Integer>> found = Stream.of(workers).map(Worker::numbers).sorted(order).toList();
            Env.equal("assignment", found, sorted);
            return true;
        });
    }

    private static void assignor(Env env, String strategy, List<List<Integer>> wanted) throws Exception {
        String topic = env.topic(5);
        String group = env.name();
        try (Worker one = new Worker(env, group, topic, STRATEGY, strategy)) {
            sharedOut(List.of(List.of(0, 1, 2, 3, 4)), one);
            try (Worker two = new Worker(env, group, topic, STRATEGY, strategy)) {
                sharedOut(wanted, one, two);
                for (int number = 0; number < 5; number++) {
                    env.fill(topic, number, "x");
                }
                Env.eventually("each record once", () -> one.seen.size() + two.seen.size() == 5);
                for (Worker worker : List.of(one, two)) {
                    List<Integer> read = worker.seen.stream().map(ConsumerRecord::partition).sorted().toList();
                    Env.equal("partitions read", read, worker.numbers());
                }
            }
        }
    }

    private static void cooperativeSticky(Env env) throws Exception {
        String topic = env.topic(4);
        String group = env.name();
        try (Worker one = new Worker(env, group, topic, STRATEGY, STICKY)) {
            sharedOut(List.of(List.of(0, 1, 2, 3)), one);
            try (Worker two = new Worker(env, group, topic, STRATEGY, STICKY)) {
                Env.eventually("two partitions each", () -> one.numbers().size() == 2 && two.numbers().size() == 2);
                Env.equal("what the first gave away", one.revocations, List.of(two.numbers()));
            }
            sharedOut(List.of(List.of(0, 1, 2, 3)), one);
            Env.equal("it lost nothing more", one.revocations.size(), 1);
        }
    }

    private static void joinLeave(Env env) throws Exception {
        String topic = env.topic(6);
        String group = env.name();
        List<Worker> members = new CopyOnWriteArrayList<>();
        AtomicBoolean stop = new AtomicBoolean();
        try (Worker one = new Worker(env, group, topic)) {
            members.add(one);
            CompletableFuture<Integer> writing = CompletableFuture.supplyAsync(() -> writeOn(env, topic, members, stop));
            try (Worker two = new Worker(env, group, topic)) {
                members.add(two);
                Env.eventually("three each", () -> two.numbers().size() == 3);
                try (Worker three = new Worker(env, group, topic)) {
                    members.add(three);
                    Env.eventually("two each", () -> three.numbers().size() == 2);
                }
                sharedOut(List.of(List.of(0, 1, 2), List.of(3, 4, 5)), one, two);
            } finally {
                stop.set(true);
            }
            int total = writing.get();
            Env.eventually("all records", () -> seen(members) >= total);
            Stream<ConsumerRecord<String, String>> records = members.stream().flatMap(member -> member.seen.stream());
            List<Integer> read = records.map(record -> Integer.valueOf(record.value())).sorted().toList();
            Env.equal("each record once", read, IntStream.range(0, total).boxed().toList());
        }
    }

    private static int seen(List<Worker> members) {
        return members.stream().mapToInt(member -> member.seen.size()).sum();
    }

    /** Writes numbers until told to stop, never far ahead of what the members have read; how many. */
    private static int writeOn(Env env, String topic, List<Worker> members, AtomicBoolean stop) {
        int written = 0;
        try (KafkaProducer<String, String> producer = env.producer()) {
            while (!stop.get()) {
                for (int number = written; number < written + 50; number++) {
                    producer.send(new ProducerRecord<>(topic, number % 6, null, Integer.toString(number)));
                }
                producer.flush();
                written += 50;
                int enough = written - 200;
                Env.eventually("the members follow", () -> stop.get() || seen(members) > enough);
            }
        } catch (Exception e) {
            throw new Env.Failed("writing: " + e);
        }
        return written;
    }

    private static void staticMember(Env env) throws Exception {
        String topic = env.topic(4);
        String group = env.name();
        try (Worker one = new Worker(env, group, topic, INSTANCE, "one")) {
            sharedOut(List.of(List.of(0, 1, 2, 3)), one);
            Worker two = new Worker(env, group, topic, INSTANCE, "two");
            sharedOut(List.of(List.of(0, 1), List.of(2, 3)), one, two);
            List<Integer> mine = one.numbers();
            int revoked = one.revocations.size();
            two.close();
            try (Worker again = new Worker(env, group, topic, INSTANCE, "two")) {
                Env.eventually("its partitions again", () -> again.numbers().size() == 2);
                env.fill(topic, mine.get(0), "x");
                Env.eventually("the other goes on", () -> one.values().equals(List.of("x")));
                Env.equal("the other kept its partitions", one.numbers(), mine);
                Env.equal("and was not asked to give them up", one.revocations.size(), revoked);
            }
        }
    }

    private static void deadMember(Env env) throws Exception {
        String topic = env.topic(4);
        String group = env.name();
        try (Worker one = new Worker(env, group, topic)) {
            Worker two = new Worker(env, group, topic, INSTANCE, "static");
            sharedOut(List.of(List.of(0, 1), List.of(2, 3)), one, two);
            long begun = System.nanoTime();
            two.close();
            sharedOut(List.of(List.of(0, 1, 2, 3)), one);
            Env.holds("not before the session's end", System.nanoTime() - begun > 3_000_000_000L);
        }
    }

    private static void fencedMember(Env env) throws Exception {
        String topic = env.topic(1);
        String group = env.name();
        try (Worker one = new Worker(env, group, topic, INSTANCE, "same")) {
            sharedOut(List.of(List.of(0)), one);
            try (Worker two = new Worker(env, group, topic, INSTANCE, "same")) {
                sharedOut(List.of(List.of(0)), two);
                Env.eventually("the first is told", () -> one.error instanceof FencedInstanceIdException);
            }
        }
    }

    private static void firstRecord(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, "x");
        long begun = System.nanoTime();
        try (Worker worker = new Worker(env, env.name(), topic)) {
            Env.eventually("the record", () -> worker.values().equals(List.of("x")));
        }
        Env.holds("within seconds", System.nanoTime() - begun < 15_000_000_000L);
    }

    private static void offsetReset(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, "old");
        try (Worker earliest = new Worker(env, env.name(), topic);
                Worker latest = new Worker(env, env.name(), topic, "auto.offset.reset", "latest")) {
            Env.eventually("both read", () -> {
                env.fill(topic, 0, "new");
                return !earliest.seen.isEmpty() && !latest.seen.isEmpty();
            });
            Env.equal("first of earliest", earliest.values().get(0), "old");
            Env.holds("latest has nothing old", !latest.values().contains("old"));
        }
        try (Worker none = new Worker(env, env.name(), topic, "auto.offset.reset", "none")) {
            Env.eventually("an error", () -> none.error instanceof NoOffsetForPartitionException);
        }
    }

    private static void commit(Env env) throws Exception {
        String topic = env.topic(2);
        String group = env.name();
        env.fill(topic, 0, "0", "1", "2", "3", "4");
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(group)) {
            consumer.subscribe(List.of(topic));
            Env.read(consumer, 5);
            Env.equal("before", consumer.committed(Set.of(at)).get(at), null);
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(2, "two")));
            Env.equal("metadata", consumer.committed(Set.of(at)).get(at).metadata(), "two");
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(3)));
            Env.equal("the last one counts", consumer.committed(Set.of(at)).get(at).offset(), 3L);
        }
        try (KafkaConsumer<String, String> consumer = env.consumer(group)) {
            consumer.subscribe(List.of(topic));
            Env.equal("goes on there", Env.values(Env.read(consumer, 2)), List.of("3", "4"));
        }
    }

    private static void commitAlone(Env env) throws Exception {
        String group = env.name();
        TopicPartition at = new TopicPartition(env.topic(1), 0);
        env.fill(at.topic(), 0, "a", "b", "c");
        try (KafkaConsumer<String, String> consumer = env.consumer(group)) {
            consumer.assign(List.of(at));
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(2)));
        }
        try (KafkaConsumer<String, String> consumer = env.consumer(group)) {
            consumer.assign(List.of(at));
            Env.equal("goes on there", Env.values(Env.read(consumer, 1)), List.of("c"));
        }
    }

    private static void metadataLimit(Env env) throws Exception {
        TopicPartition at = new TopicPartition(env.topic(1), 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(env.name())) {
            consumer.assign(List.of(at));
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(0, "x".repeat(4000))));
            String error = Env.error(() -> consumer.commitSync(Map.of(at, new OffsetAndMetadata(0, "x".repeat(5000)))));
            Env.equal("error above 4096 bytes", error, "OFFSET_METADATA_TOO_LARGE");
        }
    }

    private static void newPartitions(Env env) throws Exception {
        String topic = env.topic(1);
        try (Worker worker = new Worker(env, env.name(), topic);
                Admin admin = env.admin();
                KafkaProducer<String, String> producer = env.producer("metadata.max.age.ms", "500")) {
            sharedOut(List.of(List.of(0)), worker);
            producer.send(new ProducerRecord<>(topic, "first", "x")).get();
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
            sharedOut(List.of(List.of(0, 1, 2)), worker);
            Env.eventually("records in all three", () -> {
                for (int number = 0; number < 20; number++) {
                    producer.send(new ProducerRecord<>(topic, "key-" + number, "x")).get();
                }
                return worker.seen.stream().map(ConsumerRecord::partition).distinct().count() == 3;
            });
        }
    }

    private static void pattern(Env env) throws Exception {
        String prefix = env.name();
        try (Admin admin = env.admin()) {
            admin.createTopics(List.of(new NewTopic(prefix + "-a", 1, (short) 1))).all().get();
            try (Worker worker = new Worker(env, env.name(), Pattern.compile(prefix + ".*"))) {
                TopicPartition one = new TopicPartition(prefix + "-a", 0);
                Env.eventually("the first topic", () -> worker.assigned().equals(Set.of(one)));
                admin.createTopics(List.of(new NewTopic(prefix + "-b", 1, (short) 1))).all().get();
                Set<TopicPartition> both = Set.of(one, new TopicPartition(prefix + "-b", 0));
                Env.eventually("the second one too", () -> worker.assigned().equals(both));
            }
        }
    }

    private static void many(Env env) throws Exception {
        String topic = env.topic(2);
        env.fill(topic, 0, "x");
        List<Worker> workers = new ArrayList<>();
        for (int number = 0; number < 12; number++) {
            workers.add(new Worker(env, env.name(), topic));
        }
        for (Worker worker : workers) {
            Env.eventually("a group's record", () -> worker.values().equals(List.of("x")));
            worker.close();
        }
    }
}
