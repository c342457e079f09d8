"""Topics that are not there, offsets that are not there, logs that shrink."""

from cases import await_error, fill, read, read_all, values
from client import refused
from harness import case, equal, eventually, holds


@case("records/auto-create")
def auto_create(env):
    topic = env.name()
    with env.producer() as producer:
        equal("offset", producer.send(topic, b"first").get(), 0)
    with env.admin() as admin:
        equal("partitions", admin.partitions(topic), 1)
    equal("values", values(read_all(env, topic)), ["first"])


@case("records/unknown-topic")
def unknown_topic(env):
    topic = env.name()
    with env.admin() as admin:
        equal("partitions", admin.partitions(topic), None)
        equal("error of delete", refused(lambda: admin.delete_topic(topic)), "UNKNOWN_TOPIC_OR_PARTITION")
        equal("error of grow", refused(lambda: admin.grow(topic, 3)), "UNKNOWN_TOPIC_OR_PARTITION")
        equal("still not there", admin.partitions(topic), None)


@case("records/out-of-range")
def out_of_range(env):
    topic = env.topic()
    fill(env, topic, ["a", "b", "c"])
    with env.consumer(auto_offset_reset=env.library.NO_RESET) as consumer:
        consumer.assign([(topic, 0, 50)])
        equal("error", await_error(consumer), "OFFSET_OUT_OF_RANGE")
    with env.consumer(auto_offset_reset="earliest") as consumer:
        consumer.assign([(topic, 0, 50)])
        equal("from the beginning", values(read(consumer, 3)), ["a", "b", "c"])


@case("records/delete-records")
def delete_records(env):
    topic = env.topic()
    fill(env, topic, [str(number) for number in range(100)])
    at = (topic, 0)
    with env.admin() as admin:
        equal("low watermark", admin.delete_records(at, 40), 40)
        error = refused(lambda: admin.delete_records(at, 1000))
        equal("error beyond the end", error, "OFFSET_OUT_OF_RANGE")
    with env.consumer() as consumer:
        equal("beginning and end", (consumer.beginning(at), consumer.end(at)), (40, 100))
        consumer.assign([(*at, 0)])
        equal("first record", values(read(consumer, 60))[0], "40")
    with env.consumer(auto_offset_reset=env.library.NO_RESET) as consumer:
        consumer.assign([(*at, 39)])
        equal("error below the beginning", await_error(consumer), "OFFSET_OUT_OF_RANGE")


@case("records/delete-records-all")
def delete_all_records(env):
    topic = env.topic()
    fill(env, topic, ["a", "b"])
    at = (topic, 0)
    with env.admin() as admin:
        equal("low watermark", admin.delete_records(at, -1), 2)
    fill(env, topic, ["c"])
    found = read_all(env, topic)
    equal("what is left", [(r.offset, r.value) for r in found], [(2, b"c")])


@case("records/compaction")
def compaction(env):
    topic = env.topic(
        cleanup_policy="compact",
        segment_bytes=1_048_576,
        segment_ms=200,
        min_cleanable_dirty_ratio=0.01,
        max_compaction_lag_ms=200,
    )
    with env.producer(linger_ms=5) as producer:
        for number in range(2000):
            producer.send(topic, f"{number}".encode(), f"key-{number % 20}".encode(), 0)
        producer.flush()

    # Writing on closes the segment: only what lies in closed ones is compacted.
    def compacted():
        with env.producer() as producer:
            producer.send(topic, b"tick", b"ticker", 0).get()
        left = [r for r in read_all(env, topic) if r.key != b"ticker"]
        return len(left) == 20 and left

    left = eventually("one record for each key", compacted, 60)
    equal("the newest of each key", [int(r.value) for r in left], list(range(1980, 2000)))
    equal("with their offsets", [r.offset for r in left], list(range(1980, 2000)))


@case("records/tombstones")
def tombstones(env):
    topic = env.topic(
        cleanup_policy="compact",
        segment_ms=200,
        min_cleanable_dirty_ratio=0.01,
        max_compaction_lag_ms=200,
        delete_retention_ms=100,
    )
    with env.producer() as producer:
        producer.send(topic, b"kept", b"stays", 0).get()
        producer.send(topic, b"gone", b"goes", 0).get()
        producer.send(topic, None, b"goes", 0).get()

    def compacted():
        with env.producer() as producer:
            producer.send(topic, b"tick", b"ticker", 0).get()
        left = [(r.key, r.value) for r in read_all(env, topic) if r.key != b"ticker"]
        return left == [(b"stays", b"kept")]

    eventually("neither the record nor its tombstone", compacted, 60)


@case("records/compaction-needs-keys")
def compaction_needs_keys(env):
    topic = env.topic(cleanup_policy="compact")
    with env.producer(enable_idempotence=False) as producer:
        error = refused(producer.send(topic, b"no key", None, 0).get)
        equal("error of a record without a key", error, "INVALID_RECORD")
        equal("offset of one with a key", producer.send(topic, b"value", b"key", 0).get(), 0)


@case("records/retention")
def retention(env):
    topic = env.topic(retention_ms=500, segment_ms=200)
    fill(env, topic, ["old"])
    at = (topic, 0)
    with env.consumer() as consumer:

        def gone():
            fill(env, topic, ["tick"])
            return consumer.beginning(at) > 0

        eventually("the oldest segment is deleted", gone, 60)
        left = read_all(env, topic)
        holds("no old record", b"old" not in [r.value for r in left], left[:2])
