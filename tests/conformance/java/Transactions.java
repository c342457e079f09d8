import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Transactions: all or nothing, fenced, timed out, and seen in the logs' offsets. */
final class Transactions {
    private static final String[] COMMITTED = {"isolation.level", "read_committed"};
    private static final Set<String> FENCED = Set.of("PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH");

    static void register(Map<String, Drive.Case> cases) {
        cases.put("transactions/commit", Transactions::commit);
        cases.put("transactions/abort", Transactions::abort);
        cases.put("transactions/empty", Transactions::empty);
        cases.put("transactions/interleaved", Transactions::interleaved);
        cases.put("transactions/last-stable-offset", Transactions::lastStableOffset);
        cases.put("transactions/fencing", Transactions::fencing);
        cases.put("transactions/timeout", Transactions::timeout);
        cases.put("transactions/timeout-limit", Transactions::timeoutLimit);
        cases.put("transactions/offsets", Transactions::offsets);
        cases.put("transactions/read-process-write", Transactions::readProcessWrite);
        cases.put("transactions/many-topics", Transactions::manyTopics);
        cases.put("transactions/restart", Transactions::restart);
        cases.put("transactions/fence-by-admin", Transactions::fenceByAdmin);
        cases.put("transactions/abort-by-admin", Transactions::abortByAdmin);
        cases.put("transactions/describe-producers", Transactions::describeProducers);
        cases.put("transactions/list-and-describe", Transactions::listAndDescribe);
    }

    private static List<String> committed(Env env, String topic, int partitions) {
        return env.values(topic, partitions, COMMITTED);
    }

    private static void commit(Env env) throws Exception {
        String topic = env.topic(2);
        try (KafkaProducer<String, String> producer = env.transactional(env.name())) {
            producer.beginTransaction();
            Env.send(producer, topic, 0, "a");
            Env.send(producer, topic, 1, "b");
            Env.equal("committed records before", committed(env, topic, 2), List.of());
            Env.equal("all records before", env.values(topic, 2), List.of("a", "b"));
            producer.commitTransaction();
            Env.eventually("both records", () -> committed(env, topic, 2).equals(List.of("a", "b")));
        }
    }

    private static void abort(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaProducer<String, String> producer = env.transactional(env.name())) {
            producer.beginTransaction();
            Env.send(producer, topic, 0, "aborted-1", "aborted-2");
            producer.abortTransaction();
            producer.beginTransaction();
            Env.send(producer, topic, 0, "good");
            producer.commitTransaction();
        }
        env.fill(topic, 0, "plain");
        Env.eventually("committed", () -> committed(env, topic, 1).equals(List.of("good", "plain")));
        Env.equal("all", env.values(topic, 1), List.of("aborted-1", "aborted-2", "good", "plain"));
    }

    private static void empty(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaProducer<String, String> producer = env.transactional(env.name())) {
            producer.beginTransaction();
            producer.commitTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
            producer.beginTransaction();
            Env.equal("offset", Env.send(producer, topic, 0, "a"), List.of(0L));
            producer.commitTransaction();
        }
        Env.eventually("committed", () -> committed(env, topic, 1).equals(List.of("a")));
    }

    private static void interleaved(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaProducer<String, String> one = env.transactional(env.name());
                KafkaProducer<String, String> two = env.transactional(env.name())) {
            one.beginTransaction();
            two.beginTransaction();
            for (int number = 0; number < 10; number++) {
                Env.send(one, topic, 0, "one-" + number);
                Env.send(two, topic, 0, "two-" + number);
            }
            two.commitTransaction();
            Env.equal("committed while the first is open", committed(env, topic, 1), List.of());
            one.abortTransaction();
        }
        List<String> wanted = IntStream.range(0, 10).mapToObj(n -> "two-" + n).toList();
        Env.eventually("the second's records", () -> committed(env, topic, 1).equals(wanted));
        Env.equal("all", env.values(topic, 1).size(), 20);
    }

    private static void lastStableOffset(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, "a", "b");
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaProducer<String, String> producer = env.transactional(env.name());
                KafkaConsumer<String, String> consumer = env.consumer(null, COMMITTED);
                KafkaConsumer<String, String> other = env.consumer(null)) {
            producer.beginTransaction();
            Env.send(producer, topic, 0, "c");
            env.fill(topic, 0, "d");
            Env.equal("end of read_committed", consumer.endOffsets(List.of(at)), Map.of(at, 2L));
            Env.equal("end of read_uncommitted", other.endOffsets(List.of(at)), Map.of(at, 4L));
            consumer.assign(List.of(at));
            Env.equal("records before the open one", Env.values(Env.read(consumer, 2)), List.of("a", "b"));
            Env.equal("records behind it", consumer.poll(Duration.ofMillis(500)).count(), 0);
            producer.commitTransaction();
            Env.equal("records afterwards", Env.values(Env.read(consumer, 2)), List.of("c", "d"));
            Env.eventually("the end behind the marker", () -> consumer.endOffsets(List.of(at)).get(at) == 5);
        }
    }

    private static void fencing(Env env) throws Exception {
        String topic = env.topic(1);
        String id = env.name();
        try (KafkaProducer<String, String> old = env.transactional(id)) {
            old.beginTransaction();
            Env.send(old, topic, 0, "old");
            try (KafkaProducer<String, String> young = env.transactional(id)) {
                String error = Env.error(() -> {
                    Env.send(old, topic, 0, "late");
                    old.commitTransaction();
                });
                Env.holds("the older producer is fenced, not " + error, FENCED.contains(error));
                young.beginTransaction();
                Env.send(young, topic, 0, "young");
                young.commitTransaction();
            }
        }
        Env.eventually("committed", () -> committed(env, topic, 1).equals(List.of("young")));
    }

    private static void timeout(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaProducer<String, String> producer = env.transactional(env.name(), "transaction.timeout.ms", "1000")) {
            producer.beginTransaction();
            Env.send(producer, topic, 0, "forgotten");
            env.fill(topic, 0, "plain");
            Env.eventually("the broker's abort", () -> committed(env, topic, 1).equals(List.of("plain")));
            String error = Env.error(() -> {
                Env.send(producer, topic, 0, "late");
                producer.commitTransaction();
            });
            Env.holds("its producer is told", error != null);
        }
        Env.equal("committed", committed(env, topic, 1), List.of("plain"));
    }

    private static void timeoutLimit(Env env) {
        String error = Env.error(() -> env.transactional(env.name(), "transaction.timeout.ms", "3600000").close());
        // The client wraps the protocol's error into a text.
        Env.holds("refused for its timeout: " + error, error != null && error.contains("transaction.max.timeout.ms"));
    }

    private static void offsets(Env env) throws Exception {
        String source = env.topic(1);
        env.fill(source, 0, "a", "b", "c");
        TopicPartition at = new TopicPartition(source, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(env.name());
                KafkaProducer<String, String> producer = env.transactional(env.name())) {
            consumer.subscribe(List.of(source));
            Env.read(consumer, 3);
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(at, new OffsetAndMetadata(1)), consumer.groupMetadata());
            producer.abortTransaction();
            Env.equal("offset after an abort", consumer.committed(Set.of(at)).get(at), null);
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(at, new OffsetAndMetadata(2)), consumer.groupMetadata());
            producer.commitTransaction();
            Env.equal("the committed offset", consumer.committed(Set.of(at)).get(at).offset(), 2L);
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(at, new OffsetAndMetadata(3)), consumer.groupMetadata());
            producer.abortTransaction();
            Env.equal("offset after another abort", consumer.committed(Set.of(at)).get(at).offset(), 2L);
        }
    }

    /** Copies with one transaction for each batch; some are aborted, and the last of `turns` is left open. */
    private static boolean pump(Env env, String source, String target, String group, int turns) throws Exception {
        Random dice = new Random(turns);
        TopicPartition at = new TopicPartition(source, 0);
        String[] settings = {"isolation.level", "read_committed", "max.poll.records", "20"};
        KafkaProducer<String, String> producer = env.transactional(group + "-pump");
        try (KafkaConsumer<String, String> consumer = env.consumer(group, settings)) {
            consumer.subscribe(List.of(source));
            long end = consumer.endOffsets(List.of(at)).get(at);
            for (int turn = 0; turn < turns; turn++) {
                List<ConsumerRecord<String, String>> batch = consumer.poll(Duration.ofSeconds(1)).records(at);
                if (batch.isEmpty()) {
                    OffsetAndMetadata place = consumer.committed(Set.of(at)).get(at);
                    if (place != null && place.offset() == end) {
                        producer.close();
                        return true;
                    }
                    continue;
                }
                producer.beginTransaction();
                batch.forEach(record -> producer.send(new ProducerRecord<>(target, 0, null, record.value())));
                if (turn == turns - 1) {
                    producer.flush();
                    break;
                }
                long next = batch.get(batch.size() - 1).offset() + 1;
                producer.sendOffsetsToTransaction(Map.of(at, new OffsetAndMetadata(next)), consumer.groupMetadata());
                if (dice.nextInt(10) < 6) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                    OffsetAndMetadata place = consumer.committed(Set.of(at)).get(at);
                    consumer.seek(at, place == null ? 0 : place.offset());
                }
            }
        }
        producer.close(Duration.ZERO);
        return false;
    }

    private static void readProcessWrite(Env env) throws Exception {
        String source = env.topic(1);
        String target = env.topic(1);
        String group = env.name();
        String[] values = IntStream.range(0, 500).mapToObj(Integer::toString).toArray(String[]::new);
        env.fill(source, 0, values);
        Env.holds("the first ends early", !pump(env, source, target, group, 8));
        Env.holds("the second at the end", pump(env, source, target, group, 400));
        Env.equal("records", committed(env, target, 1), List.of(values));
    }

    private static void manyTopics(Env env) throws Exception {
        List<String> topics = List.of(env.topic(2), env.topic(2), env.topic(2));
        try (KafkaProducer<String, String> producer = env.transactional(env.name())) {
            for (int turn = 0; turn < 6; turn++) {
                producer.beginTransaction();
                for (String topic : topics) {
                    Env.send(producer, topic, 0, "" + turn);
                    Env.send(producer, topic, 1, "" + turn);
                }
                if (turn % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        for (String topic : topics) {
            Env.eventually(topic, () -> committed(env, topic, 2).equals(List.of("0", "2", "4", "0", "2", "4")));
        }
    }

    private static void restart(Env env) throws Exception {
        String topic = env.topic(1);
        String id = env.name();
        for (int turn = 0; turn < 5; turn++) {
            try (KafkaProducer<String, String> producer = env.transactional(id)) {
                producer.beginTransaction();
                Env.send(producer, topic, 0, "" + turn);
                producer.commitTransaction();
            }
        }
        Env.eventually("committed", () -> committed(env, topic, 1).equals(List.of("0", "1", "2", "3", "4")));
    }

    private static void fenceByAdmin(Env env) throws Exception {
        String topic = env.topic(1);
        String id = env.name();
        try (KafkaProducer<String, String> producer = env.transactional(id); Admin admin = env.admin()) {
            producer.beginTransaction();
            Env.send(producer, topic, 0, "a");
            admin.fenceProducers(List.of(id)).all().get();
            String error = Env.error(producer::commitTransaction);
            Env.holds("the producer is fenced, not " + error, FENCED.contains(error));
        }
        Env.eventually("nothing committed, nothing open", () -> {
            env.fill(topic, 0, "plain");
            List<String> found = committed(env, topic, 1);
            return !found.isEmpty() && !found.contains("a");
        });
    }

    private static ProducerState producer(Admin admin, TopicPartition at) throws Exception {
        List<ProducerState> found = admin.describeProducers(List.of(at)).partitionResult(at).get().activeProducers();
        Env.equal("active producers", found.size(), 1);
        return found.get(0);
    }

    private static void abortByAdmin(Env env) throws Exception {
        TopicPartition at = new TopicPartition(env.topic(1), 0);
        try (KafkaProducer<String, String> producer = env.transactional(env.name()); Admin admin = env.admin()) {
            producer.beginTransaction();
            Env.send(producer, at.topic(), 0, "hanging");
            ProducerState state = producer(admin, at);
            short epoch = (short) state.producerEpoch();
            // What kafka-transactions.sh does about a hanging transaction.
            admin.abortTransaction(new AbortTransactionSpec(at, state.producerId(), epoch, -1)).all().get();
            env.fill(at.topic(), 0, "plain");
            Env.eventually("reading goes on", () -> committed(env, at.topic(), 1).equals(List.of("plain")));
        }
    }

    private static void describeProducers(Env env) throws Exception {
        TopicPartition at = new TopicPartition(env.topic(1), 0);
        try (KafkaProducer<String, String> producer = env.transactional(env.name()); Admin admin = env.admin()) {
            producer.beginTransaction();
            Env.send(producer, at.topic(), 0, "a", "b");
            ProducerState state = producer(admin, at);
            Env.equal("last sequence", state.lastSequence(), 1);
            Env.equal("start of the open transaction", state.currentTransactionStartOffset().orElse(-1), 0L);
            Env.holds("last time", Math.abs(state.lastTimestamp() - System.currentTimeMillis()) < 60_000);
            producer.commitTransaction();
            Env.eventually("no open transaction", () -> producer(admin, at).currentTransactionStartOffset().isEmpty());
        }
    }

    private static Map<String, TransactionState> listed(Admin admin, ListTransactionsOptions options) throws Exception {
        Map<String, TransactionState> states = new HashMap<>();
        for (TransactionListing listing : admin.listTransactions(options).all().get()) {
            states.put(listing.transactionalId(), listing.state());
        }
        return states;
    }

    private static void listAndDescribe(Env env) throws Exception {
        String topic = env.topic(2);
        String id = env.name();
        ListTransactionsOptions all = new ListTransactionsOptions();
        try (KafkaProducer<String, String> producer = env.transactional(id, "transaction.timeout.ms", "50000");
                Admin admin = env.admin()) {
            Env.equal("state before the first", listed(admin, all).get(id), TransactionState.EMPTY);
            producer.beginTransaction();
            Env.send(producer, topic, 1, "a");
            Env.equal("state", listed(admin, all).get(id), TransactionState.ONGOING);
            ListTransactionsOptions ongoing = new ListTransactionsOptions().filterStates(List.of(TransactionState.ONGOING));
            Env.holds("found by state", listed(admin, ongoing).containsKey(id));
            ListTransactionsOptions old = new ListTransactionsOptions().filterOnDuration(3_600_000);
            Env.holds("not among the long ones", !listed(admin, old).containsKey(id));
            TransactionDescription found = admin.describeTransactions(List.of(id)).description(id).get();
            Env.equal("state", found.state(), TransactionState.ONGOING);
            Env.equal("timeout", found.transactionTimeoutMs(), 50_000L);
            Env.equal("partitions", found.topicPartitions(), Set.of(new TopicPartition(topic, 1)));
            producer.commitTransaction();
            Env.eventually("the end", () -> listed(admin, all).get(id) == TransactionState.COMPLETE_COMMIT);
            String unknown = env.name();
            String error = Env.error(() -> admin.describeTransactions(List.of(unknown)).description(unknown).get());
            Env.equal("error of an unknown id", error, "TRANSACTIONAL_ID_NOT_FOUND");
        }
    }
}
