"""Topics: created, grown, configured, deleted."""

from cases import fill, read_all, values
from client import Config, refused
from harness import case, equal, eventually, holds


@case("topics/create")
def create(env):
    name = env.name()
    with env.admin() as admin:
        admin.create_topic(name, 3, {"retention.ms": "12345", "cleanup.policy": "compact"})
        eventually("three partitions", lambda: admin.partitions(name) == 3)
        found = admin.configs("topic", name)
        equal("retention.ms", found["retention.ms"], Config("12345", "topic"))
        equal("cleanup.policy", found["cleanup.policy"], Config("compact", "topic"))


@case("topics/create-with-defaults")
def create_with_defaults(env):
    name = env.name()
    with env.admin() as admin:
        admin.create_topic(name, -1, replication=-1)
        eventually("one partition", lambda: admin.partitions(name) == 1)


@case("topics/create-refused")
def create_refused(env):
    name = env.topic()
    fresh = env.name()
    cases = [
        ("an existing name", (name, 1), {}, "TOPIC_ALREADY_EXISTS"),
        ("an empty name", ("", 1), {}, "INVALID_TOPIC_EXCEPTION"),
        ("a dot alone", (".", 1), {}, "INVALID_TOPIC_EXCEPTION"),
        ("a slash", ("a/b", 1), {}, "INVALID_TOPIC_EXCEPTION"),
        ("250 characters", ("x" * 250, 1), {}, "INVALID_TOPIC_EXCEPTION"),
        ("no partition", (fresh, 0), {}, "INVALID_PARTITIONS"),
        ("more replicas than brokers", (fresh, 1), {"replication": 3}, "INVALID_REPLICATION_FACTOR"),
        ("an unknown config", (fresh, 1, {"no.such.config": "1"}), {}, "INVALID_CONFIG"),
        ("a bad value", (fresh, 1, {"retention.ms": "soon"}), {}, "INVALID_CONFIG"),
        ("a value out of range", (fresh, 1, {"segment.bytes": "-1"}), {}, "INVALID_CONFIG"),
        ("a bad choice", (fresh, 1, {"cleanup.policy": "shred"}), {}, "INVALID_CONFIG"),
    ]
    with env.admin() as admin:
        for what, args, more, wanted in cases:
            equal(what, refused(lambda args=args, more=more: admin.create_topic(*args, **more)), wanted)
        equal("no topic was made", admin.partitions(fresh), None)


@case("topics/validate-only")
def validate_only(env):
    name, other = env.name(), env.topic()
    with env.admin() as admin:
        admin.create_topic(name, 2, validate_only=True)
        equal("no topic was made", admin.partitions(name), None)
        error = refused(lambda: admin.create_topic(other, 2, validate_only=True))
        equal("error of an existing one", error, "TOPIC_ALREADY_EXISTS")


@case("topics/delete-and-recreate")
def delete_and_recreate(env):
    name = env.topic(2, retention_ms=12345)
    fill(env, name, ["a", "b"], 1)
    with env.admin() as admin:
        admin.delete_topic(name)
        eventually("gone", lambda: admin.partitions(name) is None)
        # A broker may take a moment to drop what is left of the old one.
        eventually("created again", lambda: refused(lambda: admin.create_topic(name, 1)) is None)
        eventually("one partition", lambda: admin.partitions(name) == 1)
        holds("default configs", admin.configs("topic", name)["retention.ms"].source != "topic")
    equal("records", read_all(env, name), [])
    equal("first offset", fill(env, name, ["c"]), [0])
    equal("records", values(read_all(env, name)), ["c"])


@case("topics/grow")
def grow(env):
    name = env.topic(2)
    fill(env, name, ["a"], 1)
    with env.admin() as admin:
        admin.grow(name, 4)
        eventually("four partitions", lambda: admin.partitions(name) == 4)
        for total in (4, 3, 1):
            equal(f"error of {total}", refused(lambda total=total: admin.grow(name, total)), "INVALID_PARTITIONS")
        admin.grow(name, 9, validate_only=True)
        equal("partitions", admin.partitions(name), 4)
    equal("offset in a fresh one", fill(env, name, ["b"], 3), [0])
    equal("records", values(read_all(env, name, 4)), ["a", "b"])


@case("topics/configs")
def configs(env):
    name = env.topic(max_message_bytes=5000)
    with env.admin() as admin:
        found = admin.configs("topic", name)
    equal("set for the topic", found["max.message.bytes"], Config("5000", "topic"))
    wanted = {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": "1",
        "retention.bytes": "-1",
        "retention.ms": "604800000",
        "delete.retention.ms": "86400000",
        "segment.ms": "604800000",
        "min.cleanable.dirty.ratio": "0.5",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "9223372036854775807",
        "message.timestamp.after.max.ms": "3600000",
        "message.timestamp.before.max.ms": "9223372036854775807",
        "file.delete.delay.ms": "60000",
        "unclean.leader.election.enable": "false",
        "preallocate": "false",
        "index.interval.bytes": "4096",
    }
    equal("defaults", {key: found[key].value for key in wanted if key in found}, wanted)
    sources = {key: found[key].source for key in wanted}
    holds("none is the topic's own", "topic" not in sources.values(), sources)


@case("topics/configs-of-unknown")
def configs_of_unknown(env):
    with env.admin() as admin:
        error = refused(lambda: admin.configs("topic", env.name()))
        equal("error", error, "UNKNOWN_TOPIC_OR_PARTITION")


@case("topics/alter-configs")
def alter_configs(env):
    name = env.topic(retention_ms=1000)
    with env.admin() as admin:
        now = lambda key: admin.configs("topic", name)[key]
        default = admin.configs("topic", env.topic())["retention.ms"]
        admin.alter_configs("topic", name, [("set", "max.message.bytes", "2000")])
        eventually("set", lambda: now("max.message.bytes") == Config("2000", "topic"))
        equal("others stay", now("retention.ms"), Config("1000", "topic"))
        admin.alter_configs("topic", name, [("append", "cleanup.policy", "compact")])
        eventually("appended", lambda: now("cleanup.policy").value == "delete,compact")
        admin.alter_configs("topic", name, [("subtract", "cleanup.policy", "delete")])
        eventually("subtracted", lambda: now("cleanup.policy").value == "compact")
        admin.alter_configs("topic", name, [("delete", "retention.ms", None)])
        eventually("back to the default", lambda: now("retention.ms") == default)
        for change in (("set", "retention.ms", "soon"), ("set", "no.such.config", "1"), ("append", "retention.ms", "1")):
            equal(f"error of {change}", refused(lambda change=change: admin.alter_configs("topic", name, [change])), "INVALID_CONFIG")
        error = refused(lambda: admin.alter_configs("topic", env.name(), [("set", "retention.ms", "1")]))
        equal("error of an unknown topic", error, "UNKNOWN_TOPIC_OR_PARTITION")


@case("topics/alter-takes-effect")
def alter_takes_effect(env):
    name = env.topic()
    with env.admin() as admin, env.producer(max_request_size=4_000_000, enable_idempotence=False) as producer:
        producer.send(name, b"x" * 5000, partition=0).get()
        admin.alter_configs("topic", name, [("set", "max.message.bytes", "1000")])
        too_large = lambda: refused(producer.send(name, b"x" * 5000, partition=0).get) == "MESSAGE_TOO_LARGE"
        eventually("the limit holds", too_large)
        admin.alter_configs("topic", name, [("delete", "max.message.bytes", None)])
        eventually("the limit is lifted", lambda: not too_large())


@case("topics/replace-configs")
def replace_configs(env):
    name = env.topic(retention_ms=1000, max_message_bytes=2000)
    with env.admin() as admin:
        # AlterConfigs, the older request: what is not named goes back to its default.
        admin.replace_configs("topic", name, {"retention.ms": "3000"})
        eventually("named", lambda: admin.configs("topic", name)["retention.ms"] == Config("3000", "topic"))
        holds("not named", admin.configs("topic", name)["max.message.bytes"].source != "topic")


@case("topics/ids")
def ids(env):
    name = env.topic()
    with env.admin() as admin:
        identity = admin.topic_id(name)
        holds("an id", identity.int != 0, identity)
        equal("the topic of the id", admin.topic_of_id(identity), name)
        admin.delete_topic(identity)
        eventually("gone", lambda: admin.partitions(name) is None)
        equal("the topic of the id afterwards", admin.topic_of_id(identity), None)
