import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DeletedRecords;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** Records: what is written is read, unchanged and in order. */
final class Records {
    private static final long DAY_MS = 86_400_000;

    static void register(Map<String, Drive.Case> cases) {
        cases.put("records/roundtrip", Records::roundtrip);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            cases.put("records/codec-" + codec, env -> compressed(env, codec));
        }
        cases.put("records/order", Records::order);
        cases.put("records/keys", Records::keys);
        cases.put("records/large", Records::large);
        cases.put("records/fetch-limits", Records::fetchLimits);
        cases.put("records/acks", Records::acks);
        cases.put("records/idempotent", Records::idempotent);
        cases.put("records/create-time", Records::createTime);
        cases.put("records/log-append-time", Records::logAppendTime);
        cases.put("records/timestamp-limits", Records::timestampLimits);
        cases.put("records/offsets-by-time", Records::offsetsByTime);
        cases.put("records/max-timestamp", Records::maxTimestamp);
        cases.put("records/seek", Records::seek);
        cases.put("records/leader-epoch", Records::leaderEpoch);
        cases.put("records/pause", Records::pause);
        cases.put("records/long-poll", Records::longPoll);
        cases.put("records/many-small", Records::manySmall);
        cases.put("records/many-partitions", Records::manyPartitions);
        cases.put("records/auto-create", Records::autoCreate);
        cases.put("records/unknown-topic", Records::unknownTopic);
        cases.put("records/out-of-range", Records::outOfRange);
        cases.put("records/delete-records", Records::deleteRecords);
        cases.put("records/delete-records-all", Records::deleteAllRecords);
        cases.put("records/compaction", Records::compaction);
        cases.put("records/tombstones", Records::tombstones);
        cases.put("records/compaction-needs-keys", Records::compactionNeedsKeys);
        cases.put("records/retention", Records::retention);
    }

    private static long anHourAgo() {
        return System.currentTimeMillis() - 3_600_000;
    }

    private static String[] numbers(int from, int to) {
        return IntStream.range(from, to).mapToObj(Integer::toString).toArray(String[]::new);
    }

    private static void roundtrip(Env env) throws Exception {
        String topic = env.topic(1);
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = env.producer()) {
            ProducerRecord<String, String> full = new ProducerRecord<>(topic, 0, now, "key", "value");
            full.headers().add("a", "1".getBytes(UTF_8)).add("b", null).add("a", new byte[0]);
            producer.send(full).get();
            producer.send(new ProducerRecord<>(topic, 0, now - 10_000, null, "value")).get();
            producer.send(new ProducerRecord<>(topic, 0, now + 5_000, "key", (String) null)).get();
            producer.send(new ProducerRecord<>(topic, 0, now - DAY_MS, "", "")).get();
        }
        List<ConsumerRecord<String, String>> found = env.readAll(topic, 1);
        List<String> texts = found.stream().map(r -> r.key() + "=" + r.value() + "@" + (r.timestamp() - now)).toList();
        Env.equal("records", texts, List.of("key=value@0", "null=value@-10000", "key=null@5000", "=@-86400000"));
        List<String> headers = new ArrayList<>();
        for (Header header : found.get(0).headers()) {
            headers.add(header.key() + "=" + (header.value() == null ? null : new String(header.value(), UTF_8)));
        }
        Env.equal("headers", headers, List.of("a=1", "b=null", "a="));
    }

    private static void compressed(Env env, String codec) throws Exception {
        String topic = env.topic(1);
        String[] values = IntStream.range(0, 500).mapToObj(n -> n + "x".repeat(200)).toArray(String[]::new);
        try (KafkaProducer<String, String> producer = env.producer("compression.type", codec, "linger.ms", "20")) {
            for (String value : values) {
                producer.send(new ProducerRecord<>(topic, value));
            }
        }
        Env.equal("values", env.values(topic, 1), List.of(values));
    }

    private static void order(Env env) throws Exception {
        String topic = env.topic(3);
        try (KafkaProducer<String, String> producer = env.producer("linger.ms", "5")) {
            for (int number = 0; number < 3000; number++) {
                producer.send(new ProducerRecord<>(topic, number % 3, null, Integer.toString(number)));
            }
        }
        List<ConsumerRecord<String, String>> found = env.readAll(topic, 3);
        Env.equal("records", found.size(), 3000);
        for (int place = 0; place < 3000; place++) {
            ConsumerRecord<String, String> record = found.get(place);
            int partition = place / 1000;
            Env.equal("partition", record.partition(), partition);
            Env.equal("offset", record.offset(), (long) place % 1000);
            Env.equal("value", record.value(), Integer.toString(place % 1000 * 3 + partition));
        }
    }

    private static void keys(Env env) throws Exception {
        String topic = env.topic(5);
        try (KafkaProducer<String, String> producer = env.producer()) {
            for (int number = 0; number < 100; number++) {
                producer.send(new ProducerRecord<>(topic, "key-" + number % 10, Integer.toString(number)));
            }
        }
        List<ConsumerRecord<String, String>> found = env.readAll(topic, 5);
        for (int key = 0; key < 10; key++) {
            String name = "key-" + key;
            List<ConsumerRecord<String, String>> mine = found.stream().filter(r -> r.key().equals(name)).toList();
            Env.equal("partitions of a key", mine.stream().map(ConsumerRecord::partition).distinct().count(), 1L);
            List<Integer> values = mine.stream().map(r -> Integer.valueOf(r.value())).toList();
            Env.equal("order of a key", values, values.stream().sorted().toList());
            Env.equal("records of a key", values.size(), 10);
        }
    }

    private static void large(Env env) throws Exception {
        String topic = env.topic(1, "max.message.bytes", "200000");
        try (KafkaProducer<String, String> producer = env.producer("max.request.size", "4000000")) {
            Env.send(producer, topic, 0, "a".repeat(199_000));
            String error = Env.error(() -> Env.send(producer, topic, 0, "b".repeat(201_000)));
            Env.equal("error above the limit", error, "MESSAGE_TOO_LARGE");
            Env.send(producer, topic, 0, "c".repeat(199_000));
        }
        List<String> first = env.values(topic, 1).stream().map(v -> v.substring(0, 1)).toList();
        Env.equal("values", first, List.of("a", "c"));
    }

    private static void fetchLimits(Env env) throws Exception {
        String topic = env.topic(1, "max.message.bytes", "2000000");
        try (KafkaProducer<String, String> producer = env.producer("max.request.size", "4000000")) {
            Env.send(producer, topic, 0, "a".repeat(900_000), "b".repeat(900_000), "c".repeat(900_000));
        }
        List<String> found = env.values(topic, 1, "fetch.max.bytes", "1000", "max.partition.fetch.bytes", "1000");
        Env.equal("sizes", found.stream().map(String::length).toList(), List.of(900_000, 900_000, 900_000));
    }

    private static void acks(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaProducer<String, String> producer = env.producer("acks", "0", "enable.idempotence", "false")) {
            Env.equal("offset that nobody told", Env.send(producer, topic, 0, "0"), List.of(-1L));
        }
        Env.eventually("the record without acknowledgement", () -> env.values(topic, 1).equals(List.of("0")));
        try (KafkaProducer<String, String> producer = env.producer("acks", "1", "enable.idempotence", "false")) {
            Env.equal("offset", Env.send(producer, topic, 0, "1"), List.of(1L));
        }
        try (KafkaProducer<String, String> producer = env.producer("acks", "all", "enable.idempotence", "false")) {
            Env.equal("offset", Env.send(producer, topic, 0, "all"), List.of(2L));
        }
        Env.equal("values", env.values(topic, 1), List.of("0", "1", "all"));
    }

    private static void idempotent(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaProducer<String, String> producer = env.producer("enable.idempotence", "true", "linger.ms", "1")) {
            for (String value : numbers(0, 3000)) {
                producer.send(new ProducerRecord<>(topic, 0, null, value));
            }
        }
        List<ConsumerRecord<String, String>> found = env.readAll(topic, 1);
        Env.equal("values", Env.values(found), List.of(numbers(0, 3000)));
        Env.equal("last offset", found.get(2999).offset(), 2999L);
    }

    private static void createTime(Env env) throws Exception {
        String topic = env.topic(1);
        long time = anHourAgo();
        try (KafkaProducer<String, String> producer = env.producer()) {
            producer.send(new ProducerRecord<>(topic, 0, time, null, "x")).get();
        }
        ConsumerRecord<String, String> record = env.readAll(topic, 1).get(0);
        Env.equal("type", record.timestampType(), TimestampType.CREATE_TIME);
        Env.equal("timestamp", record.timestamp(), time);
    }

    private static void logAppendTime(Env env) throws Exception {
        String topic = env.topic(1, "message.timestamp.type", "LogAppendTime");
        long before = System.currentTimeMillis();
        RecordMetadata told;
        try (KafkaProducer<String, String> producer = env.producer()) {
            told = producer.send(new ProducerRecord<>(topic, 0, anHourAgo(), null, "x")).get();
        }
        ConsumerRecord<String, String> record = env.readAll(topic, 1).get(0);
        Env.equal("type", record.timestampType(), TimestampType.LOG_APPEND_TIME);
        Env.holds("the broker's time", record.timestamp() >= before - 1000);
        Env.equal("the time that the producer was told", told.timestamp(), record.timestamp());
    }

    private static void timestampLimits(Env env) throws Exception {
        String day = Long.toString(DAY_MS);
        String topic = env.topic(1, "message.timestamp.before.max.ms", day, "message.timestamp.after.max.ms", day);
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = env.producer()) {
            for (long time : List.of(now - 3 * DAY_MS, now + 3 * DAY_MS)) {
                String error = Env.error(() -> producer.send(new ProducerRecord<>(topic, 0, time, null, "x")).get());
                Env.equal("error", error, "INVALID_TIMESTAMP");
            }
            Env.equal("offset of a good record", Env.send(producer, topic, 0, "y"), List.of(0L));
        }
    }

    private static void offsetsByTime(Env env) throws Exception {
        String topic = env.topic(1);
        long start = anHourAgo();
        try (KafkaProducer<String, String> producer = env.producer()) {
            for (long shift : List.of(0L, 10_000L, 30_000L, 20_000L)) {
                producer.send(new ProducerRecord<>(topic, 0, start + shift, null, "x")).get();
            }
        }
        TopicPartition at = new TopicPartition(topic, 0);
        Map<Long, Long> wanted = Map.of(-5L, 0L, 0L, 0L, 1L, 1L, 10_000L, 1L, 10_001L, 2L, 25_000L, 2L, 30_000L, 2L);
        try (KafkaConsumer<String, String> consumer = env.consumer(null)) {
            Env.equal("beginning", consumer.beginningOffsets(List.of(at)), Map.of(at, 0L));
            Env.equal("end", consumer.endOffsets(List.of(at)), Map.of(at, 4L));
            for (Map.Entry<Long, Long> entry : wanted.entrySet()) {
                OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(at, start + entry.getKey())).get(at);
                Env.equal("first offset at +" + entry.getKey(), found.offset(), entry.getValue());
            }
            Env.equal("after the last", consumer.offsetsForTimes(Map.of(at, start + 30_001)).get(at), null);
        }
    }

    private static void maxTimestamp(Env env) throws Exception {
        String topic = env.topic(1);
        long start = anHourAgo();
        try (KafkaProducer<String, String> producer = env.producer()) {
            for (long shift : List.of(0L, 50_000L, 20_000L)) {
                producer.send(new ProducerRecord<>(topic, 0, start + shift, null, "x")).get();
            }
        }
        TopicPartition at = new TopicPartition(topic, 0);
        try (Admin admin = env.admin()) {
            ListOffsetsResultInfo max = admin.listOffsets(Map.of(at, OffsetSpec.maxTimestamp())).partitionResult(at).get();
            Env.equal("offset of the newest time", max.offset(), 1L);
            Env.equal("the newest time", max.timestamp(), start + 50_000);
            Env.equal("earliest", admin.listOffsets(Map.of(at, OffsetSpec.earliest())).partitionResult(at).get().offset(), 0L);
            Env.equal("latest", admin.listOffsets(Map.of(at, OffsetSpec.latest())).partitionResult(at).get().offset(), 3L);
        }
    }

    private static void seek(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, numbers(0, 100));
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(null)) {
            consumer.assign(List.of(at));
            consumer.seek(at, 90);
            Env.equal("from 90", Env.values(Env.read(consumer, 10)), List.of(numbers(90, 100)));
            consumer.seek(at, 10);
            Env.equal("from 10", Env.values(Env.read(consumer, 90)), List.of(numbers(10, 100)));
            consumer.seekToEnd(List.of(at));
            Env.equal("the end", consumer.position(at), 100L);
            consumer.seekToBeginning(List.of(at));
            Env.equal("from the beginning", Env.values(Env.read(consumer, 100)), List.of(numbers(0, 100)));
        }
    }

    private static void leaderEpoch(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, numbers(0, 10));
        Optional<Integer> epoch = env.readAll(topic, 1).get(0).leaderEpoch();
        Env.holds("records tell the leader's epoch", epoch.isPresent());
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(env.name())) {
            consumer.assign(List.of(at));
            // A position with an epoch is checked with OffsetForLeaderEpoch before it is fetched from.
            consumer.seek(at, new OffsetAndMetadata(4, epoch, ""));
            Env.equal("from there", Env.values(Env.read(consumer, 6)), List.of(numbers(4, 10)));
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(7, epoch, "")));
            Env.equal("the committed epoch", consumer.committed(Set.of(at)).get(at).leaderEpoch(), epoch);
        }
    }

    private static void pause(Env env) throws Exception {
        String topic = env.topic(2);
        TopicPartition quiet = new TopicPartition(topic, 0);
        TopicPartition busy = new TopicPartition(topic, 1);
        try (KafkaConsumer<String, String> consumer = env.consumer(null)) {
            consumer.assign(List.of(quiet, busy));
            consumer.pause(List.of(quiet));
            env.fill(topic, 0, "quiet");
            env.fill(topic, 1, "a", "b");
            Env.equal("while paused", Env.values(Env.read(consumer, 2)), List.of("a", "b"));
            Env.equal("of a paused partition", consumer.poll(Duration.ofMillis(500)).count(), 0);
            consumer.resume(List.of(quiet));
            Env.equal("after", Env.values(Env.read(consumer, 1)), List.of("quiet"));
        }
    }

    private static void longPoll(Env env) throws Exception {
        String topic = env.topic(1);
        try (KafkaConsumer<String, String> consumer = env.consumer(null, "fetch.max.wait.ms", "20000")) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            Env.equal("records of an empty topic", consumer.poll(Duration.ofSeconds(1)).count(), 0);
            long sent = System.nanoTime();
            env.fill(topic, 0, "x");
            Env.read(consumer, 1);
            Env.holds("the waiting fetch is answered at once", System.nanoTime() - sent < 5_000_000_000L);
            consumer.close(CloseOptions.timeout(Duration.ZERO));
        }
    }

    private static void manySmall(Env env) throws Exception {
        String topic = env.topic(1);
        List<Long> offsets = env.fill(topic, 0, numbers(0, 1000));
        Env.equal("offsets", offsets, IntStream.range(0, 1000).mapToObj(Long::valueOf).toList());
        Env.equal("records", env.values(topic, 1).size(), 1000);
    }

    private static void manyPartitions(Env env) throws Exception {
        String topic = env.topic(60);
        try (KafkaProducer<String, String> producer = env.producer()) {
            for (int number = 0; number < 600; number++) {
                producer.send(new ProducerRecord<>(topic, number % 60, null, Integer.toString(number)));
            }
        }
        List<ConsumerRecord<String, String>> found = env.readAll(topic, 60);
        Env.equal("records", new HashSet<>(Env.values(found)).size(), 600);
        Env.holds("each in its partition", found.stream().allMatch(r -> Integer.parseInt(r.value()) % 60 == r.partition()));
    }

    private static void autoCreate(Env env) throws Exception {
        String topic = env.name();
        Env.equal("offset", env.fill(topic, 0, "first"), List.of(0L));
        Env.equal("values", env.values(topic, 1), List.of("first"));
    }

    private static void unknownTopic(Env env) throws Exception {
        String topic = env.name();
        try (Admin admin = env.admin()) {
            String error = Env.error(() -> admin.describeTopics(List.of(topic)).allTopicNames().get());
            Env.equal("error", error, "UNKNOWN_TOPIC_OR_PARTITION");
            Env.equal("error of delete", Env.error(() -> admin.deleteTopics(List.of(topic)).all().get()), error);
            Env.holds("still not there", !admin.listTopics().names().get().contains(topic));
        }
    }

    private static void outOfRange(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, "a", "b", "c");
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(null, "auto.offset.reset", "none")) {
            consumer.assign(List.of(at));
            consumer.seek(at, 50);
            Env.equal("error", Env.error(() -> Env.read(consumer, 1)), "OFFSET_OUT_OF_RANGE");
        }
        try (KafkaConsumer<String, String> consumer = env.consumer(null)) {
            consumer.assign(List.of(at));
            consumer.seek(at, 50);
            Env.equal("from the beginning", Env.values(Env.read(consumer, 3)), List.of("a", "b", "c"));
        }
    }

    private static DeletedRecords delete(Admin admin, TopicPartition at, long before) throws Exception {
        return admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(before))).lowWatermarks().get(at).get();
    }

    private static void deleteRecords(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, numbers(0, 100));
        TopicPartition at = new TopicPartition(topic, 0);
        try (Admin admin = env.admin(); KafkaConsumer<String, String> consumer = env.consumer(null)) {
            Env.equal("low watermark", delete(admin, at, 40).lowWatermark(), 40L);
            Env.equal("error beyond the end", Env.error(() -> delete(admin, at, 1000)), "OFFSET_OUT_OF_RANGE");
            Env.equal("beginning", consumer.beginningOffsets(List.of(at)), Map.of(at, 40L));
            consumer.assign(List.of(at));
            consumer.seek(at, 0);
            Env.equal("records", Env.values(Env.read(consumer, 60)), List.of(numbers(40, 100)));
        }
    }

    private static void deleteAllRecords(Env env) throws Exception {
        String topic = env.topic(1);
        env.fill(topic, 0, "a", "b");
        try (Admin admin = env.admin()) {
            Env.equal("low watermark", delete(admin, new TopicPartition(topic, 0), -1).lowWatermark(), 2L);
        }
        Env.equal("offset", env.fill(topic, 0, "c"), List.of(2L));
        Env.equal("records", env.values(topic, 1), List.of("c"));
    }

    /** What is left of a compacted topic beside the records that close its segments. */
    private static List<String> compacted(Env env, String topic) throws Exception {
        try (KafkaProducer<String, String> producer = env.producer()) {
            producer.send(new ProducerRecord<>(topic, 0, "ticker", "tick")).get();
        }
        List<ConsumerRecord<String, String>> left = env.readAll(topic, 1);
        return left.stream().filter(r -> !r.key().equals("ticker")).map(r -> r.key() + "=" + r.value()).toList();
    }

    private static String compactedTopic(Env env) throws Exception {
        return env.topic(1, "cleanup.policy", "compact", "segment.ms", "200", "min.cleanable.dirty.ratio", "0.01",
                "max.compaction.lag.ms", "200", "delete.retention.ms", "100");
    }

    private static void compaction(Env env) throws Exception {
        String topic = compactedTopic(env);
        try (KafkaProducer<String, String> producer = env.producer("linger.ms", "5")) {
            for (int number = 0; number < 2000; number++) {
                producer.send(new ProducerRecord<>(topic, 0, "key-" + number % 20, Integer.toString(number)));
            }
        }
        List<String> wanted = IntStream.range(1980, 2000).mapToObj(n -> "key-" + n % 20 + "=" + n).toList();
        Env.eventually("the newest record of each key", () -> compacted(env, topic).equals(wanted));
    }

    private static void tombstones(Env env) throws Exception {
        String topic = compactedTopic(env);
        try (KafkaProducer<String, String> producer = env.producer()) {
            producer.send(new ProducerRecord<>(topic, 0, "stays", "kept"));
            producer.send(new ProducerRecord<>(topic, 0, "goes", "gone"));
            producer.send(new ProducerRecord<>(topic, 0, "goes", null)).get();
        }
        Env.eventually("neither the record nor its tombstone", () -> compacted(env, topic).equals(List.of("stays=kept")));
    }

    private static void compactionNeedsKeys(Env env) throws Exception {
        String topic = env.topic(1, "cleanup.policy", "compact");
        Env.equal("error of a record without a key", Env.error(() -> env.fill(topic, 0, "no key")), "INVALID_RECORD");
    }

    private static void retention(Env env) throws Exception {
        String topic = env.topic(1, "retention.ms", "500", "segment.ms", "200");
        env.fill(topic, 0, "old");
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(null)) {
            Env.eventually("the oldest segment is deleted", () -> {
                env.fill(topic, 0, "tick");
                return consumer.beginningOffsets(List.of(at)).get(at) > 0;
            });
        }
        Env.holds("no old record", !env.values(topic, 1).contains("old"));
    }
}
