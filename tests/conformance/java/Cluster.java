import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.FeatureMetadata;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** The cluster as an administrator sees it. */
final class Cluster {
    static void register(Map<String, Drive.Case> cases) {
        cases.put("cluster/describe", Cluster::describe);
        cases.put("cluster/broker-configs", Cluster::brokerConfigs);
        cases.put("cluster/log-dirs", Cluster::logDirs);
        cases.put("cluster/acls", Cluster::acls);
        cases.put("cluster/quotas", Cluster::quotas);
        cases.put("cluster/features", Cluster::features);
        cases.put("cluster/config-resources", Cluster::configResources);
        cases.put("cluster/reassignments", Cluster::reassignments);
    }

    private static Node node(Admin admin) throws Exception {
        return admin.describeCluster().nodes().get().iterator().next();
    }

    private static void describe(Env env) throws Exception {
        try (Admin admin = env.admin()) {
            DescribeClusterResult found = admin.describeCluster();
            Env.equal("nodes", found.nodes().get().size(), 1);
            Node node = node(admin);
            Env.equal("address", node.host() + ":" + node.port(), env.at.get("plain"));
            Env.equal("the controller", found.controller().get().id(), node.id());
            Env.equal("the same id again", admin.describeCluster().clusterId().get(), found.clusterId().get());
        }
    }

    private static void brokerConfigs(Env env) throws Exception {
        try (Admin admin = env.admin()) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, node(admin).idString());
            Config found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            for (String key : List.of("log.retention.ms", "num.partitions", "auto.create.topics.enable", "message.max.bytes",
                    "log.segment.bytes")) {
                Env.holds("the key " + key, found.get(key) != null);
            }
            Env.equal("num.partitions", found.get("num.partitions").value(), "1");
        }
    }

    /** Bytes of a partition in the only folder of logs. */
    private static long size(Admin admin, TopicPartition at) throws Exception {
        int id = node(admin).id();
        Map<String, LogDirDescription> folders = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
        Env.equal("folders", folders.size(), 1);
        LogDirDescription folder = folders.values().iterator().next();
        Env.equal("error", folder.error(), null);
        return folder.replicaInfos().get(at).size();
    }

    private static void logDirs(Env env) throws Exception {
        TopicPartition at = new TopicPartition(env.topic(1), 0);
        try (Admin admin = env.admin()) {
            long before = size(admin, at);
            env.fill(at.topic(), 0, "x".repeat(10_000));
            Env.holds("growth", size(admin, at) - before > 10_000);
        }
    }

    private static void acls(Env env) {
        try (Admin admin = env.admin()) {
            String error = Env.error(() -> admin.describeAcls(AclBindingFilter.ANY).values().get());
            Env.equal("error", error, "SECURITY_DISABLED");
        }
    }

    private static void quotas(Env env) throws Exception {
        try (Admin admin = env.admin()) {
            Env.equal("quotas", admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get(), Map.of());
        }
    }

    private static void features(Env env) throws Exception {
        try (Admin admin = env.admin()) {
            FeatureMetadata found = admin.describeFeatures().featureMetadata().get();
            for (String feature : found.finalizedFeatures().keySet()) {
                Env.holds("supported: " + feature, found.supportedFeatures().containsKey(feature));
            }
        }
    }

    private static void configResources(Env env) throws Exception {
        String topic = env.topic(1);
        Set<ConfigResource.Type> types = Set.of(ConfigResource.Type.TOPIC, ConfigResource.Type.BROKER);
        try (Admin admin = env.admin()) {
            Set<ConfigResource> found = admin.listConfigResources(types, new ListConfigResourcesOptions()).all().get().stream().collect(Collectors.toSet());
            Env.holds("the topic", found.contains(new ConfigResource(ConfigResource.Type.TOPIC, topic)));
            Env.holds("the broker", found.contains(new ConfigResource(ConfigResource.Type.BROKER, node(admin).idString())));
        }
    }

    private static void reassignments(Env env) throws Exception {
        try (Admin admin = env.admin()) {
            Env.equal("reassignments", admin.listPartitionReassignments().reassignments().get(), Map.of());
        }
    }
}
