import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Login and encryption: who may come in, who may not, and over what. */
final class Security {
    private static final String LOGIN = "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";";

    static void register(Map<String, Drive.Case> cases) {
        cases.put("security/sasl-plain", env -> roundtrip(env, login(env, "sasl", "PLAIN")));
        cases.put("security/sasl-scram-256", env -> roundtrip(env, login(env, "sasl", "SCRAM-SHA-256")));
        cases.put("security/sasl-scram-512", env -> roundtrip(env, login(env, "sasl", "SCRAM-SHA-512")));
        cases.put("security/wrong-password", Security::wrongPassword);
        cases.put("security/unknown-user", Security::unknownUser);
        cases.put("security/no-login", env -> keptOut(settings(env, "sasl")));
        cases.put("security/added-user", Security::addedUser);
        cases.put("security/tls", env -> roundtrip(env, trusting(env, settings(env, "tls"), "ca")));
        cases.put("security/tls-untrusted", env -> keptOut(trusting(env, settings(env, "tls"), "stranger")));
        cases.put("security/tls-sasl", Security::tlsSasl);
        cases.put("security/client-certificate", Security::clientCertificate);
    }

    private static Map<String, Object> settings(Env env, String listener) {
        return new HashMap<>(Map.of("bootstrap.servers", env.at.get(listener)));
    }

    private static Map<String, Object> login(Env env, String listener, String mechanism) {
        return login(env, listener, mechanism, env.at.get("user"), env.at.get("password"));
    }

    private static Map<String, Object> login(Env env, String listener, String mechanism, String user, String password) {
        Map<String, Object> settings = settings(env, listener);
        String module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
        settings.put("security.protocol", "SASL_PLAINTEXT");
        settings.put("sasl.mechanism", mechanism);
        settings.put("sasl.jaas.config", String.format(LOGIN, module, user, password));
        return settings;
    }

    /** The same settings over TLS, with one of the authorities. */
    private static Map<String, Object> trusting(Env env, Map<String, Object> settings, String authority) {
        settings.put("security.protocol", settings.containsKey("sasl.mechanism") ? "SASL_SSL" : "SSL");
        settings.put("ssl.truststore.type", "PEM");
        settings.put("ssl.truststore.location", env.at.get(authority));
        return settings;
    }

    private static void roundtrip(Env env, Map<String, Object> settings) throws Exception {
        String topic = env.name();
        try (Admin admin = Admin.create(settings)) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
            Env.eventually("the topic", () -> Env.describes(admin, topic, 1));
        }
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.send(new ProducerRecord<>(topic, 0, null, "secret")).get();
        }
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            TopicPartition at = new TopicPartition(topic, 0);
            consumer.assign(List.of(at));
            consumer.seekToBeginning(List.of(at));
            Env.eventually("the record", () -> {
                ConsumerRecords<String, String> found = consumer.poll(Duration.ofMillis(200));
                return found.count() == 1 && found.iterator().next().value().equals("secret");
            });
        }
    }

    private static void keptOut(Map<String, Object> settings) {
        settings.put("max.block.ms", "3000");
        String error = Env.error(() -> {
            try (KafkaProducer<String, String> producer =
                    new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                producer.send(new ProducerRecord<>("any", 0, null, "x")).get();
            }
        });
        Env.holds("a client that should be kept out wrote nothing", error != null);
    }

    private static void wrongPassword(Env env) {
        for (String mechanism : List.of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")) {
            Map<String, Object> settings = login(env, "sasl", mechanism, env.at.get("user"), "wrong");
            try (Admin admin = Admin.create(settings)) {
                String error = Env.error(() -> admin.describeCluster().nodes().get());
                Env.equal("error with " + mechanism, error, "SASL_AUTHENTICATION_FAILED");
            }
        }
    }

    private static void unknownUser(Env env) {
        for (String mechanism : List.of("PLAIN", "SCRAM-SHA-512")) {
            try (Admin admin = Admin.create(login(env, "sasl", mechanism, "nobody", "nothing"))) {
                String error = Env.error(() -> admin.describeCluster().nodes().get());
                Env.equal("error with " + mechanism, error, "SASL_AUTHENTICATION_FAILED");
            }
        }
    }

    private static void addedUser(Env env) throws Exception {
        String user = env.name();
        try (Admin admin = Admin.create(login(env, "sasl", "PLAIN"))) {
            ScramCredentialInfo info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096);
            byte[] password = "its own".getBytes(StandardCharsets.UTF_8);
            admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(user, info, password))).all().get();
            Env.equal("described", admin.describeUserScramCredentials(List.of(user)).users().get(), List.of(user));
        }
        try (Admin admin = Admin.create(login(env, "sasl", "SCRAM-SHA-512", user, "its own"))) {
            Env.equal("nodes", admin.describeCluster().nodes().get().size(), 1);
        }
        try (Admin admin = Admin.create(login(env, "sasl", "SCRAM-SHA-512", user, "another"))) {
            String error = Env.error(() -> admin.describeCluster().nodes().get());
            Env.equal("error with another password", error, "SASL_AUTHENTICATION_FAILED");
        }
    }

    private static void tlsSasl(Env env) throws Exception {
        for (String mechanism : List.of("PLAIN", "SCRAM-SHA-512")) {
            roundtrip(env, trusting(env, login(env, "sasl_tls", mechanism), "ca"));
        }
        keptOut(trusting(env, login(env, "sasl_tls", "SCRAM-SHA-512", env.at.get("user"), "wrong"), "ca"));
    }

    private static void clientCertificate(Env env) throws Exception {
        Map<String, Object> settings = trusting(env, settings(env, "mutual_tls"), "ca");
        keptOut(new HashMap<>(settings));
        settings.put("ssl.keystore.type", "PEM");
        settings.put("ssl.keystore.location", env.at.get("client_all"));
        roundtrip(env, settings);
    }
}
