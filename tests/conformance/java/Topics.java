import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;

/** Topics: created, grown, configured, deleted. */
final class Topics {
    static void register(Map<String, Drive.Case> cases) {
        cases.put("topics/create", Topics::create);
        cases.put("topics/create-with-defaults", Topics::createWithDefaults);
        cases.put("topics/create-refused", Topics::createRefused);
        cases.put("topics/validate-only", Topics::validateOnly);
        cases.put("topics/delete-and-recreate", Topics::deleteAndRecreate);
        cases.put("topics/ids", Topics::ids);
        cases.put("topics/grow", Topics::grow);
        cases.put("topics/configs", Topics::configs);
        cases.put("topics/configs-of-unknown", Topics::configsOfUnknown);
        cases.put("topics/alter-configs", Topics::alterConfigs);
        cases.put("topics/alter-takes-effect", Topics::alterTakesEffect);
    }

    private static CreateTopicsResult create(Admin admin, NewTopic topic, boolean validateOnly) throws Exception {
        CreateTopicsResult result = admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(validateOnly));
        result.all().get();
        return result;
    }

    private static NewTopic plain(String name) {
        return new NewTopic(name, 1, (short) 1);
    }

    private static ConfigEntry config(Admin admin, String topic, String key) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(key);
    }

    private static boolean exists(Admin admin, String topic) throws Exception {
        return admin.listTopics().names().get().contains(topic);
    }

    private static void create(Env env) throws Exception {
        String name = env.name();
        try (Admin admin = env.admin()) {
            Map<String, String> configs = Map.of("retention.ms", "12345", "cleanup.policy", "compact");
            CreateTopicsResult result = create(admin, new NewTopic(name, 3, (short) 1).configs(configs), false);
            Env.equal("partitions", result.numPartitions(name).get(), 3);
            Env.equal("replicas", result.replicationFactor(name).get(), 1);
            Config told = result.config(name).get();
            Env.equal("retention.ms", told.get("retention.ms").value(), "12345");
            Env.equal("its source", told.get("retention.ms").source(), ConfigSource.DYNAMIC_TOPIC_CONFIG);
            Env.eventually("described", () -> Env.describes(admin, name, 3));
            Env.equal("cleanup.policy", config(admin, name, "cleanup.policy").value(), "compact");
        }
    }

    private static void createWithDefaults(Env env) throws Exception {
        String name = env.name();
        try (Admin admin = env.admin()) {
            create(admin, new NewTopic(name, Optional.empty(), Optional.empty()), false);
            Env.eventually("one partition", () -> Env.describes(admin, name, 1));
        }
    }

    private static void createRefused(Env env) throws Exception {
        String fresh = env.name();
        Map<NewTopic, String> wanted = Map.of(
                plain(env.topic(1)), "TOPIC_ALREADY_EXISTS",
                plain("."), "INVALID_TOPIC_EXCEPTION",
                plain("a/b"), "INVALID_TOPIC_EXCEPTION",
                plain("x".repeat(250)), "INVALID_TOPIC_EXCEPTION",
                new NewTopic(fresh, 0, (short) 1), "INVALID_PARTITIONS",
                new NewTopic(fresh, 1, (short) 3), "INVALID_REPLICATION_FACTOR",
                plain(fresh).configs(Map.of("no.such.config", "1")), "INVALID_CONFIG",
                plain(fresh).configs(Map.of("retention.ms", "soon")), "INVALID_CONFIG",
                plain(fresh).configs(Map.of("cleanup.policy", "shred")), "INVALID_CONFIG",
                new NewTopic(fresh, Map.of(0, List.of(77))), "INVALID_REPLICA_ASSIGNMENT");
        try (Admin admin = env.admin()) {
            for (Map.Entry<NewTopic, String> entry : wanted.entrySet()) {
                String error = Env.error(() -> create(admin, entry.getKey(), false));
                Env.equal("error of " + entry.getKey(), error, entry.getValue());
            }
            Env.holds("no topic was made", !exists(admin, fresh));
        }
    }

    private static void validateOnly(Env env) throws Exception {
        String name = env.name();
        String other = env.topic(1);
        try (Admin admin = env.admin()) {
            create(admin, plain(name), true);
            Env.holds("no topic was made", !exists(admin, name));
            Env.equal("error", Env.error(() -> create(admin, plain(other), true)), "TOPIC_ALREADY_EXISTS");
        }
    }

    private static void deleteAndRecreate(Env env) throws Exception {
        String name = env.topic(2, "retention.ms", "12345");
        env.fill(name, 1, "a", "b");
        try (Admin admin = env.admin()) {
            admin.deleteTopics(List.of(name)).all().get();
            Env.eventually("gone", () -> !exists(admin, name));
            Env.eventually("created again", () -> Env.error(() -> create(admin, plain(name), false)) == null);
            Env.eventually("one partition", () -> Env.describes(admin, name, 1));
            ConfigSource source = config(admin, name, "retention.ms").source();
            Env.holds("default configs", source != ConfigSource.DYNAMIC_TOPIC_CONFIG);
        }
        Env.equal("first offset", env.fill(name, 0, "c"), List.of(0L));
        Env.equal("records", env.values(name, 1), List.of("c"));
    }

    private static void ids(Env env) throws Exception {
        String name = env.name();
        try (Admin admin = env.admin()) {
            Uuid id = create(admin, plain(name), false).topicId(name).get();
            Env.holds("an id", !id.equals(Uuid.ZERO_UUID));
            Env.eventually("described", () -> Env.describes(admin, name, 1));
            TopicCollection.TopicIdCollection ids = TopicCollection.ofTopicIds(List.of(id));
            TopicDescription found = admin.describeTopics(ids).allTopicIds().get().get(id);
            Env.equal("the topic of the id", found.name(), name);
            admin.deleteTopics(ids).all().get();
            Env.eventually("gone", () -> !exists(admin, name));
            String error = Env.error(() -> admin.describeTopics(ids).allTopicIds().get());
            Env.equal("error of an unknown id", error, "UNKNOWN_TOPIC_ID");
        }
    }

    private static void grow(Admin admin, String topic, int total) throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(total))).all().get();
    }

    private static void grow(Env env) throws Exception {
        String name = env.topic(2);
        env.fill(name, 1, "a");
        try (Admin admin = env.admin()) {
            grow(admin, name, 4);
            Env.eventually("four partitions", () -> Env.describes(admin, name, 4));
            for (int total : List.of(4, 3, 1)) {
                Env.equal("error of " + total, Env.error(() -> grow(admin, name, total)), "INVALID_PARTITIONS");
            }
            String error = Env.error(() -> grow(admin, env.name(), 3));
            Env.equal("error of an unknown topic", error, "UNKNOWN_TOPIC_OR_PARTITION");
        }
        Env.equal("offset in a fresh one", env.fill(name, 3, "b"), List.of(0L));
        Env.equal("records", env.values(name, 4), List.of("a", "b"));
    }

    private static void configs(Env env) throws Exception {
        String name = env.topic(1, "max.message.bytes", "5000");
        try (Admin admin = env.admin()) {
            ConfigEntry set = config(admin, name, "max.message.bytes");
            Env.equal("value", set.value(), "5000");
            Env.equal("source", set.source(), ConfigSource.DYNAMIC_TOPIC_CONFIG);
            Env.equal("type", set.type(), ConfigEntry.ConfigType.INT);
            Env.holds("not secret, not fixed", !set.isSensitive() && !set.isReadOnly());
            ConfigEntry free = config(admin, name, "segment.ms");
            Env.equal("value", free.value(), "604800000");
            Env.equal("source", free.source(), ConfigSource.DEFAULT_CONFIG);
        }
    }

    private static void configsOfUnknown(Env env) {
        try (Admin admin = env.admin()) {
            String error = Env.error(() -> config(admin, env.name(), "retention.ms"));
            Env.equal("error", error, "UNKNOWN_TOPIC_OR_PARTITION");
        }
    }

    private static void alter(Admin admin, String topic, OpType op, String key, String value) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(key, value), op)))).all().get();
    }

    private static void alterConfigs(Env env) throws Exception {
        String name = env.topic(1, "retention.ms", "1000");
        try (Admin admin = env.admin()) {
            alter(admin, name, OpType.SET, "max.message.bytes", "2000");
            Env.eventually("set", () -> config(admin, name, "max.message.bytes").value().equals("2000"));
            Env.equal("others stay", config(admin, name, "retention.ms").value(), "1000");
            alter(admin, name, OpType.APPEND, "cleanup.policy", "compact");
            Env.eventually("appended", () -> config(admin, name, "cleanup.policy").value().equals("delete,compact"));
            alter(admin, name, OpType.SUBTRACT, "cleanup.policy", "delete");
            Env.eventually("subtracted", () -> config(admin, name, "cleanup.policy").value().equals("compact"));
            alter(admin, name, OpType.DELETE, "retention.ms", "");
            Env.eventually("back to the default", () -> config(admin, name, "retention.ms").source() != ConfigSource.DYNAMIC_TOPIC_CONFIG);
            Env.equal("bad value", Env.error(() -> alter(admin, name, OpType.SET, "retention.ms", "soon")), "INVALID_CONFIG");
            Env.equal("unknown key", Env.error(() -> alter(admin, name, OpType.SET, "no.such.config", "1")), "INVALID_CONFIG");
            String error = Env.error(() -> alter(admin, env.name(), OpType.SET, "retention.ms", "1"));
            Env.equal("error of an unknown topic", error, "UNKNOWN_TOPIC_OR_PARTITION");
        }
    }

    private static void alterTakesEffect(Env env) throws Exception {
        String name = env.topic(1);
        try (Admin admin = env.admin(); KafkaProducer<String, String> producer = env.producer()) {
            Env.send(producer, name, 0, "x".repeat(5000));
            alter(admin, name, OpType.SET, "max.message.bytes", "1000");
            Env.eventually("the limit holds",
                    () -> "MESSAGE_TOO_LARGE".equals(Env.error(() -> Env.send(producer, name, 0, "x".repeat(5000)))));
            alter(admin, name, OpType.DELETE, "max.message.bytes", "");
            Env.eventually("the limit is lifted", () -> Env.error(() -> Env.send(producer, name, 0, "x".repeat(5000))) == null);
        }
    }
}
