"""The cluster as an administrator sees it."""

from cases import fill
from client import refused
from harness import case, equal, holds


@case("cluster/describe")
def describe(env):
    host, port = env.at["plain"].split(":")
    with env.admin() as admin:
        identity, controller, nodes = admin.cluster()
        holds("a cluster id", identity, identity)
        equal("nodes", list(nodes.values()), [(host, int(port))])
        equal("the controller", controller, next(iter(nodes)))
        equal("the same id again", admin.cluster()[0], identity)


@case("cluster/broker-configs")
def broker_configs(env):
    with env.admin() as admin:
        (node,) = admin.cluster()[2]
        found = admin.configs("broker", str(node))
        # What Kafka UI, Connect and others look for.
        wanted = {"log.retention.ms", "num.partitions", "auto.create.topics.enable", "message.max.bytes", "log.segment.bytes"}
        equal("keys that are missing", wanted - set(found), set())
        equal("num.partitions", found["num.partitions"].value, "1")


@case("cluster/log-dirs")
def log_dirs(env):
    topic = env.topic(2)
    with env.admin() as admin:
        before = admin.log_dirs(topic)
        equal("partitions", sorted(before), [0, 1])
        fill(env, topic, ["x" * 10_000], 1)
        after = admin.log_dirs(topic)
        equal("growth of the empty one", after[0] - before[0], 0)
        holds("growth of the other", after[1] - before[1] > 10_000, (before, after))


@case("cluster/acls")
def acls(env):
    with env.admin() as admin:
        equal("error", refused(admin.acls), "SECURITY_DISABLED")


@case("cluster/features")
def features(env):
    with env.admin() as admin:
        found = admin.features()
        holds("an answer", found is not None, found)


@case("cluster/config-resources")
def config_resources(env):
    topic = env.topic()
    with env.admin() as admin:
        topics, brokers = admin.config_resources()
        holds("the topic", topic in topics, topics)
        (node,) = admin.cluster()[2]
        equal("brokers", brokers, [str(node)])


@case("cluster/reassignments")
def reassignments(env):
    with env.admin() as admin:
        equal("reassignments", admin.reassignments(), {})
