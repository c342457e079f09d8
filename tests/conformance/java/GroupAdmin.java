import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;

/** What an administrator sees of groups, and may change. */
final class GroupAdmin {
    static void register(Map<String, Drive.Case> cases) {
        cases.put("group-admin/list", GroupAdmin::list);
        cases.put("group-admin/list-by-state", GroupAdmin::listByState);
        cases.put("group-admin/describe", GroupAdmin::describe);
        cases.put("group-admin/describe-static", GroupAdmin::describeStatic);
        cases.put("group-admin/offsets", GroupAdmin::offsets);
        cases.put("group-admin/alter-offsets", GroupAdmin::alterOffsets);
        cases.put("group-admin/delete-offsets", GroupAdmin::deleteOffsets);
        cases.put("group-admin/delete", GroupAdmin::delete);
        cases.put("group-admin/remove-member", GroupAdmin::removeMember);
    }

    /** Leaves an empty group behind that has committed an offset of partition 0. */
    private static void settle(Env env, String group, String topic) {
        TopicPartition at = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = env.consumer(group)) {
            consumer.assign(List.of(at));
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(2, "note")));
        }
    }

    private static Map<String, GroupState> states(Admin admin, ListGroupsOptions options) throws Exception {
        Map<String, GroupState> states = new HashMap<>();
        for (GroupListing listing : admin.listGroups(options).all().get()) {
            states.put(listing.groupId(), listing.groupState().orElse(null));
        }
        return states;
    }

    private static void list(Env env) throws Exception {
        String topic = env.topic(1);
        String empty = env.name();
        String live = env.name();
        settle(env, empty, topic);
        try (Worker worker = new Worker(env, live, topic); Admin admin = env.admin()) {
            Env.eventually("assigned", () -> worker.numbers().equals(List.of(0)));
            Map<String, GroupState> found = states(admin, new ListGroupsOptions());
            Env.equal("the empty one", found.get(empty), GroupState.EMPTY);
            Env.equal("the live one", found.get(live), GroupState.STABLE);
        }
    }

    private static void listByState(Env env) throws Exception {
        String topic = env.topic(1);
        String empty = env.name();
        settle(env, empty, topic);
        try (Admin admin = env.admin()) {
            ListGroupsOptions stable = new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE));
            ListGroupsOptions idle = new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY));
            Env.holds("not among the stable ones", !states(admin, stable).containsKey(empty));
            Env.holds("among the empty ones", states(admin, idle).containsKey(empty));
        }
    }

    private static ConsumerGroupDescription described(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
    }

    private static void describe(Env env) throws Exception {
        String topic = env.topic(2);
        String group = env.name();
        try (Worker worker = new Worker(env, group, topic, "client.id", "first"); Admin admin = env.admin()) {
            Env.eventually("assigned", () -> worker.numbers().size() == 2);
            ConsumerGroupDescription found = described(admin, group);
            Env.equal("state", found.groupState(), GroupState.STABLE);
            Env.equal("assignor", found.partitionAssignor(), "range");
            Env.equal("members", found.members().size(), 1);
            MemberDescription member = found.members().iterator().next();
            Env.equal("client", member.clientId(), "first");
            Env.equal("assignment", member.assignment().topicPartitions(), worker.assigned());
            String unknown = Env.error(() -> described(admin, env.name()));
            Env.equal("error of an unknown group", unknown, "GROUP_ID_NOT_FOUND");
        }
    }

    private static void describeStatic(Env env) throws Exception {
        String topic = env.topic(1);
        String group = env.name();
        try (Worker worker = new Worker(env, group, topic, "group.instance.id", "one"); Admin admin = env.admin()) {
            Env.eventually("assigned", () -> worker.numbers().size() == 1);
            MemberDescription member = described(admin, group).members().iterator().next();
            Env.equal("group.instance.id", member.groupInstanceId(), Optional.of("one"));
        }
    }

    private static Map<TopicPartition, OffsetAndMetadata> committed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata(group).get();
    }

    private static void offsets(Env env) throws Exception {
        String topic = env.topic(3);
        String group = env.name();
        settle(env, group, topic);
        try (Admin admin = env.admin()) {
            Map<TopicPartition, OffsetAndMetadata> wanted = Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(2, "note"));
            Env.equal("committed offsets", committed(admin, group), wanted);
            Env.equal("of an unknown group", committed(admin, env.name()), Map.of());
        }
    }

    private static void alterOffsets(Env env) throws Exception {
        String topic = env.topic(1);
        String group = env.name();
        env.fill(topic, 0, "a", "b", "c");
        settle(env, group, topic);
        Map<TopicPartition, OffsetAndMetadata> one = Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1));
        try (Admin admin = env.admin()) {
            admin.alterConsumerGroupOffsets(group, one).all().get();
            try (Worker worker = new Worker(env, group, topic)) {
                Env.eventually("goes on there", () -> worker.values().equals(List.of("b", "c")));
                String error = Env.error(() -> admin.alterConsumerGroupOffsets(group, one).all().get());
                Env.equal("error while it has members", error, "UNKNOWN_MEMBER_ID");
            }
        }
    }

    private static void deleteOffsets(Env env) throws Exception {
        TopicPartition at = new TopicPartition(env.topic(1), 0);
        TopicPartition other = new TopicPartition(env.topic(1), 0);
        String group = env.name();
        settle(env, group, at.topic());
        settle(env, group, other.topic());
        try (Admin admin = env.admin()) {
            try (Worker worker = new Worker(env, group, at.topic())) {
                Env.eventually("assigned", () -> worker.numbers().size() == 1);
                String error = Env.error(() -> admin.deleteConsumerGroupOffsets(group, Set.of(at)).all().get());
                Env.equal("error of a subscribed topic", error, "GROUP_SUBSCRIBED_TO_TOPIC");
                admin.deleteConsumerGroupOffsets(group, Set.of(other)).all().get();
                Env.equal("left", committed(admin, group).keySet(), Set.of(at));
            }
            admin.deleteConsumerGroupOffsets(group, Set.of(at)).all().get();
            Env.equal("left", committed(admin, group), Map.of());
            String error = Env.error(() -> admin.deleteConsumerGroupOffsets(env.name(), Set.of(at)).all().get());
            Env.equal("error of an unknown group", error, "GROUP_ID_NOT_FOUND");
        }
    }

    private static void delete(Env env) throws Exception {
        String topic = env.topic(1);
        String group = env.name();
        try (Admin admin = env.admin()) {
            try (Worker worker = new Worker(env, group, topic)) {
                Env.eventually("assigned", () -> worker.numbers().size() == 1);
                String error = Env.error(() -> admin.deleteConsumerGroups(List.of(group)).all().get());
                Env.equal("error while it has members", error, "NON_EMPTY_GROUP");
            }
            settle(env, group, topic);
            admin.deleteConsumerGroups(List.of(group)).all().get();
            Env.equal("its offsets are gone", committed(admin, group), Map.of());
            String error = Env.error(() -> admin.deleteConsumerGroups(List.of(group)).all().get());
            Env.equal("error of an unknown group", error, "GROUP_ID_NOT_FOUND");
        }
    }

    private static void removeMember(Env env) throws Exception {
        String topic = env.topic(2);
        String group = env.name();
        String[] slow = {"session.timeout.ms", "30000", "group.instance.id", "static"};
        try (Worker one = new Worker(env, group, topic); Admin admin = env.admin()) {
            Worker two = new Worker(env, group, topic, slow);
            Env.eventually("one each", () -> one.numbers().size() == 1 && two.numbers().size() == 1);
            two.close();
            Set<MemberToRemove> gone = Set.of(new MemberToRemove("static"));
            long begun = System.nanoTime();
            admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(gone)).all().get();
            Env.eventually("all partitions", () -> one.numbers().size() == 2);
            Env.holds("at once", System.nanoTime() - begun < 15_000_000_000L);
        }
    }
}
