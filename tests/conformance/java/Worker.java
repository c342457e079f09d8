import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** A member of a group that polls in a thread of its own and keeps what it read, was assigned and lost. */
final class Worker implements AutoCloseable, ConsumerRebalanceListener {
    final List<ConsumerRecord<String, String>> seen = new CopyOnWriteArrayList<>();
    final List<List<Integer>> revocations = new CopyOnWriteArrayList<>();
    volatile Exception error;
    private final Set<TopicPartition> assigned = ConcurrentHashMap.newKeySet();
    private final Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
    private final KafkaConsumer<String, String> consumer;
    private final Thread thread;
    private volatile boolean stopping;

    Worker(Env env, String group, String topic, String... pairs) {
        this(env, group, Pattern.compile(Pattern.quote(topic)), pairs);
    }

    Worker(Env env, String group, Pattern topics, String... pairs) {
        List<String> all = new ArrayList<>(List.of("session.timeout.ms", "6000", "heartbeat.interval.ms", "300",
                "metadata.max.age.ms", "500", "partition.assignment.strategy", Groups.RANGE));
        all.addAll(List.of(pairs));
        consumer = env.consumer(group, all.toArray(String[]::new));
        consumer.subscribe(topics, this);
        thread = new Thread(this::work);
        thread.setDaemon(true);
        thread.start();
    }

    private void work() {
        try (consumer) {
            while (!stopping) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    seen.add(record);
                    TopicPartition at = new TopicPartition(record.topic(), record.partition());
                    next.put(at, new OffsetAndMetadata(record.offset() + 1));
                }
            }
        } catch (Exception e) {
            error = e;
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> lost) {
        if (!lost.isEmpty()) {
            revocations.add(lost.stream().map(TopicPartition::partition).sorted().toList());
        }
        Map<TopicPartition, OffsetAndMetadata> mine = new HashMap<>(next);
        mine.keySet().retainAll(lost);
        consumer.commitSync(mine);
        next.keySet().removeAll(lost);
        assigned.removeAll(lost);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> given) {
        assigned.addAll(given);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> lost) {
        assigned.removeAll(lost);
    }

    /** Numbers of the partitions assigned. */
    List<Integer> numbers() {
        Env.holds("the member goes on: " + error, error == null);
        return assigned.stream().map(TopicPartition::partition).sorted().toList();
    }

    Set<TopicPartition> assigned() {
        return Set.copyOf(assigned);
    }

    List<String> values() {
        return Env.values(seen);
    }

    /** Ends the member, which leaves the group unless it is static. */
    @Override
    public void close() {
        stopping = true;
        try {
            thread.join(30_000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
